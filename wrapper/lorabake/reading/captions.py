"""The caption of an image, exactly as sd-scripts would take it (S12; TU:1946-1970 at the pin)."""

from __future__ import annotations

import os
import re
from contextlib import suppress

from lorabake.files import UnreadableError, open_descriptor
from lorabake_schemas.dataset import CaptionFacts, CaptionProblem

# Python's text mode, which sd-scripts reads with, knows these line ends only (str.splitlines knows more).
_LINE_END = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"
_ENOUGH_PARTS = 5
_FACE_PARTS = 4


def own_path(image: str, extension: str) -> str:
    """The caption file that belongs to an image: the same path with another extension."""
    return os.path.splitext(image)[0] + extension  # noqa: PTH122 - 100,000 calls, and sd-scripts' own rule


def legacy_path(image: str, extension: str) -> str | None:
    """The second file sd-scripts looks for, None when there is none.

    Old face-crop tools added four parts to a name, so sd-scripts drops the last four of a path that has five
    or more. It counts underscores in the whole path: ``my_very_own_red_set/7.png`` looks for ``my.txt`` too.
    """
    parts = os.path.splitext(image)[0].split("_")  # noqa: PTH122 - as above
    return "_".join(parts[:-_FACE_PARTS]) + extension if len(parts) >= _ENOUGH_PARTS else None


def parse(data: bytes) -> CaptionFacts:
    """What sd-scripts makes of a caption file's bytes: the first line, stripped; a BOM stays in it. Pure."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return CaptionFacts(problem=CaptionProblem.NOT_UTF8)
    if not text:
        return CaptionFacts(problem=CaptionProblem.EMPTY)
    first, *others = _LINE_END.split(text)
    return CaptionFacts(first.strip(), _problem(first, others))


def _problem(first: str, others: list[str]) -> CaptionProblem | None:
    if first.startswith(_BOM):
        return CaptionProblem.BOM
    if not first.strip():
        return CaptionProblem.BLANK if any(line.strip() for line in others) else CaptionProblem.SPACES
    return CaptionProblem.MORE_LINES if any(line.strip() for line in others) else None


def read(image: str, extension: str, *, seen: bool = False) -> CaptionFacts:
    """The caption of the image at this path; every fault of the file is a fact, nothing is raised.

    ``seen``: its own caption file was just listed, as a regular file.
    """
    own = _read_file(own_path(image, extension), seen=seen)
    if own is not None:
        return own
    borrowed = legacy_path(image, extension)
    other = _read_file(borrowed) if borrowed is not None else None
    if other is None:
        return CaptionFacts(problem=CaptionProblem.MISSING)
    return CaptionFacts(other.text, other.problem, borrowed)


def all_lines(image: str, extension: str) -> str | None:
    """The caption with enable_wildcard: every line that is not blank (TU:1964). None where there is none."""
    for path in (own_path(image, extension), legacy_path(image, extension)):
        if path is not None and os.path.isfile(path):  # noqa: PTH113 - as above
            with suppress(OSError, ValueError):
                lines = (line.strip() for line in _LINE_END.split(_content(path).decode("utf-8")))
                return "\n".join(line for line in lines if line)
    return None


_AT_ONCE = 1 << 16
_MOST = 16 << 20  # bytes; a file of more is no caption, and need not have an end


def _content(path: str, *, seen: bool = False) -> bytes:
    """The whole file, at a third of what open() costs for a small one. Raises OSError or ValueError."""
    descriptor = open_descriptor(path, seen=seen)
    try:
        blocks = [os.read(descriptor, _AT_ONCE)]
        while len(blocks[-1]) == _AT_ONCE:
            if len(blocks) * _AT_ONCE > _MOST:
                raise ValueError(path)
            blocks.append(os.read(descriptor, _AT_ONCE))
        return b"".join(blocks)
    finally:
        os.close(descriptor)


def _read_file(path: str, *, seen: bool = False) -> CaptionFacts | None:
    """None when sd-scripts would not see a file there (missing, a folder, a pipe)."""
    try:
        return parse(_content(path, seen=seen))
    except (FileNotFoundError, NotADirectoryError, UnreadableError):
        return None
    except (OSError, ValueError):
        return CaptionFacts(problem=CaptionProblem.UNREADABLE)


__all__ = ["all_lines", "legacy_path", "own_path", "parse", "read"]
