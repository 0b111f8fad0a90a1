"""Words that captions are judged by: kinds of tags, what implies what, two boards' vocabularies, Portuguese.

They lie as TOML in ``guide/glossary`` and are read when the first caption is judged, a file each. A word that is in
none of the lists is never held against anybody.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, Literal

from lorabake_schemas.tags import plain

Board = Literal["e621", "danbooru"]
Kind = Literal[
    "accented", "asymmetric", "background", "classes", "clothing", "colourless", "composition", "features", "group",
    "meta", "overlay", "panels", "person", "praise", "sheet", "sketch", "style",
]  # fmt: skip
SHORTEST = 5  # shorter words without their accents mean something else too often: bone is not boné


@cache
def _file(name: str) -> dict[str, Any]:
    return tomllib.loads((files("lorabake_schemas.guide") / "glossary" / f"{name}.toml").read_bytes().decode("utf-8"))


def _listed(text: str) -> Iterator[str]:
    return (plain(word) for word in " ".join(text.split()).split(",") if word.strip())


@cache
def kind(name: Kind) -> frozenset[str]:
    """The tags that are of a kind."""
    return frozenset(_listed(_file("kinds")[name]))


@cache
def _endings(file: str, name: str) -> tuple[str, ...]:
    """What tags may end with, for ``str.endswith``."""
    return tuple(f" {word}" for word in _listed(_file(file)[name]))


@cache
def _beginnings(file: str, name: str) -> tuple[str, ...]:
    """What tags may begin with, for ``str.startswith``."""
    return tuple(f"{word}{after}" for word in _listed(_file(file)[name]) for after in " :")


def is_artist(tag: str) -> bool:
    """Whether a tag says of itself that it names an artist or a style: by somebody, somebody (artist)."""
    return tag.endswith(_endings("kinds", "artist_endings")) or tag.startswith(
        _beginnings("kinds", "artist_beginnings")
    )


def is_asymmetric(tag: str) -> bool:
    """Whether what it names stands on one side only."""
    return tag in kind("asymmetric") or tag.startswith(_beginnings("kinds", "asymmetric_beginnings"))


def is_feature(tag: str) -> bool:
    """Whether it describes a body by a word before a part of it: blue eyes, long hair."""
    return tag.rpartition(" ")[2] in kind("features")


def is_background(tag: str) -> bool:
    """Whether it says where the subject is."""
    return tag in kind("background") or tag.endswith((" background", " sky")) or tag.startswith("in a ")


def is_clothing(tag: str) -> bool:
    """Whether it says what is worn, or that nothing is."""
    return tag in kind("clothing") or tag.rpartition(" ")[2] in kind("clothing")


@cache
def contradictions() -> Mapping[str, frozenset[str]]:
    """Each tag with those that cannot be true beside it."""
    found: dict[str, set[str]] = {}
    tables = _file("kinds")["contradictions"]
    pairs = [pair for line in tables["lines"].split("\n") for pair in combinations(_listed(line), 2)]
    pairs += [(plain(one), other) for one, others in tables["with"].items() for other in _listed(others)]
    for one, other in pairs:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {tag: frozenset(others) for tag, others in found.items()}


@cache
def _direct() -> Mapping[str, frozenset[str]]:
    """Each special tag with the general ones that the table gives it."""
    found: dict[str, set[str]] = {}
    for name, table in _file("implications").items():
        if name != "patterns":
            for general, special in table.items():
                for tag in _listed(special):
                    found.setdefault(tag, set()).add(plain(general))
    return {tag: frozenset(general) for tag, general in found.items()}


@cache
def _patterns() -> tuple[frozenset[str], frozenset[str], tuple[str, ...], frozenset[str]]:
    table = _file("implications")["patterns"]
    heads, beginnings, exceptions = (frozenset(_listed(table[name])) for name in ("heads", "beginnings", "exceptions"))
    return heads, beginnings, tuple(f"{word} " for word in _listed(table["not_after"])), exceptions


def implied(tag: str) -> frozenset[str]:
    """Everything that a tag says besides itself, to the end of the chain."""
    found = set(_steps(tag))
    ahead = list(found)
    while ahead:
        new = _steps(ahead.pop()) - found
        found |= new
        ahead += new
    return frozenset(found - {tag})


def _steps(tag: str) -> Set[str]:
    direct = _direct().get(tag, frozenset())
    first, _, rest = tag.partition(" ")
    if not rest:
        return direct
    heads, beginnings, negations, exceptions = _patterns()
    last = rest.rpartition(" ")[2]
    if (first in beginnings or last in heads) and tag not in exceptions and not tag.startswith(negations):
        return direct | ({first} & beginnings) | ({last} & heads)
    return direct


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The words that one board has and the other has not, and what the other says instead, where it does."""

    words: frozenset[str]
    endings: tuple[str, ...]
    elsewhere: Mapping[str, str]

    def has(self, tag: str) -> bool:
        return tag in self.words or tag.endswith(self.endings)

    def among(self, tags: Set[str]) -> frozenset[str]:
        return self.words & tags | {tag for tag in tags if tag.endswith(self.endings)}


@cache
def vocabulary(board: Board) -> Vocabulary:
    """The words of one board."""
    table = _file("boards")
    there = {plain(one): plain(other) for one, other in table["translation"].items()}
    back: dict[str, str] = {}
    for one, other in there.items():
        back.setdefault(other, one)
    endings = _endings("boards", f"{board}_endings")
    return Vocabulary(frozenset(_listed(table[board])), endings, there if board == "e621" else back)


def english(tag: str) -> str | None:
    """What a Portuguese tag is in English; None for a tag that is not known as Portuguese."""
    table = _portuguese()
    tag = tag if tag.isascii() else unicodedata.normalize("NFC", tag)
    if tag in table["words"]:
        return table["words"][tag]
    noun, _, colour = tag.rpartition(" ")
    if not noun and not tag.isascii():
        return table["nouns"].get(tag)
    thing = (table["nouns"].get(noun) or table["words"].get(noun)) if colour in table["colours"] else None
    return f"{table['colours'][colour]} {thing}" if thing else None


def looks_portuguese(tag: str) -> bool:
    """Whether it has letters that English has not and Portuguese has, in a word that is in none of the lists."""
    if tag.isascii():
        return False
    whole = unicodedata.normalize("NFC", tag)
    strange = [word for word in _WORD.findall(whole) if not _ACCENTED.isdisjoint(word)]
    return any(word not in kind("accented") for word in strange)


_WORD = re.compile(r"\w+")
_ACCENTED = frozenset("\u00e1\u00e2\u00e3\u00e0\u00e9\u00ea\u00ed\u00f3\u00f4\u00f5\u00fa\u00e7")  # with accents, small


@cache
def _portuguese() -> Mapping[str, Mapping[str, str]]:
    return {name: _with_and_without_accents(table) for name, table in _file("portuguese").items()}


def _with_and_without_accents(table: Mapping[str, str]) -> dict[str, str]:
    known = {plain(unicodedata.normalize("NFC", word)): meaning for word, meaning in table.items()}
    bare = {_bare(word): meaning for word, meaning in known.items() if len(word) >= SHORTEST}
    return bare | known


def _bare(word: str) -> str:
    """Without accents: esboco for esboço."""
    return "".join(sign for sign in unicodedata.normalize("NFD", word) if not unicodedata.combining(sign))


__all__ = [
    "Board",
    "Kind",
    "Vocabulary",
    "contradictions",
    "english",
    "implied",
    "is_artist",
    "is_asymmetric",
    "is_background",
    "is_clothing",
    "is_feature",
    "kind",
    "looks_portuguese",
    "vocabulary",
]
