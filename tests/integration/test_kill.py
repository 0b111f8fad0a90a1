"""lorabake is killed in the middle of a run: no process stays, no byte of the log is lost, the record is correct.
SIGKILL included: the guard sees its pipe close and does what lorabake no longer can.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

RUNNER = Path(__file__).with_name("launch_runner.py")
PATIENCE = 60.0
STUBBORN = ("--ignore", "--children", "group")
SCATTERED = ("--ignore", "--children", "session")


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie that nobody reaped does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextmanager
def running(tmp_path: Path, *flags: str) -> Generator[tuple[subprocess.Popen[bytes], list[int]]]:
    """launch() in a separate process, some steps into a training, with the pids of all its children."""
    flags = ("--steps", "100000", "--delay", "0.01", "--shadow", str(tmp_path / "shadow"), *flags)
    argv = [sys.executable, str(RUNNER), str(tmp_path / "run"), "--pids", str(tmp_path / "pids"), *flags]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE) as lorabake:
        try:
            events = tmp_path / "run" / "events.jsonl"
            until(lambda: events.exists() and b'"step": 5,' in events.read_bytes(), "the fifth step")
            tree = [int(pid) for pid in (tmp_path / "pids").read_text("utf-8").split()]
            yield lorabake, [*tree, os.getsid(tree[0])]  # the guard leads the session
        finally:
            lorabake.kill()


def last_event(paths: RunPaths) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(paths.events.read_text("utf-8").splitlines()[-1])
    return event


def assert_log_is_whole(tmp_path: Path) -> None:
    """The fake writes to the log first: when it is killed in between, the shadow lacks the log's last piece."""
    log, shadow = RunPaths(tmp_path / "run").log.read_bytes(), (tmp_path / "shadow").read_bytes()
    assert len(shadow) > 500
    assert log.startswith(shadow)
    assert log[len(shadow) :].count(b"\rsteps:") <= 1


POLITE = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU]


@pytest.mark.parametrize("number", POLITE)
@pytest.mark.parametrize("flags", [(), STUBBORN, SCATTERED], ids=["polite", "stubborn", "scattered"])
def test_a_polite_signal(tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]) -> None:
    if flags == SCATTERED and not Path("/proc/self/environ").exists():
        pytest.skip("a process that left the group can only be found where /proc is")
    paths = RunPaths(tmp_path / "run")
    with running(tmp_path, *flags) as (lorabake, tree):
        lorabake.send_signal(number)
        _, words = lorabake.communicate(timeout=PATIENCE)
        assert lorabake.returncode == 130
        assert [pid for pid in tree if alive(pid)] == []
    assert f"stopped by {number.name} after step" in words.decode()
    assert not flags or f"stopping: {number.name}\n" in words.decode()  # at once, before the ladder is climbed
    assert str(paths.log) in words.decode()
    assert_log_is_whole(tmp_path)
    record = read_record(paths.record)
    assert record.status == "interrupted"
    assert record.outcome is not None
    assert record.outcome.code == "interrupted"
    assert record.outcome.returncode == (128 + 9 if flags else 128 + 2)
    assert (record.outcome.steps or 0) >= 5
    assert last_event(paths)["event"] == "interrupted"


@pytest.mark.parametrize("flags", [(), STUBBORN, SCATTERED], ids=["polite", "stubborn", "scattered"])
def test_sigkill(tmp_path: Path, flags: tuple[str, ...]) -> None:
    if flags == SCATTERED and not Path("/proc/self/environ").exists():
        pytest.skip("a process that left the group can only be found where /proc is")
    paths = RunPaths(tmp_path / "run")
    with running(tmp_path, *flags) as (lorabake, tree):
        lorabake.kill()
        lorabake.wait()
        until(lambda: not any(alive(pid) for pid in tree), "the end of the trainer and its guard")
    assert_log_is_whole(tmp_path)
    record = read_record(paths.record)
    assert record.status == "interrupted"
    assert record.ended is not None
    assert record.outcome is not None
    assert record.outcome.code == "lorabake-killed"
    assert "its guard stopped the trainer" in record.outcome.message
    assert last_event(paths)["event"] == "interrupted"
    assert [path.name for path in paths.root.glob(".*")] == []


def test_an_impatient_second_signal_skips_the_wait(tmp_path: Path) -> None:
    with running(tmp_path, *STUBBORN) as (lorabake, tree):
        for _ in range(3):
            lorabake.send_signal(signal.SIGINT)
            time.sleep(0.1)
        lorabake.wait(PATIENCE)
        assert lorabake.returncode == 130
        assert [pid for pid in tree if alive(pid)] == []


def test_when_guard_and_lorabake_are_told_to_stop_at_once(tmp_path: Path) -> None:
    """As a service manager does, which signals every process of the service."""
    with running(tmp_path, *STUBBORN) as (lorabake, tree):
        for pid in (lorabake.pid, *tree):
            os.kill(pid, signal.SIGTERM)
        lorabake.wait(PATIENCE)
        assert lorabake.returncode == 130
        assert [pid for pid in tree if alive(pid)] == []
    assert read_record(tmp_path / "run" / "record.json").status == "interrupted"


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU])
@pytest.mark.parametrize("flags", [(), ("--children", "session")], ids=["alone", "scattered"])
def test_a_batch_systems_warning_to_every_process_of_a_job(
    tmp_path: Path, number: signal.Signals, flags: tuple[str, ...]
) -> None:
    """`scancel --signal=USR1 JOB.STEP`; first to the trainer, which it must not kill before lorabake hears of it."""
    with running(tmp_path, *flags) as (lorabake, tree):
        for pid in (*tree, lorabake.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        lorabake.wait(PATIENCE)
        assert lorabake.returncode == 130
        assert [pid for pid in tree if alive(pid)] == []
    record = read_record(tmp_path / "run" / "record.json")
    assert record.status == "interrupted"
    assert record.outcome is not None
    if number != signal.SIGXCPU:  # of which the trainer may die at once, as it would by its own limit
        assert record.outcome.returncode == 128 + signal.SIGINT
    assert (record.outcome.steps or 0) >= 5


def test_a_warning_that_the_batch_script_ignores_stays_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # trap '' USR1
    try:
        with running(tmp_path) as (lorabake, tree):
            for pid in (*tree, lorabake.pid):
                os.kill(pid, signal.SIGUSR1)
            seen = (tmp_path / "run" / "events.jsonl").stat().st_size
            until(lambda: (tmp_path / "run" / "events.jsonl").stat().st_size > seen + 500, "further steps")
            lorabake.terminate()
            assert lorabake.wait(PATIENCE) == 130
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_when_the_guard_is_killed_lorabake_ends_the_run(tmp_path: Path) -> None:
    with running(tmp_path, *STUBBORN) as (lorabake, tree):
        os.kill(tree[-1], signal.SIGKILL)
        lorabake.wait(PATIENCE)
        assert [pid for pid in tree if alive(pid)] == []
    record = read_record(tmp_path / "run" / "record.json")
    assert record.status == "failed"
    assert record.outcome is not None
    assert record.outcome.code == "guard-killed"
