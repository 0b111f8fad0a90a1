"""What the captions of a folder have in common: tags or sentences, whose tags, and the words they start with. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.tags import (
    CaptionStyle,
    FolderTags,
    count_folder_tags,
    has_choice,
    has_sentence_words,
    normalize_tag,
    split_tags,
)
from lorabake_schemas.guide.vocabulary import (
    Board,
    get_kind_tags,
    is_artist,
    is_common_tag,
    is_feature,
    load_vocabulary,
)
from lorabake_schemas.recipe import TagStyle

BOARDS: tuple[Board, Board] = ("e621", "danbooru")
IsKnown = Callable[[str], bool]
SHARED = 0.9  # of the captions that have a tag which all are meant to have (ours)
MOST = 0.5
CONSISTENT = 0.7  # of the captions that name a character's features or that there is a person (ours)
MARKS = ("|||",)  # what people write for keep_tokens_separator (S17)
MAX_FRONT_TAGS = 8
RARE_WORDS = frozenset({"ohwx", "sks", "zwx", "skw", "hta"})  # that CLIP knows and people use since they mean little
_WORD = re.compile(r"[\w'-]+")


@dataclass(frozen=True, slots=True)
class CaptionSummary:
    """``count`` images have a caption, of ``images``. ``front`` are the tags, or words of sentences, that almost all
    captions start with, as written; ``words`` those that almost all have anywhere and CLIP does not know as one.

    ``style`` is None without captions. ``several_lines`` and ``mark``: what most captions have (enable_wildcard,
    keep_tokens_separator); ``{a|b}`` needs enable_wildcard, too. ``people`` and ``features`` are whether most of them
    name a person, and the same features.
    """

    images: int = 0
    count: int = 0
    style: TagStyle | None = None
    front: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    several_lines: bool = False
    sentences_among_lines: bool = False
    mark: str = ""
    people: bool = False
    features: bool = False

    @property
    def natural(self) -> bool:
        return self.style == "natural"


def summarize_captions(facts: FolderFacts, is_known: IsKnown) -> CaptionSummary:
    """``is_known`` is whether CLIP has a single token for a word."""
    captions = [image.caption for image in facts.images if image.caption.text]
    if not captions:
        return CaptionSummary(images=len(facts.images))
    texts = [caption.text for caption in captions]
    mark = next((mark for mark in MARKS if _is_share([mark in text for text in texts], MOST)), "")
    tags = count_folder_tags(facts, CaptionStyle(marks=(mark,) if mark else ()))
    natural = _is_share([_is_natural(text) for text in texts], MOST)
    several = _is_share([bool(caption.others) or has_choice(caption.text) for caption in captions], MOST)
    return CaptionSummary(
        images=len(facts.images),
        count=len(captions),
        style="natural" if natural else _find_board(tags),
        front=_find_front_words(texts) if natural else _find_front_tags(texts, mark),
        words=tuple(
            word for word in _find_shared_words(texts) if natural and (word in RARE_WORDS or not is_known(word))
        ),
        several_lines=several,
        sentences_among_lines=several and not natural and bool(tags.long),
        mark=mark,
        people=_has_tag(tags, lambda tag: tag in get_kind_tags("person"), CONSISTENT),
        features=any(count >= CONSISTENT * tags.pictures and is_feature(tag) for tag, count in tags.counts.items()),
    )


def _is_share(found: Sequence[bool], share: float) -> bool:
    return sum(found) >= share * len(found)


def _has_tag(tags: FolderTags, wanted: Callable[[str], bool], share: float) -> bool:
    words = {tag for tag in tags.counts if wanted(tag)}
    return sum(1 for _ in tags.iter_images_with(words)) >= share * tags.pictures


def _is_natural(text: str) -> bool:
    """Whether a caption is a sentence: it has a long part, or there are no commas in it and small words."""
    tags = split_tags(text)
    return any(map(_is_part_of_sentence, tags)) or (len(tags) == 1 and " " in tags[0] and has_sentence_words(tags[0]))


def _is_part_of_sentence(piece: str) -> bool:
    return piece.count(" ") >= 3 and has_sentence_words(piece)


def _find_board(tags: FolderTags) -> TagStyle:
    """Whose tags they are, by those that only one board has; danbooru's, which most taggers write, where none is."""
    words = tags.counts.keys()
    e621, danbooru = (sum(tags.counts[tag] for tag in load_vocabulary(board).select_tags(words)) for board in BOARDS)
    return "e621" if e621 > danbooru else "danbooru"


def _find_front_tags(texts: Sequence[str], mark: str) -> tuple[str, ...]:
    """The tags at the start of almost all captions, as most of them are written."""
    rows = [split_tags(text.partition(mark)[0] if mark else text) for text in texts]
    front = list[str]()
    for place in range(MAX_FRONT_TAGS):
        written = Counter(row[place] for row in rows if len(row) > place)
        meant = Counter(normalize_tag(row[place]) for row in rows if len(row) > place)
        tag, count = next(iter(meant.most_common(1)), ("", 0))
        if count < SHARED * len(rows) or not tag or has_choice(tag) or all(len(row) == place for row in rows):
            break
        front.append(next(spelling for spelling, _ in written.most_common() if normalize_tag(spelling) == tag))
    return tuple(front)


def _find_front_words(texts: Sequence[str]) -> tuple[str, ...]:
    rows = [_WORD.findall(text)[:MAX_FRONT_TAGS] for text in texts]
    front = list[str]()
    for place in range(MAX_FRONT_TAGS):
        words = Counter(row[place].casefold() for row in rows if len(row) > place)
        word, count = next(iter(words.most_common(1)), ("", 0))
        if count < SHARED * len(rows) or not word:
            break
        front.append(next(row[place] for row in rows if len(row) > place and row[place].casefold() == word))
    return tuple(front)


def _find_shared_words(texts: Sequence[str]) -> list[str]:
    """The words that almost all texts have, in the order of the first text with them all."""
    rows = [list(dict.fromkeys(word.casefold() for word in _WORD.findall(text))) for text in texts]
    counts = Counter(word for row in rows for word in row)
    shared = {word for word, count in counts.items() if count >= SHARED * len(rows)}
    first = next((row for row in rows if shared.issubset(row)), None)
    return [word for word in first or () if word in shared]


def find_trigger(summary: CaptionSummary, is_known: IsKnown) -> str | None:
    """The word that the captions seem to have as their trigger: one that almost all start with and that means nothing
    to the model, as G3.10 suggests it. Of sentences the first such word anywhere.
    """
    if summary.natural:
        return next((word for word in summary.words if _is_made_up(word)), None)
    return next(
        (
            tag
            for tag in summary.front
            if any(map(str.isalpha, tag))
            and (tag.casefold() in RARE_WORDS or not is_known(tag))
            and not has_sentence_words(tag)
            and (is_artist(normalize_tag(tag)) or not is_common_tag(normalize_tag(tag)))
        ),
        None,
    )


def _is_made_up(word: str) -> bool:
    return any(map(str.isalpha, word)) and len(word) > 2 and not is_common_tag(normalize_tag(word))
