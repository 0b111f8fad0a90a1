"""What the supervisor sees of a trainer that is followed late, stalls, fails while it lives on, or diverges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabake.jobs.run import exit_code
from lorabake.runs.record import read_record
from lorabake.runs.verdict import DIVERGED

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

RUNNER = Path(__file__).with_name("launch_runner.py")
PATIENCE = 60.0


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def read_events(folder: Path, kind: str | None = None) -> list[dict[str, Any]]:
    path = folder / "run" / "events.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [event for event in events if kind is None or event["event"] == kind]


@contextmanager
def run(tmp_path: Path, *flags: str) -> Generator[subprocess.Popen[bytes]]:
    """A run of the fake trainer under a supervisor of its own, which is killed at the end if it did not end."""
    argv = [sys.executable, str(RUNNER), str(tmp_path / "run"), "--pids", str(tmp_path / "pids"), *flags]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as supervisor:
        try:
            yield supervisor
        finally:
            supervisor.send_signal(signal.SIGCONT)
            supervisor.kill()


def moments(events: list[dict[str, Any]]) -> list[float]:
    return [datetime.fromisoformat(event["time"]).timestamp() for event in events]


@pytest.mark.parametrize(("delay", "steps"), [(0.5, 14), (2.0, 8)])
def test_a_supervisor_that_was_stopped_gives_steps_the_times_at_which_they_were_shown(
    tmp_path: Path, delay: float, steps: int
) -> None:
    with run(tmp_path, "--steps", str(steps), "--delay", str(delay), "--times", str(tmp_path / "times")) as supervisor:
        until(lambda: len(read_events(tmp_path, "step")) >= 2, "the second step")
        supervisor.send_signal(signal.SIGSTOP)
        until(lambda: f"\n{steps - 2} " in (tmp_path / "times").read_text("utf-8"), "the trainer, which goes on")
        supervisor.send_signal(signal.SIGCONT)
        until(lambda: len(read_events(tmp_path, "step")) == steps, "the last step")
    shown = [float(line.split()[1]) for line in (tmp_path / "times").read_text("utf-8").splitlines()]
    found = moments(read_events(tmp_path, "step"))
    assert found == sorted(found)  # two may have one time where it had to be guessed
    assert found == pytest.approx(shown, abs=1.7)


QUICK = json.dumps({"stall_seconds": 1.0})


def watched(tmp_path: Path, kind: str) -> Callable[[], bool]:
    return lambda: bool(read_events(tmp_path, kind))


def signs(event: dict[str, Any]) -> dict[str, str]:
    return {sign["kind"]: sign["detail"] for sign in event["signs"]}


def test_a_trainer_that_is_stopped_by_a_signal_is_reported_and_so_is_its_end(tmp_path: Path) -> None:
    with run(tmp_path, "--steps", "60", "--delay", "0.1", "--watch", QUICK):
        until(lambda: len(read_events(tmp_path, "step")) >= 5, "the fifth step")
        trainer = int((tmp_path / "pids").read_text("utf-8").split()[0])
        os.kill(trainer, signal.SIGSTOP)
        until(lambda: len(read_events(tmp_path, "stalled")) == 2, "the second report")
        os.kill(trainer, signal.SIGCONT)
        until(watched(tmp_path, "stall_ended"), "its end")
    first, second = read_events(tmp_path, "stalled")
    assert first["phase"] == "training"
    assert signs(first)["stopped"] == str(trainer)
    assert first["usual"] is not None
    assert 1 <= first["seconds"] < second["seconds"]
    assert len(read_events(tmp_path, "stall_ended")) == 1


def test_a_report_of_a_standstill_is_no_movement(tmp_path: Path) -> None:
    """While it loads, every line of the log is; what lorabake says of it is not."""
    with run(tmp_path, "--load", "3", "--watch", QUICK):
        until(watched(tmp_path, "phase"), "its first line")
        trainer = int((tmp_path / "pids").read_text("utf-8").split()[0])
        os.kill(trainer, signal.SIGSTOP)
        until(lambda: len(read_events(tmp_path, "stalled")) == 2, "the second report")
        assert not read_events(tmp_path, "stall_ended")
        os.kill(trainer, signal.SIGCONT)
        until(watched(tmp_path, "stall_ended"), "its end")
    assert [event["phase"] for event in read_events(tmp_path, "stalled")][:2] == ["loading", "loading"]


def test_samples_are_no_stall_unless_they_take_longer_than_before(tmp_path: Path) -> None:
    """Scaled down: 2 seconds of samples, with a setting of one and steps of a tenth."""
    with run(tmp_path, "--steps", "12", "--delay", "0.1", "--sample", "4", "2", "--watch", QUICK):
        until(lambda: len(read_events(tmp_path, "step")) == 12, "the last step")
    assert not read_events(tmp_path, "stalled")
    assert {"sampling", "training"} <= {event["phase"] for event in read_events(tmp_path, "phase")}


def test_a_step_that_hangs_after_a_thread_failed_is_reported_with_the_error(tmp_path: Path) -> None:
    flags = ("--steps", "8", "--delay", "0.1", "--traceback-at", "4", "--hang-at", "5", "--hang", "3", "--watch", QUICK)
    with run(tmp_path, *flags):
        until(watched(tmp_path, "trainer_error"), "the error")
        until(lambda: len(read_events(tmp_path, "step")) == 8, "the last step")
    assert [event["text"] for event in read_events(tmp_path, "trainer_error")] == ["OSError: cut off"]
    stalled = read_events(tmp_path, "stalled")[0]
    assert signs(stalled)["failed"] == "OSError: cut off"
    assert stalled["seconds"] < 1.5


def test_a_loss_that_stays_nan_stops_the_run_after_as_many_steps_as_allowed(tmp_path: Path) -> None:
    losses = ",".join(["0.1"] * 4 + ["nan"] * 500)
    watch = json.dumps({"nan_steps": 6})
    with run(tmp_path, "--losses", losses, "--pause", "0.05", "--steps", "504", "--watch", watch) as supervisor:
        supervisor.wait(PATIENCE)
    record = read_record(tmp_path / "run" / "record.json")
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("failed", DIVERGED)
    assert record.outcome.hint is not None
    assert [event["step"] for event in read_events(tmp_path, "bad_loss")] == [5]
    assert [event["signal"] for event in read_events(tmp_path, "stopping")] == [DIVERGED]
    assert 10 <= len(read_events(tmp_path, "step")) < 100
    assert exit_code(record) == 8


@pytest.mark.parametrize("losses", ["0.1,nan,nan,nan,0.1,0.1,nan,nan,nan,0.1", "nan,nan,nan,nan,nan,nan,nan,nan"])
def test_a_nan_that_passes_or_is_allowed_stops_nothing(tmp_path: Path, losses: str) -> None:
    watch = json.dumps({"nan_steps": 0 if losses.startswith("nan") else 4})
    with run(tmp_path, "--losses", losses, "--pause", "0.05", "--watch", watch) as supervisor:
        supervisor.wait(PATIENCE)
    assert not read_events(tmp_path, "stopping")
    assert len(read_events(tmp_path, "step")) == len(losses.split(","))
