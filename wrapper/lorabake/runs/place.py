"""Where a run folder is while its trainer works: somebody may rename, move or delete it meanwhile."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

MOVED, DELETED = "folder-moved", "folder-deleted"
DELETED_SUFFIX = " (deleted)"  # what Linux writes after the path of a folder that has none any more


class FolderHandle:
    """A folder that is kept hold of, whatever it is called."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._descriptor = os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))

    def __enter__(self) -> FolderHandle:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def is_deleted(self) -> bool:
        """Whether it certainly has no name; a folder that was moved to another disk was copied and deleted.

        A disk that does not answer for a moment (NFS, a ticket that ran out) is no reason to stop a training.
        """
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                return True
            here = os.path.samestat(self.root.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            here = False
        except OSError:
            return False
        return not here and self._find_moved_path() is None

    def now(self) -> Path:
        """Where it is; where it was, when it is nowhere."""
        return self.root if self._is_at(self.root) else self._find_moved_path() or self.root

    def _find_moved_path(self) -> Path | None:
        path = _descriptor_path(self._descriptor)
        return path if path is not None and self._is_at(path) else None

    def _is_at(self, path: Path) -> bool:
        with suppress(OSError):
            return os.path.samestat(path.stat(), os.fstat(self._descriptor))
        return False


def _descriptor_path(descriptor: int) -> Path | None:
    """The path of an open folder, as the system has it today."""
    with suppress(OSError, AttributeError):
        if sys.platform == "darwin":
            import fcntl

            return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
        return Path(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(DELETED_SUFFIX))  # noqa: PTH115 - no file
    return None
