"""The caption of an image, exactly as sd-scripts would take it (S12; TU:1946-1970 at the pin)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress

from lorabake.util.files import UnreadableError, open_descriptor
from lorabake_schemas.dataset import MAX_CAPTION_BYTES, CaptionFacts, CaptionProblem
from lorabake_schemas.guide.tags import has_words

# Python's text mode, which sd-scripts reads with, knows these line ends only (str.splitlines knows more).
_LINE_END_PATTERN = re.compile(r"\r\n|\r|\n")
_BOM = "\ufeff"
_LEGACY_MIN_PARTS = 5
_LEGACY_SUFFIX_PARTS = 4


def caption_path(image: str, extension: str) -> str:
    """The caption file that belongs to an image: the same path with another extension."""
    return os.path.splitext(image)[0] + extension  # noqa: PTH122 - 100,000 calls, and sd-scripts' own rule


def legacy_caption_path(image: str, extension: str) -> str | None:
    """The second file sd-scripts looks for, or None.

    Old face-crop tools added four parts to a name, so sd-scripts drops the last four of a path that has five or more.
    It counts underscores in the complete path: ``my_very_own_red_set/7.png`` looks for ``my.txt`` too.
    """
    parts = os.path.splitext(image)[0].split("_")  # noqa: PTH122 - as above
    return "_".join(parts[:-_LEGACY_SUFFIX_PARTS]) + extension if len(parts) >= _LEGACY_MIN_PARTS else None


def parse_caption(data: bytes, *, wildcard: bool = False) -> CaptionFacts:
    """What sd-scripts makes of a caption file's bytes: the first line, stripped; a BOM stays in it. Pure.

    With ``wildcard`` (enable_wildcard) every line that is not blank is a caption (TU:1964). Only the beginning of data
    that is too large for a caption counts.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return CaptionFacts(problem=CaptionProblem.NOT_UTF8)
    if len(data) > MAX_CAPTION_BYTES:
        kept = parse_caption(cut_text(text).encode(), wildcard=wildcard)
        return kept._replace(problem=CaptionProblem.TOO_LARGE)
    if not text:
        return CaptionFacts(problem=CaptionProblem.EMPTY)
    first, *others = _LINE_END_PATTERN.split(text)
    if wildcard:
        return expand_caption([line for line in map(str.strip, (first, *others)) if line])
    return CaptionFacts(first.strip(), _find_problem(first, others))


def cut_text(text: str) -> str:
    """As much of a text as is read of a caption."""
    return text.encode()[:MAX_CAPTION_BYTES].decode(errors="ignore") if len(text) > MAX_CAPTION_BYTES // 4 else text


def expand_caption(lines: Sequence[str]) -> CaptionFacts:
    """The captions of these lines with enable_wildcard, none of which is blank; MOST_VARIANTS of each at most."""
    every = list(dict.fromkeys(variant for line in lines for variant in expand_wildcards(line)))
    if not every:
        return CaptionFacts(problem=CaptionProblem.SPACES)
    bom = any(variant.startswith(_BOM) for variant in every)
    problem = CaptionProblem.BOM if bom else None if any(map(has_words, every)) else CaptionProblem.NO_WORDS
    return CaptionFacts(every[0], problem, others=tuple(every[1:]))


_WILDCARD = re.compile(r"\{([^}]+)\}")
_ESCAPED_BRACES = ("\ue000", "\ue001")  # of the private use area: in no caption
MOST_VARIANTS = 16


def expand_wildcards(line: str) -> Iterator[str]:
    """The line with each ``{a|b}`` replaced, so often that every choice appears once (TU:841-857).

    ``{{`` and ``}}`` are braces. sd-scripts draws each choice for itself; all combinations of several would be many.
    """
    if "{" not in line and "}" not in line:
        yield line
        return
    opened, closed = _ESCAPED_BRACES
    hidden = line.replace("{{", opened).replace("}}", closed)
    choices = [found.split("|") for found in _WILDCARD.findall(hidden)]
    for at in range(min(max(map(len, choices), default=1), MOST_VARIANTS)):
        drawn = iter(choices)
        text = _WILDCARD.sub(lambda _, at=at, drawn=drawn: (one := next(drawn))[at % len(one)], hidden)  # type: ignore[misc]
        yield text.replace(opened, "{").replace(closed, "}")


def _find_problem(first: str, others: list[str]) -> CaptionProblem | None:
    if first.startswith(_BOM):
        return CaptionProblem.BOM
    if not first.strip():
        return CaptionProblem.BLANK if any(line.strip() for line in others) else CaptionProblem.SPACES
    if not any(map(has_words, (first, *others))):
        return CaptionProblem.NO_WORDS
    return CaptionProblem.MORE_LINES if any(line.strip() for line in others) else None


def read_caption(image: str, extension: str, *, seen: bool = False, wildcard: bool = False) -> CaptionFacts:
    """The caption of the image at this path; every fault of the file is a fact, nothing is raised.

    ``seen``: its own caption file was just listed, as a regular file.
    """
    own = _read_caption_file(caption_path(image, extension), wildcard, seen=seen)
    if own is not None:
        return own
    borrowed = legacy_caption_path(image, extension)
    other = _read_caption_file(borrowed, wildcard) if borrowed is not None else None
    if other is None:
        return CaptionFacts(problem=CaptionProblem.MISSING)
    return other._replace(borrowed_from=borrowed)


def read_caption_lines(image: str, extension: str) -> str | None:
    """The caption with enable_wildcard: every line that is not blank (TU:1964). None without a caption."""
    for path in (caption_path(image, extension), legacy_caption_path(image, extension)):
        if path is not None and os.path.isfile(path):  # noqa: PTH113 - as above
            with suppress(OSError, ValueError):
                lines = (line.strip() for line in _LINE_END_PATTERN.split(_read_bytes(path).decode("utf-8")))
                return "\n".join(line for line in lines if line)
    return None


_BLOCK_SIZE = 1 << 16
_SIZE_LIMIT = 16 << 20  # bytes; a larger file is not read, because it may have no end


def _read_bytes(path: str, *, seen: bool = False) -> bytes:
    """The complete file, at a third of the cost of open() for a small one. Raises OSError or ValueError."""
    descriptor = open_descriptor(path, seen=seen)
    try:
        blocks = [os.read(descriptor, _BLOCK_SIZE)]
        while len(blocks[-1]) == _BLOCK_SIZE:
            if len(blocks) * _BLOCK_SIZE > _SIZE_LIMIT:
                raise ValueError(path)
            blocks.append(os.read(descriptor, _BLOCK_SIZE))
        return b"".join(blocks)
    finally:
        os.close(descriptor)


def _read_caption_file(path: str, wildcard: bool, *, seen: bool = False) -> CaptionFacts | None:
    """None when sd-scripts would not see a file there (missing, a folder, a pipe)."""
    try:
        return parse_caption(_read_bytes(path, seen=seen), wildcard=wildcard)
    except (FileNotFoundError, NotADirectoryError, UnreadableError):
        return None
    except (OSError, ValueError):
        return CaptionFacts(problem=CaptionProblem.UNREADABLE)
