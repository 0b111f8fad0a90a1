"""Files that are read completely, and the message if one cannot be."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lorabake.errors import MachineError
from lorabake.util import files
from lorabake.util.files import (
    UnreadableError,
    open_file,
    os_errors_as_messages,
    read_bytes,
    read_text,
    reason,
    unreadable_reason,
)


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("é", "utf-8")
    assert (read_bytes(path), read_text(path), unreadable_reason(path)) == ("é".encode(), "é", None)
    assert [unreadable_reason(each) for each in (tmp_path, tmp_path / "gone", path / "below")] == [None] * 3


def test_what_would_keep_a_reader_waiting_or_never_ends_is_not_opened(tmp_path: Path) -> None:
    pipe, endless = tmp_path / "pipe", tmp_path / "endless"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        with pytest.raises(UnreadableError) as caught, open_file(path):
            pass
        assert str(reason(caught.value)) == str(unreadable_reason(path)) == "it is not a regular file"
    with pytest.raises(UnreadableError, match="it is a folder"):
        read_bytes(tmp_path)


def test_a_file_of_absurd_length_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "READ_LIMIT", 4)
    path = tmp_path / "a.json"
    path.write_bytes(b"1234")
    assert read_bytes(path) == b"1234"
    path.write_bytes(b"12345")
    with pytest.raises(UnreadableError, match="too large"):
        read_bytes(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, "disk read error"),
        (errno.ENOTCONN, os.strerror(errno.ENOTCONN)),
    ],
)
def test_what_the_disk_refuses_is_no_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refusing(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "open", refusing)
    monkeypatch.setattr(os, "scandir", refusing)
    assert str(unreadable_reason(tmp_path / "a")) == str(unreadable_reason(tmp_path)) == words
    with pytest.raises(MachineError) as caught, os_errors_as_messages():
        read_bytes(tmp_path / "a")
    assert str(caught.value.message) == f"cannot read {tmp_path / 'a'}: {words}"


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    assert str(unreadable_reason(tmp_path / "a")) == "it is a symbolic link loop"


WRITERS: dict[str, Callable[[Path, Path], object]] = {
    "write_bytes": lambda path, root: files.write_bytes(path, b"x", within=root),
    "replace_bytes": lambda path, root: files.replace_bytes(path, b"x", within=root),
    "open_append": lambda path, root: files.open_append(path, within=root).write(b"x"),
    "make_folder": lambda path, root: files.make_folder(path, within=root),
    "remove_file": lambda path, root: files.remove_file(path, within=root),
    "remove_tree": lambda path, root: files.remove_tree(path, within=root),
    "read_bytes": lambda path, root: files.read_bytes(path, within=root),
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("place", ["a", "below/a"])
def test_no_link_below_a_run_folder_is_followed(tmp_path: Path, name: str, place: str) -> None:
    """Not at the end of a path, and not on the way; the folder itself may be reached through one."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "a").write_bytes(b"mine")
    (root / "a").symlink_to(outside / "a")
    (root / ".a.part").symlink_to(outside / "a")
    (root / "below").symlink_to(outside)
    (tmp_path / "through").symlink_to(root)
    with suppress(OSError):
        WRITERS[name](tmp_path / "through" / place, tmp_path / "through")
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"a": b"mine"}


@pytest.mark.parametrize("within", [True, False])
def test_files_and_folders_are_written(tmp_path: Path, within: bool) -> None:
    root = tmp_path if within else None
    folder, path = tmp_path / "below", tmp_path / "below" / "a"
    files.make_folder(folder, within=root)
    files.make_folder(folder, within=root)
    (folder / ".a.part").write_bytes(b"left over by a kill")
    files.replace_bytes(path, b"old", within=root)
    files.replace_bytes(path, b"new", within=root)
    with files.open_append(path, within=root) as file:
        file.write(b"er")
    assert read_bytes(path, within=root) == b"newer"
    files.write_bytes(path, b"1", within=root, durable=True)
    assert [(each.name, each.read_bytes()) for each in folder.iterdir()] == [("a", b"1")]
    files.remove_file(path, within=root)
    files.remove_file(path, within=root)
    files.remove_tree(folder, within=root)
    assert list(tmp_path.iterdir()) == []


def test_a_path_outside_is_never_written(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for path in (tmp_path / "a", tmp_path / "root" / ".." / "a", tmp_path / "root"):
        with pytest.raises(ValueError, match=r"below|subpath"):
            files.write_bytes(path, b"x", within=tmp_path / "root")
    assert not (tmp_path / "a").exists()


def test_an_error_below_a_folder_has_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / ("x" * 250)
    with pytest.raises(OSError, match="name") as caught:
        files.replace_bytes(path, b"", within=tmp_path)
    assert caught.value.filename == str(path)
