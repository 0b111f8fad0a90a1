"""Edits of the tags of one caption that leave every other character in its place. Pure.

A caption is split where sd-scripts splits it (TU:823-922): at the separator, and at the marks that end tags. What is
between braces with enable_wildcard, and what is a sentence, is one piece that no edit changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lorabake_schemas.guide.caption_settings import Part, get_caption_text, has_wildcards, is_natural
from lorabake_schemas.guide.tags import TAG_SEPARATOR, get_caption_style, is_sentence, normalize_tag, split_tags
from lorabake_schemas.recipe import Concept, Recipe
from lorabake_schemas.tag_report import EditKind

_BRACES = r"\{\{|\}\}|\{[^}]+\}"
_LINE = re.compile(r"[^\r\n]+")  # the line ends of Python's text mode, with which sd-scripts reads (captions.py)
_BOM = "\ufeff"


class LineStyle(NamedTuple):
    """How a caption is split. ``keeper`` ends the tags that stay in place and is never removed with a tag; ``joiner``
    joins tags to one, ``boundary`` is between two texts that are one caption and stays as the keeper does. ``natural``:
    all of it is a sentence. ``affixes`` are the tags of caption_prefix and caption_suffix, normalized: captions do not
    need them. ``token`` is the tag that captions start with, normalized, unless caption_prefix has it."""

    separator: str = TAG_SEPARATOR
    keeper: str = ""
    joiner: str = ""
    wildcard: bool = False
    natural: bool = False
    boundary: str = ""
    affixes: frozenset[str] = frozenset()
    token: str = ""

    @property
    def sticky(self) -> frozenset[str]:
        """What no removal removes."""
        return frozenset(filter(None, (self.keeper, self.boundary)))


def get_line_style(part: Part, recipe: Recipe) -> LineStyle:
    """How the captions of a folder are split."""
    style = get_caption_style(part, recipe)
    bare = style._replace(prefix="", suffix="")
    affixes = frozenset(normalize_tag(tag) for text in (style.prefix, style.suffix) for tag in split_tags(text, bare))
    token = next(map(normalize_tag, split_tags((isinstance(part, Concept) and part.token) or "", bare)), "")
    return LineStyle(
        style.separator,
        get_caption_text(part, recipe, "keep_tokens_separator"),
        get_caption_text(part, recipe, "secondary_separator"),
        has_wildcards(part, recipe),
        isinstance(part, Concept) and is_natural(part, recipe),
        affixes=affixes,
        token="" if token in affixes else token,
    )


@dataclass(frozen=True, slots=True)
class TagEdit:
    """``given`` is the option's value, ``matches`` finds the tags that are meant as ``normalize_tag`` spells them (none
    to add), ``text`` is what is written instead of them or added, ``position`` where, from 1; None: at the end."""

    kind: EditKind
    given: str
    matches: Callable[[str], bool]
    text: str = ""
    position: int | None = None


class _Piece(NamedTuple):
    """The separator before a piece (none before the first), and its text with its blanks."""

    separator: str
    text: str

    def with_content(self, content: str) -> _Piece:
        bare = self.text.strip()
        before, _, after = self.text.partition(bare) if bare else (self.text, "", "")
        return self._replace(text=f"{before}{content}{after}")


class EditedText(NamedTuple):
    """A text, and the numbers of the edits that changed it. ``loses_token``: it had the token, and does not now, or no
    longer at the start."""

    text: str
    edits: frozenset[int]
    loses_token: bool = False


def edit_caption_text(text: str, edits: Sequence[TagEdit], style: LineStyle) -> EditedText:
    """The text of a caption file with its first line edited, or each line that is not blank with enable_wildcard.

    Line ends, BOM, blanks around lines and all other lines stay as they are.
    """
    start = len(_BOM) if text.startswith(_BOM) else 0
    changed, result, done, loses_token = set[int](), text[:start], start, False
    for begin, end in _find_lines(text, start, style.wildcard):
        line = edit_line(text[begin:end], edits, style)
        changed |= line.edits
        loses_token |= line.loses_token
        result += text[done:begin] + line.text
        done = end
    return EditedText(result + text[done:], frozenset(changed), loses_token)


def _find_lines(text: str, start: int, wildcard: bool) -> Iterator[tuple[int, int]]:
    """Where the captions of a file begin and end, without the blanks around them."""
    if not wildcard:
        found = _LINE.match(text, start)
        end = found.end() if found else start
        yield _strip_span(text, start, end)
        return
    for found in _LINE.finditer(text, start):
        if found[0].strip():
            yield _strip_span(text, *found.span())


def _strip_span(text: str, start: int, end: int) -> tuple[int, int]:
    line = text[start:end]
    left = start + len(line) - len(line.lstrip())
    return (left, left + len(line.strip())) if line.strip() else (start, start)


def edit_line(line: str, edits: Sequence[TagEdit], style: LineStyle) -> EditedText:
    """One caption, without blanks around it, after all edits."""
    pieces, changed, fronted = _split_line(line, style), set[int](), 0
    token_rank = _rank_token(pieces, style)
    for number, edit in enumerate(edits):
        before = _join_pieces(pieces)
        places = [at for at, piece in enumerate(pieces) if _is_meant(piece, edit, style)]
        fronted = fronted if edit.kind == "front" else 0
        match edit.kind:
            case "add":
                pieces = _add(pieces, edit, style)
            case "remove":
                pieces = _remove(pieces, places, style)
            case "rename":
                pieces = _rename(pieces, places, edit.text, style)
            case "front":
                pieces = _move(pieces, places, fronted, style)
                fronted += len(places)
        if (after := _join_pieces(pieces)) != before:
            changed.add(number)
            pieces = _split_line(after, style)  # what was written may be several tags
    return EditedText(_join_pieces(pieces), frozenset(changed), _rank_token(pieces, style) < token_rank)


def _rank_token(pieces: Sequence[_Piece], style: LineStyle) -> int:
    """2 if a caption starts with the token, 1 if it has it elsewhere, else 0."""
    if style.natural or not style.token:
        return 0
    tags = (normalize_tag(piece.text) for piece in pieces if piece.text.strip())
    if next(tags, "") == style.token:
        return 2
    return 1 if style.token in tags else 0


def split_line(line: str, style: LineStyle) -> list[str]:
    """The pieces of a caption between its separators, without blanks; empty ones are left out."""
    return [text for piece in _split_line(line, style) if (text := piece.text.strip())]


def _split_line(line: str, style: LineStyle) -> list[_Piece]:
    marks = sorted(filter(None, {style.separator, style.joiner, *style.sticky}), key=len, reverse=True)
    pattern = f"(?P<mark>{'|'.join(map(re.escape, marks))})"
    pieces, mark, done = list[_Piece](), "", 0
    for found in re.finditer(f"{_BRACES}|{pattern}" if style.wildcard else pattern, line):
        if found["mark"]:
            pieces.append(_Piece(mark, line[done : found.start()]))
            mark, done = found["mark"], found.end()
    return [*pieces, _Piece(mark, line[done:])]


def _join_pieces(pieces: Sequence[_Piece]) -> str:
    return "".join(piece.separator + piece.text for piece in pieces)


def _is_meant(piece: _Piece, edit: TagEdit, style: LineStyle) -> bool:
    text = piece.text.strip()
    return bool(text) and not style.natural and not is_sentence(text) and edit.matches(normalize_tag(text))


def _select_new_tags(text: str, pieces: Sequence[_Piece], style: LineStyle) -> str:
    """Those of the tags in ``text`` that are not yet among these pieces or around them, joined as they are written."""
    there = {normalize_tag(piece.text) for piece in pieces if piece.text.strip()} | style.affixes
    new = {normalize_tag(tag): tag.strip() for tag in reversed(text.split(style.separator)) if tag.strip()}
    kept = [tag for key, tag in reversed(new.items()) if key not in there]
    return f"{style.separator}{_find_gap(pieces, style)}".join(kept)


def _find_gap(pieces: Sequence[_Piece], style: LineStyle) -> str:
    """What this caption has after a separator."""
    texts = (piece.text for piece in pieces if piece.separator == style.separator and piece.text.strip())
    return next((_blanks_before(text) for text in texts), " ")


def _add(pieces: list[_Piece], edit: TagEdit, style: LineStyle) -> list[_Piece]:
    text = _select_new_tags(edit.text, pieces, style)
    filled = [at for at, piece in enumerate(pieces) if piece.text.strip()]
    if not text:
        return pieces
    if edit.position is None or edit.position > len(filled):
        return _append(pieces, text, style)
    return _insert(pieces, filled[edit.position - 1], text, style)


def _append(pieces: list[_Piece], text: str, style: LineStyle) -> list[_Piece]:
    last = pieces[-1]
    if last.text.strip():
        return [*pieces, _Piece(style.separator, _find_gap(pieces, style) + text)]
    return [*pieces[:-1], last._replace(text=(_find_gap(pieces, style) if last.separator else "") + text)]


def _insert(pieces: list[_Piece], at: int, text: str, style: LineStyle) -> list[_Piece]:
    """``text`` in the place of a piece, which follows it."""
    old = pieces[at]
    moved = _Piece(style.separator, _find_gap(pieces, style) + old.text.lstrip())
    return [*pieces[:at], _Piece(old.separator, _blanks_before(old.text) + text), moved, *pieces[at + 1 :]]


def _remove(pieces: list[_Piece], places: Sequence[int], style: LineStyle) -> list[_Piece]:
    for at in reversed(places):
        pieces = _remove_one(pieces, at, style)
    return pieces


def _remove_one(pieces: list[_Piece], at: int, style: LineStyle) -> list[_Piece]:
    """Without a piece and one of the separators around it; the keeper stays, if need be with nothing next to it."""
    own, following = pieces[at], pieces[at + 1] if at + 1 < len(pieces) else None
    sticky = [each.separator for each in (own, following) if each and each.separator in style.sticky]
    needs_place = len(sticky) == 2 or (bool(sticky) and (at == 0 or following is None))
    if needs_place or len(pieces) == 1:
        gap = " " if own.separator and following is not None else ""
        return [*pieces[:at], own._replace(text=gap), *pieces[at + 1 :]]
    if following is None:
        return pieces[:at]
    if at == 0:
        return [_Piece("", following.text.lstrip()), *pieces[2:]]
    rank = {**dict.fromkeys(style.sticky, 2), style.separator: 1}
    if rank.get(own.separator, 0) >= rank.get(following.separator, 0):
        kept = _Piece(own.separator, _blanks_before(own.text) + following.text.lstrip())
        return [*pieces[:at], kept, *pieces[at + 2 :]]
    before = pieces[at - 1]
    before = before._replace(text=before.text.rstrip() + own.text[len(own.text.rstrip()) :])
    return [*pieces[: at - 1], before, *pieces[at + 1 :]]


def _blanks_before(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _rename(pieces: list[_Piece], places: Sequence[int], text: str, style: LineStyle) -> list[_Piece]:
    """The first of the pieces has the new text, unless other pieces have it already; the others are removed."""
    if not places:
        return pieces
    others = [piece for at, piece in enumerate(pieces) if at not in places]
    new = _select_new_tags(text, others, style)
    if not new:
        return _remove(pieces, places, style)
    first, *rest = places
    pieces = [*pieces[:first], pieces[first].with_content(new), *pieces[first + 1 :]]
    return _remove(pieces, rest, style)


def _move(pieces: list[_Piece], places: Sequence[int], after: int, style: LineStyle) -> list[_Piece]:
    """The pieces at these places, in their order, behind the first ``after`` tags."""
    filled = [at for at, piece in enumerate(pieces) if piece.text.strip()]
    if not places or list(places) == filled[after : after + len(places)]:
        return pieces
    texts = [pieces[at].text.strip() for at in places]
    rest = _remove(pieces, places, style)
    kept = [at for at, piece in enumerate(rest) if piece.text.strip()]
    whole = f"{style.separator}{_find_gap(pieces, style)}".join(texts)
    return _insert(rest, kept[after], whole, style) if after < len(kept) else _append(rest, whole, style)
