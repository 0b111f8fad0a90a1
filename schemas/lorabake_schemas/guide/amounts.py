"""Rules about how many pictures there are, for the run and for each concept, and whether they are mirrored."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.data import training
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.words import say, told

AUTHORS_LEAST = 8  # pictures with which the guide's author still got something decent (G1.3)
MANY = 50  # the upper end of what the guide calls usual for anything but a style (G1.6, G8.3)


def wanted(situation: Situation) -> tuple[int, int]:
    """The least and the recommended number of pictures (G1.2, G1.4)."""
    return (12, 20) if situation.family == "sdxl" else (15, 30)


@rule(
    "G1.2",
    WARNING,
    "Too few pictures leave a LoRA nothing to generalise from.",
    unless="a style, which needs more (G8.3); G1.3, G1.5: fewer can work",
)
def there_are_enough_pictures(situation: Situation) -> Iterator[Remark]:
    least, good = wanted(situation)
    count = sum(len(folder.images) for folder in situation.dataset.concepts)
    if not count or situation.recipe.kind == "style":
        return
    where = ("concept", 0, "images")
    if count < least:
        message = told(
            count,
            "{n} picture; the guide wants at least {least}",
            "{n} pictures; the guide wants at least {least}",
            least=least,
        )
        fix = say("aim at {good}", good=good)
        if count < AUTHORS_LEAST:
            fix = say("aim at {good}; its author never got on with fewer than {few}", good=good, few=AUTHORS_LEAST)
        yield Remark(where, message, fix)
    elif count < good:
        yield Remark(
            where,
            say("{n} pictures; the guide recommends about {good}", n=count, good=good),
            say("more variety helps"),
            severity=HINT,
        )


@rule(
    "G1.6",
    HINT,
    "Beyond some fifty pictures a concept gains less and less from each, and trains longer.",
    unless="a style, which needs more (G8.3)",
)
def there_are_not_too_many(situation: Situation) -> Iterator[Remark]:
    for index, folder in training(situation):
        if len(folder.images) > MANY and situation.recipe.kind != "style":
            yield Remark(
                ("concept", index, "images"),
                say("{n} pictures; the guide's usual range ends at {many}", n=len(folder.images), many=MANY),
                say("fine if all are good and differ; else keep the best: fewer train faster and as well"),
            )


@rule("G8.3", WARNING, "A style is what many different pictures have in common, so it takes many.")
def a_style_has_enough_pictures(situation: Situation) -> Iterator[Remark]:
    count = sum(len(folder.images) for folder in situation.dataset.concepts)
    if situation.recipe.kind != "style" or not count or 125 <= count <= 200:
        return
    message = told(
        count,
        "{n} picture for a style; the guide wants 50 to 200, best 125 to 150",
        "{n} pictures for a style; the guide wants 50 to 200, best 125 to 150",
    )
    if count > 200:
        fix = say("keep the most different ones: more of the same only trains longer")
    else:
        fix = say("add pictures that differ in all but the style")
    yield Remark(("concept", 0, "images"), message, fix, severity=None if count < 50 else HINT)


@rule(
    "G1.7",
    HINT,
    "Mirroring makes two pictures of each where left and right do not matter.",
    unless="the recipe does not say asymmetric = false, or there are pictures enough",
)
def a_small_set_is_mirrored(situation: Situation) -> Iterator[Remark]:
    _, good = wanted(situation)
    for index, folder in training(situation):
        concept, count = situation.recipe.concept[index], len(folder.images)
        if concept.asymmetric is False and concept.flip_aug is None and 0 < count < good:
            yield Remark(
                ("concept", index, "flip_aug"),
                told(count, "{n} picture, not mirrored", "{n} pictures, not mirrored"),
                say("add flip_aug = true: the subject is the same from both sides, and each picture becomes two"),
            )


@rule("G2.19", ERROR, "Mirroring an asymmetric subject teaches that its sides are interchangeable.")
def no_flip_when_asymmetric(situation: Situation) -> Iterator[Remark]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.flip_aug and concept.asymmetric:
            yield Remark(
                ("concept", index, "flip_aug"),
                say("flip_aug with asymmetric = true"),
                say("take one of the two out"),
            )


@rule(
    "G6.8",
    ERROR,
    "Two concepts with one token are one concept to the model.",
    unless="outfits of one character, told apart by outfit",
)
def tokens_differ(situation: Situation) -> Iterator[Remark]:
    keys = [(concept.token.casefold(), (concept.outfit or "").casefold()) for concept in situation.recipe.concept]
    for index, key in enumerate(keys):
        if key in keys[:index]:
            yield Remark(
                ("concept", index, "token"),
                say('the token "{token}" is taken', token=situation.recipe.concept[index].token),
                say("give each concept its own token, or outfits of one character an outfit each"),
            )


@rule("G6.16", WARNING, "A concept with few pictures is repeated so often that it over-trains on its own.")
def concepts_are_balanced(situation: Situation) -> Iterator[Remark]:
    counts = [len(folder.images) for folder in situation.dataset.concepts]
    for index, count in enumerate(counts):
        if count and max(counts) > 3 * count:
            yield Remark(
                ("concept", index, "images"),
                told(
                    count,
                    "{n} picture beside {most} of the largest concept",
                    "{n} pictures beside {most} of the largest concept",
                    most=max(counts),
                ),
                say("add pictures: over three times the repeats tends to over-train"),
            )


@rule(
    "G35.7",
    HINT,
    "sd-scripts uses as many regularisation samples as training samples, the first in name order.",
    needs_plan=True,
)
def regularisation_is_used(situation: Situation) -> Iterator[Remark]:
    shares = [share for share in situation.plan.forecast.shares if share.is_reg] if situation.plan else []
    for index, share in enumerate(shares):
        if share.images_used is not None and share.images_used < share.images:
            yield Remark(
                ("regularisation", index, "images"),
                told(
                    share.images_used,
                    "only the first of {all} pictures will be used",
                    "only the first {n} of {all} pictures will be used",
                    all=share.images,
                ),
                say("fine if that is meant; else raise the concepts' num_repeats"),
            )


__all__ = ["wanted"]
