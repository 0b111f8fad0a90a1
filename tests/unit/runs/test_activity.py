"""What the events show: the pace of the last minute, phases, saves, reports; and nothing that is not an event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lorabake.runs.activity import RunActivity, measure_pace, read_activity, read_recent_activity
from lorabake.runs.events import format_timestamp
from lorabake.runs.folder import RunPaths
from lorabake_schemas.events import NO_METRICS, Epoch, GpuReading, Metrics, Phase, Stalled, TrainerError, TrainerWarning

START = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def at(seconds: float, event: str, **fields: Any) -> dict[str, Any]:
    return {"time": format_timestamp(START + timedelta(seconds=seconds)), "event": event, **fields}


def written(root: Path, *events: dict[str, Any] | str) -> RunPaths:
    paths = RunPaths(root)
    paths.events.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in events))
    return paths


def taken(*events: dict[str, Any]) -> RunActivity:
    found = RunActivity()
    for event in events:
        found.take(event)
    return found


def test_a_steady_pace() -> None:
    assert measure_pace([(number * 2.0, number) for number in range(1, 200)]) == pytest.approx(2.0)
    assert measure_pace([]) is None
    assert measure_pace([(3.0, 1)]) is None


def test_the_last_minute_counts_and_not_the_average() -> None:
    slow = [(number * 10.0, number) for number in range(1, 101)]
    fast = [(1000.0 + number, 100 + number) for number in range(1, 121)]
    assert measure_pace([*slow, *fast]) == pytest.approx(1.0)


@pytest.mark.parametrize("steps_after", [1, 2, 30])
def test_right_after_a_pause_it_is_the_pace_of_training(steps_after: int) -> None:
    before = [(float(number), number) for number in range(1, 50)]
    after = [(49.0 + 600.0 + number, 49 + number) for number in range(1, steps_after + 1)]
    assert measure_pace([*before, *after]) == pytest.approx(1.0)


@pytest.mark.parametrize("change", [0.1, 0.5, 4.0, 40.0])
def test_a_lasting_change_of_pace_is_the_pace_within_a_minute(change: float) -> None:
    before = [(0.25 * number, number) for number in range(1, 1001)]
    pace = 0.25 * change
    after = [(250.0 + pace * number, 1000 + number) for number in range(1, 1 + max(7, int(60 / pace)))]
    assert measure_pace([*before, *after]) == pytest.approx(pace, rel=0.1)


def test_steps_that_were_written_in_one_piece() -> None:
    steps = [(0.2 * (number // 10), number) for number in range(1, 500)]
    assert measure_pace(steps) == pytest.approx(0.02, rel=0.05)


def test_time_that_runs_backwards_and_steps_that_do_not_go_on() -> None:
    assert measure_pace([(5.0, 1), (4.0, 2), (4.0, 2), (3.0, 1)]) is None


def step(seconds: float, number: int, average: object = 0.1, current: object = None) -> dict[str, Any]:
    return at(seconds, "step", step=number, total=10, loss_average=average, loss_current=current)


def phase(seconds: float, name: object, done: object = None, total: object = None) -> dict[str, Any]:
    return at(seconds, "phase", phase=name, done=done, total=total, of=None)


def test_a_training_from_its_first_event() -> None:
    found = taken(at(0, "started"), at(1, "device", device="cpu"))
    assert (found.phase, found.last_step) == (Phase("loading"), 0)
    found.take(phase(2, "caching", 3, 40))
    assert found.phase == Phase("caching", 3, 40)
    found.take(phase(3, "training"))
    found.take(at(3, "epoch", epoch=2, total=5))
    found.take(step(4, 7, 0.1, "nan"))
    assert (found.phase, found.last_step, found.epoch) == (Phase("training"), 7, Epoch(2, 5))
    assert found.step is not None
    assert found.step.loss_average == 0.1
    assert found.step.loss_current != found.step.loss_current
    found.take(at(5, "saved", file="output/x-000002.safetensors"))
    assert found.last_save is not None
    assert (found.last_save.file, found.last_save.step) == ("output/x-000002.safetensors", 7)
    found.take(at(6, "saved", file="output/x-step00000008.safetensors"))  # before step 8 has shown its loss
    assert (found.last_save.step, found.last_step) == (8, 7)


STALL = at(2, "stalled", phase="training", usual=1.0, signs=[], last_line=None) | {"seconds": 90.0}


def test_a_resumed_part_starts_anew() -> None:
    found = taken(at(0, "started"), step(1, 5), STALL, at(3, "stopping", signal="SIGTERM"))
    assert (found.is_stopping, found.is_stalled, len(found.notices)) == (True, True, 1)
    found.take(at(900, "resumed", part=2, from_step=4))
    assert (found.last_step, found.is_stopping, found.is_stalled, len(found.notices)) == (4, False, False, 0)
    assert (found.seconds_per_step, found.phase) == (None, Phase("loading"))


@pytest.mark.parametrize("after", [step(9, 6), at(9, "stall_ended") | {"seconds": 7.0}])
def test_a_stall_is_over_when_something_moves(after: dict[str, Any]) -> None:
    found = taken(step(1, 5), STALL, after)
    assert (found.is_stalled, len(found.notices)) == (False, 1)


def test_a_report_that_repeats_itself_is_kept_once_with_its_count() -> None:
    warnings = [at(number, "trainer_warning", text="slow", count=number) for number in range(1, 9)]
    found = taken(*warnings, at(9, "trainer_error", text="bad", count=1), STALL, STALL)
    assert [type(each.event) for each in found.notices] == [TrainerWarning, TrainerError, Stalled, Stalled]
    assert found.notices[0].event == TrainerWarning("slow", 8)


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": "step"},
        {"event": 3, "time": "x"},
        step(0, 1) | {"time": "yesterday"},
        step(0, 1) | {"step": "7"},
        step(0, 1) | {"step": True},
        step(0, -1),
        step(0, 1 << 70),
        step(0, 1, "many"),
        step(0, 1, [1]),
        phase(0, "dancing"),
        phase(0, ["training"]),
        at(0, "saved", file=7),
        at(0, "somehow", step=5),
    ],
)
def test_what_is_no_event_changes_nothing(event: dict[str, Any]) -> None:
    found = taken(event)
    assert (found.step, found.phase, found.last_save, len(found.notices)) == (None, None, None, 0)


def test_the_end_of_a_long_file_is_enough_for_where_it_is(tmp_path: Path) -> None:
    steps = [step(60 + number, number) for number in range(1, 3001)]
    early = (
        at(0, "started"),
        at(1, "trainer_warning", text="bf16", count=1),
        at(2, "epoch", epoch=1, total=9),
        steps[0],
    )
    saved = at(61.5, "saved", file="output/x.safetensors")
    paths = written(tmp_path, *early, saved, *steps[1:])
    short, whole = read_recent_activity(paths), read_activity(paths)
    assert short.last_step == whole.last_step == 3000
    assert short.seconds_per_step == pytest.approx(1.0)
    assert whole.seconds_per_step == pytest.approx(1.0)
    assert (short.last_save, short.epoch, len(short.notices)) == (None, None, 0)
    assert whole.last_save is not None
    assert (whole.last_save.step, whole.epoch, whole.notices[0].event) == (1, Epoch(1, 9), TrainerWarning("bf16"))


def metrics(seconds: float, used: int) -> dict[str, Any]:
    gpu = {"uuid": "GPU-a", "name": "A10", "used_mib": used, "total_mib": 9, "temperature": None}
    return at(seconds, "metrics", learning_rates={"unet": 1e-4}, d=None, gpus=[gpu])


def test_the_last_metrics_of_a_part_count(tmp_path: Path) -> None:
    many = [step(60 + number, number) for number in range(1, 3001)]
    paths = written(tmp_path, at(0, "started"), metrics(1, 3), metrics(2, 4), *many)
    assert read_activity(paths).metrics == Metrics((("unet", 1e-4),), None, (GpuReading("GPU-a", "A10", 4, 9),))
    assert read_activity(written(tmp_path, metrics(1, 3), at(5, "resumed", part=2, from_step=4))).metrics == NO_METRICS
    assert read_activity(written(tmp_path, metrics(1, -3), at(1, "metrics", learning_rates=[]))).metrics == NO_METRICS


def test_damage_is_passed_over(tmp_path: Path) -> None:
    paths = written(tmp_path, "{", "[]", '"text"', "\x00", step(0, 3), "{" * 9000)
    assert read_activity(paths).last_step == 3
    assert read_recent_activity(RunPaths(tmp_path / "nowhere")).last_step == 0
