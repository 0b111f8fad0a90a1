"""Rules about shuffled captions and the tags that keep their place."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.defaults import count_leading_tags, is_shuffled, list_leading_tags
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe

# Written into a caption it marks what is kept, and nothing is counted (TU:874).
SEPARATOR_OPTION = "keep_tokens_separator"


@rule("G3.7", WARNING, "Shuffling breaks sentences apart at their commas.")
def shuffled_sentences(situation: RuleContext) -> Iterator[RuleHit]:
    recipe = situation.recipe
    if recipe.base.tags != "natural":
        return
    if recipe.captions.shuffle_caption and not all(each.shuffle_caption is False for each in recipe.concept):
        yield _report_shuffling("captions", "shuffle_caption")
    for index, concept in enumerate(recipe.concept):
        if concept.shuffle_caption:
            yield _report_shuffling("concept", index, "shuffle_caption")


def _report_shuffling(*where: str | int) -> RuleHit:
    said = msg("captions are sentences (base.tags), and shuffling reorders their parts at every comma")
    return RuleHit(where, said, msg("remove it"))


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
                msg("write {count}, or remove it", count=count_leading_tags(concept, situation.recipe.captions)),
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
        wanted = count_leading_tags(concept, recipe.captions)
        if keep > wanted and is_shuffled(concept, recipe):
            yield RuleHit(
                where,
                msg(
                    'keep_tokens counts tags, not commas: {keep} keeps {more} more in place than "{words}"',
                    keep=keep,
                    more=keep - wanted,
                    words=", ".join(list_leading_tags(concept)),
                ),
                msg("write {wanted}, or remove it", wanted=wanted),
                severity=WARNING if keep == 2 * wanted else None,  # the guide's count, commas included
            )


def _iter_keep_tokens(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], int, int]]:
    """Where the recipe sets keep_tokens, for which concept, and to what."""
    if recipe.kohya.get(SEPARATOR_OPTION) or recipe.base.tags == "natural":
        return
    told = False
    for index, concept in enumerate(recipe.concept):
        if concept.keep_tokens is not None:
            yield ("concept", index, "keep_tokens"), index, concept.keep_tokens
        elif recipe.captions.keep_tokens is not None and not told:
            told = True
            yield ("captions", "keep_tokens"), index, recipe.captions.keep_tokens


__all__: list[str] = []
