"""Rules about how many images there are, for the run and for each concept, and whether they are mirrored."""

from __future__ import annotations

from collections.abc import Iterator

from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.dataset import count_concept_images, count_image_folders, iter_concepts
from lorabake_schemas.messages import msg, nmsg

MIN_AUTHOR_IMAGES = 8  # images with which the guide's author still got something decent (G1.3)
MAX_USUAL_IMAGES = 50  # the upper end of the guide's usual range, except for styles (G1.6, G8.3)


def get_image_targets(situation: RuleContext) -> tuple[int, int]:
    """The least and the recommended number of images (G1.2, G1.4)."""
    return situation.family.guide.images


@rule(
    "G1.2",
    WARNING,
    "With too few images, a LoRA cannot generalize.",
    unless="a style, which needs more (G8.3); G1.3, G1.5: fewer can work",
)
def too_few_images(situation: RuleContext) -> Iterator[RuleHit]:
    least, good = get_image_targets(situation)
    count = count_concept_images(situation)
    if not count or situation.recipe.kind == "style":
        return
    where, folders = ("concept", 0, "images"), count_image_folders(situation)
    if count < least:
        message = nmsg(
            count,
            "{n} image, but the guide recommends at least {least}",
            "{n} images, but the guide recommends at least {least}",
            least=least,
        )
        fix = msg("aim for {good}", good=good)
        if count < MIN_AUTHOR_IMAGES:
            fix = msg(
                "aim for {good}; the guide's author never got good results with fewer than {few}",
                good=good,
                few=MIN_AUTHOR_IMAGES,
            )
        if folders > 1:
            message = msg(
                "{n} images in {folders} folders, but the guide recommends at least {least}",
                n=count,
                folders=folders,
                least=least,
            )
        yield RuleHit(where, message, fix)
    elif count < good:
        yield RuleHit(
            where,
            msg("{n} images, but the guide recommends about {good}", n=count, good=good)
            if folders == 1
            else msg(
                "{n} images in {folders} folders, but the guide recommends about {good}",
                n=count,
                folders=folders,
                good=good,
            ),
            msg("add more varied images"),
            severity=HINT,
        )


@rule(
    "G1.6",
    HINT,
    "Beyond about fifty images a concept gains less from each one and trains longer.",
    unless="a style, which needs more (G8.3)",
)
def too_many_images(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folders in iter_concepts(situation):
        count = sum(len(folder.images) for folder in folders)
        if count > MAX_USUAL_IMAGES and situation.recipe.kind != "style":
            yield RuleHit(
                ("concept", index, "images"),
                msg(
                    "{n} images, more than the guide's usual maximum of {many}",
                    n=count,
                    many=MAX_USUAL_IMAGES,
                ),
                msg(
                    "ignore this if all are good and different, else keep the best; fewer images train faster "
                    "and just as well"
                ),
            )


@rule("G8.3", WARNING, "A style is what many different images have in common, so it needs many.")
def style_image_count(situation: RuleContext) -> Iterator[RuleHit]:
    count = count_concept_images(situation)
    if situation.recipe.kind != "style" or not count or 125 <= count <= 200:
        return
    message = nmsg(
        count,
        "{n} image for a style, but the guide recommends 50 to 200, ideally 125 to 150",
        "{n} images for a style, but the guide recommends 50 to 200, ideally 125 to 150",
    )
    folders = count_image_folders(situation)
    if folders > 1:
        message = msg(
            "{n} images in {folders} folders for a style, but the guide recommends 50 to 200, ideally 125 to 150",
            n=count,
            folders=folders,
        )
    if count > 200:
        fix = msg("keep the most varied images; similar ones only make training longer")
    else:
        fix = msg("add images that differ in everything but the style")
    yield RuleHit(("concept", 0, "images"), message, fix, severity=None if count < 50 else HINT)


@rule(
    "G1.7",
    HINT,
    "Flipping turns each image into two, where left and right do not matter.",
    unless="the recipe does not set asymmetric = false, or there are enough images",
)
def small_set_not_mirrored(situation: RuleContext) -> Iterator[RuleHit]:
    _, good = get_image_targets(situation)
    for index, folders in iter_concepts(situation):
        concept, count = situation.recipe.concept[index], sum(len(folder.images) for folder in folders)
        if concept.asymmetric is False and concept.flip_aug is None and 0 < count < good:
            yield RuleHit(
                ("concept", index, "flip_aug"),
                nmsg(count, "{n} image, and flip_aug is not set", "{n} images, and flip_aug is not set"),
                msg("add flip_aug = true, which also trains a mirrored version of each image"),
            )


@rule("G2.19", ERROR, "Flipping an asymmetric subject teaches that its sides are interchangeable.")
def asymmetric_flip(situation: RuleContext) -> Iterator[RuleHit]:
    for index, concept in enumerate(situation.recipe.concept):
        if concept.flip_aug and concept.asymmetric:
            yield RuleHit(
                ("concept", index, "flip_aug"),
                msg("flip_aug conflicts with asymmetric = true"),
                msg("remove one of the two"),
            )


@rule(
    "G6.8",
    WARNING,
    "Two concepts with one token are one concept to the model.",
    unless="outfits of one character, which differ by outfit; several folders of one concept, with the same class",
)
def duplicate_token(situation: RuleContext) -> Iterator[RuleHit]:
    classes: dict[tuple[str, str], str] = {}
    for index, concept in enumerate(situation.recipe.concept):
        if concept.token is None:
            continue
        named = concept.class_ or ""
        first = classes.setdefault((concept.token.casefold(), (concept.outfit or "").casefold()), named)
        if first.casefold() != named.casefold():
            yield RuleHit(
                ("concept", index, "class" if named else "token"),
                msg(
                    'the token "{token}" already has another class ("{one}" and "{other}")',
                    token=concept.token,
                    one=first,
                    other=named,
                ),
                msg(
                    'write class = "{word}" if this is another folder of the same concept, else another token',
                    word=first or named,
                ),
            )


@rule("G6.16", WARNING, "A concept with few images is repeated so often that it overtrains.")
def unbalanced_concepts(situation: RuleContext) -> Iterator[RuleHit]:
    counts = {index: sum(len(each.images) for each in folders) for index, folders in iter_concepts(situation)}
    largest = max(counts.values())
    for index, count in counts.items():
        if count and largest > 3 * count:
            yield RuleHit(
                ("concept", index, "images"),
                nmsg(
                    count,
                    "{n} image, but the largest concept has {most}",
                    "{n} images, but the largest concept has {most}",
                    most=largest,
                ),
                msg(
                    "add images here; balancing the concepts with more than three times the repeats tends to overtrain"
                ),
            )


@rule(
    "G35.7",
    HINT,
    "sd-scripts uses as many regularization samples as training samples, the first in name order.",
    needs_plan=True,
)
def unused_regularization_images(situation: RuleContext) -> Iterator[RuleHit]:
    shares = [share for share in situation.plan.forecast.shares if share.is_reg] if situation.plan else []
    for index, share in enumerate(shares):
        if share.images_used < share.images:
            yield RuleHit(
                ("regularization", index, "images"),
                msg(
                    "only the first images in name order will be used ({n} of {all})",
                    n=share.images_used,
                    all=share.images,
                ),
                msg("ignore this if intended, else raise the concepts' num_repeats"),
            )
