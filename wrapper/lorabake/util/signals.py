"""Signals that ask lorabake to stop, handed on to the command that it watches."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType


class Stoppable(Protocol):
    """What can be asked to stop; safe inside a signal handler."""

    def stop(self, reason: str) -> None: ...


# What people and batch systems send before they kill: Slurm's --signal and OAR send SIGUSR1 or SIGUSR2, LSF SIGUSR2,
# Grid Engine SIGUSR1, SIGUSR2 and SIGXCPU. Windows has only the first two.
_ALWAYS_HANDLED = (signal.SIGINT, signal.SIGTERM)
_UNLESS_IGNORED = tuple(
    getattr(signal, name) for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU") if hasattr(signal, name)
)
# SIGHUP is not among them: with its terminal a command that nothing depends on has to go.
_RAISED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU") if hasattr(signal, name))
ECHO_S = 5.0  # within which the same signal, sent to a whole job and passed on, is one request
INTERRUPT_ECHO_S = 0.3  # the same for SIGINT: nobody presses Ctrl-C twice in that time


@contextmanager
def forward_stop_signals() -> Generator[Callable[[Stoppable], None]]:
    """Turn every signal that asks to stop into ``stop`` of the bound object; one that came too early stops it when
    bound.

    A batch system sends its signals to every process of a job: the same one again, soon after the first, is not a
    second request. A second Ctrl-C is, unless it comes with the first one.

    An ignored signal stays ignored (nohup, trap ''). SIGINT does not: a shell script starts every background command
    with it ignored, and a person who sends it by hand means it. Outside the main thread Python allows no handler.
    """
    early: list[str] = []
    bound: list[Stoppable] = []

    heard_at: dict[int, float] = {}

    def heard(number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        echo_s = INTERRUPT_ECHO_S if number == signal.SIGINT else ECHO_S
        if now - heard_at.get(number, -math.inf) < echo_s:
            return
        heard_at[number] = now
        for running in bound:
            running.stop(signal.Signals(number).name)
        if not bound:
            early.append(signal.Signals(number).name)

    def bind(running: Stoppable) -> None:
        bound.append(running)
        for name in early:
            running.stop(name)

    with _install_handlers(heard):
        yield bind


@contextmanager
def interrupt_at_stop_signals() -> Generator[None]:
    """Let these signals raise KeyboardInterrupt, as Ctrl-C does, where they would end the process at once: a batch
    system may send them while a run is prepared, and its script knows an interrupted run by its exit code.
    """
    replaced = [number for number in _RAISED if signal.getsignal(number) is signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        replaced = []
    for number in replaced:
        signal.signal(number, _raise_interrupt)
    try:
        yield
    finally:
        for number in replaced:
            signal.signal(number, signal.SIG_DFL)


def end_at_stop_signals() -> None:
    """Undo that in a forked process."""
    for number in _RAISED:
        if signal.getsignal(number) is _raise_interrupt:
            signal.signal(number, signal.SIG_DFL)


def _raise_interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _install_handlers(heard: Callable[[int, FrameType | None], None]) -> Generator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*_ALWAYS_HANDLED, *_UNLESS_IGNORED)}
    for number, handler in before.items():
        if number in _ALWAYS_HANDLED or handler is not signal.SIG_IGN:
            signal.signal(number, heard)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, before)  # a supervisor held them back until now
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
