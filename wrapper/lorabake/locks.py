"""Locks between processes: one at a time, and a word to the others while they wait."""

from __future__ import annotations

from contextlib import contextmanager
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
    """Hold the lock file ``path`` if nobody else does; the value says whether it is held. Never waits."""
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


__all__ = ["held", "try_held"]
