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
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

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


def test_a_supervisor_that_was_stopped_gives_steps_the_times_at_which_they_were_shown(tmp_path: Path) -> None:
    with run(tmp_path, "--steps", "14", "--delay", "0.5", "--times", str(tmp_path / "times")) as supervisor:
        until(lambda: len(read_events(tmp_path, "step")) >= 2, "the second step")
        supervisor.send_signal(signal.SIGSTOP)
        until(lambda: "\n12 " in (tmp_path / "times").read_text("utf-8"), "the trainer, which goes on")
        supervisor.send_signal(signal.SIGCONT)
        until(lambda: len(read_events(tmp_path, "step")) == 14, "the last step")
    shown = [float(line.split()[1]) for line in (tmp_path / "times").read_text("utf-8").splitlines()]
    found = moments(read_events(tmp_path, "step"))
    assert all(before < after for before, after in pairwise(found))
    assert found == pytest.approx(shown, abs=1.7)
