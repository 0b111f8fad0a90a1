"""Captions as they should be: UTF-8, one line, the token first and the class second (G3.10, G3.12, S12). Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lorabake_schemas.guide.tags import (
    TAG_SEPARATOR,
    CaptionStyle,
    find_odd_separator,
    has_words,
    is_sentence,
    normalize_tag,
)
from lorabake_schemas.prepared import PreparedStep

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
UTF_16_NULS = 0.2  # the share of characters that have one, from which a text is taken for UTF-16
_INVALID = re.compile(r"[\0\ud800-\udfff]")  # no text has them: NULs, and halves of characters
_WORD = re.compile(r"[A-Za-z0-9\x80-\uffff]+")
_UPPER, _LOWER = "A-Z\u00c0-\u00d6\u00d8-\u00de\u0152\u0160\u017d", "a-z\u00df-\u00f6\u00f8-\u00ff\u0153\u0161\u017e"
_MARKS = "\u00ab\u00bb\u00a1\u00bf\u00b0\u00ba\u00aa\u00b2\u2013\u2014\u2018\u2019\u201c\u201d\u2026\u20ac"
# Capital letters first or only, marks around them, and no more than two letters with accents in a row.
_WESTERN_WORD = re.compile(
    rf"(?!.*[^\x00-\x7f{_MARKS}]{{3}})[\u00ab\u00a1\u00b0\u00bf\u2013\u2014\u2018\u201c]*+(?:[{_UPPER}]?[{_LOWER}]+|[{_UPPER}]+|[0-9]+)?(?:[{_MARKS}][{_MARKS}{_LOWER}]*)?"
)
_LINE_END = re.compile(r"\r\n|\r|\n")
SHEET_TAGS = frozenset({"multiple views", "reference sheet"})  # G2.12
TRANSPARENT_TAG = "transparent background"
_BACKGROUND = re.compile(r"(\w+) background")


class CaptionRules(NamedTuple):
    """How a folder's captions are read. ``leading`` are the tags that each starts with, none where a caption_prefix
    may have them; ``sentences`` only need them somewhere. With ``wildcard`` every line is a caption. ``mark`` is
    keep_tokens_separator. With ``underscores`` a new tag has them instead of spaces."""

    separator: str = TAG_SEPARATOR
    leading: tuple[str, ...] = ()
    sentences: bool = False
    wildcard: bool = False
    mark: str = ""
    underscores: bool = False


PLAIN_CAPTIONS = CaptionRules()


class CleanText(NamedTuple):
    """A caption and what was done to it."""

    text: str
    steps: tuple[PreparedStep, ...] = ()


def decode_text(data: bytes) -> CleanText:
    """A caption file's text: UTF-8, or UTF-16 with its mark. Raises UnicodeDecodeError for damaged bytes.

    Else its encoding is guessed: UTF-16 by the NULs of its ASCII characters, or the Western encoding of Windows, if the
    text looks like one: that decodes Chinese and Japanese texts, too, as other characters.
    """
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return CleanText(data[len(bom) :].decode(encoding), ("utf-8",))
    even, odd = data[::2].count(0), data[1::2].count(0)
    if max(even, odd) > max(2, UTF_16_NULS * len(data) / 2) and not (even and odd):
        return CleanText(data.decode("utf-16-le" if odd else "utf-16-be"), ("encoding-guessed",))
    try:
        return CleanText(data.decode("utf-8"))
    except UnicodeDecodeError:
        text = data.decode("cp1252")
        if not all(_WESTERN_WORD.fullmatch(word) for word in _WORD.findall(text) if not word.isascii()):
            raise
        return CleanText(text, ("encoding-guessed",))


def clean_caption(data: bytes, rules: CaptionRules) -> CleanText:
    """The caption that takes the place of a file's; its text is empty where the file has none. Raises
    UnicodeDecodeError for bytes that are no text."""
    text, steps = decode_text(data)
    clean = clean_text(text, rules)
    return clean._replace(steps=(*steps, *clean.steps))


def clean_text(text: str, rules: CaptionRules) -> CleanText:
    """The same for a text."""
    usable = _INVALID.sub("", text)
    steps: list[PreparedStep] = ["invalid-characters"] if usable != text else []
    lines = [line.strip() for line in _LINE_END.split(usable)]
    kept = [line for line in lines if line]
    if not kept:
        return CleanText("", tuple(steps))
    if rules.wildcard:
        if "" in lines[:-1]:
            steps.append("one-line")
        placed = [_place_leading(line, rules, only_if_missing=True) for line in kept]
        whole = "\n".join(placed)
    else:
        if len(kept) > 1 or not lines[0]:
            steps.append("one-line")
        joined = _join_lines(kept, rules)
        placed, kept = [_place_leading(joined, rules)], [joined]
        whole = placed[0]
    if placed != kept:
        steps.append("token-first")
    return CleanText(whole, tuple(steps))


def _join_lines(lines: Sequence[str], rules: CaptionRules) -> str:
    """Lines of tags with separators between them, sentences with spaces."""
    whole = lines[0]
    for line in lines[1:]:
        prose = rules.sentences or whole.endswith((".", "!", "?"))
        if prose or whole.endswith((rules.separator, *filter(None, [rules.mark]))):
            whole = f"{whole} {line}"
        else:
            whole = f"{whole}{rules.separator} {line}"
    return whole


def _place_leading(text: str, rules: CaptionRules, *, only_if_missing: bool = False) -> str:
    """The caption with its leading tags in front; unchanged if they are, and where its tags cannot be told apart."""
    if not rules.leading or not has_words(text):
        return text
    token = rules.leading[0]
    has_token = token.casefold() in text.casefold()
    prose = rules.sentences or any(map(is_sentence, text.split(rules.separator)))
    if has_token and (prose or only_if_missing):
        return text
    style = CaptionStyle(rules.separator, marks=(rules.mark,) if rules.mark else ())
    if find_odd_separator(text, token.casefold(), style):
        return text
    front = [tag.strip() for part in rules.leading for tag in part.split(rules.separator) if tag.strip()]
    between = f"{rules.separator} "
    if prose:
        return between.join([*front, text])
    known = {normalize_tag(tag) for tag in front}
    parts = text.split(rules.mark) if rules.mark else [text]
    pieces = [[tag.strip() for tag in part.split(rules.separator) if tag.strip()] for part in parts]
    if [normalize_tag(tag) for tag in pieces[0][: len(front)]] == [normalize_tag(tag) for tag in front]:
        return text
    left = [[tag for tag in part if normalize_tag(tag) not in known] for part in pieces]
    left[0] = [*front, *left[0]]
    return f" {rules.mark} ".join(between.join(part) for part in left)


def has_underscores(texts: Iterable[str], separator: str) -> bool:
    """Whether more tags of several words are written with underscores than with spaces."""
    tags = [tag.strip() for text in texts for tag in text.split(separator) if not is_sentence(tag)]
    return sum("_" in tag for tag in tags) > sum(" " in tag for tag in tags)


def find_named_backgrounds(text: str, separator: str) -> list[str]:
    """The words before "background" in a caption's tags."""
    found = (_BACKGROUND.fullmatch(normalize_tag(tag)) for tag in text.split(separator))
    return [tag[1] for tag in found if tag]


def add_background(text: str, color: str, rules: CaptionRules) -> str:
    """The caption with the tag of its new background, which takes the place of a transparent one."""
    own, between = f"{color} background", f"{rules.separator} "
    written = own.replace(" ", "_") if rules.underscores else own

    def change(line: str) -> str:
        tags = line.split(rules.separator)
        kept = [tag for tag in tags if normalize_tag(tag) != TRANSPARENT_TAG]
        if any(normalize_tag(tag) == own for tag in kept):
            return rules.separator.join(kept) if len(kept) < len(tags) else line
        whole = rules.separator.join(kept).rstrip().removesuffix(rules.separator)
        front = f"{whole} " if whole.endswith((".", "!", "?")) else f"{whole}{between}" if whole else ""
        return f"{front}{written}"

    return "\n".join(map(change, text.split("\n"))) if rules.wildcard else change(text)


def edit_crop_caption(text: str, caption: str | None, tags: Sequence[str], rules: CaptionRules) -> CleanText:
    """The caption of a part of an image: its own one, or the image's without the tags of a sheet and with more."""
    if caption is not None:
        return CleanText(clean_text(caption, rules).text, ("own-text",))
    pieces = text.split(rules.separator)
    kept = [tag for tag in pieces if normalize_tag(tag) not in SHEET_TAGS]
    whole, steps = text, list[PreparedStep]()
    if len(kept) < len(pieces):
        whole = rules.separator.join(kept).strip()
        steps.append("without-sheet-tags")
    if tags:
        whole = f"{rules.separator} ".join(part for part in (whole, *tags) if part)
        steps.append("own-text")
    return CleanText(whole, tuple(steps))
