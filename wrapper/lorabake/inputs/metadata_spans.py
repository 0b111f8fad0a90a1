"""Where the captions of a metadata file are in its text, so that they can be changed and all else stays. Pure.

The file is JSON, an object with an entry for each image, or JSON lines with an ``image_path`` each (metadata_file.py).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_LINE = re.compile(r"[^\r\n]+")  # other line ends may be inside of a text
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class TextSpan(NamedTuple):
    """A JSON string: where its quotes begin and end, and its value."""

    start: int
    end: int
    value: str


class EntrySpans(NamedTuple):
    """The texts of an image's entry; None for one that it does not have, or that is empty."""

    name: str
    caption: TextSpan | None
    tags: TextSpan | None


def find_entries(text: str, *, lines: bool) -> Iterator[EntrySpans]:
    """The entries of a metadata file, the last one of each name. Raises ValueError for what is not one."""
    found: dict[str, EntrySpans] = {}
    if lines:
        for line in _LINE.finditer(text):
            if line[0].strip():
                fields, _ = _read_object(text, _skip(text, line.start()))
                if "image_path" not in fields:
                    raise ValueError("no image_path")
                found[_read_text(text, fields["image_path"]).value] = _make_entry(text, "", fields)
    else:
        for name, start in _read_object(text, _skip(text, 0))[0].items():
            found[name] = _make_entry(text, name, _read_object(text, start)[0])
    return (entry._replace(name=name) for name, entry in found.items())


def replace_texts(text: str, new: Mapping[TextSpan, str]) -> str:
    """The file's text with other values in these places, in ASCII if all of it is, and where UTF-8 has no bytes."""
    result, done = "", 0
    for span in sorted(new):
        written = json.dumps(new[span], ensure_ascii=text.isascii() or _HALF_PAIR.search(new[span]) is not None)
        result += text[done : span.start] + written
        done = span.end
    return result + text[done:]


def _make_entry(text: str, name: str, fields: Mapping[str, int]) -> EntrySpans:
    caption, tags = (_find_text(text, fields.get(key)) for key in ("caption", "tags"))
    return EntrySpans(name, caption, tags)


def _find_text(text: str, start: int | None) -> TextSpan | None:
    if start is None or text[start] != '"':
        return None
    found = _read_text(text, start)
    return found if found.value else None


def _read_text(text: str, start: int) -> TextSpan:
    if text[start : start + 1] != '"':
        raise ValueError("not a text")
    value, end = _DECODER.raw_decode(text, start)
    return TextSpan(start, end, value)


def _read_object(text: str, at: int) -> tuple[dict[str, int], int]:
    """Where the values of an object begin, by key, and where it ends; at ``{``."""
    if text[at : at + 1] != "{":
        raise ValueError("not an object")
    found: dict[str, int] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        key = _read_text(text, at)
        at = _skip(text, key.end)
        if text[at : at + 1] != ":":
            raise ValueError("no value")
        found[key.value] = start = _skip(text, at + 1)
        at = _skip(text, _DECODER.raw_decode(text, start)[1])
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "}":
            raise ValueError("not an object")
    return found, at + 1


def _skip(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    return found.end() if found else at
