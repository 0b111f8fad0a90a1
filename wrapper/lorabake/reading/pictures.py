"""One picture file: what sd-scripts would make of it, from its first and last bytes. A bad file is a fact."""

from __future__ import annotations

import os
from typing import NamedTuple
from zlib import crc32

from lorabake.files import open_descriptor, reason
from lorabake.reading.fact_store import is_file
from lorabake.reading.headers import CUT_OFF, HEAD, Header, Opened, read_header
from lorabake_schemas.words import say


class Look(NamedTuple):
    """The fields of ImageFacts that the file alone decides, and a mark by which equal files are found.

    ``mark`` is the file's length and a checksum of its beginning: equal files have equal marks.
    """

    format: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    alpha: bool = False
    seen: tuple[int, int] | None = None
    orientation: int = 1
    moving: bool = False
    problem: str | None = None
    mark: str = ""


def look(path: str, stamp: str | None) -> Look:
    """``stamp`` is the file's (fact_store.py), links followed; None for a link that leads nowhere.

    A file whose structure does not end as it should is decoded: some programs add to a file, and that does no harm.
    """
    if not is_file(stamp):
        return Look(problem=_no_file(stamp))
    try:
        header, mark = _read(path)
    except OSError as error:
        return Look(problem=_unreadable(error))
    if header is not None and header.whole:
        return _look(header, mark)
    from lorabake.reading import decoding  # Pillow, which ordinary sets do not need

    found = header or decoding.look(path)
    if isinstance(found, str):
        return Look(problem=found, mark=mark)
    cut = not found.whole and not decoding.can_be_decoded(path)
    return _look(found, mark, CUT_OFF if cut else None)


def _look(of: Header, mark: str, problem: str | None = None) -> Look:
    return Look(of.format, of.width, of.height, of.mode, of.alpha, of.seen, of.orientation, of.moving, problem, mark)


def _read(path: str) -> tuple[Header | None, str]:
    """The header, where it is plain, and the mark. Raises OSError."""
    descriptor = open_descriptor(path, seen=True)
    try:
        head = os.read(descriptor, HEAD)
        size = len(head) if len(head) < HEAD else os.fstat(descriptor).st_size

        def read_at(offset: int, count: int) -> bytes:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)

        return read_header(Opened(head, size, read_at)), f"{size}:{crc32(head)}"
    finally:
        os.close(descriptor)


def _no_file(stamp: str | None) -> str:
    if stamp is None:
        return say("a link that leads nowhere")
    return say("a folder with the name of an image") if stamp[0] == "d" else say("neither a file nor a folder")


def _unreadable(error: OSError) -> str:
    match error:
        case PermissionError():
            return say("no permission to read it")
        case FileNotFoundError():
            return say("it is gone")
        case _:
            return say("it cannot be read ({why})", why=reason(error))


__all__ = ["Look", "look"]
