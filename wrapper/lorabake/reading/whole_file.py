"""Files that are read whole, regular ones of a sane length only, and in words why something cannot be read."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISREG
from types import MappingProxyType
from typing import IO

from lorabake.errors import MachineError
from lorabake_schemas.words import Said, quoted, say

MOST = 256 << 20  # bytes; a list of a million pictures takes less
PERMISSION = say("permission denied")
WHY: Mapping[int, Said] = MappingProxyType(
    {
        errno.EACCES: PERMISSION,
        errno.EPERM: PERMISSION,
        errno.ELOOP: say("it is a link that leads back to itself"),
        errno.ENAMETOOLONG: say("the name is too long"),
        errno.EIO: say("the disk fails to read it"),
        errno.ENOENT: say("it is not there"),
    }
)


class UnreadableError(OSError):
    """``why`` says in words what the file is instead of one that can be read."""

    def __init__(self, why: Said, path: Path) -> None:
        super().__init__(errno.EINVAL, str(why), str(path))
        self.why = why


def why(error: OSError) -> Said:
    """Why something could not be read."""
    if isinstance(error, UnreadableError):
        return error.why
    return WHY.get(error.errno or 0) or quoted(error.strerror or str(error))


def opened(path: Path) -> IO[bytes]:
    """A regular file: a pipe would keep whoever reads it waiting, a device has no end. Raises OSError."""
    if not S_ISREG(path.stat().st_mode):
        raise UnreadableError(say("it is a folder") if path.is_dir() else say("it is no plain file"), path)
    return path.open("rb")


def content(path: Path) -> bytes:
    """Raises OSError."""
    with opened(path) as file:
        found = file.read(MOST + 1)
    if len(found) > MOST:
        raise UnreadableError(say("it is too large for what it should be"), path)
    return found


def text(path: Path) -> str:
    """Raises OSError, and UnicodeDecodeError."""
    return content(path).decode("utf-8")


def shut(path: Path) -> Said | None:
    """Why a file or folder that is there cannot be read; None when it can be, or is not there."""
    try:
        if path.is_dir():
            with os.scandir(path):
                return None
        with opened(path):
            return None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        return why(error)


@contextmanager
def in_words(path: str | Path | None = None) -> Generator[None]:
    """Whatever the disk refuses becomes MachineError, of ``path`` or of what it refused."""
    try:
        yield
    except OSError as error:
        named = path if path is not None else str(error.filename or "")
        raise MachineError(say("{path} cannot be read: {why}", path=named, why=why(error))) from error


__all__ = ["UnreadableError", "content", "in_words", "opened", "shut", "text", "why"]
