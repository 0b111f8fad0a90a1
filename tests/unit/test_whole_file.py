"""Files that are read whole, and in words why one cannot be."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lorabake.errors import MachineError
from lorabake.reading import whole_file
from lorabake.reading.whole_file import UnreadableError, content, in_words, opened, shut, text, why


def test_a_plain_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("é", "utf-8")
    assert (content(path), text(path), shut(path)) == ("é".encode(), "é", None)
    assert (shut(tmp_path), shut(tmp_path / "gone"), shut(path / "below")) == (None, None, None)


def test_what_would_keep_a_reader_waiting_or_never_ends_is_not_opened(tmp_path: Path) -> None:
    pipe, endless = tmp_path / "pipe", tmp_path / "endless"
    os.mkfifo(pipe)
    endless.symlink_to("/dev/zero")
    for path in (pipe, endless):
        with pytest.raises(UnreadableError) as caught, opened(path):
            pass
        assert str(why(caught.value)) == str(shut(path)) == "it is no plain file"
    with pytest.raises(UnreadableError, match="it is a folder"):
        content(tmp_path)


def test_a_file_of_absurd_length_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_file, "MOST", 4)
    path = tmp_path / "a.json"
    path.write_bytes(b"1234")
    assert content(path) == b"1234"
    path.write_bytes(b"12345")
    with pytest.raises(UnreadableError, match="too large"):
        content(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EPERM, "permission denied"),
        (errno.EIO, "the disk fails to read it"),
        (errno.ENOTCONN, os.strerror(errno.ENOTCONN)),
    ],
)
def test_what_the_disk_refuses_is_no_file_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    def refusing(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    (tmp_path / "a").touch()
    monkeypatch.setattr(Path, "open", refusing)
    monkeypatch.setattr(os, "scandir", refusing)
    assert str(shut(tmp_path / "a")) == str(shut(tmp_path)) == words
    with pytest.raises(MachineError) as caught, in_words():
        content(tmp_path / "a")
    assert str(caught.value.message) == f"{tmp_path / 'a'} cannot be read: {words}"


def test_a_link_to_itself(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    assert str(shut(tmp_path / "a")) == "it is a link that leads back to itself"
