"""A long command under its guard: real processes, real signals, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lorabake.errors import SetupError
from lorabake.util.environment import read_environment
from lorabake.util.process import Command, RunningCommand, SupervisionOptions, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

FAKE = Path(__file__).with_name("fake_trainer.py")
PATIENCE = 30.0


def fake(tmp_path: Path, *flags: str) -> Command:
    argv = (sys.executable, str(FAKE), "--pids", str(tmp_path / "pids"), *flags)
    return Command(argv, tmp_path, read_environment())


def supervision(tmp_path: Path, wait_s: float = 60.0) -> SupervisionOptions:
    """``wait_s`` short where every rung has to be climbed."""
    return SupervisionOptions(tmp_path / "trainer.log", interrupt_s=wait_s, terminate_s=wait_s)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def pids(tmp_path: Path) -> list[int]:
    until((tmp_path / "pids").exists, "the trainer's process ids")
    return [int(pid) for pid in (tmp_path / "pids").read_text("utf-8").split()]


def alive(pid: int) -> bool:
    """Whether a process lives; a zombie that nobody reaped does not."""
    try:
        os.kill(pid, 0)
        stat = Path(f"/proc/{pid}/stat")
        return not stat.exists() or stat.read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait(running: RunningCommand) -> None:
    until(lambda: running.wait(0.1), "the end of the command")


def test_both_streams_reach_the_log_in_order_and_byte_for_byte(tmp_path: Path) -> None:
    with supervise(fake(tmp_path, "--shadow", str(tmp_path / "shadow")), supervision(tmp_path)) as running:
        wait(running)
        assert running.returncode == 0
        assert running.stopped_by is None
    assert (tmp_path / "trainer.log").read_bytes() == (tmp_path / "shadow").read_bytes() != b""


def test_the_exit_code_is_passed_on(tmp_path: Path) -> None:
    with supervise(fake(tmp_path, "--exit", "7"), supervision(tmp_path)) as running:
        wait(running)
        assert running.returncode == 7


def test_death_by_a_signal_is_128_and_its_number(tmp_path: Path) -> None:
    with supervise(fake(tmp_path, "--die", "9"), supervision(tmp_path)) as running:
        wait(running)
        assert running.returncode == 128 + 9


def test_the_command_sees_its_environment_and_default_signals(tmp_path: Path) -> None:
    code = "import os, signal; print(os.environ['A'], signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    command = Command((sys.executable, "-c", code), tmp_path, {"A": "given"})
    with supervise(command, supervision(tmp_path)) as running:
        wait(running)
    assert (tmp_path / "trainer.log").read_text("utf-8") == "given True\n"


def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    command = Command((str(tmp_path / "no-python"),), tmp_path, read_environment())
    with (
        pytest.raises(SetupError, match=r"cannot start .*no-python: No such file"),
        supervise(command, supervision(tmp_path)),
    ):
        pytest.fail("it cannot have started")


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    command = Command((sys.executable,), tmp_path / "none", read_environment())
    with pytest.raises(SetupError, match="cannot start"), supervise(command, supervision(tmp_path)):
        pytest.fail("it cannot have started")


@pytest.mark.parametrize("children", ["group", "session"])
@pytest.mark.parametrize("stubborn", [False, True])
def test_stop_leaves_no_process(tmp_path: Path, children: str, *, stubborn: bool) -> None:
    if children == "session" and not Path("/proc/self/environ").exists():
        pytest.skip("a process that left the group can only be found where /proc is")
    flags = ("--delay", "600", "--children", children, *(["--ignore"] if stubborn else []))
    with supervise(fake(tmp_path, *flags), supervision(tmp_path, 0.2 if stubborn else 60)) as running:
        tree = pids(tmp_path)
        running.stop("test")
        wait(running)
        assert running.stopped_by == "test"
        assert running.returncode == 128 + (9 if stubborn else 2)
        assert [pid for pid in tree if alive(pid)] == []


def test_each_further_stop_goes_to_the_next_rung_at_once(tmp_path: Path) -> None:
    patient = SupervisionOptions(tmp_path / "trainer.log", interrupt_s=600, terminate_s=600)
    with supervise(fake(tmp_path, "--delay", "600", "--ignore"), patient) as running:
        pids(tmp_path)
        for _ in range(3):
            running.stop()
            assert not running.wait(0.2) or running.returncode == 128 + 9
        wait(running)
        assert running.returncode == 128 + 9


def test_what_the_command_leaves_running_is_ended_too(tmp_path: Path) -> None:
    with supervise(fake(tmp_path, "--children", "group"), supervision(tmp_path)) as running:
        wait(running)
        assert running.returncode == 0
        assert [pid for pid in pids(tmp_path) if alive(pid)] == []


def test_an_exception_in_the_watcher_stops_the_command(tmp_path: Path) -> None:
    flags = ("--delay", "600", "--children", "group", "--ignore")

    def broken() -> None:
        with supervise(fake(tmp_path, *flags), supervision(tmp_path, 0.2)):
            pids(tmp_path)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert [pid for pid in pids(tmp_path) if alive(pid)] == []


@pytest.mark.parametrize("children", ["group", "session"])
def test_when_the_guard_is_killed_its_trainer_is_killed(tmp_path: Path, children: str) -> None:
    if children == "session" and not Path("/proc/self/environ").exists():
        pytest.skip("a process that left the group can only be found where /proc is")
    flags = ("--delay", "600", "--children", children, "--ignore")
    with supervise(fake(tmp_path, *flags), supervision(tmp_path)) as running:
        tree = pids(tmp_path)
        os.kill(os.getsid(running.pid), signal.SIGKILL)  # the guard leads the session
        wait(running)
        assert running.returncode is None
        assert [pid for pid in tree if alive(pid)] == []


def test_a_polite_signal_to_the_guard_stops_the_trainer(tmp_path: Path) -> None:
    with supervise(fake(tmp_path, "--delay", "600"), supervision(tmp_path)) as running:
        pids(tmp_path)
        os.kill(os.getsid(running.pid), signal.SIGTERM)
        wait(running)
        assert running.returncode == 128 + 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_to_this_process_stop_the_command_instead(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with supervise(fake(tmp_path, "--delay", "600"), supervision(tmp_path)) as running:
        pids(tmp_path)
        os.kill(os.getpid(), number)
        wait(running)
        assert running.stopped_by == number.name
    assert signal.getsignal(number) == before


@contextmanager
def ignoring(number: signal.Signals) -> Generator[None]:
    """This process as a shell starts it that wants the signal ignored."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_under_nohup_a_closed_terminal_does_not_stop_the_command(tmp_path: Path) -> None:
    command = fake(tmp_path, "--delay", "600")
    with ignoring(signal.SIGHUP), supervise(command, supervision(tmp_path)) as running:
        pids(tmp_path)
        os.kill(os.getpid(), signal.SIGHUP)
        assert running.stopped_by is None
        running.stop("test")
        wait(running)
        assert running.returncode == 128 + 2  # the trainer itself does not ignore what its ancestors ignored


def test_in_the_background_of_a_script_sigint_still_stops_the_command(tmp_path: Path) -> None:
    command = fake(tmp_path, "--delay", "600")
    with ignoring(signal.SIGINT), supervise(command, supervision(tmp_path)) as running:
        pids(tmp_path)
        os.kill(os.getpid(), signal.SIGINT)
        wait(running)
        assert running.stopped_by == "SIGINT"
        assert running.returncode == 128 + 2
