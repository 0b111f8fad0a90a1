"""A process with a session of its own that carries out a job, whatever becomes of the terminal: a run's supervisor.

It is forked from the process that prepared the job, so that nothing of that is written down and read again. The process
that started it only waits for the result, which comes through a pipe, and may leave at any time.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from lorabake.errors import LorabakeError, ResourceError
from lorabake.util.process_guard import POLITE_SIGNALS
from lorabake.util.signals import end_at_stop_signals
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

Result = TypeVar("Result")


class BackgroundCrashError(Exception):
    """A bug of ours in the other process; its traceback is the message."""


class BackgroundJob(Generic[Result]):
    """A job, seen by the process that started it."""

    def __init__(self, pid: int, reading: int) -> None:
        self.pid = pid
        self._reading = reading
        self._received = b""
        self._is_over = False

    def stop(self, reason: str) -> None:
        """Pass a signal on. Safe inside a signal handler: until ``wait`` has seen its end, the pid is its own."""
        if not self._is_over:
            with suppress(OSError):
                os.kill(self.pid, signal.Signals[reason])

    def wait(self, seconds: float) -> bool:
        """Wait at most that long; True if it has ended."""
        if not self._is_over and select.select([self._reading], [], [], seconds)[0]:
            piece = os.read(self._reading, 1 << 16)
            self._received += piece
            if not piece:
                self._is_over = True
                os.close(self._reading)
                with suppress(ChildProcessError):
                    os.waitpid(self.pid, 0)
        return self._is_over

    def result(self) -> Result | None:
        """What the job returned; None if its process was killed. Raises what the job raised."""
        try:
            answer: Result | Exception = pickle.loads(self._received)  # noqa: S301 - our own child's, through our own pipe
        except (EOFError, pickle.UnpicklingError):
            return None
        if isinstance(answer, Exception):
            raise answer
        return answer


def start_in_background(job: Callable[[], Result], *, bound: bool = False) -> BackgroundJob[Result]:
    """Carry out a job in a process of its own. It ignores SIGHUP, and stops cleanly when another signal asks it to.
    One that is ``bound`` gets SIGTERM when the process that started it ends before it.

    Signals that come before it can handle them wait until ``forward_stop_signals`` does. Raises ResourceError on
    Windows.
    """
    if sys.platform == "win32":
        raise ResourceError(msg("runs need Linux or macOS"), msg("run lorabake inside WSL 2"))
    reading, writing = os.pipe()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, POLITE_SIGNALS)
    try:
        pid = os.fork()
        if not pid:
            os.close(reading)
            _live(job, writing, bound=bound)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    os.close(writing)
    return BackgroundJob(pid, reading)


def _live(job: Callable[[], object], writing: int, *, bound: bool) -> None:
    """The life of the other process. Never returns."""
    try:
        gc.freeze()
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        end_at_stop_signals()
        empty = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(empty, stream)
        _close_inherited()
        if bound:
            threading.Thread(target=_end_with_reader, args=(writing,), daemon=True).start()
        _send(writing, _carry_out(job))
    finally:
        os._exit(0)


def _close_inherited() -> None:
    """Close what a shell or a script left open for this program: a pipe's reader would wait for us, a lock would stay.

    Python's own files are never inheritable.
    """
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # that of the list itself
            if int(path.name) > 2 and os.get_inheritable(int(path.name)):
                os.close(int(path.name))


def _end_with_reader(writing: int) -> None:
    """Wait until nobody can read the result, and end the job then."""
    pipe = select.poll()
    pipe.register(writing, 0)  # POLLERR is always reported
    pipe.poll()
    os.kill(os.getpid(), signal.SIGTERM)


def _carry_out(job: Callable[[], object]) -> bytes:
    try:
        return pickle.dumps(job())
    except (LorabakeError, OSError, MemoryError) as error:
        return pickle.dumps(error)
    except BaseException:  # noqa: BLE001 - there is nobody else to hear of it
        return pickle.dumps(BackgroundCrashError(traceback.format_exc()))


def _send(writing: int, answer: bytes) -> None:
    with suppress(OSError):  # nobody waits for it: the record has it, too
        while answer:
            answer = answer[os.write(writing, answer) :]
