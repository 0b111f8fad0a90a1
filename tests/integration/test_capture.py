"""Commands whose output is captured: every failure to start has a message, and nothing keeps running without
lorabake.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.util import process
from lorabake.util.process import capture_output

# Time-outs of a brief command, which runs alone, and of ones that run under the guard.
WAYS = [5.0, 1800.0, None]


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


@pytest.mark.parametrize("timeout", WAYS)
def test_both_streams_and_the_code_are_kept(timeout: float | None) -> None:
    done = capture_output(
        python("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"), timeout=timeout
    )
    assert (done.returncode, done.stdout, done.stderr, done.ok) == (3, "out\n", "err\n", False)
    assert done.argv[0] == sys.executable


@pytest.mark.parametrize("timeout", WAYS)
def test_where_and_with_what_it_runs(tmp_path: Path, timeout: float | None) -> None:
    code = "import os; print(os.getcwd(), os.environ.get('A'), 'HOME' in os.environ)"
    done = capture_output(python(code), cwd=tmp_path, env={"A": "b"}, timeout=timeout)
    assert done.stdout == f"{tmp_path} b False\n"


def test_bytes_that_are_not_utf8_do_no_harm() -> None:
    assert capture_output(python(r"import os; os.write(1, b'\xff!')")).stdout == "�!"


@pytest.mark.parametrize("timeout", WAYS)
def test_it_gets_no_input(timeout: float | None) -> None:
    assert capture_output(python("import sys; print(repr(sys.stdin.read()))"), timeout=timeout).stdout == "''\n"


@pytest.mark.parametrize("timeout", WAYS)
def test_a_program_that_dies_by_a_signal(timeout: float | None) -> None:
    assert capture_output(python("import os; os.kill(os.getpid(), 9)"), timeout=timeout).returncode == 137


@pytest.mark.parametrize("timeout", WAYS)
def test_a_program_that_is_not_there(tmp_path: Path, timeout: float | None) -> None:
    with pytest.raises(SetupError, match=r"cannot start .*none: No such file"):
        capture_output([str(tmp_path / "none")], timeout=timeout)


@pytest.mark.parametrize("timeout", WAYS)
def test_a_program_that_may_not_be_run(tmp_path: Path, timeout: float | None) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    with pytest.raises(SetupError, match=r"cannot start .*file: Permission denied"):
        capture_output([str(tmp_path / "file")], timeout=timeout)


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(SetupError, match=r"within 0\.2 s"):
        capture_output(python("import time; time.sleep(60)"), timeout=0.2)


def test_a_guarded_program_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_UNGUARDED_LIMIT_S", 0.0)
    with pytest.raises(SetupError, match=r"within 0\.2 s"):
        capture_output(python("import time; time.sleep(60)"), timeout=0.2)


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
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


# What lorabake does while it makes a base model, and the child it would leave: one with a child of its own.
LORABAKE = """
import sys
from lorabake.errors import InterruptedRunError
from lorabake.util.process import capture_output
try:
    capture_output([sys.executable, "-c", sys.argv[1], sys.argv[2]], timeout=1800)
except InterruptedRunError as error:
    print(error.message)
    sys.exit(error.exit_code)
"""
CHILD = """
import os, pathlib, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pids = pathlib.Path(sys.argv[1])
pids.with_suffix(".part").write_text(f"{os.getpid()} {below.pid}")
pids.with_suffix(".part").rename(pids)
time.sleep(600)
"""


@contextmanager
def waiting(tmp_path: Path) -> Generator[tuple[subprocess.Popen[str], list[int]]]:
    """A process inside capture(), with the pids of what it started."""
    argv = [sys.executable, "-c", LORABAKE, CHILD, str(tmp_path / "pids")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as lorabake:
        pids: list[int] = []
        try:
            until((tmp_path / "pids").exists, "the child")
            pids += [int(pid) for pid in (tmp_path / "pids").read_text("utf-8").split()]
            yield lorabake, pids
        finally:
            lorabake.kill()
            for pid in filter(alive, pids):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_what_it_runs_ends_with_lorabake(tmp_path: Path, number: signal.Signals) -> None:
    with waiting(tmp_path) as (lorabake, pids):
        assert all(map(alive, pids))
        lorabake.send_signal(number)
        said, _ = lorabake.communicate(timeout=60)
        assert not any(map(alive, pids))
        assert (lorabake.returncode, said) == (130, f"stopped by {number.name}\n")


def test_what_it_runs_ends_when_lorabake_is_killed(tmp_path: Path) -> None:
    with waiting(tmp_path) as (lorabake, pids):
        lorabake.kill()
        lorabake.wait(60)
        until(lambda: not any(map(alive, pids)), "the end of what it ran")
