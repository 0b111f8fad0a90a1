"""Facts about the tags of a folder, taken from its captions as sd-scripts splits them; counted once for all rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import chain, combinations
from typing import NamedTuple

from lorabake_schemas.dataset import FolderFacts, ImageFacts
from lorabake_schemas.guide.caption_settings import Part, get_caption_text
from lorabake_schemas.recipe import Recipe

Tags = tuple[str, ...]
TAG_SEPARATOR = ","  # sd-scripts' own caption_separator (CU:76)
FOREIGN_SEPARATOR = re.compile(
    r"[\uff1b\uff0c\u3001]|(?<=\w);(?=\s)"
)  # full-width ones, too; steins;gate and ;d are tags
FOREIGN_CHARACTERS = ";\uff1b\uff0c\u3001"
AFTER_TOKEN = re.compile(r"\s*([,;:.|/])(?!\|)|\s+(-)\s|(\s)\s*\w")  # in the place of a comma
# Of sentences, in English and Portuguese: a tag seldom has one of them, no token does.
_ENGLISH = "a|an|the|is|are|of|with|and|that|in|on|at|to|his|her|its"
_PORTUGUESE = (
    "um|uma|uns|umas|de|do|da|dos|das|em|no|na|nos|nas|com|sem|que|ao|seu|sua|est\u00e1|est\u00e3o|\u00e9|s\u00e3o"
)
SENTENCE_WORDS = re.compile(rf"\b({_ENGLISH}|{_PORTUGUESE})\b")
_ENGLISH_WORDS, _PORTUGUESE_WORDS = re.compile(rf"\b({_ENGLISH})\b"), re.compile(rf"\b({_PORTUGUESE})\b")
MIN_PORTUGUESE_WORDS = 3  # of these in a sentence (ours)
MIN_SENTENCE_WORDS = 8  # words between two commas, or half as many and a full stop (ours)


class CaptionStyle(NamedTuple):
    """How sd-scripts joins and splits a caption (TU:823-827, 871-922).

    ``marks`` are keep_tokens_separator and secondary_separator, which also end a tag.
    """

    separator: str = TAG_SEPARATOR
    prefix: str = ""
    suffix: str = ""
    marks: tuple[str, ...] = ()


def get_caption_style(part: Part, recipe: Recipe) -> CaptionStyle:
    """The caption style of a folder."""
    separator = recipe.kohya.get("caption_separator")
    marks = [get_caption_text(part, recipe, key) for key in ("keep_tokens_separator", "secondary_separator")]
    return CaptionStyle(
        separator=separator if isinstance(separator, str) and separator else TAG_SEPARATOR,
        prefix=get_caption_text(part, recipe, "caption_prefix"),
        suffix=get_caption_text(part, recipe, "caption_suffix"),
        marks=tuple(filter(None, marks)),
    )


def has_words(text: str) -> bool:
    """False for what no caption has alone: numbers, such as a detector's boxes, and punctuation."""
    return any(map(str.isalpha, text))


def normalize_tag(piece: str) -> str:
    """One spelling for one tag, to compare by: small letters, spaces for underscores, no escaping backslashes."""
    spaced = " ".join(piece.replace("_", " ").replace("\\", "").split()).casefold()
    return spaced or piece.strip()


def split_tags(text: str, how: CaptionStyle | None = None) -> list[str]:
    """The tags of a caption as written; empty ones between two separators are left out."""
    return [piece.strip() for piece in _split_pieces(text, how or CaptionStyle()) if piece and not piece.isspace()]


def _split_pieces(text: str, how: CaptionStyle) -> list[str]:
    whole = text.removeprefix("\ufeff")
    if how.prefix or how.suffix:
        whole = f"{how.prefix} {whole} {how.suffix}"
    for mark in how.marks:
        whole = whole.replace(mark, how.separator)
    return whole.split(how.separator)


def find_odd_separator(text: str, token: str, how: CaptionStyle) -> str:
    """The separator between the tags of a caption if sd-scripts does not recognize it: ``;``, or a space.

    Empty if the tags are separated correctly, if the caption is a sentence, and if it does not even start with the
    token.
    """
    whole = text.removeprefix("\ufeff").strip()
    foreign = FOREIGN_SEPARATOR.search(whole) if any(sign in whole for sign in FOREIGN_CHARACTERS) else None
    if foreign and not any(foreign[0] in sign for sign in (how.separator, *how.marks)):
        return foreign[0]
    if whole.startswith(f"{token}{how.separator}"):
        return ""
    if not token:
        return ""
    first = next(iter(split_tags(whole, CaptionStyle(how.separator, marks=how.marks))), "")
    if how.prefix or first.casefold() == token or not first.casefold().startswith(token):
        return ""
    found = AFTER_TOKEN.match(first, len(token))
    if not found or (found[3] and SENTENCE_WORDS.search(first.casefold())):
        return ""
    return found[1] or found[2] or " "


def has_choice(text: str) -> bool:
    """Whether it has ``{a|b}``, which enable_wildcard reads."""
    return bool(_CHOICE.search(text))


_CHOICE = re.compile(r"\{[^{}|]*\|[^{}]*\}")


def has_sentence_words(text: str) -> bool:
    """Whether a text between two commas looks like a part of a sentence, in English or Portuguese."""
    return is_sentence(text) or bool(SENTENCE_WORDS.search(text.casefold()))


def is_portuguese_sentence(text: str) -> bool:
    """Whether it has several of the small words of Portuguese, and more of them than of English."""
    small = text.casefold()
    count = len(_PORTUGUESE_WORDS.findall(small))
    return count >= MIN_PORTUGUESE_WORDS and count > len(_ENGLISH_WORDS.findall(small))


class _TagSpellings(dict[str, str]):
    """Every piece between separators with the tag it is, so that each is made plain once."""

    def __missing__(self, piece: str) -> str:
        tag = self[piece] = normalize_tag(piece)
        return tag


def is_sentence(piece: str) -> bool:
    """Whether the text between two commas is rather a sentence, by its length and its end."""
    spaces = piece.count(" ")
    return spaces >= MIN_SENTENCE_WORDS - 1 or (
        spaces >= MIN_SENTENCE_WORDS // 2 - 1 and piece.endswith((".", "!", "?"))
    )


@dataclass(frozen=True, slots=True)
class FolderTags:
    """The tags of one folder's captions, in the spelling of ``plain``.

    ``images`` and ``tags`` are parallel, with an entry for each caption: with enable_wildcard an image has several.
    ``counts`` is the number of images with each tag, ``pictures`` the number of images with a caption. ``written`` has
    every spelling found, with its tag; ``long`` those tags that are rather sentences.
    """

    images: tuple[ImageFacts, ...]
    tags: tuple[Tags, ...]
    counts: Mapping[str, int]
    written: Mapping[str, str]
    long: frozenset[str]
    pictures: int
    caption_extension: str

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[tuple[ImageFacts, Tags]]:
        return zip(self.images, self.tags, strict=True)

    @property
    def mean(self) -> float:
        """Tags per caption, on average."""
        return sum(map(len, self.tags)) / len(self.tags) if self.tags else 0.0

    @property
    def single_tags(self) -> Tags:
        """Tags of one image only, in alphabetical order."""
        return tuple(sorted(tag for tag, count in self.counts.items() if count == 1))

    @property
    def everywhere(self) -> Tags:
        """Tags that every image with a caption has, in the order of the first caption."""
        first = dict.fromkeys(self.tags[0]) if self.tags else ()
        return tuple(tag for tag in first if self.counts[tag] == self.pictures)

    def at(self, place: int) -> Counter[str]:
        """How often each tag is at a position, counted from 0."""
        return Counter(tags[place] for tags in self.tags if len(tags) > place)

    def known(self, words: Set[str]) -> frozenset[str]:
        """Those of the given tags that any image has."""
        return frozenset(self.counts.keys() & words)

    def iter_images_with(self, words: Set[str]) -> Iterator[tuple[ImageFacts, Tags]]:
        """The images with any of these tags."""
        known = self.known(words)
        if known:
            yield from ((image, tags) for image, tags in self if not known.isdisjoint(tags))

    def list_spellings(self) -> dict[str, str]:
        """Each tag with the spelling that the captions have, the first one found."""
        return {meant: spelling for spelling, meant in reversed(list(self.written.items()))}

    def get_spelling(self, tag: str) -> str:
        """The same of one tag, to be asked for a few."""
        return next((spelling for spelling, meant in self.written.items() if meant == tag), tag)


def count_folder_tags(folder: FolderFacts, how: CaptionStyle | None = None) -> FolderTags:
    """Split every caption of a folder and count."""
    how = how or CaptionStyle()
    images, every, whole = list[ImageFacts](), list[Tags](), list[Tags]()
    spellings = _TagSpellings()
    for image in folder.images:
        own = [_list_tags(text, how, spellings) for text in image.caption.texts if text]
        every += own
        images += [image] * len(own)
        whole += own if len(own) == 1 else [tuple(chain.from_iterable(own))] if own else []
    counts = Counter(chain.from_iterable(whole))
    for tags in whole:
        if len(set(tags)) != len(tags):
            counts.subtract(Counter(tags) - Counter(set(tags)))
    written = {piece.strip(): tag for piece, tag in spellings.items() if tag}
    long = frozenset(tag for piece, tag in written.items() if is_sentence(piece))
    return FolderTags(tuple(images), tuple(every), counts, written, long, len(whole), folder.caption_extension)


def _list_tags(text: str, how: CaptionStyle, spellings: _TagSpellings) -> Tags:
    tags = tuple([spellings[piece] for piece in _split_pieces(text, how)])
    return tuple(filter(None, tags)) if "" in tags else tags


class TagIndex:
    """The tags of the folders that rules have asked for; a folder is known again by being the same object."""

    __slots__ = ("_known", "_parted")

    def __init__(self) -> None:
        self._known: dict[int, tuple[FolderFacts, CaptionStyle, FolderTags]] = {}
        self._parted: dict[int, tuple[FolderFacts, CaptionStyle, str, Mapping[str, str]]] = {}

    def of(self, folder: FolderFacts, how: CaptionStyle) -> FolderTags:
        known = self._known.get(id(folder))
        if known is None or known[0] is not folder or known[1] != how:
            known = self._known[id(folder)] = (folder, how, count_folder_tags(folder, how))
        return known[2]

    def find_odd_separators(self, folder: FolderFacts, how: CaptionStyle, token: str) -> Mapping[str, str]:
        """The images whose captions separate tags with another character (``parting``) than a comma, and that
        character.
        """
        known = self._parted.get(id(folder))
        if known is None or known[0] is not folder or known[1:3] != (how, token):
            first = split_tags(token)[0].casefold() if split_tags(token) else ""
            signs = (
                (image.name, find_odd_separator(text, first, how))
                for image in folder.images
                for text in image.caption.texts
            )
            known = self._parted[id(folder)] = (folder, how, token, {name: sign for name, sign in signs if sign})
        return known[3]


def find_inseparable_pairs(folders: Sequence[FolderTags], words: Sequence[str]) -> list[tuple[str, str, int]]:
    """Pairs of these tags that are on exactly the same images of all folders, and on how many.

    The model learns such a pair as one concept with a long name.
    """
    places: dict[str, set[tuple[int, int]]] = {word: set() for word in words}
    for number, folder in enumerate(folders):
        wanted = folder.known(places.keys())
        for at, tags in enumerate(folder.tags if wanted else ()):
            for word in wanted.intersection(tags):
                places[word].add((number, at))
    pairs = combinations(places, 2)
    return [(one, other, len(places[one])) for one, other in pairs if places[one] and places[one] == places[other]]
