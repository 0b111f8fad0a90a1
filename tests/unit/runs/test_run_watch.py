"""What is reported of the loss and the disk while a run goes on, and when a run is to be stopped."""

from __future__ import annotations

from lorabake.runs.watch.run_watch import RunWatch
from lorabake_schemas.events import BadLoss, DiskLow, LossJump, Phase, ProgressEvent, StallSign, Step
from lorabake_schemas.plan import FileSize, Forecast, Origin, Plan, PlannedSave, Setting, Source, WatchPlan

NAN, INF = float("nan"), float("inf")


def make_plan(watch: WatchPlan | None = None, steps: int = 1000, **settings: bool | str) -> Plan:
    saves = (PlannedSave(file="x-step00000400.safetensors", step=400), PlannedSave(file="x.safetensors", step=steps))
    forecast = Forecast(
        train_samples=4, reg_samples=0, batches_per_epoch=4, steps_per_epoch=4, epochs=1, steps=steps, warmup_steps=0,
        saves=saves, file_size=FileSize(tensors=2, tensor_bytes=1000, header_bytes=10),
    )  # fmt: skip
    source = Source(origin=Origin.LORABAKE)
    values = {"save_precision": "fp16", "optimizer_type": "AdamW", **settings}
    train = tuple(Setting(option=option, value=value, source=source) for option, value in values.items())
    return Plan(
        name="x", family="sd15", script="train_network.py", train=train, datasets=(), watch=watch or WatchPlan(),
        forecast=forecast,
    )  # fmt: skip


def follow(losses: list[float | None], watch: WatchPlan | None = None) -> tuple[RunWatch, list[ProgressEvent]]:
    found = RunWatch.of_plan(make_plan(watch, len(losses)))
    steps = [Step(n, len(losses), loss, loss_current=loss) for n, loss in enumerate(losses, 1)]
    return found, [event for event in found.add_remarks(steps) if not isinstance(event, Step)]


def test_a_loss_that_stays_nan_is_enough_after_the_steps_that_are_allowed() -> None:
    allowed = WatchPlan(nan_steps=3)
    assert not follow([0.1, NAN, NAN], allowed)[0].has_diverged
    watch, said = follow([0.1, NAN, NAN, INF], allowed)
    assert watch.has_diverged
    assert [event.number for event in said if isinstance(event, BadLoss)] == [2]


def test_a_loss_that_recovers_or_is_below_zero_is_not() -> None:
    assert not follow([NAN, NAN, 0.1] * 20, WatchPlan(nan_steps=3))[0].has_diverged
    assert not follow([-0.1] * 20, WatchPlan(nan_steps=3))[0].has_diverged
    assert not follow([NAN] * 2000, WatchPlan(nan_steps=0))[0].has_diverged


def test_steps_that_the_reader_left_out_count() -> None:
    watch = RunWatch.of_plan(make_plan(WatchPlan(nan_steps=100)))
    list(watch.add_remarks([Step(1, 1000, NAN), Step(150, 1000, NAN)]))
    assert watch.has_diverged


def test_a_lasting_jump_is_reported_when_it_lasts_and_once() -> None:
    watch, said = follow([*[0.1] * 500, *[0.4] * 500])
    assert [type(event) for event in said] == [LossJump]
    assert abs(said[0].number - 500) <= 20 if isinstance(said[0], LossJump) else False
    steps = [Step(n, 1000, 0.1 if n <= 500 else 0.4) for n in range(1, 601)]
    early = list(RunWatch.of_plan(make_plan()).add_remarks(steps))
    at = next(n for n, event in enumerate(early) if isinstance(event, LossJump))
    assert at < 600
    jump = watch.losses.jump()
    assert jump is not None
    assert isinstance(said[0], LossJump)
    assert jump.step == said[0].number


def test_a_jump_is_not_reported_where_the_recipe_says_so() -> None:
    assert follow([*[0.1] * 500, *[0.4] * 500], WatchPlan(loss_jump=False))[1] == []


def look(watch: RunWatch, at: float, free: int) -> list[ProgressEvent]:
    def examine(_phase: Phase, _silent: float) -> tuple[StallSign, ...]:
        return ()

    return watch.look(at, examine, lambda: free)


def test_a_disk_without_space_for_the_next_save_is_reported_once_for_each_save() -> None:
    watch = RunWatch.of_plan(make_plan())
    low = DiskLow("x-step00000400.safetensors", 400, 900, 1000)
    assert look(watch, 0.0, 2000) == []
    assert [each for at in range(1, 200) for each in look(watch, float(at), 900)] == [low]
    list(watch.add_remarks([Step(400, 1000, 0.1)]))
    found = [each for at in range(200, 300) for each in look(watch, float(at), 900)]
    assert found == [DiskLow("x.safetensors", 1000, 900, 1000)]
    list(watch.add_remarks([Step(1000, 1000, 0.1)]))
    assert [each for at in range(300, 400) for each in look(watch, float(at), 0)] == []


def test_a_state_needs_space_too() -> None:
    """AdamW: two numbers of four bytes for each weight beside the weight itself."""
    watch = RunWatch.of_plan(make_plan(save_state=True))
    assert look(watch, 0.0, 6000) == [DiskLow("x-step00000400.safetensors", 400, 6000, 1000 + 500 * 12)]
    last_only = RunWatch.of_plan(make_plan(save_state_on_train_end=True))
    assert look(last_only, 0.0, 1000) == []


def test_a_disk_is_not_watched_where_the_recipe_says_so_or_sizes_are_unknown() -> None:
    assert look(RunWatch.of_plan(make_plan(WatchPlan(disk_space=False))), 0.0, 0) == []
    assert look(RunWatch.of_plan(None), 0.0, 0) == []


def test_a_run_folder_that_was_deleted_is_not_the_disks_fault() -> None:
    def missing() -> int:
        raise FileNotFoundError

    assert RunWatch.of_plan(make_plan()).look(0.0, lambda _phase, _silent: (), missing) == []
