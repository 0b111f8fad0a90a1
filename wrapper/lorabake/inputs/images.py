"""One picture file: what sd-scripts would make of it, from its first and last bytes. A bad file is a fact."""

from __future__ import annotations

import os
from typing import NamedTuple
from zlib import crc32

from lorabake.inputs.image_headers import CUT_OFF, HEAD_SIZE, FileHead, ImageHeader, read_image_header
from lorabake.util.fact_cache import is_file_stamp
from lorabake.util.files import open_descriptor, reason
from lorabake_schemas.messages import msg


class ImageFileFacts(NamedTuple):
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


def read_image(path: str, stamp: str | None) -> ImageFileFacts:
    """``stamp`` is the file's (fact_store.py), links followed; None for a link that leads nowhere.

    A file whose structure does not end as it should is decoded: some programs add to a file, and that does no harm.
    """
    if not is_file_stamp(stamp):
        return ImageFileFacts(problem=_not_a_file_message(stamp))
    try:
        header, mark = _read_file_head(path)
    except OSError as error:
        return ImageFileFacts(problem=_unreadable_message(error))
    if header is not None and header.whole:
        return _make_facts(header, mark)
    from lorabake.inputs import image_decoding  # Pillow, which ordinary sets do not need

    found = header or image_decoding.read_pillow_header(path)
    if isinstance(found, str):
        return ImageFileFacts(problem=found, mark=mark)
    cut = not found.whole and not image_decoding.is_decodable(path)
    return _make_facts(found, mark, CUT_OFF if cut else None)


def _make_facts(of: ImageHeader, mark: str, problem: str | None = None) -> ImageFileFacts:
    return ImageFileFacts(
        of.format, of.width, of.height, of.mode, of.alpha, of.seen, of.orientation, of.moving, problem, mark
    )


def _read_file_head(path: str) -> tuple[ImageHeader | None, str]:
    """The header, where it is plain, and the mark. Raises OSError."""
    descriptor = open_descriptor(path, seen=True)
    try:
        head = os.read(descriptor, HEAD_SIZE)
        size = len(head) if len(head) < HEAD_SIZE else os.fstat(descriptor).st_size

        def read_at(offset: int, count: int) -> bytes:
            os.lseek(descriptor, offset, os.SEEK_SET)
            return os.read(descriptor, count)

        return read_image_header(FileHead(head, size, read_at)), f"{size}:{crc32(head)}"
    finally:
        os.close(descriptor)


def _not_a_file_message(stamp: str | None) -> str:
    if stamp is None:
        return msg("a broken link")
    return msg("a folder with the name of an image") if stamp[0] == "d" else msg("not a file or a folder")


def _unreadable_message(error: OSError) -> str:
    match error:
        case PermissionError():
            return msg("no permission to read it")
        case FileNotFoundError():
            return msg("the file is missing")
        case _:
            return msg("cannot be read ({why})", why=reason(error))
