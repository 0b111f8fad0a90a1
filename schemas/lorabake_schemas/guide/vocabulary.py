"""Tags that captions are checked against: kinds of tags, implications, two boards' vocabularies, Portuguese.

They are TOML files in ``guide/glossary``, each read when the first caption needs it. Tags are spelt there as
``normalize_tag`` spells them. A tag that is in none of the lists is never reported.
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator, Mapping, Set
from functools import cache
from importlib.resources import files
from itertools import combinations
from typing import Any, Literal, NamedTuple, get_args

Board = Literal["e621", "danbooru"]
TagKind = Literal[
    "accented", "asymmetric", "background", "classes", "clothing", "colourless", "composition", "features", "group",
    "meta", "overlay", "panels", "person", "praise", "sheet", "sketch", "style",
]  # fmt: skip
MIN_BARE_LENGTH = 5  # shorter tags without their accents often mean something else: bone is not boné


@cache
def _load_vocabulary_file(name: str) -> dict[str, Any]:
    return tomllib.loads((files("lorabake_schemas.guide") / "glossary" / f"{name}.toml").read_bytes().decode("utf-8"))


def _iter_tags(text: str) -> Iterator[str]:
    return (word for piece in text.replace("\n", " ").split(",") if (word := piece.strip()))


@cache
def get_kind_tags(name: TagKind) -> frozenset[str]:
    """The tags that are of a kind."""
    return frozenset(_iter_tags(_load_vocabulary_file("kinds")[name]))


@cache
def _load_suffixes(file: str, name: str) -> tuple[str, ...]:
    """What tags may end with, for ``str.endswith``."""
    return tuple(f" {word}" for word in _iter_tags(_load_vocabulary_file(file)[name]))


@cache
def _load_prefixes(file: str, name: str) -> tuple[str, ...]:
    """Prefixes of tags, for ``str.startswith``."""
    return tuple(f"{word}{after}" for word in _iter_tags(_load_vocabulary_file(file)[name]) for after in " :")


def is_artist(tag: str) -> bool:
    """Whether a tag is written as the name of an artist or a style: by somebody, somebody (artist)."""
    return tag.endswith(_load_suffixes("kinds", "artist_endings")) or tag.startswith(
        _load_prefixes("kinds", "artist_beginnings")
    )


def is_asymmetric(tag: str) -> bool:
    """Whether it names something that is on one side only."""
    return tag in get_kind_tags("asymmetric") or tag.startswith(_load_prefixes("kinds", "asymmetric_beginnings"))


def is_feature(tag: str) -> bool:
    """Whether it describes a body by a word before a part of it: blue eyes, long hair."""
    return tag.rpartition(" ")[2] in get_kind_tags("features")


def is_background(tag: str) -> bool:
    """Whether it names the place of the subject."""
    return tag in get_kind_tags("background") or tag.endswith((" background", " sky")) or tag.startswith("in a ")


def is_clothing(tag: str) -> bool:
    """Whether it names clothing, or its absence."""
    return tag in get_kind_tags("clothing") or tag.rpartition(" ")[2] in get_kind_tags("clothing")


_DESCRIBING: tuple[TagKind, ...] = ("background", "composition", "group", "meta", "praise")


def describes(tag: str) -> bool:
    """Whether it says how the subject looks or is shown, and not what it is."""
    return is_feature(tag) or is_background(tag) or any(tag in get_kind_tags(name) for name in _DESCRIBING)


def is_common_tag(tag: str) -> bool:
    """Whether it has a meaning of its own for models trained on a board: in any of the lists, a count, a score."""
    if _COUNT_OR_SCORE.fullmatch(tag) or is_artist(tag) or is_feature(tag) or is_clothing(tag) or is_background(tag):
        return True
    listed = any(tag in get_kind_tags(name) for name in get_args(TagKind)) or tag in load_contradictions()
    on_board = any(load_vocabulary(board).has(tag) for board in get_args(Board))
    return listed or on_board or bool(find_implied_tags(tag)) or tag in _list_general_tags() or bool(translate_tag(tag))


_COUNT_OR_SCORE = re.compile(r"\d+\+?\s?(girl|boy|other|female|male)s?|(score|source|rating|year)([ :].*)?|\d+")


@cache
def _list_general_tags() -> frozenset[str]:
    return frozenset[str]().union(*_load_implications().values())


@cache
def load_contradictions() -> Mapping[str, frozenset[str]]:
    """Each tag with those that cannot be true at the same time."""
    found: dict[str, set[str]] = {}
    tables = _load_vocabulary_file("kinds")["contradictions"]
    pairs = [pair for line in tables["lines"].split("\n") for pair in combinations(_iter_tags(line), 2)]
    pairs += [(one, other) for one, others in tables["with"].items() for other in _iter_tags(others)]
    for one, other in pairs:
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {tag: frozenset(others) for tag, others in found.items()}


@cache
def _load_implications() -> Mapping[str, frozenset[str]]:
    """Each special tag with the general ones that the table gives it."""
    found: dict[str, set[str]] = {}
    for name, table in _load_vocabulary_file("implications").items():
        if name != "patterns":
            for general, special in table.items():
                for tag in _iter_tags(special):
                    found.setdefault(tag, set()).add(general)
    return {tag: frozenset(general) for tag, general in found.items()}


@cache
def _load_patterns() -> tuple[frozenset[str], frozenset[str], tuple[str, ...], frozenset[str]]:
    table = _load_vocabulary_file("implications")["patterns"]
    heads, beginnings, exceptions = (
        frozenset(_iter_tags(table[name])) for name in ("heads", "beginnings", "exceptions")
    )
    return heads, beginnings, tuple(f"{word} " for word in _iter_tags(table["not_after"])), exceptions


def find_implied_tags(tag: str) -> frozenset[str]:
    """Every tag that this one implies, directly or indirectly."""
    found = set(_find_direct_tags(tag))
    ahead = list(found)
    while ahead:
        new = _find_direct_tags(ahead.pop()) - found
        found |= new
        ahead += new
    return frozenset(found - {tag})


def _find_direct_tags(tag: str) -> Set[str]:
    direct = _load_implications().get(tag, frozenset())
    first, _, rest = tag.partition(" ")
    if not rest:
        return direct
    heads, beginnings, negations, exceptions = _load_patterns()
    last = rest.rpartition(" ")[2]
    if (first in beginnings or last in heads) and tag not in exceptions and not tag.startswith(negations):
        return direct | ({first} & beginnings) | ({last} & heads)
    return direct


class BoardVocabulary(NamedTuple):
    """The tags that one board has and the other does not, with the other board's equivalent if there is one."""

    words: frozenset[str]
    endings: tuple[str, ...]
    elsewhere: Mapping[str, str]

    def has(self, tag: str) -> bool:
        return tag in self.words or tag.endswith(self.endings)

    def select_tags(self, tags: Set[str]) -> frozenset[str]:
        return self.words & tags | {tag for tag in tags if tag.endswith(self.endings)}


@cache
def load_vocabulary(board: Board) -> BoardVocabulary:
    """The tags of one board."""
    table = _load_vocabulary_file("boards")
    there: dict[str, str] = table["translation"]
    back: dict[str, str] = {}
    for one, other in there.items():
        back.setdefault(other, one)
    endings = _load_suffixes("boards", f"{board}_endings")
    return BoardVocabulary(frozenset(_iter_tags(table[board])), endings, there if board == "e621" else back)


def translate_tag(tag: str) -> str | None:
    """What a Portuguese tag is in English; None for a tag that is not known as Portuguese."""
    table = _load_portuguese()
    tag = tag if tag.isascii() else unicodedata.normalize("NFC", tag)
    if tag in table["words"]:
        return table["words"][tag]
    noun, _, colour = tag.rpartition(" ")
    if not noun and not tag.isascii():
        return table["nouns"].get(tag)
    thing = (table["nouns"].get(noun) or table["words"].get(noun)) if colour in table["colours"] else None
    return f"{table['colours'][colour]} {thing}" if thing else None


def has_portuguese_letters(tag: str) -> bool:
    """Whether it has letters that English has not and Portuguese has, in a word that is in none of the lists."""
    if tag.isascii():
        return False
    whole = unicodedata.normalize("NFC", tag)
    strange = [word for word in _WORD_PATTERN.findall(whole) if not _ACCENTED_LETTERS.isdisjoint(word)]
    return any(word not in get_kind_tags("accented") for word in strange)


_WORD_PATTERN = re.compile(r"\w+")
_ACCENTED_LETTERS = frozenset(
    "\u00e1\u00e2\u00e3\u00e0\u00e9\u00ea\u00ed\u00f3\u00f4\u00f5\u00fa\u00e7"
)  # with accents, small


@cache
def _load_portuguese() -> Mapping[str, Mapping[str, str]]:
    """Each list as pairs, which is far faster to read than as TOML's."""
    return {
        name: _add_bare_spellings(dict(_iter_pairs(text))) for name, text in _load_vocabulary_file("portuguese").items()
    }


def _iter_pairs(text: str) -> Iterator[list[str]]:
    return (line.split(" = ") for line in text.splitlines() if line and not line.startswith("#"))


def _add_bare_spellings(known: Mapping[str, str]) -> dict[str, str]:
    bare = {_strip_accents(word): meaning for word, meaning in known.items() if len(word) >= MIN_BARE_LENGTH}
    return {**bare, **known}


def _strip_accents(word: str) -> str:
    """Without accents: esboco for esboço."""
    return "".join(sign for sign in unicodedata.normalize("NFD", word) if not unicodedata.combining(sign))
