"""Rules about shuffled captions and the tags that keep their place."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.defaults import leading_tags, leading_words, shuffles
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.words import say

# Written into a caption it marks what is kept, and nothing is counted (TU:874).
SEPARATOR = "keep_tokens_separator"


@rule("G3.7", WARNING, "Shuffling tears sentences apart at their commas.")
def sentences_stay_whole(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    if recipe.base.tags != "natural":
        return
    if recipe.captions.shuffle_caption and not all(each.shuffle_caption is False for each in recipe.concept):
        yield _torn("captions", "shuffle_caption")
    for index, concept in enumerate(recipe.concept):
        if concept.shuffle_caption:
            yield _torn("concept", index, "shuffle_caption")


def _torn(*where: str | int) -> Remark:
    said = say("captions are sentences (base.tags), and shuffling puts their parts in another order at each comma")
    return Remark(where, said, say("take it out"))


@rule(
    "G4.93",
    WARNING,
    "With keep_tokens = 0 the token itself is shuffled, and no longer comes first.",
    unless="natural-language captions, or a keep_tokens_separator",
)
def token_keeps_its_place(situation: Situation) -> Iterator[Remark]:
    for where, index, keep in _kept(situation.recipe):
        concept = situation.recipe.concept[index]
        if keep == 0 and shuffles(concept, situation.recipe):
            yield Remark(
                where,
                say('nothing is kept in front: "{token}" is shuffled among the tags', token=concept.token),
                say("write {count}, or leave it out", count=leading_tags(concept, situation.recipe.captions)),
            )


@rule(
    "G4.90",
    HINT,
    "keep_tokens counts tags, not tags and commas as the guide has it: 4 keeps four tags in front.",
    unless="more tags than token, outfit and class are to stay in front, or a keep_tokens_separator marks them",
)
def kept_are_the_leading_tags(situation: Situation) -> Iterator[Remark]:
    recipe = situation.recipe
    for where, index, keep in _kept(recipe):
        concept = recipe.concept[index]
        wanted = leading_tags(concept, recipe.captions)
        if keep > wanted and shuffles(concept, recipe):
            yield Remark(
                where,
                say(
                    "sd-scripts counts tags and no commas: {keep} holds {more} more in front than {words}",
                    keep=keep,
                    more=keep - wanted,
                    words=", ".join(leading_words(concept)),
                ),
                say("write {wanted}, or leave it out", wanted=wanted),
                severity=WARNING if keep == 2 * wanted else None,  # the guide's count, commas included
            )


def _kept(recipe: Recipe) -> Iterator[tuple[tuple[str | int, ...], int, int]]:
    """Where the recipe sets keep_tokens, for which concept, and to what."""
    if recipe.kohya.get(SEPARATOR) or recipe.base.tags == "natural":
        return
    told = False
    for index, concept in enumerate(recipe.concept):
        if concept.keep_tokens is not None:
            yield ("concept", index, "keep_tokens"), index, concept.keep_tokens
        elif recipe.captions.keep_tokens is not None and not told:
            told = True
            yield ("captions", "keep_tokens"), index, recipe.captions.keep_tokens


__all__: list[str] = []
