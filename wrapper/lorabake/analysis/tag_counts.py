"""The tags of a recipe's captions: how many images have each, which come together, which may be one. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import chain

from lorabake.errors import UnknownNameError
from lorabake_schemas.dataset import CaptionProblem, FolderFacts
from lorabake_schemas.guide.caption_settings import is_natural
from lorabake_schemas.guide.tags import get_caption_style, is_sentence, normalize_tag, split_tags
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.recipe import Concept, Recipe
from lorabake_schemas.tag_report import Companion, ConceptTags, Spelling, TagCompany, TagCount, TagReport

_NO_PLURALS = ("ss", "glasses", "clothes", "pants", "shorts", "tights", "briefs", "overalls")  # of one thing
_UNREADABLE = (CaptionProblem.UNREADABLE, CaptionProblem.NOT_UTF8)
_WORD_BREAKS = re.compile(r"[\s_\-]+")


@dataclass(frozen=True, slots=True)
class TaggedImage:
    """An image with the tags of its captions as ``normalize_tag`` spells them, each once, in the captions' order.

    ``written`` are the tags as the captions spell them. ``concept`` is the index of its folder in the recipe.
    ``is_sentence``: at least one of its captions is one.
    """

    concept: int
    name: str
    tags: tuple[str, ...]
    written: tuple[str, ...]
    is_sentence: bool


@dataclass(frozen=True, slots=True)
class TagTable:
    """The images that have a caption, and how often each tag is spelt in which way: on how many images."""

    images: tuple[TaggedImage, ...]
    spellings: dict[str, Counter[str]] = field(default_factory=dict[str, Counter[str]])

    def spell(self, tag: str) -> str:
        """A tag as most captions spell it."""
        found = self.spellings.get(tag)
        return found.most_common(1)[0][0] if found else tag


def tag_images(recipe: Recipe, folders: Sequence[FolderFacts]) -> TagTable:
    """The tags of all images, each caption split as sd-scripts does. ``folders`` are those of the concepts."""
    images, spellings = list[TaggedImage](), dict[str, Counter[str]]()
    known = dict[str, str]()
    for number, (concept, folder) in enumerate(zip(recipe.concept, folders, strict=True)):
        style, natural = get_caption_style(concept, recipe), is_natural(concept, recipe)
        for image in folder.images:
            texts = [text for text in image.caption.texts if text]
            if not texts:
                continue
            pieces = dict.fromkeys(chain.from_iterable(split_tags(text, style) for text in texts))
            tags, written = dict[str, None](), list[str]()
            for piece in () if natural else pieces:
                tag = known.get(piece)
                if tag is None:
                    tag = known[piece] = "" if is_sentence(piece) else normalize_tag(piece)
                if tag:
                    tags[tag] = None
                    written.append(piece)
                    spellings.setdefault(tag, Counter())[piece] += 1
            sentences = natural or any(not known[piece] for piece in pieces)
            images.append(TaggedImage(number, image.name, tuple(tags), tuple(written), sentences))
    return TagTable(tuple(images), spellings)


def list_concepts(recipe: Recipe) -> list[tuple[int, ...]]:
    """The indices of the tables of each concept: those with the same token, outfit and class are one. Without a token
    each folder is its own."""
    found: dict[object, list[int]] = {}
    for number, one in enumerate(recipe.concept):
        key = (one.token, one.outfit, one.class_) if one.token else number
        found.setdefault(key, []).append(number)
    return [tuple(each) for each in found.values()]


def describe_concept(concept: Concept) -> str:
    """Token, outfit and class, or the folder of a concept without a token."""
    return ", ".join(filter(None, (concept.token, concept.outfit, concept.class_))) if concept.token else concept.images


def select_concepts(recipe: Recipe, wanted: str | None) -> frozenset[int]:
    """The indices of the tables whose token, outfit, class or folder is ``wanted``; all of them if that is None.

    Raises UnknownNameError if there is none.
    """
    if wanted is None:
        return frozenset(range(len(recipe.concept)))
    plain = normalize_tag(wanted)
    found = frozenset(
        number
        for number, one in enumerate(recipe.concept)
        if wanted == one.images
        or plain in {normalize_tag(word) for word in (one.token, one.outfit, one.class_) if word}
    )
    if not found:
        names = ", ".join(dict.fromkeys(map(describe_concept, recipe.concept)))
        raise UnknownNameError(
            msg('no concept is called "{name}"', name=wanted), hint=msg("the recipe has: {names}", names=names)
        )
    return found


def match_tags(pattern: str, known: Iterable[str]) -> Callable[[str], bool]:
    """Whether a tag (as ``normalize_tag`` spells it) is the one that a person means.

    ``*`` matches any text (``*hair``), unless the pattern is itself a tag of the captions (``*_*``).
    """
    plain = normalize_tag(pattern)
    if "*" not in plain or plain in known:
        return plain.__eq__
    parts = re.compile(".*".join(map(re.escape, plain.split("*"))), re.DOTALL)
    return lambda tag: parts.fullmatch(tag) is not None


def make_tag_report(
    recipe_path: str, recipe: Recipe, folders: Sequence[FolderFacts], wanted: str | None, company: str | None
) -> TagReport:
    """The tags of the concepts that are ``wanted``, and what comes together with the tag ``company``.

    Raises UnknownNameError for a concept or a tag that does not exist.
    """
    chosen = select_concepts(recipe, wanted)
    table = tag_images(recipe, [folder if at in chosen else FolderFacts("") for at, folder in enumerate(folders)])
    concepts = [
        _count_concept(recipe, group, [folders[at] for at in group], table)
        for group in list_concepts(recipe)
        if not chosen.isdisjoint(group)
    ]
    together = find_company(company, table) if company is not None else None
    return TagReport(recipe=recipe_path, concepts=tuple(concepts), company=together)


def _count_concept(
    recipe: Recipe, group: tuple[int, ...], folders: Sequence[FolderFacts], table: TagTable
) -> ConceptTags:
    images = [image for image in table.images if image.concept in group]
    tagged = [image for image in images if image.tags]
    counts = Counter(chain.from_iterable(image.tags for image in tagged))
    spelt = [(table.spell(tag), count) for tag, count in counts.items()]
    spelt.sort(key=lambda each: (-each[1], each[0]))
    first = recipe.concept[group[0]]
    own = {
        normalize_tag(piece) for word in (first.token, first.outfit, first.class_) for piece in split_tags(word or "")
    }
    shared = [tag for tag in tagged[0].tags if counts[tag] == len(tagged)] if len(tagged) > 1 else []
    constant = [tag for tag in shared if tag not in own]
    return ConceptTags(
        name=describe_concept(first),
        folders=tuple(recipe.concept[at].images for at in group),
        images=sum(len(folder.images) for folder in folders),
        captioned=len(images),
        unreadable=sum(image.caption.problem in _UNREADABLE for folder in folders for image in folder.images),
        sentences=sum(image.is_sentence for image in images),
        mean=counts.total() / len(tagged) if tagged else 0.0,
        tags=tuple(TagCount(tag=tag, images=count, share=count / len(tagged)) for tag, count in spelt),
        constant=tuple(map(table.spell, constant)),
        single=tuple(tag for tag, count in spelt if count == 1),
        alike=tuple(_find_similar_spellings(Counter(chain.from_iterable(image.written for image in tagged)))),
    )


def _find_similar_spellings(written: Counter[str]) -> Iterator[tuple[Spelling, ...]]:
    """Groups of spellings that may mean one tag: they differ in capitals, underscores, backslashes, hyphens, in the
    order of their words or in a plural."""
    groups: dict[str, list[Spelling]] = {}
    for tag, count in sorted(written.items(), key=lambda each: (-each[1], each[0])):
        groups.setdefault(_make_similarity_key(normalize_tag(tag)), []).append(Spelling(tag=tag, images=count))
    return (tuple(group) for _, group in sorted(groups.items()) if len(group) > 1)


def _make_similarity_key(tag: str) -> str:
    return " ".join(sorted(map(_strip_plural, _WORD_BREAKS.split(tag))))


def _strip_plural(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(_NO_PLURALS):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]


def find_company(pattern: str, table: TagTable) -> TagCompany:
    """What comes together with a tag, and what never does. Raises UnknownNameError if no caption has it."""
    counts = Counter(chain.from_iterable(image.tags for image in table.images))
    is_meant = match_tags(pattern, counts)
    meant = frozenset(filter(is_meant, counts))
    if not meant:
        raise UnknownNameError(msg('no caption has the tag "{tag}"', tag=pattern), hint=suggest_tags(pattern, table))
    inside = [image.tags for image in table.images if not meant.isdisjoint(image.tags)]
    tagged = sum(bool(image.tags) for image in table.images)
    together = Counter(chain.from_iterable(inside))
    others = sorted(counts.keys() - meant, key=lambda tag: (-together[tag], -counts[tag], tag))
    return TagCompany(
        tag=table.spell(next(iter(meant))) if len(meant) == 1 else pattern,
        images=len(inside),
        together=tuple(
            Companion(
                tag=table.spell(tag),
                together=together[tag],
                share=together[tag] / len(inside),
                share_elsewhere=(counts[tag] - together[tag]) / (tagged - len(inside)) if tagged > len(inside) else 0.0,
            )
            for tag in others
            if together[tag]
        ),
        never=tuple(
            TagCount(tag=table.spell(tag), images=counts[tag], share=counts[tag] / tagged)
            for tag in others
            if not together[tag]
        ),
    )


def suggest_tags(pattern: str, table: TagTable) -> Message | None:
    """Tags of the captions that are spelt nearly so."""
    near = get_close_matches(normalize_tag(pattern), list(table.spellings), 3)
    if not near:
        return None
    return msg("did you mean {names}?", names=join_list([literal(table.spell(tag)) for tag in near], " / "))
