"""The guard's protocol, used directly: its messages, its commands, and what it does when its parent is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabake.util import process_guard

if TYPE_CHECKING:
    from collections.abc import Generator

FAKE = Path(__file__).with_name("fake_trainer.py")
RECORD = {"version": 1, "name": "naïve", "status": "started", "ended": None, "outcome": None}


def settings(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    """As lorabake gives them, with a record and an events file to finish."""
    (tmp_path / "record.json").write_text(json.dumps(RECORD), "utf-8")
    (tmp_path / "events.jsonl").write_text('{"event": "started"}\n', "utf-8")
    (tmp_path / "room").write_bytes(bytes(100))
    names = {"log": "log", "record": "record.json", "events": "events.jsonl", "room": "room"}
    paths = {name: str(tmp_path / file) for name, file in names.items()}
    return {"mark": os.urandom(8).hex(), "waits": [60.0, 60.0], "streams": None, "claim": None, **paths, **changes}


@contextmanager
def guarding(told: dict[str, Any], *argv: str) -> Generator[subprocess.Popen[bytes]]:
    command = [sys.executable, process_guard.__file__, json.dumps(told), *argv]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def heard(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def say(process: subprocess.Popen[bytes], words: str) -> None:
    assert process.stdin is not None
    process.stdin.write(words.encode())
    process.stdin.flush()


def leave(process: subprocess.Popen[bytes]) -> None:
    """What the death of lorabake looks like."""
    assert process.stdin is not None
    process.stdin.close()


def fake(tmp_path: Path, *flags: str) -> tuple[str, ...]:
    return (sys.executable, str(FAKE), "--pids", str(tmp_path / "pids"), *flags)


def ready(tmp_path: Path) -> None:
    deadline = time.monotonic() + 30
    while not (tmp_path / "pids").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def record(tmp_path: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((tmp_path / "record.json").read_text("utf-8"))
    return read


def test_it_says_the_pid_and_the_exit_and_waits_for_the_verdict(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path, "--exit", "5")) as process:
        assert heard(process).startswith("pid ")
        assert heard(process) == "exit 5"
        assert process.poll() is None
        say(process, "done\n")
        assert process.wait(30) == 5
    assert record(tmp_path) == RECORD


def test_it_says_why_a_command_cannot_be_started(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), str(tmp_path / "none")) as process:
        assert heard(process) == "error No such file or directory"
        assert process.wait(30) == 127
    assert record(tmp_path) == RECORD


def test_stop_begins_the_ladder_and_waits_for_a_polite_end(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path, "--delay", "600")) as process:
        heard(process)
        ready(tmp_path)
        say(process, "stop\n")
        assert heard(process) == "exit 130"
        say(process, "stop\n")  # there is nothing to stop any more
        say(process, "done\n")
        process.wait(30)


def test_the_ladder_is_climbed_in_time(tmp_path: Path) -> None:
    told = settings(tmp_path, waits=[0.1, 0.1])
    with guarding(told, *fake(tmp_path, "--delay", "600", "--ignore", "--children", "session")) as process:
        heard(process)
        ready(tmp_path)
        say(process, "stop\n")
        assert heard(process) == "exit 137"
        say(process, "done\n")
        process.wait(30)


def test_signals_to_the_guard_itself(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path, "--delay", "600")) as process:
        heard(process)
        ready(tmp_path)
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert heard(process) == "exit 130"
        say(process, "done\n")
        process.wait(30)


def test_left_alone_it_stops_the_trainer_and_finishes_the_record(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path, "--delay", "600")) as process:
        heard(process)
        ready(tmp_path)
        leave(process)
        assert process.wait(30) == 130
    found = record(tmp_path)
    assert found["status"] == "interrupted"
    assert found["ended"].endswith("Z")
    assert found["name"] == "naïve"
    assert found["outcome"]["message"] == "lorabake was killed or crashed; its guard stopped the trainer"
    assert found["outcome"]["returncode"] == 130
    last = json.loads((tmp_path / "events.jsonl").read_text("utf-8").splitlines()[-1])
    assert (last["event"], last["code"]) == ("interrupted", "lorabake-killed")
    assert not (tmp_path / "room").exists()


def test_left_alone_after_the_end_it_says_that_nothing_was_judged(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path)) as process:
        heard(process)
        assert heard(process) == "exit 0"
        leave(process)
        assert process.wait(30) == 0
    assert record(tmp_path)["outcome"]["message"].endswith("the trainer had ended but was not judged")


def test_a_verdict_that_lorabake_wrote_before_it_was_killed_stays(tmp_path: Path) -> None:
    with guarding(settings(tmp_path), *fake(tmp_path)) as process:
        heard(process)
        assert heard(process) == "exit 0"
        finished = RECORD | {"status": "finished"}
        (tmp_path / "record.json").write_text(json.dumps(finished), "utf-8")
        leave(process)
        assert process.wait(30) == 0
    assert record(tmp_path) == finished
    assert "interrupted" not in (tmp_path / "events.jsonl").read_text("utf-8")


def test_nothing_is_started_for_a_lorabake_that_is_gone(tmp_path: Path) -> None:
    told = settings(tmp_path)
    command = [sys.executable, process_guard.__file__, json.dumps(told), *fake(tmp_path)]
    reading, writing = os.pipe()
    os.close(writing)
    done = subprocess.run(command, stdin=reading, capture_output=True, check=False)
    os.close(reading)
    assert (done.returncode, done.stdout) == (127, b"")
    assert not (tmp_path / "pids").exists()


def test_without_a_record_there_is_nothing_to_finish(tmp_path: Path) -> None:
    told = settings(tmp_path, record=None, events=None, room=None)
    with guarding(told, *fake(tmp_path, "--delay", "600")) as process:
        heard(process)
        ready(tmp_path)
        leave(process)
        assert process.wait(30) == 130
    assert record(tmp_path) == RECORD
    assert (tmp_path / "room").exists()


def test_a_record_that_cannot_be_replaced_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    path.write_text("old", "utf-8")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    process_guard.replace_text(str(path), "new")
    assert path.read_text("utf-8") == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only where /proc is")
def test_a_tree_is_the_group_and_whatever_carries_the_mark() -> None:
    mark = os.urandom(8).hex()
    assert process_guard.read_process_stat(os.getpid())[:2] == ("R", os.getpgrp())
    assert os.getpid() in process_guard.ProcessTree(os.getpgrp(), mark).members()
    tree = process_guard.ProcessTree(0, mark)
    assert tree.members() == set()
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    env = os.environ | {process_guard.RUN_MARK_VARIABLE: mark}
    with subprocess.Popen(sleeper, env=env, start_new_session=True, stdout=subprocess.PIPE) as process:
        heard(process)
        assert tree.members() == {process.pid}
        tree.kill()
        assert process.wait(30) == -signal.SIGKILL
    assert process_guard.read_process_stat(process.pid) == ("X", 0, "")
    assert not process_guard.has_run_mark(process.pid, mark)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only where /proc is")
def test_a_dying_process_without_its_environment_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel takes the memory, and the mark in it, before the process counts as dead."""

    def bare(_pid: int, _mark: str) -> bool:
        return False

    mark = os.urandom(8).hex()
    sleeper = [sys.executable, "-c", "import time; print(flush=True); time.sleep(600)"]
    env = os.environ | {process_guard.RUN_MARK_VARIABLE: mark}
    with subprocess.Popen(sleeper, env=env, start_new_session=True, stdout=subprocess.PIPE) as process:
        heard(process)
        tree = process_guard.ProcessTree(0, mark)
        assert tree.members() == {process.pid}
        monkeypatch.setattr(process_guard, "has_run_mark", bare)
        assert tree.members() == {process.pid}
        assert process_guard.ProcessTree(0, mark).members() == set()
        process.kill()
        process.wait(30)
        assert tree.members() == set()


def test_without_proc_the_group_stands_for_the_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(_path: object) -> bool:
        return False

    monkeypatch.setattr(os.path, "exists", nowhere)
    assert process_guard.ProcessTree(os.getpgrp(), "mark").members() == {os.getpgrp()}
    assert process_guard.ProcessTree(0, "mark").members() == set()
    assert process_guard.ProcessTree(2**22 + 1, "mark").members() == set()
