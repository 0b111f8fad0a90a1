"""Whether a run folder was deleted, which stops its training: only where that is certain."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lorabake.runs.folder import FolderHandle


def test_a_folder_that_was_deleted_and_one_that_was_moved(tmp_path: Path) -> None:
    for name in ("moved", "deleted"):
        (tmp_path / name).mkdir()
    with FolderHandle(tmp_path / "moved") as moved, FolderHandle(tmp_path / "deleted") as deleted:
        assert not moved.is_deleted
        (tmp_path / "moved").rename(tmp_path / "elsewhere")
        (tmp_path / "deleted").rmdir()
        assert (moved.is_deleted, deleted.is_deleted) == (False, True)
        (tmp_path / "deleted").mkdir()  # another one of that name
        assert deleted.is_deleted


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EACCES, errno.EINTR])
def test_a_disk_that_does_not_answer_stops_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refusing(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with FolderHandle(tmp_path) as place:
        monkeypatch.setattr(Path, "stat", refusing)
        assert not place.is_deleted
