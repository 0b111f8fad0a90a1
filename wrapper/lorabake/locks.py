"""Locks between processes: one at a time, and a word to the others while they wait."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path


@contextmanager
def held(path: Path, on_wait: Callable[[], None]) -> Generator[None, None, None]:
    """Hold the lock file ``path``; ``on_wait`` is called once if somebody else has it.

    The operating system frees the lock when its holder dies. The file itself stays: removing it would let two
    holders lock two files of the same name. Raises OSError when the file cannot be made.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        on_wait()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def try_held(path: Path) -> Generator[bool, None, None]:
    """Hold the lock file ``path`` if nobody else does; the value says whether it is held. Never waits.

    Raises OSError when the file cannot be made: filelock takes that for a lock that somebody holds.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether a guard holds a run's folder (guard.hold); False where that cannot be told.

    The lock is shared, so that those who look do not take one another for a guard.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # freed by closing it
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


__all__ = ["held", "is_held", "try_held"]
