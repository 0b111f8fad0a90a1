"""One run from a new folder to its record, with a stand-in for sd-scripts that ends in every possible way."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from launch_runner import ignore, request
from safetensors.numpy import save_file  # pyright: ignore[reportUnknownVariableType]

from fake_nvml import FIRST, FakeNvml
from lorabake.errors import BusyError, MachineError, SetupError
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.folder import RunPaths
from lorabake.runs.gpu_locks import GpuReservation
from lorabake.runs.lock import ensure_idle
from lorabake.runs.record import read_record
from lorabake.util.locks import try_lock
from lorabake_schemas.events import (
    BadLoss,
    Epoch,
    LogLine,
    ModelLoaded,
    Phase,
    ProgressEvent,
    Saved,
    Saving,
    Started,
    Step,
)
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal
from lorabake_schemas.record import Record

if TYPE_CHECKING:
    from pathlib import Path


def lora(path: Path, steps: int = 4, value: float = 0.5) -> Path:
    """A finished LoRA for the fake trainer to save."""
    tensors = {"a.lora_up.weight": np.full((2, 2), value, np.float32), "a.lora_down.weight": np.ones(2, np.float32)}
    save_file(tensors, path, {"ss_steps": str(steps)})
    return path


def saving(tmp_path: Path, **how: Any) -> tuple[str, ...]:
    return ("--copy", str(lora(tmp_path / "made", **how)), "output/x.safetensors")


def events(paths: RunPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in paths.events.read_text("utf-8").splitlines()]


def test_a_run_that_succeeds(tmp_path: Path) -> None:
    seen: list[ProgressEvent] = []
    paths = RunPaths(tmp_path / "runs" / "x")
    record = launch_run(request(paths.root, *saving(tmp_path)), seen.append)
    assert record.status == "finished"
    assert record == read_record(paths.record)
    assert record.outcome is not None
    assert record.outcome.code == "trained"
    assert record.outcome.steps == 4
    assert [file.name for file in record.outcome.outputs] == ["output/x.safetensors"]
    assert record.seed == 7
    assert record.recipe.name == "recipe.toml"
    assert {file.name for file in record.compiled} == {"train.toml", "dataset.toml", "prompts.txt", "accelerate.yaml"}
    assert "HOME" not in record.environment
    told = [event for event in seen if not isinstance(event, LogLine | Phase)]
    assert [type(event) for event in told if not isinstance(event, Step)][:2] == [Started, ModelLoaded]
    assert [event.number for event in told if isinstance(event, Step)] == [1, 2, 3, 4]
    assert told[-2:] == [Saving("output/x.safetensors"), Saved()]
    assert Epoch(1, 1) in told


def test_a_loss_that_jumps_is_remarked_on_though_the_run_succeeds(tmp_path: Path) -> None:
    """G5.4; a steady loss is not remarked on, nor is that of a rehearsal, which trains nothing."""
    flags = ("--jump", "30", *saving(tmp_path, steps=60))
    jumpy = launch_run(request(tmp_path / "jumpy", *flags, steps=60), ignore)
    steady = launch_run(request(tmp_path / "steady", *flags[2:], steps=60), ignore)
    rehearsed = launch_run(request(tmp_path / "rehearsed", *flags, steps=60, kind="rehearsal"), ignore)
    remarks = [each.outcome.remarks for each in (jumpy, steady, rehearsed) if each.outcome is not None]
    assert [len(each) for each in remarks] == [1, 0, 0]
    assert remarks[0][0].startswith("the average loss jumped from 0.1 to 0.4 around step 3")
    assert jumpy.status == "finished"
    assert read_record(RunPaths(tmp_path / "jumpy").record) == jumpy


def losses_of(paths: RunPaths) -> list[tuple[float | str | None, float | None]]:
    return [(each["loss_average"], each["loss_current"]) for each in events(paths) if each["event"] == "step"]


def test_a_step_has_the_losses_that_tensorboard_has(tmp_path: Path) -> None:
    """The bar rounds, and shows a step that is saved with the loss of the one before."""
    paths = RunPaths(tmp_path / "x")
    launch_run(request(paths.root, "--saves", "--losses", "0.125,0.25,0.5,1", *saving(tmp_path)), ignore)
    assert losses_of(paths) == [(0.125, 0.125), (0.1875, 0.25), (0.2916666567325592, 0.5), (0.46875, 1.0)]


def test_rates_and_gpus_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard's file has the rates; of the GPUs only the run's own are asked."""
    nvml = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("lorabake.runs.metrics.REPORT_S", 0.0)
    paths = RunPaths(tmp_path / "x")
    gpus = GpuReservation(tmp_path, (FIRST,))
    flags = ("--losses", "1,1,1,1", "--pause", "0.3", *saving(tmp_path))
    launch_run(replace(request(paths.root, *flags), gpus=gpus), ignore)
    found = [each for each in events(paths) if each["event"] == "metrics"]
    assert found[-1]["learning_rates"] == {"unet": 0.125}
    assert found[-1]["d"] == pytest.approx(2**-10, rel=1e-5)
    gpu = {"uuid": FIRST.uuid, "name": FIRST.name, "used_mib": 10_000, "total_mib": 24_000, "temperature": 65}
    assert found[-1]["gpus"] == [gpu]
    assert set(nvml.asked) == {"init", FIRST.uuid}


def test_without_tensorboard_a_step_has_the_average_of_the_bar(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "x")
    flags = ("--saves", "--losses", "0.125,0.25,0.5,1", "--no-tensorboard")
    launch_run(request(paths.root, *flags, *saving(tmp_path)), ignore)
    assert losses_of(paths) == [(0.125, None), (0.188, None), (0.292, None), (0.469, None)]


@pytest.mark.parametrize(
    ("losses", "status", "code", "told", "remarks"),
    [
        ("1,nan,nan,nan", "failed", "nan-loss", [2], 1),
        ("1,1,1,inf", "failed", "nan-loss", [4], 1),
        ("1,nan,1,1", "finished", "trained", [2], 1),
        ("1,-1,1,1", "failed", "negative-loss", [2], 1),
        ("-1,-1,-1,-1", "failed", "negative-loss", [1], 1),
        ("1,1,1,1", "finished", "trained", [], 0),
    ],
)
def test_a_loss_that_cannot_be(
    losses: str, status: str, code: str, told: list[int], remarks: int, tmp_path: Path
) -> None:
    """It is reported when it happens, and finite weights alone are not a success."""
    paths, seen = RunPaths(tmp_path / "x"), list[ProgressEvent]()
    record = launch_run(request(paths.root, f"--losses={losses}", *saving(tmp_path)), seen.append)
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == (status, code)
    assert [each["step"] for each in events(paths) if each["event"] == "bad_loss"] == told
    assert [each.number for each in seen if isinstance(each, BadLoss)] == told
    assert len(record.outcome.remarks) == remarks


def test_a_lora_that_was_cut_off_is_not_listed_like_a_good_one(tmp_path: Path) -> None:
    """As a full disk leaves it: the last file in the middle of its tensors, the one before complete."""
    cut, paths = lora(tmp_path / "cut"), RunPaths(tmp_path / "x")
    cut.write_bytes(cut.read_bytes()[:-3])
    flags = ("--before", str(lora(tmp_path / "made")), "output/x-step00000002.safetensors")
    record = launch_run(request(paths.root, *flags, "--copy", str(cut), "output/x.safetensors"), ignore)
    assert record.outcome is not None
    assert record.status == "failed"
    assert [(file.name, file.incomplete is None) for file in record.outcome.outputs] == [
        ("output/x-step00000002.safetensors", True), ("output/x.safetensors", False),
    ]  # fmt: skip
    assert "the last complete LoRA is output/x-step00000002.safetensors" in record.outcome.remarks[-1]
    assert read_record(paths.record) == record


def test_a_run_whose_folder_is_moved_ends_there(tmp_path: Path) -> None:
    there = RunPaths(tmp_path / "elsewhere")
    record = launch_run(request(tmp_path / "x", "--move", str(there.root), *saving(tmp_path)), ignore)
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("finished", "trained")
    assert record.outcome.moved_to == str(there.root)
    assert [file.name for file in record.outcome.outputs] == ["output/x.safetensors"]
    assert read_record(there.record) == record
    assert events(there)[-1]["event"] == "finished"
    assert not (tmp_path / "x").exists()
    assert not there.running.exists()


def test_a_run_that_fails_in_a_moved_folder_says_so(tmp_path: Path) -> None:
    there = RunPaths(tmp_path / "elsewhere")
    record = launch_run(request(tmp_path / "x", "--move", str(there.root), "--fail", "no such file"), ignore)
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("failed", "folder-moved")
    assert "no such file" in record.outcome.message
    assert read_record(there.record) == record


def test_a_run_whose_folder_is_deleted_is_stopped(tmp_path: Path) -> None:
    """It would train for nothing: the trainer, which would go on for minutes here, cannot save anything."""
    record = launch_run(request(tmp_path / "x", "--delete", *saving(tmp_path)), ignore)
    assert record.outcome is not None
    assert (record.status, record.outcome.code, record.outcome.steps) == ("failed", "folder-deleted", 4)
    assert not (tmp_path / "x").exists()


def test_the_events_file_tells_the_story(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "x")
    launch_run(request(paths.root, *saving(tmp_path)), ignore)
    story = events(paths)
    assert [event["event"] for event in story] == [
        "started", "phase", "device", "model_loaded", "totals", "phase", "epoch", "step", "step", "step", "step",
        "phase", "saved", "model_saved", "finished",
    ]  # fmt: skip
    assert [event["phase"] for event in story if event["event"] == "phase"] == ["loading", "training", "saving"]
    assert all(event["time"].endswith("Z") for event in story)
    assert story[0] | {"time": ""} == {"time": "", "event": "started", "name": "x", "rehearsal": False}
    assert story[-1]["code"] == "trained"


def test_the_run_folder_has_everything_in_it(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "x")
    launch_run(request(paths.root, *saving(tmp_path), "--shadow", str(tmp_path / "shadow")), ignore)
    assert {path.name for path in paths.root.iterdir()} == {
        "recipe.toml", "train.toml", "dataset.toml", "prompts.txt", "accelerate.yaml", "command.json", "plan.json",
        "record.json", "inputs.json", "logs", "events.jsonl", "tensorboard", "output",
    }  # fmt: skip
    assert paths.log.read_bytes() == (tmp_path / "shadow").read_bytes()
    command = json.loads(paths.command.read_text("utf-8"))
    assert command["argv"][0] == sys.executable
    assert command["cwd"] == str(paths.root)


def failed(tmp_path: Path, *flags: str, steps: int = 4) -> Record:
    record = launch_run(request(tmp_path / "x", *flags, steps=steps), ignore)
    assert record.status == "failed"
    assert record.outcome is not None
    assert record.outcome.last_words
    assert events(RunPaths(tmp_path / "x"))[-1]["event"] == "failed"
    return record


def test_exit_code_0_without_a_file_is_a_failure(tmp_path: Path) -> None:
    outcome = failed(tmp_path).outcome
    assert outcome is not None
    assert (outcome.code, outcome.returncode) == ("no-output", 0)


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"value": float("nan")}, "not-finite"),
        ({"value": 0.0}, "nothing-learned"),
        ({"steps": 3}, "wrong-steps"),
        ({"steps": 0}, "no-steps"),
    ],
)
def test_a_file_that_is_not_the_planned_one(tmp_path: Path, how: dict[str, Any], code: str) -> None:
    outcome = failed(tmp_path, *saving(tmp_path, **how)).outcome
    assert outcome is not None
    assert outcome.code == code


def test_a_damaged_file(tmp_path: Path) -> None:
    made = lora(tmp_path / "made")
    made.write_bytes(made.read_bytes()[:-3])
    outcome = failed(tmp_path, "--copy", str(made), "output/x.safetensors").outcome
    assert outcome is not None
    assert outcome.code == "damaged-output"


def test_a_crash_is_told_by_its_own_exception(tmp_path: Path) -> None:
    outcome = failed(tmp_path, "--fail", "CUDA out of memory").outcome
    assert outcome is not None
    assert (outcome.code, outcome.returncode) == ("out-of-gpu-memory", 1)
    assert outcome.last_words[-1] == "RuntimeError: CUDA out of memory"


def test_a_trainer_killed_from_outside(tmp_path: Path) -> None:
    outcome = failed(tmp_path, "--die", "9").outcome
    assert outcome is not None
    assert (outcome.code, outcome.returncode) == ("out-of-memory", 137)


def test_a_rehearsal_says_so_everywhere(tmp_path: Path) -> None:
    record = launch_run(request(tmp_path / "x", kind="rehearsal"), ignore)
    assert record.status == "finished"
    assert record.rehearsal
    assert record.outcome is not None
    assert record.outcome.code == "rehearsed"
    story = events(RunPaths(tmp_path / "x"))
    assert story[0]["rehearsal"]
    assert story[-1]["rehearsal"]
    assert "rehearsed" in record.outcome.message


def test_a_trainer_that_cannot_be_started(tmp_path: Path) -> None:
    wish = replace(request(tmp_path / "x"), argv=(str(tmp_path / "no-python"),))
    with pytest.raises(SetupError, match="cannot start"):
        launch_run(wish, ignore)
    record = read_record(tmp_path / "x" / "record.json")
    assert record.status == "failed"
    assert record.outcome is not None
    assert record.outcome.code == "not-started"


def test_a_run_folder_is_never_used_twice(tmp_path: Path) -> None:
    launch_run(request(tmp_path / "x"), ignore)
    before = (tmp_path / "x" / "record.json").read_bytes()
    with pytest.raises(MachineError, match="already exists"):
        launch_run(request(tmp_path / "x"), ignore)
    assert (tmp_path / "x" / "record.json").read_bytes() == before


def test_one_run_of_a_name_at_a_time(tmp_path: Path) -> None:
    record = launch_run(request(tmp_path / "first"), ignore)
    open_again = record.model_copy(update={"status": "started", "outcome": None})
    (tmp_path / "first" / "record.json").write_text(open_again.model_dump_json(), "utf-8")
    with try_lock(tmp_path / ".x.lock", "first") as other:
        assert other is None
        with pytest.raises(BusyError, match=rf"first is in progress: process {os.getpid()} on "):
            launch_run(request(tmp_path / "second"), ignore)
        with pytest.raises(BusyError, match="is in progress"):
            ensure_idle(tmp_path / "second", "x")
        assert not (tmp_path / "second").exists()
        launch_run(request(tmp_path / "other", name="y"), ignore)
    ensure_idle(tmp_path / "second", "x")
    launch_run(request(tmp_path / "second"), ignore)


def test_looking_for_a_run_of_the_same_name_leaves_nothing_behind(tmp_path: Path) -> None:
    ensure_idle(tmp_path / "runs" / "x", "x")
    assert list(tmp_path.iterdir()) == []


def test_a_watcher_that_breaks_stops_the_trainer_and_the_record_says_so(tmp_path: Path) -> None:
    def broken(event: ProgressEvent) -> None:
        if isinstance(event, Step):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        launch_run(request(tmp_path / "x", "--delay", "0.05", steps=10_000), broken)
    record = read_record(tmp_path / "x" / "record.json")
    assert record.status == "interrupted"
    assert record.outcome is not None
    assert record.outcome.code == "lorabake-killed"


def test_a_record_that_cannot_be_written_leaves_no_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no such thing as a record")

    monkeypatch.setattr("lorabake.jobs.supervisor.write_record", broken)
    root = tmp_path / "runs" / "x"
    with pytest.raises(ValueError, match="no such thing"):
        launch_run(request(root), ignore)
    assert not root.exists()
    assert root.parent.is_dir()


def test_a_fault_of_lorabake_before_the_trainer_starts_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setattr("lorabake.jobs.supervisor.train_and_judge", broken)
    with pytest.raises(ZeroDivisionError):
        launch_run(request(tmp_path / "x"), ignore)
    record = read_record(tmp_path / "x" / "record.json")
    assert record.status == "failed"
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.message) == (
        "lorabake-failed", "lorabake itself failed: ZeroDivisionError: oh",
    )  # fmt: skip


def test_names_that_are_no_utf8_are_recorded_all_the_same(tmp_path: Path) -> None:
    """As the system gives them to Python: each wrong byte a lone surrogate."""
    asked = request(tmp_path / "runs" / "x", *saving(tmp_path))
    finding = Finding(
        rule="G3.3",
        severity=Severity.WARNING,
        file="a\udcff.png",
        message=literal("a\udcff.png"),
        fix=literal("mend it"),
    )
    asked = replace(asked, findings=(finding,), env={**asked.env, "HF_HOME": "/home/\udcff"})
    record = launch_run(asked, ignore)
    assert record.status == "finished"
    assert record.findings[0].file == record.findings[0].message == "a\\udcff.png"
    assert record.environment["HF_HOME"] == "/home/\\udcff"
    assert read_record(RunPaths(asked.root).record) == record
