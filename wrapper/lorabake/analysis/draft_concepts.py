"""The concepts of a recipe that does not exist yet: token, outfit and class of each folder of images. Pure.

What captions have wins over a folder's name, which sd-scripts does not read where there are captions.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from lorabake.analysis.caption_summary import CaptionSummary, IsKnown, find_trigger, summarize_captions
from lorabake.analysis.class_kinds import find_kind_of_class
from lorabake.inputs.image_tree import FoundDataset, FoundFolder
from lorabake_schemas.guide.tags import has_sentence_words, normalize_tag, split_tags
from lorabake_schemas.guide.vocabulary import describes, is_common_tag
from lorabake_schemas.recipe import RecipeKind

MAX_WORD_LENGTH = 100  # characters of a token that comes from a folder's name
FEW = 0.1  # of the captions that have a token which is no caption's (ours)
DEFAULT_TOKEN = "ohwxlora"  # noqa: S105 - for a subject without a name


@dataclass(frozen=True, slots=True)
class Answers:
    """What is known without looking: options of the command line, and answers to questions. None is unknown."""

    model: str | None = None
    family: str | None = None
    kind: RecipeKind | None = None
    token: str | None = None
    class_: str | None = None
    name: str | None = None

    def with_answer(self, key: str, value: str) -> Answers:
        """``key`` is a recipe's: class, not class_."""
        return replace(self, **cast("dict[str, Any]", {"class_" if key == "class" else key: value}))


@dataclass(frozen=True, slots=True)
class ConceptDraft:
    """A [[concept]]: its folder, what its captions have in common, and the words for it. ``prefix`` is what captions
    lack in front, ``front`` how many tags stay there, if token and class do not show it. ``seen`` is where the token
    comes from: captions, name (of the folder), answer or default."""

    folder: FoundFolder
    summary: CaptionSummary
    token: str | None = None
    outfit: str | None = None
    class_: str | None = None
    seen: str = ""
    prefix: str = ""
    front: int | None = None

    @property
    def words(self) -> list[str]:
        return [word for word in (self.token, self.outfit, self.class_) if word]

    @property
    def captioned(self) -> bool:
        return bool(self.summary.count)


def draft_concepts(found: FoundDataset, answers: Answers, is_known: IsKnown) -> list[ConceptDraft]:
    """A concept for each folder of training images, in the order of their paths."""
    folders = found.of_role("concept")
    drafts = [ConceptDraft(each, summarize_captions(each.facts, is_known)) for each in folders]
    several = has_several_names(found)
    leads = _find_shared_leads(drafts)
    named = [_name_concept(each, answers, several, is_known, leads) for each in drafts]
    named = list(_find_outfits(named, is_known))
    classes = {each.token: each.class_ for each in reversed(named) if each.token and each.class_}
    return [_fit_to_captions(_share_class(each, classes)) for each in named]


def has_several_names(found: FoundDataset) -> bool:
    """Whether the folders of training images are named differently."""
    return len({each.name.token for each in found.of_role("concept")}) > 1


def get_own_token(folder: FoundFolder, *, several: bool) -> str | None:
    """The token in a folder's name; a plain name is one only if there are ``several``."""
    name = folder.name
    meant = name.repeats is not None or name.outfit is not None or several
    return clean_word(name.token) if meant else None


def _share_class(draft: ConceptDraft, classes: Mapping[str, str]) -> ConceptDraft:
    """Sentences need no class after the token: with that of the other folders of its concept it stays one concept."""
    free = draft.summary.natural or not draft.captioned
    return replace(draft, class_=draft.class_ or (classes.get(draft.token or "") if free else None))


def _find_shared_leads(drafts: Sequence[ConceptDraft]) -> set[str]:
    """The tags that the captions of several folders start with, and that mean nothing by themselves: a subject whose
    images are sorted by outfit or view."""
    first = Counter(normalize_tag(each.summary.front[0]) for each in drafts if each.summary.front)
    return {tag for tag, count in first.items() if count > 1 and not is_common_tag(tag)}


def _find_outfits(drafts: Sequence[ConceptDraft], is_known: IsKnown) -> Iterator[ConceptDraft]:
    """With the outfits as the captions have them: what follows the token, if that differs from folder to folder."""
    tags = [_find_following_tag(replace(each, outfit=None, class_=None)) or "" for each in drafts]
    for at, each in enumerate(drafts):
        those = [normalize_tag(tag) for tag, other in zip(tags, drafts, strict=True) if _is_sorted(each, other)]
        kinds = {find_kind_of_class(tag) for tag in those}
        if len(those) > 1 and len({*those, ""}) == len(those) + 1 and not kinds & {"character", "object"}:
            bare = replace(each, outfit=tags[at], class_=None)
            yield replace(bare, class_=_find_class(bare, is_known))
        else:
            yield each


def _is_sorted(draft: ConceptDraft, other: ConceptDraft) -> bool:
    """Whether both are folders of the same token, which is in their tags."""
    same = normalize_tag(draft.token or "") == normalize_tag(other.token or "") != ""
    return same and all(each.seen == "captions" and not each.summary.natural for each in (draft, other))


def _name_concept(
    draft: ConceptDraft, answers: Answers, several: bool, is_known: IsKnown, leads: set[str]
) -> ConceptDraft:
    name, summary = draft.folder.name, draft.summary
    own, meant = clean_word(name.token), get_own_token(draft.folder, several=several) is not None
    trigger = find_trigger(summary, is_known)
    if answers.token is not None:
        token, seen = answers.token, "answer"
    elif own and draft.folder.foreign and draft.folder.foreign.form == "placeholder":
        token, seen = own, "captions"
    elif summary.front and normalize_tag(summary.front[0]) in leads:
        token, seen = summary.front[0], "captions"
    elif own and _has_word(draft, own) and (meant or _starts_with(summary, own)):
        token, seen = _spell_as_captions(summary, own), "captions"
    elif trigger:
        token, seen = trigger, "captions"
    elif own and meant:
        token, seen = own, "name"
    else:
        return replace(draft, class_=answers.class_ or (None if draft.captioned else clean_word(name.class_)))
    draft = replace(draft, token=token, seen=seen)
    outfit = clean_word(name.outfit)
    draft = replace(draft, outfit=_spell_as_captions(summary, outfit) if outfit else None)
    return replace(draft, class_=answers.class_ or _find_class(draft, is_known))


def name_subject(draft: ConceptDraft, token: str) -> ConceptDraft:
    """The draft with a default token, which its captions may lack."""
    return _fit_to_captions(replace(draft, token=token, seen="default"))


def clean_word(word: str | None) -> str | None:
    """A word of a folder's name as a tag; None if it cannot be one."""
    plain = " ".join((word or "").replace(",", " ").split())
    usable = plain.isprintable() and any(map(str.isalnum, plain)) and len(plain) <= MAX_WORD_LENGTH
    return plain if usable else None


def _find_class(draft: ConceptDraft, is_known: IsKnown) -> str | None:
    """The class: what follows the token in all captions, else what the folder's name says where no caption can lack
    it (GC.9)."""
    own, summary = clean_word(draft.folder.name.class_), draft.summary
    if not draft.captioned:
        return own
    if summary.natural:
        found = _find_following_words(draft)
        word = found.pop() if len(found) == 1 else ""
        doing = word.endswith("ing") and not find_kind_of_class(word)  # token standing in a park
        return own or (word if word and is_known(word) and not has_sentence_words(word) and not doing else None)
    if own and normalize_tag(own) in map(normalize_tag, summary.front):
        return _spell_as_captions(summary, own)
    if share_with(draft, draft.token or "") <= FEW:
        return own  # goes into the prefix
    after = _find_following_tag(draft)
    plain = normalize_tag(after or "")
    alone = len(summary.front) == len(draft.words) + 1 and not describes(plain)
    return after if alone or find_kind_of_class(plain) else None


def _find_following_tag(draft: ConceptDraft) -> str | None:
    """The tag that follows token and outfit in almost all captions, if those come first."""
    places = [normalize_tag(tag) for tag in draft.summary.front]
    leading = [normalize_tag(word) for word in draft.words]
    if places[: len(leading)] != leading or len(places) <= len(leading):
        return None
    return draft.summary.front[len(leading)]


def _find_following_words(draft: ConceptDraft) -> set[str]:
    pattern = re.compile(rf"\b{re.escape(draft.token or '')}[ ,]+(\w+)", re.IGNORECASE)
    found = [pattern.search(image.caption.text) for image in draft.folder.facts.images if image.caption.text]
    return {match[1].casefold() if match else "" for match in found}


def _spell_as_captions(summary: CaptionSummary, word: str) -> str:
    meant = normalize_tag(word)
    return next((tag for tag in summary.front if normalize_tag(tag) == meant), word)


def _starts_with(summary: CaptionSummary, word: str) -> bool:
    """Whether a plain folder's name is the tag that captions start with, and not a class."""
    meant = normalize_tag(word)
    return bool(summary.front) and normalize_tag(summary.front[0]) == meant and not find_kind_of_class(meant)


def _has_word(draft: ConceptDraft, word: str) -> bool:
    return draft.captioned and share_with(draft, word) > 1 - FEW


def share_with(draft: ConceptDraft, word: str) -> float:
    """The share of the captions that have a word: as a tag, or anywhere in a sentence."""
    texts = [text for image in draft.folder.facts.images for text in image.caption.texts[:1] if text]
    if draft.summary.natural:
        pattern = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
        return sum(1 for text in texts if pattern.search(text)) / max(1, len(texts))
    meant = {normalize_tag(piece) for piece in split_tags(word)}
    mark = draft.summary.mark
    rows = ([normalize_tag(tag) for tag in split_tags(text.replace(mark, ",") if mark else text)] for text in texts)
    return sum(1 for row in rows if meant <= set(row)) / max(1, len(texts))


def _fit_to_captions(draft: ConceptDraft) -> ConceptDraft:
    """Let captions that lack the token start with it, and keep in place what they all start with."""
    if not draft.captioned or not draft.token:
        return draft
    if share_with(draft, draft.token) <= FEW:
        return _add_prefix(draft)
    places = [normalize_tag(tag) for tag in draft.summary.front]
    token = normalize_tag(draft.token)
    if draft.summary.natural or draft.summary.mark or token not in places or places[0] == token:
        return draft
    return replace(draft, front=places.index(token) + len(draft.words))


def _add_prefix(draft: ConceptDraft) -> ConceptDraft:
    """sd-scripts puts the prefix in front of each caption, with a space (TU:824)."""
    lead = " ".join(draft.words) if draft.summary.natural else ", ".join(draft.words)
    return replace(draft, prefix=f"{lead},", front=None if draft.summary.natural else len(draft.words))
