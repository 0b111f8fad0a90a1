"""Locks between processes, on any file system: a file that names its holder, and flock on it where flock works.

The file appears complete (a link to one that is ready), and is removed by its holder: one without a living holder was
left by a process that died. Where flock works, the kernel shows that; elsewhere the file does, by host, pid and start
time. An owner that may still be alive, such as one on another host, is never replaced: only a person knows.

The rules that make this safe: with flock, a file is replaced or removed only by the holder of its lock, and whoever
gets the lock of a file that has been removed from its path tries again. Without flock, a dead owner's file is removed
only under a second one, NAME.breaking.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.util.owners import (
    LockOwner,
    current_owner,
    is_alive,
    is_gone,
    is_local_process,
    parse_owner,
    serialize_owner,
)
from lorabake.util.process_guard import flock
from lorabake_schemas.messages import Message, join_list, msg

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

POLL_S = 0.1
LOCK_FILE_LIMIT = 4096  # bytes of a lock file
RETRY_LIMIT_S = 1.0  # for a file that is being written, or moved aside, this very moment
NO_HARD_LINK_ERRNOS = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.EACCES}
)
_SAFE_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_NEW_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | _SAFE_FLAGS


@dataclass(frozen=True, slots=True)
class LockHolder:
    """A lock of another process; ``certain`` is False if that process may have ended and nobody here can know."""

    path: Path
    owner: LockOwner | None = None
    certain: bool = True

    @property
    def who(self) -> Message:
        return self.owner.describe_owner() if self.owner is not None else msg("an unknown process")

    @property
    def hint(self) -> Message:
        if self.certain:
            return msg("wait until it ends, or stop it")
        return msg("if you are sure that this process no longer exists, delete {file}", file=self.path)

    def describe_wait(self, what: Message) -> Message:
        """A sentence about waiting, with the process that is waited for; and what to do if it may have ended."""
        return join_list((what, self.who) if self.certain else (what, self.who, self.hint), ": ")


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock of this process."""

    path: Path
    descriptor: int

    def release(self) -> None:
        """The file is removed first, while no other process can have it."""
        if os.name == "nt":  # where an open file cannot be removed, which is also why nobody else could break the lock
            os.close(self.descriptor)
            with suppress(OSError):
                self.path.unlink()
            return
        with suppress(OSError):
            if _is_same_file(self.path, self.descriptor):
                try:
                    self.path.unlink()
                except OSError:  # another user's, in a folder like /tmp
                    os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)


def acquire_lock(path: Path, use: str = "") -> Lock | LockHolder:
    """Take a lock if it is free. Never waits for a living holder. Raises OSError when no file can be made there."""
    deadline = time.monotonic() + RETRY_LIMIT_S
    while True:
        made = _create_lock(path, use)
        if made is not None:
            return made
        found = _seize_stale_lock(path, use)
        if isinstance(found, Lock) or (found is not None and (found.owner is not None or found.certain)):
            return found
        if time.monotonic() > deadline:
            return found or LockHolder(path, certain=False)
        time.sleep(0.01)


@contextmanager
def try_lock(path: Path, use: str = "") -> Generator[LockHolder | None, None, None]:
    """Take a lock if it is free; if not, the value is None and the holder is returned. Raises OSError as ``take``
    does.
    """
    found = acquire_lock(path, use)
    if isinstance(found, LockHolder):
        yield found
        return
    try:
        yield None
    finally:
        found.release()


@contextmanager
def hold_lock(path: Path, on_wait: Callable[[LockHolder], None]) -> Generator[None, None, None]:
    """Take a lock, waiting for it; ``on_wait`` is called once if another process has it. Raises OSError."""
    found = acquire_lock(path)
    if isinstance(found, LockHolder):
        on_wait(found)
    while isinstance(found, LockHolder):
        time.sleep(POLL_S)
        found = acquire_lock(path)
    try:
        yield
    finally:
        found.release()


def find_holder(path: Path) -> LockHolder | None:
    """The holder of a lock, or None. Changes nothing. Raises OSError if the file cannot be read."""
    deadline = time.monotonic() + RETRY_LIMIT_S
    while True:
        try:
            descriptor = os.open(path, os.O_RDONLY | _SAFE_FLAGS)
        except FileNotFoundError:
            return None
        try:
            found = _judge_holder(path, _read_owner(descriptor), flock(descriptor, shared=True))
        finally:
            os.close(descriptor)
        if found is None or found.owner is not None or found.certain or time.monotonic() > deadline:
            return found
        time.sleep(0.01)


def _create_lock(path: Path, use: str) -> Lock | None:
    """A new lock; None when there is a file already."""
    aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    if os.name != "nt":
        descriptor = _create_lock_file(aside, use)
        try:
            os.link(aside, path)
            return Lock(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, FileExistsError):
                return None
            if error.errno not in NO_HARD_LINK_ERRNOS:
                raise
        finally:
            with suppress(OSError):
                aside.unlink()
    try:
        descriptor = _create_lock_file(path, use)
    except FileExistsError:
        return None
    if flock(descriptor) is not False and _is_same_file(path, descriptor):  # else it was found empty, and taken
        return Lock(path, descriptor)
    os.close(descriptor)
    return None


def _create_lock_file(path: Path, use: str) -> int:
    """A new file that identifies this process, locked by flock if possible; others may read it."""
    descriptor = os.open(path, _NEW_FLAGS, 0o666)
    try:
        with suppress(OSError):
            os.chmod(path, os.fstat(descriptor).st_mode & 0o777 | 0o444)  # noqa: PTH101 - like the others here
        locked = flock(descriptor)
        os.write(descriptor, serialize_owner(current_owner(use, flock=bool(locked))))
    except BaseException:
        os.close(descriptor)
        with suppress(OSError):
            path.unlink()
        raise
    return descriptor


def _seize_stale_lock(path: Path, use: str) -> Lock | LockHolder | None:
    """The lock of an existing file whose owner has ended; None if it is worth another try."""
    try:
        descriptor, writable = os.open(path, os.O_RDWR | _SAFE_FLAGS), True
    except FileNotFoundError:
        return None
    except PermissionError:  # another user's
        descriptor, writable = os.open(path, os.O_RDONLY | _SAFE_FLAGS), False
    try:
        locked = flock(descriptor)
        found = _judge_holder(path, _read_owner(descriptor), locked)
        if locked is False or found is not None:
            return found
        if not _is_same_file(path, descriptor):
            return None
        if locked is None:
            return _break_lock(path, descriptor)
        lock = _replace_lock_file(path, use)
        if lock is None:  # a folder in which only its owner replaces a file, such as /tmp
            if writable:
                os.ftruncate(descriptor, os.pwrite(descriptor, serialize_owner(current_owner(use, flock=True)), 0))
            lock, descriptor = Lock(path, descriptor), -1
        return lock
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _replace_lock_file(path: Path, use: str) -> Lock | None:
    """Our own file in the place of one whose lock we have; None where that is not allowed."""
    aside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = _create_lock_file(aside, use)
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


def _break_lock(path: Path, descriptor: int) -> LockHolder | None:
    """Remove the file of an owner that has ended, on a disk without flock. Only one process at a time may."""
    breaking = path.with_name(f"{path.name}.breaking")
    try:
        marker = os.open(breaking, _NEW_FLAGS, 0o666)
    except FileExistsError:
        with suppress(OSError):
            other = os.open(breaking, os.O_RDONLY | _SAFE_FLAGS)
            try:
                owner = _read_owner(other)
                if owner is not None and is_gone(owner, unlocked=True) and _is_same_file(breaking, other):
                    breaking.unlink()
            finally:
                os.close(other)
        return LockHolder(breaking, None, certain=False)
    try:
        os.write(marker, serialize_owner(current_owner()))
        if _is_same_file(path, descriptor):
            path.unlink()
    except PermissionError:
        return LockHolder(path, _read_owner(descriptor), certain=os.name == "nt")
    finally:
        os.close(marker)
        with suppress(OSError):
            breaking.unlink()
    return None


def _judge_holder(path: Path, owner: LockOwner | None, locked: bool | None) -> LockHolder | None:
    """Whether a file means that another process has the lock. ``locked``: we have its flock; None without flock."""
    if locked is False:  # by a passing look where its owner has ended
        return (
            LockHolder(path, None, certain=False)
            if owner and is_local_process(owner) and not is_alive(owner)
            else LockHolder(path, owner)
        )
    if owner is None:  # empty: whoever made it was killed in that moment, or is about to write
        return None if locked else LockHolder(path, None, certain=False)
    if is_gone(owner, unlocked=locked is True) or os.name == "nt":
        return None
    return LockHolder(path, owner, certain=is_local_process(owner))


def _read_owner(descriptor: int) -> LockOwner | None:
    found = parse_owner(
        os.pread(descriptor, LOCK_FILE_LIMIT, 0) if os.name != "nt" else os.read(descriptor, LOCK_FILE_LIMIT)
    )
    return found[0] if found is not None else None


def _is_same_file(path: Path, descriptor: int) -> bool:
    """Whether an open file is still the one at its path."""
    try:
        there, ours = os.stat(path, follow_symlinks=False), os.fstat(descriptor)  # noqa: PTH116
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
