"""Rules about shuffled captions and the tags that keep their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.caption_settings import (
    find_caption_value,
    get_caption_text,
    is_natural,
)
from lorabake_schemas.guide.defaults import count_leading_tags, is_shuffled, list_leading_tags
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.tags import normalize_tag, split_tags
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import locate_option


@rule("G3.7", WARNING, "Shuffling breaks sentences apart at their commas.")
def shuffled_sentences(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    wrong = [
        locate_option("shuffle_caption", recipe, ("concept", index))
        for index, concept in enumerate(recipe.concept)
        if is_natural(concept, recipe) and find_caption_value(concept, recipe, "shuffle_caption")
    ]
    tags = all(is_natural(concept, recipe) for concept in recipe.concept)
    said = msg("captions are sentences (tags), and shuffling reorders their parts at every comma")
    for where in dict.fromkeys(wrong):
        fix = msg("remove it") if tags or where[0] == "concept" else msg("move it to each [[concept]] with tags")
        yield RuleHit(where, said, fix)


@rule(
    "G4.93",
    WARNING,
    "With keep_tokens = 0 the token itself is shuffled and no longer comes first.",
    unless="natural-language captions, or a keep_tokens_separator",
)
def shuffled_token(situation: RuleContext) -> Iterator[RuleHit]:
    for where, index, keep in _iter_keep_tokens(situation.recipe):
        concept = situation.recipe.concept[index]
        if keep == 0 and concept.token and is_shuffled(concept, situation.recipe):
            yield RuleHit(
                where,
                msg('no tags are kept in front, so "{token}" is shuffled among the tags', token=concept.token),
                msg("write {count}, or remove it", count=count_leading_tags(concept, situation.recipe)),
            )


@rule(
    "G4.90",
    HINT,
    "keep_tokens counts tags, not tags and commas as in the guide: 4 keeps four tags in place.",
    unless="more tags than token, outfit and class shall stay in front, or a keep_tokens_separator marks them",
)
def excess_keep_tokens(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    for where, index, keep in _iter_keep_tokens(recipe):
        concept = recipe.concept[index]
        words, wanted = list_leading_tags(concept), count_leading_tags(concept, recipe)
        before = _count_tags_before(concept.token, situation.dataset.concepts[index])
        if words and keep > wanted + before and is_shuffled(concept, recipe):
            yield RuleHit(
                where,
                msg(
                    'keep_tokens counts tags, not commas: {keep} keeps {more} more in place than "{words}"',
                    keep=keep,
                    more=keep - wanted,
                    words=", ".join(words),
                ),
                msg("write {wanted}, or remove it", wanted=wanted),
                severity=WARNING if keep == 2 * wanted else None,  # the guide's count, commas included
            )


def _count_tags_before(token: str | None, folder: FolderFacts) -> int:
    """The tags in front of the token in most captions, which keep_tokens has to count: 1girl, token."""
    first = normalize_tag((token or "").partition(",")[0])
    rows = [[normalize_tag(tag) for tag in split_tags(image.caption.text)] for image in folder.images]
    places = Counter(row.index(first) for row in rows if first in row)
    place, count = next(iter(places.most_common(1)), (0, 0))
    return place if 2 * count > len(rows) else 0


def _iter_keep_tokens(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], int, int]]:
    """Where the recipe sets keep_tokens, for which concept, and to what."""
    reported = set[tuple[str | int, ...]]()
    for index, concept in enumerate(recipe.concept):
        where = locate_option("keep_tokens", recipe, ("concept", index))
        keep = find_caption_value(concept, recipe, "keep_tokens")
        marked = get_caption_text(concept, recipe, "keep_tokens_separator")
        if isinstance(keep, int) and where not in reported and not marked and not is_natural(concept, recipe):
            reported.add(where)
            yield where, index, keep


__all__: list[str] = []
