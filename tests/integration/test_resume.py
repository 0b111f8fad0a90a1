"""A run is killed and resumed: as many steps as without the kill, in the same folder, with the same numbers.

The stand-in's only weight is the number of steps trained into it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tomli_w
from resume_runner import go_on, run

from fake_sd_scripts import HOLD_AFTER, archive, weight
from lorabake.errors import BusyError, InterruptedRunError, MachineError
from lorabake.jobs.resume.prepare import prepare_resume
from lorabake.runs.finalize import resume_command_hint
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import read_run
from lorabake.runs.lock import find_running_trainer
from lorabake.runs.record import read_record
from lorabake.runs.resume_points import resume_options

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorabake_schemas.record import Record

RUNNER = Path(__file__).with_name("resume_runner.py")
PATIENCE = 60.0


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def events(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "events.jsonl").read_text("utf-8").splitlines()]


def steps_told(root: Path) -> list[int]:
    return [each["step"] for each in events(root) if each["event"] == "step"]


def ended(root: Path) -> bool:
    """Whether the guard of a killed run has reported it and exited."""
    return read_record(root / "record.json").status != "started" and find_running_trainer(RunPaths(root)) is None


def separate_env(after: int | None) -> dict[str, str]:
    """For a runner whose trainer waits once step ``after`` is reported, which it is as the next one is done."""
    hold = {} if after is None else {HOLD_AFTER: str(after + 1)}
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)} | hold


def killed(
    root: Path,
    after: int,
    what: str = "run",
    number: int = signal.SIGKILL,
    settings: dict[str, Any] | None = None,
    *,
    holds: bool = True,
) -> Path:
    """A run, or its continuation, in a separate process, ended by a signal once step ``after`` is reported."""
    argv = [sys.executable, str(RUNNER), what, str(root), *([tomli_w.dumps(settings)] if settings else [])]
    env = separate_env(after if holds else None)
    path = root / "events.jsonl"
    before = len(steps_told(root)) if path.exists() else 0
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as lorabake:
        until(lambda: path.exists() and max(steps_told(root)[before:], default=0) >= after, f"step {after}")
        lorabake.send_signal(number)
        lorabake.wait()
    until(lambda: ended(root), "the guard")
    return root


def broken(root: Path, step: int) -> None:
    """Damage in the middle of the newest state: found only by reading it."""
    path = root / "output" / f"x-step{step:08d}-state" / "optimizer.bin"
    whole = path.read_bytes()
    middle = whole.index(b"optimizer.bin ")
    path.write_bytes(whole[:middle] + b"#" + whole[middle + 1 :])


def unsaved(root: Path, *beyond: int) -> None:
    """As if the run had been killed before it saved these."""
    for step in beyond:
        for path in (root / "output").glob(f"x-step{step:08d}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def stopped_after(tmp_path: Path, step: int, **settings: Any) -> Path:
    """A run with everything up to ``step``, whose record has it as killed."""
    root = tmp_path / "x-001"
    run(root, **settings)
    for path in (root / "output").iterdir():
        name = path.name.removesuffix("-state").removesuffix(".safetensors")
        numbered = name.removeprefix("x-").removeprefix("step")
        per_epoch = -(-settings.get("batches", 5) // settings.get("gradient_accumulation_steps", 1))
        of = 10**9 if name == "x" else int(numbered) * (1 if "step" in name else per_epoch)
        if of > step:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    record = json.loads((root / "record.json").read_text("utf-8"))
    (root / "record.json").write_text(json.dumps(record | {"status": "interrupted", "outcome": None}), "utf-8")
    return root


def assert_whole(record: Record, root: Path, steps: int) -> None:
    assert record.status == "finished", record.outcome
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.steps, record.planned_steps) == ("trained", steps, steps)
    assert weight(root / "output" / "x.safetensors") == steps
    for path in (root / "output").glob("x-step*.safetensors"):
        assert weight(path) == int(path.stem.removeprefix("x-step"))
    for path in (root / "output").glob("x-step*-state"):
        assert weight(path / "model.safetensors") == int(path.name[6:-6])
    assert record.outcome.outputs
    assert read_record(root / "record.json") == record


def test_killed_with_its_newest_state_damaged_and_an_older_one_touched(tmp_path: Path) -> None:
    root = killed(tmp_path / "x-001", 12)
    assert read_record(root / "record.json").status == "interrupted"
    broken(root, 12)
    for path in (root / "output" / "x-step00000004-state").iterdir():
        os.utime(path, (2e9, 2e9))
    os.utime(root / "output" / "x-step00000004-state", (2e9, 2e9))
    record = go_on(root)
    first, second = record.parts
    assert (first.number, first.status, second.number, second.status) == (1, "interrupted", 2, "finished")
    assert first.outcome is not None
    assert first.outcome.code == "lorabake-killed"
    assert (second.first_step, second.offset) == (10, 10)
    assert second.state in {"output/x-000002-state", "output/x-step00000010-state"}
    assert_whole(record, root, 15)
    assert (root / "parts" / "002" / "replaced" / "x-step00000012-state").is_dir()


def test_log_and_events_go_on(tmp_path: Path) -> None:
    root = killed(tmp_path / "x-001", 7, settings={"save_every_n_steps": 5})
    before = (root / "logs" / "trainer.log").read_bytes()
    go_on(root)
    assert (root / "logs" / "trainer.log").read_bytes().startswith(before)
    told = events(root)
    kinds = [each["event"] for each in told]
    resumed = kinds.index("resumed")
    assert kinds[0] == "started"
    assert kinds[resumed - 1 : resumed] == ["interrupted"]
    assert told[resumed]["from_step"] == 5
    assert told[resumed]["part"] == 2
    after = [each for each in told[resumed:] if each["event"] == "step"]
    assert [each["step"] for each in after] == list(range(6, 16))
    assert {each["total"] for each in after} == {15}
    assert [each["epoch"] for each in told[resumed:] if each["event"] == "epoch"] == [2, 3]
    saved = [each["file"] for each in told[resumed:] if each["event"] == "saved"]
    assert saved[-1] == "output/x.safetensors"
    assert "output/x-step00000010.safetensors" in saved
    assert kinds[-1] == "finished"


@pytest.mark.parametrize(
    ("settings", "step", "first"),
    [
        ({}, 12, 12),
        ({}, 4, 4),
        ({"max_train_steps": 13}, 10, 10),
        ({"max_train_steps": 13}, 8, 8),
        ({"max_train_steps": 14}, 12, 12),
        ({"max_train_steps": 13, "save_every_n_steps": None}, 10, 10),
        ({"gradient_accumulation_steps": 2, "max_train_steps": 9}, 4, 3),
        ({"gradient_accumulation_steps": 2, "max_train_steps": 9}, 6, 6),
        ({"gradient_accumulation_steps": 2, "max_train_steps": 8}, 6, 6),
    ],
)
def test_the_steps_are_as_many_as_without(tmp_path: Path, settings: dict[str, Any], step: int, first: int) -> None:
    root = stopped_after(tmp_path, step, **settings)
    record = go_on(root)
    assert record.parts[1].first_step == first
    assert_whole(record, root, settings.get("max_train_steps", 15))
    assert not (root / "parts" / "002" / "output").exists()


def test_resumed_again_and_again(tmp_path: Path) -> None:
    """A continuation's own states count from where it began; it is killed, too, and so is the next."""
    root = killed(tmp_path / "x-001", 7)
    assert read_record(root / "record.json").parts == ()
    killed(root, 9, "resume")
    killed(root, 12, "resume")
    record = go_on(root)
    assert [part.number for part in record.parts] == [1, 2, 3, 4]
    assert [part.status for part in record.parts] == ["interrupted"] * 3 + ["finished"]
    began = [part.first_step for part in record.parts]
    assert began == sorted(began)
    assert began[1] >= 6
    assert began[3] >= 11
    assert_whole(record, root, 15)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_resume_it(tmp_path: Path, number: int) -> None:
    root = tmp_path / "x-001"
    argv = [sys.executable, str(RUNNER), "run", str(root)]
    with subprocess.Popen(argv, env=separate_env(7), stderr=subprocess.PIPE, text=True) as lorabake:
        until(lambda: (root / "events.jsonl").exists() and 7 in steps_told(root), "step 7")
        lorabake.send_signal(number)
        _, said = lorabake.communicate(timeout=PATIENCE)
    assert lorabake.returncode == 130
    record = read_record(root / "record.json")
    assert record.outcome is not None
    assert record.outcome.resume_step is not None
    assert f"resume it with `lorabake resume {root}` (from step {record.outcome.resume_step} of 15)" in said
    assert go_on(root).parts[1].first_step == record.outcome.resume_step
    assert_whole(read_record(root / "record.json"), root, 15)


def test_an_interrupted_continuation_says_so_and_keeps_what_it_trained(tmp_path: Path) -> None:
    root = killed(tmp_path / "x-001", 5)
    killed(root, 11, "resume", signal.SIGINT)
    record = read_record(root / "record.json")
    assert record.status == "interrupted"
    assert record.outcome is not None
    assert (record.outcome.resume_step or 0) >= 10
    assert "after step 1" in record.outcome.message
    assert weight(root / "output" / "x-000002.safetensors") == 10
    assert_whole(go_on(root), root, 15)


def test_without_a_state_it_says_what_to_do(tmp_path: Path) -> None:
    root = killed(tmp_path / "x-001", 7, settings={"save_state": False})
    with pytest.raises(MachineError, match="no usable state") as caught:
        go_on(root)
    assert caught.value.hint is not None
    assert "save.save_state = true" in caught.value.hint
    assert read_record(root / "record.json").status == "interrupted"


def test_no_state_that_sd_scripts_can_go_on_from(tmp_path: Path) -> None:
    """Gradient accumulation, and no epoch's end among the states: each is named with why."""
    settings = {"gradient_accumulation_steps": 2, "max_train_steps": 9, "save_every_n_epochs": None}
    root = stopped_after(tmp_path, 2, **settings)
    with pytest.raises(MachineError, match="gradient_accumulation_steps = 2") as caught:
        go_on(root)
    assert "output/x-step00000002-state: it was saved within epoch 1" in caught.value.message
    assert not (root / "parts").exists()


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "x-001"
    record = run(root)
    assert go_on(root) == record
    assert not (root / "parts").exists()


def test_a_run_in_progress_is_refused(tmp_path: Path) -> None:
    root = stopped_after(tmp_path, 10)
    argv = [sys.executable, str(RUNNER), "run", str(tmp_path / "x-002")]
    with subprocess.Popen(argv, env=separate_env(1)) as other:
        try:
            until((tmp_path / "x-002" / "events.jsonl").exists, "the other run")
            with pytest.raises(BusyError, match="is in progress"):
                go_on(root)
        finally:
            other.send_signal(signal.SIGINT)
            other.wait()


def test_a_run_that_was_over_but_not_judged_is_judged(tmp_path: Path) -> None:
    root = tmp_path / "x-001"
    run(root)
    record = json.loads((root / "record.json").read_text("utf-8"))
    (root / "record.json").write_text(json.dumps(record | {"status": "interrupted", "outcome": None}), "utf-8")
    judged = go_on(root)
    assert_whole(judged, root, 15)
    assert judged.parts == ()
    assert judged.outcome is not None
    assert judged.outcome.remarks == ("it had already reached its last step, so nothing more was trained",)


def test_a_continuation_that_was_over_but_not_gathered_is_gathered_and_judged(tmp_path: Path) -> None:
    """lorabake and its guard are killed after the trainer's end: every file is still where it was written."""
    root = stopped_after(tmp_path, 10)
    go_on(root)
    record = json.loads((root / "record.json").read_text("utf-8"))
    part = root / "parts" / "002" / "output"
    part.mkdir()
    for name in ("x.safetensors", "x-state"):
        (root / "output" / name).rename(part / name)
    (root / "record.json").write_text(json.dumps(record | {"status": "started", "outcome": None}), "utf-8")
    judged = go_on(root)
    assert_whole(judged, root, 15)
    assert len(judged.parts) == 2
    assert not part.exists()


def test_a_state_is_found_where_a_killed_continuation_left_it(tmp_path: Path) -> None:
    root = stopped_after(tmp_path, 6)
    killed_at = 11
    killed(root, killed_at, "resume")
    paths = RunPaths(root)
    view = resume_options(paths, read_record(paths.record))
    assert view.way is not None
    assert view.way.how.step >= 9
    assert view.way.state.path.parent == root / "parts" / "002" / "output"
    record = go_on(root)
    assert record.parts[2].first_step == view.way.how.step
    assert_whole(record, root, 15)


def test_a_trainer_that_fails_again_leaves_the_run_failed_and_resumable(tmp_path: Path) -> None:
    root = stopped_after(tmp_path, 10)
    train = (root / "train.toml").read_text("utf-8")
    (root / "train.toml").write_text(train.replace("batches = 5\n", "batches = 0\n"), "utf-8")
    record = go_on(root)
    assert record.status == "failed"
    assert record.outcome is not None
    assert record.outcome.resume_step == 10
    (root / "train.toml").write_text(train, "utf-8")
    assert_whole(go_on(root), root, 15)


def test_a_state_that_failed_to_load_is_not_advised_again(tmp_path: Path) -> None:
    """The next older one is suggested, if there is one. Resuming from it is not refused: the cause may be fixed."""
    root = stopped_after(tmp_path, 4, save_every_n_epochs=None)
    train = (root / "train.toml").read_text("utf-8")
    states = [f"x-step{step:08d}-state" for step in (2, 4)]
    (root / "train.toml").write_text(f"{train}unloadable = {json.dumps(states)}\n", "utf-8")
    said = list[str]()
    for number, (state, step) in enumerate((("output/" + states[1], 2), ("output/" + states[0], None)), start=1):
        record = go_on(root)
        assert record.outcome is not None
        assert (record.parts[number].state, record.outcome.code) == (state, "lost-state")
        assert record.outcome.resume_step == step
        said.append(resume_command_hint(record, root) or "")
    assert "lorabake resume" in said[0]
    assert "lorabake resume" not in said[1]
    assert "lorabake rerun" in said[1]
    (root / "train.toml").write_text(train, "utf-8")
    record = go_on(root)
    assert record.parts[3].state == "output/" + states[0]
    assert_whole(record, root, 15)


def test_a_diverged_run_is_resumed_from_before_its_loss_was_nan(tmp_path: Path) -> None:
    """Its later states are finite."""
    root = tmp_path / "x-001"
    record = run(root, max_train_steps=30, nan_from=7, delay=0.1, save_every_n_epochs=None)
    assert record.outcome is not None
    assert (record.status, record.outcome.code, record.outcome.resume_step) == ("failed", "diverged", 6)
    assert (root / "output" / "x-step00000008-state").is_dir()
    ready = prepare_resume(read_run(root, tmp_path))
    assert ready.way is not None
    assert ready.way.how.step == 6
    assert {int(state[-14:-6]): why for state, why in ready.passed}[8] == "the loss was NaN or infinite from step 7 on"
    train = (root / "train.toml").read_text("utf-8")
    (root / "train.toml").write_text(train.replace("nan_from = 7", "nan_from = 1e9"), "utf-8")
    killed(root, 9, "resume")
    assert 6 < (resume_options(RunPaths(root), read_record(root / "record.json")).next_step or 0) < 14
    assert_whole(go_on(root), root, 30)


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"save_state": False, "save_every_n_epochs": 1}, {"save.save_state"}),
        ({"save_state": False, "save_every_n_epochs": None}, {"save.save_state", "save.save_every_n_epochs"}),
        ({"save_state": True, "save_every_n_epochs": None}, {"save.save_every_n_epochs"}),
        ({"save_state": True, "save_every_n_epochs": 1}, set[str]()),
    ],
)
def test_nobody_is_told_to_save_states_who_does(tmp_path: Path, settings: dict[str, Any], asked: set[str]) -> None:
    root = tmp_path / "x-001"
    run(root, save_every_n_steps=None, **settings)
    for path in (root / "output").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    record = read_record(root / "record.json")
    assert record.outcome is not None
    stopped = record.outcome.model_copy(update={"code": "interrupted", "steps": 3})
    said = resume_command_hint(record.model_copy(update={"status": "interrupted", "outcome": stopped}), root)
    assert said is not None
    assert {word for word in said.replace(",", "").split() if word.startswith("save.")} == asked


@pytest.mark.parametrize("name", ["events.jsonl", "logs/trainer.log", "train.toml", ".running", ".room"])
def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path, name: str) -> None:
    root = stopped_after(tmp_path, 10)
    (root / name).unlink(missing_ok=True)
    (root / name).mkdir()
    with pytest.raises(MachineError) as refused:
        go_on(root)
    assert Path(name).name in str(refused.value.message)
    assert str(refused.value.message).endswith("it is a folder")


def test_every_state_damaged_is_every_one_named(tmp_path: Path) -> None:
    root = stopped_after(tmp_path, 4, save_every_n_epochs=None)
    for step in (2, 4):
        archive(root / "output" / f"x-step{step:08d}-state" / "optimizer.bin", b"x")
        path = root / "output" / f"x-step{step:08d}-state" / "random_states_0.pkl"
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MachineError) as caught:
        go_on(root)
    for step in (2, 4):
        assert f"output/x-step{step:08d}-state: random_states_0.pkl: damaged or cut off" in caught.value.message


def test_killed_at_any_time_it_comes_to_the_same_end(tmp_path: Path) -> None:
    """Ten kills at random moments, while states are written slowly; then it runs to its end."""
    root = tmp_path / "x-001"
    settings = {"delay": 0.1, "pause": 0.01, "save_every_n_steps": 1}
    with suppress(InterruptedRunError):
        killed(root, 1, settings=settings, holds=False)
    for turn in range(10):
        record = read_record(root / "record.json")
        paths = RunPaths(root)
        view = resume_options(paths, record)
        if view.complete or record.status == "finished":
            break
        at = view.way.how.step if view.way is not None else 0
        if view.way is None:
            break
        killed(root, min(at + 1 + turn % 2, 15), "resume", holds=False)
    assert_whole(go_on(root), root, 15)
