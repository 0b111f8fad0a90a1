"""The one door to subprocesses: argv lists in, results out, never a shell."""

from __future__ import annotations

import json
import math
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from lorabake.errors import InterruptedRunError, ResourceError, SetupError
from lorabake.util import process_guard
from lorabake.util.environment import filter_absolute_folders, read_environment
from lorabake.util.signals import forward_stop_signals
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

# A command that has to end this soon runs without a guard, which takes a tenth of a second to start: if
# lorabake is killed meanwhile, little is left running, and not for long.
_UNGUARDED_LIMIT_S = 10.0


class CommandOutput(NamedTuple):
    """A finished command: its argv, exit code and both streams, decoded leniently as UTF-8."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0


@dataclass(frozen=True, slots=True)
class Command:
    """The program with its arguments, folder and environment; never a shell line."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)  # may contain secrets


class SupervisionOptions(NamedTuple):
    """How a long command is watched.

    ``log`` gets both streams byte for byte, or the open files ``streams`` one each. The guard writes what happened into
    ``record`` and ``events`` if this process is killed; it may remove ``room`` first, to free space. ``claim`` is the
    file by which it claims the run, and its content (runs/lock.py). SIGTERM follows SIGINT after ``interrupt_s``
    seconds, SIGKILL follows SIGTERM after ``terminate_s``.
    """

    log: Path | None = None
    streams: tuple[int, int] | None = None
    record: Path | None = None
    events: Path | None = None
    room: Path | None = None
    claim: tuple[Path, Mapping[str, object]] | None = None
    interrupt_s: float = 10.0
    terminate_s: float = 5.0


class RunningCommand:
    """A supervised command. Its streams go to the log; this end only waits for it and may ask it to stop."""

    def __init__(self, guarding: subprocess.Popen[bytes], mark: str) -> None:
        self._guard = guarding
        self._mark = mark
        self._said = b""
        self._over = False
        self.pid = 0
        self.returncode: int | None = None
        self.stopped_by: str | None = None

    def stop(self, reason: str = "stop") -> None:
        """Ask for the next rung of the ladder: SIGINT, SIGTERM, SIGKILL. Safe inside a signal handler."""
        self.stopped_by = self.stopped_by or reason
        self._tell(b"stop\n")

    def wait(self, seconds: float) -> bool:
        """Wait at most that long; True if the command and everything it started have ended.

        ``returncode`` is then its status, 128 + n for a signal, or None if the guard itself was killed; what it guarded
        has then been killed from here.
        """
        stdout = self._guard.stdout
        if self._over or stdout is None or not select.select([stdout], [], [], seconds)[0]:
            return self._over
        heard = os.read(stdout.fileno(), 4096)
        self._said += heard
        if b"\n" in heard:
            self._parse_messages()
        if not heard and not self._over:
            self._over = True
            process_guard.ProcessTree(self.pid, self._mark).kill()
        return self._over

    def find_processes(self) -> set[int]:
        """The living processes of the command; empty before it runs."""
        return process_guard.ProcessTree(self.pid, self._mark).members() if self.pid else set()

    def started(self) -> str | None:
        """Wait for the guard's first word: None when the command runs, else why it could not be started."""
        while not self.pid and not self._over and b"error " not in self._said:
            self.wait(1.0)
        return None if self.pid else self._said.decode("utf-8", "replace").removeprefix("error ").strip() or "?"

    def close(self, *, judged: bool) -> None:
        """Release the guard; without ``judged`` it stops what still runs and marks the record as interrupted."""
        if judged:
            self._tell(b"done\n")
        if self._guard.stdin is not None:
            with suppress(OSError):
                self._guard.stdin.close()
        self._guard.wait()
        if self._guard.stdout is not None:
            self._guard.stdout.close()

    def _tell(self, words: bytes) -> None:
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            with suppress(OSError):  # the guard has ended: wait() notices
                os.write(self._guard.stdin.fileno(), words)

    def _parse_messages(self) -> None:
        for line in self._said.decode("utf-8", "replace").splitlines():
            word, _, rest = line.partition(" ")
            if word == "pid":
                self.pid = int(rest)
            elif word == "exit":
                self.returncode, self._over = int(rest), True


@contextmanager
def supervise(command: Command, how: SupervisionOptions) -> Generator[RunningCommand]:
    """Start a long command under a guard (process_guard.py) and have it stopped, with all it started, when this ends.

    While it runs, every signal to this process that asks it to stop (util/signals.py) asks for the next rung of the
    ladder instead. Leaving normally means that the outcome has been recorded; leaving by an exception, or
    the death of this process, leaves that to the guard. Raises SetupError when the command cannot be started,
    ResourceError on Windows.
    """
    if os.name == "nt":
        raise ResourceError(msg("runs need Linux or macOS"), msg("run lorabake inside WSL 2"))
    mark = os.urandom(16).hex()
    with forward_stop_signals() as bind:
        running = RunningCommand(_start_guard(command, how, mark), mark)
        judged = False
        try:
            problem = running.started()
            if problem is not None:
                raise _start_error(command, problem)
            bind(running)
            yield running
            judged = True
        finally:
            running.close(judged=judged)


def _start_guard(command: Command, how: SupervisionOptions, mark: str) -> subprocess.Popen[bytes]:
    settings = {
        "mark": mark,
        "waits": [how.interrupt_s, how.terminate_s],
        "log": str(how.log.absolute()) if how.log else os.devnull,
        "streams": how.streams,
        "record": str(how.record.absolute()) if how.record else None,
        "events": str(how.events.absolute()) if how.events else None,
        "room": str(how.room.absolute()) if how.room else None,
        "claim": {"path": str(how.claim[0].absolute()), "told": {**how.claim[1], "mark": mark}} if how.claim else None,
    }
    argv = [
        sys.executable,
        "-I",
        "-S",
        str(Path(process_guard.__file__).absolute()),
        json.dumps(settings),
        *command.argv,
    ]
    try:
        return subprocess.Popen(
            argv,
            cwd=command.cwd,
            env=dict(command.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=how.streams or (),
        )
    except OSError as error:
        raise _start_error(command, error.strerror or str(error)) from error


def capture_output(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> CommandOutput:
    """Run a command to its end and return its output; it does not outlive this process.

    A non-zero exit is a normal result, 128 + n for a signal. ``timeout`` is in seconds. Raises SetupError if the
    command cannot be started or does not end in time, InterruptedRunError if this process was asked to stop.
    """
    env = read_environment() if env is None else env
    command = Command((_resolve_program(argv[0], env), *argv[1:]), cwd or Path.cwd(), env)
    brief = timeout is not None and timeout <= _UNGUARDED_LIMIT_S
    run = _run_unguarded if brief or os.name == "nt" else _run_guarded  # Windows has no guard
    with TemporaryFile() as out, TemporaryFile() as err:  # nameless, so that nothing can stay behind
        returncode = run(command, timeout, (out.fileno(), err.fileno()))
        out.seek(0)
        err.seek(0)
        said, complained = (file.read().decode("utf-8", "replace") for file in (out, err))
    return CommandOutput(command.argv, returncode, said, complained)


def _resolve_program(name: str, env: Mapping[str, str]) -> str:
    """Where a program is; a path counts from the current folder. Raises SetupError when PATH does not lead to it."""
    found = str(Path(name).absolute()) if os.sep in name else find_program(name, env)
    if found is None:
        raise SetupError(msg("cannot start {program}: not found", program=name))
    return found


def find_program(name: str, env: Mapping[str, str]) -> str | None:
    """Where a program is, by the absolute folders of PATH alone; None where it is nowhere."""
    folders = filter_absolute_folders(env.get("PATH", os.defpath))
    return shutil.which(name, path=folders) if folders else None


def _run_guarded(command: Command, timeout: float | None, streams: tuple[int, int]) -> int:
    how = SupervisionOptions(streams=streams, interrupt_s=2.0, terminate_s=2.0)
    deadline_s = math.inf if timeout is None else timeout
    deadline = time.monotonic() + deadline_s
    with supervise(command, how) as running:
        while not running.wait(min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise _timeout_error(command, deadline_s)
        if running.stopped_by is not None:
            raise InterruptedRunError(msg("stopped by {signal}", signal=running.stopped_by))
    return 128 + signal.SIGKILL if running.returncode is None else running.returncode


def _run_unguarded(command: Command, timeout: float | None, streams: tuple[int, int]) -> int:
    out, err = streams
    try:
        done = subprocess.run(
            command.argv,
            cwd=command.cwd,
            env=dict(command.env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise _timeout_error(command, timeout or 0.0) from error
    except OSError as error:
        raise _start_error(command, error.strerror or str(error)) from error
    return done.returncode if done.returncode >= 0 else 128 - done.returncode


def _start_error(command: Command, why: str) -> SetupError:
    return SetupError(msg("cannot start {program}: {why}", program=command.argv[0], why=why))


def _timeout_error(command: Command, seconds: float) -> SetupError:
    return SetupError(msg("{program} did not finish within {seconds:g} s", program=command.argv[0], seconds=seconds))
