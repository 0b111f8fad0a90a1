"""What kind of LoRA a dataset is for: a character, a style, an object ... Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorabake.analysis.class_kinds import find_kind_of_class
from lorabake_schemas.guide.tags import normalize_tag
from lorabake_schemas.guide.vocabulary import is_artist, is_common_tag
from lorabake_schemas.recipe import RecipeKind

if TYPE_CHECKING:
    from lorabake.analysis.draft_concepts import Answers, ConceptDraft
    from lorabake.inputs.image_tree import FoundDataset

_STYLE_NAME = re.compile(r"(.*[ _-])?(art[ _-]?)?(style|artist|estilo)s?([ _-]?v?\d+)?")


def choose_kind(found: FoundDataset, drafts: Sequence[ConceptDraft], answers: Answers) -> tuple[RecipeKind, bool]:
    """What is trained, and whether that can be seen: by outfits, by the class, by the captions, by the name."""
    if answers.kind:
        return answers.kind, True
    if len({each.outfit for each in drafts if each.outfit}) > 1:
        return "outfits", True
    classes = [normalize_tag(each.class_ or each.folder.name.class_ or "") for each in drafts]
    tokens = [normalize_tag(each.token or "") for each in drafts]
    if all(map(is_artist, tokens)):
        return "style", True
    names = [[class_, normalize_tag(each.folder.path.name)] for class_, each in zip(classes, drafts, strict=True)]
    styles = [any(map(_STYLE_NAME.fullmatch, words)) for words in names]
    if all(styles) or _STYLE_NAME.fullmatch(normalize_tag(found.root.name)):
        return "style", True
    kinds: list[RecipeKind] = [kind for kind in map(find_kind_of_class, (*classes, *tokens)) if kind is not None]
    return (kinds[0], len(set(kinds)) == 1) if kinds else _guess_kind(drafts)


def _guess_kind(drafts: Sequence[ConceptDraft]) -> tuple[RecipeKind, bool]:
    """By the captions; images without any are most often photographs of somebody."""
    if not all(each.captioned for each in drafts):
        return "character", False
    people = all(each.summary.people for each in drafts)
    tokens = [normalize_tag(each.token) for each in drafts if each.token]
    if any(map(is_common_tag, tokens)):  # hands on hips
        return "concept", False
    if tokens:
        return ("character", True) if people else ("object", False)
    alike = all(each.summary.features for each in drafts)
    return ("character" if people and alike else "style"), False
