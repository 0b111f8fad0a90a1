"""Locks between processes, on any file system: a file that says who holds it, and flock on it where there is flock.

The file appears complete (a link to one that is ready), and is removed by its holder: one that is found without a
living holder was left by a death. Where flock works, the kernel tells that; elsewhere the file does, by host, pid and
start time. An owner that may still live, such as one on another host, is never pushed aside: only a person knows.

The rules that make this safe: with flock, a file is replaced or removed only by who holds its lock, and whoever gets
the lock of a file that is no longer at its path tries again. Without flock, a dead owner's file is removed only under
a second one, NAME.breaking.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.guard import flock
from lorabake.owners import Owner, is_gone, is_here, lives, this_process, understood, written
from lorabake_schemas.words import Said, joined, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

POLL_S = 0.1
LIMIT = 4096  # bytes of a lock file
PATIENCE_S = 1.0  # for a file that is being written, or moved aside, this very moment
NO_LINKS = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES})
_SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that somebody else holds; ``certain`` is False when that process may be gone and nobody here can tell."""

    path: Path
    owner: Owner | None = None
    certain: bool = True

    @property
    def who(self) -> Said:
        return self.owner.described() if self.owner is not None else say("an unknown process")

    @property
    def hint(self) -> Said:
        if self.certain:
            return say("wait until it ends, or stop it")
        return say("if you are sure that this process no longer exists, remove {file}", file=self.path)

    def waiting(self, what: Said) -> Said:
        """A sentence about waiting, with who is waited for; and what to do where nobody can tell whether that lives."""
        return joined((what, self.who) if self.certain else (what, self.who, self.hint), ": ")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock that this process holds."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """The file goes first, as long as nobody else can have it."""
        if os.name == "nt":  # where an open file cannot be removed, which is also why nobody else could break the lock
            os.close(self.descriptor)
            with suppress(OSError):
                self.path.unlink()
            return
        with suppress(OSError):
            if _is_at(self.path, self.descriptor):
                try:
                    self.path.unlink()
                except OSError:  # another user's, in a folder like /tmp
                    os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def take(path: Path, use: str = "") -> Lock | Held:
    """Take a lock if it is free. Never waits for a living holder. Raises OSError when no file can be made there."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        made = _made(path, use)
        if made is not None:
            return made
        found = _seized(path, use)
        if isinstance(found, Lock) or (found is not None and (found.owner is not None or found.certain)):
            return found
        if time.monotonic() > deadline:
            return found or Held(path, certain=False)
        time.sleep(0.01)


@contextmanager
def try_held(path: Path, use: str = "") -> Generator[Held | None, None, None]:
    """Hold a lock if it is free; the value is None then, else who holds it. Raises OSError as ``take`` does."""
    found = take(path, use)
    if isinstance(found, Held):
        yield found
        return
    try:
        yield None
    finally:
        found.release()


@contextmanager
def held(path: Path, on_wait: Callable[[Held], None]) -> Generator[None, None, None]:
    """Hold a lock, waiting for it; ``on_wait`` is called once if somebody else has it. Raises OSError."""
    found = take(path)
    if isinstance(found, Held):
        on_wait(found)
    while isinstance(found, Held):
        time.sleep(POLL_S)
        found = take(path)
    try:
        yield
    finally:
        found.release()


def holder(path: Path) -> Held | None:
    """Who holds a lock; None when nobody does. Changes nothing. Raises OSError when the file cannot be read."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | _SAFE)
        except FileNotFoundError:
            return None
        try:
            found = _judged(path, _read(descriptor), flock(descriptor, shared=True))
        finally:
            os.close(descriptor)
        if found is None or found.owner is not None or found.certain or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def _made(path: Path, use: str) -> Lock | None:
    """A new lock; None when there is a file already."""
    aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    if os.name != "nt":
        descriptor = _ready(aside, use)
        try:
            os.link(aside, path)
            return Lock(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, FileExistsError):
                return None
            if error.errno not in NO_LINKS:
                raise
        finally:
            with suppress(OSError):
                aside.unlink()
    try:
        descriptor = _ready(path, use)
    except FileExistsError:
        return None
    if flock(descriptor) is not False and _is_at(path, descriptor):  # else it was found empty, and taken
        return Lock(path, descriptor)
    os.close(descriptor)
    return None


def _ready(path: Path, use: str) -> int:
    """A new file that says who we are, locked by flock where that is possible; others may read it."""
    descriptor = os.open(path, _NEW, 0o666)
    try:
        with suppress(OSError):
            os.chmod(path, os.fstat(descriptor).st_mode & 0o777 | 0o444)  # noqa: PTH101 - beside its kin
        locked = flock(descriptor)
        os.write(descriptor, written(this_process(use, flock=bool(locked))))
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise
    return descriptor


def _seized(path: Path, use: str) -> Lock | Held | None:
    """The lock of a file that is there, if its owner is gone; None when it is worth another try."""
    try:
        descriptor, writable = os.open(path, os.O_RDWR | _SAFE), True
    except FileNotFoundError:
        return None
    except PermissionError:  # another user's
        descriptor, writable = os.open(path, os.O_RDONLY | _SAFE), False
    try:
        locked = flock(descriptor)
        found = _judged(path, _read(descriptor), locked)
        if locked is False or found is not None:
            return found
        if not _is_at(path, descriptor):
            return None
        if locked is None:
            return _break(path, descriptor)
        lock = _replaced(path, use)
        if lock is None:  # a folder in which only its owner replaces a file, such as /tmp
            if writable:
                os.ftruncate(descriptor, os.pwrite(descriptor, written(this_process(use, flock=True)), 0))
            lock, descriptor = Lock(path, descriptor), -1
        return lock
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _replaced(path: Path, use: str) -> Lock | None:
    """Our own file in the place of one whose lock we have; None where that is not allowed."""
    aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = _ready(aside, use)
    except PermissionError:
        return None
    try:
        aside.replace(path)
    except BaseException as error:
        os.close(descriptor)
        with suppress(OSError):
            aside.unlink()
        if isinstance(error, PermissionError):
            return None
        raise
    return Lock(path, descriptor)


def _break(path: Path, descriptor: int) -> Held | None:
    """Remove the file of an owner who is gone, where there is no flock. Only one at a time may."""
    breaking = path.with_name(f"{path.name}.breaking")
    try:
        marker = os.open(breaking, _NEW, 0o666)
    except FileExistsError:
        with suppress(OSError):
            other = os.open(breaking, os.O_RDONLY | _SAFE)
            try:
                owner = _read(other)
                if owner is not None and is_gone(owner, unlocked=True) and _is_at(breaking, other):
                    breaking.unlink()
            finally:
                os.close(other)
        return Held(breaking, None, certain=False)
    try:
        os.write(marker, written(this_process()))
        if _is_at(path, descriptor):
            path.unlink()
    except PermissionError:
        return Held(path, _read(descriptor), certain=os.name == "nt")
    finally:
        os.close(marker)
        with suppress(OSError):
            breaking.unlink()
    return None


def _judged(path: Path, owner: Owner | None, locked: bool | None) -> Held | None:
    """Whether a file means that somebody holds the lock. ``locked``: we have its flock; None where there is none."""
    if locked is False:  # by a passing look where its owner has ended
        return Held(path, None, certain=False) if owner and is_here(owner) and not lives(owner) else Held(path, owner)
    if owner is None:  # empty: whoever made it was killed in that moment, or is about to write
        return None if locked else Held(path, None, certain=False)
    if is_gone(owner, unlocked=locked is True) or os.name == "nt":
        return None
    return Held(path, owner, certain=is_here(owner))


def _read(descriptor: int) -> Owner | None:
    found = understood(os.pread(descriptor, LIMIT, 0) if os.name != "nt" else os.read(descriptor, LIMIT))
    return found[0] if found is not None else None


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        there, ours = os.stat(path, follow_symlinks=False), os.fstat(descriptor)  # noqa: PTH116
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
