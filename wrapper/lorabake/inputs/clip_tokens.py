"""How many tokens CLIP's tokenizer makes of a caption: the same numbers as transformers' CLIPTokenizer.

All three families cut captions with OpenAI's byte-pair encoding (strategy_sd.py:16-17, strategy_sdxl.py:17-18). Its
merges are part of lorabake. Reading them takes as long as a few captions, so they are read only when needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from unicodedata import category

from lorabake.util import resources

WORD_END = "</w>"  # how the last piece of a word is marked
SPECIAL_TOKEN_PATTERN = re.compile(r"<\|startoftext\|>|<\|endoftext\|>")
# What is a separate token or is split off a word before letters, digits and the rest are distinguished.
INDIVISIBLE_PATTERN = re.compile(r"<\|startoftext\|>|<\|endoftext\|>|'(?:s|t|re|ve|m|ll|d)", re.IGNORECASE)


class ClipTokenizer:
    """Counts tokens; every word is worked out once."""

    def __init__(self, merges: str) -> None:
        """``merges``: pairs in the order of their rank, one a line, with a space between."""
        self._ranks = {pair: rank for rank, pair in enumerate(merges.split("\n"))}
        self._counts: dict[str, int] = {}

    def count(self, text: str) -> int:
        """Tokens of a text, without those at its beginning and end."""
        if (
            "<|" in text and len(parts := SPECIAL_TOKEN_PATTERN.split(text)) > 1
        ):  # transformers removes them before anything else
            return sum(map(self.count, parts)) + len(parts) - 1
        return sum(map(self._count, normalize(text).lower().split()))

    def _count(self, word: str) -> int:
        found = self._counts.get(word)
        if found is None:
            pieces = (block for piece in split_word(word) for block in _cut_piece(piece))
            found = self._counts[word] = sum(map(self._count_merged_parts, pieces))
        return found

    def _count_merged_parts(self, piece: str) -> int:
        """How many parts are left of a piece once no two neighbors can be merged."""
        if len(piece) == 1 and piece.isascii():
            return 1
        if INDIVISIBLE_PATTERN.fullmatch(piece) and piece.startswith("<"):
            return 1
        parts = [BYTE_LETTERS[byte] for byte in piece.encode("utf-8", "surrogatepass")]
        parts[-1] += WORD_END
        while len(parts) > 1:
            ranked = [(self._ranks.get(f"{one} {two}", UNRANKED), at) for at, (one, two) in enumerate(pairwise(parts))]
            best, at = min(ranked)
            if best == UNRANKED:
                break
            parts = _merge_pair(parts, parts[at], parts[at + 1])
        return len(parts)


UNRANKED = 1 << 30
MAX_PIECE_LENGTH = 1 << 12


def _cut_piece(piece: str) -> Iterator[str]:
    """Merging takes the square of the length, so a piece far beyond any limit of tokens is counted in blocks."""
    yield from (piece[at : at + MAX_PIECE_LENGTH] for at in range(0, len(piece), MAX_PIECE_LENGTH))


def _merge_pair(parts: list[str], one: str, two: str) -> list[str]:
    """The parts with every such pair made one, from the left."""
    made, at = list[str](), 0
    while at < len(parts):
        both = parts[at] == one and at + 1 < len(parts) and parts[at + 1] == two
        made.append(one + two if both else parts[at])
        at += 2 if both else 1
    return made


def normalize(text: str) -> str:
    """The text as ftfy fixes it, which the tokenizer does first; plain ASCII needs no fix."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import ftfy

    return ftfy.fix_text(text)


def split_word(word: str) -> list[str]:
    """A word without white space in runs of letters, single digits, and runs of anything else."""
    found, at = list[str](), 0
    while at < len(word):
        first = INDIVISIBLE_PATTERN.match(word, at)
        kind, end = _letter_class(word[at]), at + 1
        if first:
            end = first.end()
        elif kind != "N":
            while end < len(word) and _letter_class(word[end]) == kind:
                end += 1
        found.append(word[at:end])
        at = end
    return found


def _letter_class(letter: str) -> str:
    """Letter, number (each its own piece) or anything else."""
    first = category(letter)[0]
    return first if first in "LN" else ""


def _build_byte_letters() -> tuple[str, ...]:
    """How the merges write each byte: printable Latin-1 as itself, the others as letters from U+0100 on."""
    own = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in own else next(others)) for byte in range(256))


BYTE_LETTERS = _build_byte_letters()


@cache
def load_tokenizer() -> ClipTokenizer:
    return ClipTokenizer(resources.read_clip_merges())


def cannot_exceed(text: str, limit: int) -> bool:
    """Whether there are too few bytes for more tokens than that; ftfy and lower case can make some text longer."""
    return len(text) <= limit if text.isascii() else 2 * len(text.encode("utf-8", "surrogatepass")) <= limit


def is_known_word(word: str) -> bool:
    """Whether CLIP has one token for this word: a merge that ends in it. Looked up in the text of the merges."""
    word = word.lower()
    if not (word.isascii() and word.isalpha() and len(word) > 1):
        return False
    merges = f"\n{resources.read_clip_merges()}\n"
    return any(f"\n{word[:at]} {word[at:]}{WORD_END}\n" in merges for at in range(1, len(word)))
