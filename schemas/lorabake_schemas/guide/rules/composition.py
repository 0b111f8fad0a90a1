"""Rules about tags for the image in general: how many subjects, sheets of several views, composition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, or_in_copy, rule
from lorabake_schemas.guide.rules.dataset import get_caption_names, summarize_names
from lorabake_schemas.guide.rules.tag_counts import (
    MIN_CAPTIONS,
    get_concept_tags,
    get_images_key,
    iter_tagged_folders,
    summarize_tags,
)
from lorabake_schemas.guide.tags import Tags
from lorabake_schemas.guide.vocabulary import get_kind_tags, load_contradictions
from lorabake_schemas.messages import msg, nmsg

MAX_COMPOSITION_TAGS = 2  # composition tags on an image: the angle, and how much is seen (GC.6)
SHEET_TAG, VIEWS_TAG = "reference sheet", "multiple views"
LARGE_SHEET_FACTOR = 2  # times the pixels of the training resolution, from which a sheet is worth cutting (ours)


def _list_image_names(pictures: Sequence[tuple[ImageFacts, Tags]]) -> list[str]:
    return [image.name for image, _ in pictures]


@rule("G1.18", HINT, "Images that show only the subject teach it best.", unless="a style is what is trained")
def several_subjects(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        others = list(folder.iter_images_with(get_kind_tags("group")))
        if situation.recipe.kind != "style" and len(others) > 1 and 4 * len(others) > len(folder):
            tags = dict.fromkeys(tag for _, tags in others for tag in tags if tag in get_kind_tags("group"))
            yield RuleHit(
                get_images_key(index),
                msg(
                    "{n} of {all} images show several subjects ({tags}): {names}",
                    n=len(others),
                    all=len(folder),
                    tags=summarize_tags(folder, tags),
                    names=summarize_names(_list_image_names(others)),
                ),
                msg("crop or paint out the others, or keep only images that show the subject clearly"),
                file=others[0][0].name,
            )


@rule("G1.19", HINT, "What comes with a second subject and has no tag is learned as part of the first.")
def incomplete_group_tags(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        others = list(folder.iter_images_with(get_kind_tags("group") - get_concept_tags(situation)))
        alone = len(folder) - len(others)
        if not others or alone < MIN_CAPTIONS:
            continue
        mean = (sum(map(len, folder.tags)) - sum(len(tags) for _, tags in others)) / alone
        short = [(image, tags) for image, tags in others if 4 * len(tags) < 3 * mean]
        if short:
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(short),
                    "{n} image with several subjects has fewer tags than images with one: {names}",
                    "{n} images with several subjects have fewer tags than images with one: {names}",
                    names=summarize_names(_list_image_names(short)),
                ),
                nmsg(len(short), "tag every subject in it, or crop it", "tag every subject in them, or crop them"),
                file=short[0][0].name,
            )


@rule(
    "G2.11",
    HINT,
    "A sheet of several views is reduced to the training resolution, and each view with it.",
    unless="sheets that are hardly larger than that",
    needs_plan=True,
)
def large_sheets(situation: RuleContext) -> Iterator[RuleHit]:
    area = _get_training_area(situation)
    for index, folder in iter_tagged_folders(situation):
        sheets = [
            each
            for each in folder.iter_images_with(get_kind_tags("sheet"))
            if each[0].width * each[0].height >= LARGE_SHEET_FACTOR * area
        ]
        if sheets and area:
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(sheets),
                    "{n} sheet of several views is much larger than the training resolution: {names}",
                    "{n} sheets of several views are much larger than the training resolution: {names}",
                    names=summarize_names(_list_image_names(sheets)),
                ),
                or_in_copy(
                    msg("cut it into separate images, so that each view keeps its detail"),
                    "lorabake prepare RECIPE --to FOLDER --crops FILE",
                ),
                file=sheets[0][0].name,
            )


def _get_training_area(situation: RuleContext) -> int:
    """The largest of several resolutions, in pixels."""
    sizes = [block.resolution for block in situation.plan.datasets] if situation.plan else []
    return max((width * height for width, height in sizes), default=0)


@rule("G2.12", HINT, "A sheet that is kept needs both tags, so that its views are not learned as one image.")
def half_tagged_sheets(situation: RuleContext) -> Iterator[RuleHit]:
    for index, folder in iter_tagged_folders(situation):
        half = [
            (image, tags) for image, tags in folder.iter_images_with(frozenset({SHEET_TAG})) if VIEWS_TAG not in tags
        ]
        if half:
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(half),
                    '{n} image is tagged "{sheet}" but not "{views}": {names}',
                    '{n} images are tagged "{sheet}" but not "{views}": {names}',
                    sheet=SHEET_TAG,
                    views=VIEWS_TAG,
                    names=summarize_names(_list_image_names(half)),
                ),
                msg('add "{views}", or cut the sheet into separate images', views=VIEWS_TAG),
                file=half[0][0].name,
            )


@rule("G3.16", HINT, "View and medium are key elements of an image; without a tag they become part of the token.")
def missing_key_elements(situation: RuleContext) -> Iterator[RuleHit]:
    elements, own = (
        get_kind_tags("composition") | get_kind_tags("style") | get_kind_tags("sketch"),
        get_concept_tags(situation),
    )
    for index, folder in iter_tagged_folders(situation):
        said = any(not own.issuperset(tags) for tags in folder.tags)  # else G5.15 speaks
        if said and len(folder) >= MIN_CAPTIONS and not folder.known(elements):
            yield RuleHit(
                get_images_key(index),
                msg("none of the {all} captions has a tag for composition or medium", all=len(folder)),
                msg('add one or two to each image where it matters: "close-up", "portrait", "watercolor" ...'),
            )


@rule("GC.6", HINT, "More than one or two composition tags on an image pull in several directions.")
def too_many_composition_tags(situation: RuleContext) -> Iterator[RuleHit]:
    views = get_kind_tags("composition")
    for index, folder in iter_tagged_folders(situation):
        many = [
            (image, tags)
            for image, tags in folder.iter_images_with(views)
            if len(views & {*tags}) > MAX_COMPOSITION_TAGS
        ]
        if 10 * len(many) > len(folder):
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(many),
                    "{n} image has more than two composition tags: {tags} on {name}",
                    "{n} images have more than two composition tags, such as {tags} on {name}",
                    tags=summarize_tags(folder, [tag for tag in many[0][1] if tag in views]),
                    name=many[0][0].name,
                ),
                msg("keep only the tags for angle and framing"),
                file=many[0][0].name,
            )


@rule(
    "GC.6.contradicting",
    WARNING,
    "Composition tags that cannot both be true break anatomy.",
    unless="sheets, comics and collages, which show several views",
)
def contradicting_tags(situation: RuleContext) -> Iterator[RuleHit]:
    against, several = load_contradictions(), get_kind_tags("sheet") | get_kind_tags("panels")
    for index, folder in iter_tagged_folders(situation):
        wrong = [
            (image, pair)
            for image, tags in folder.iter_images_with(frozenset(against))
            if several.isdisjoint(tags) and (pair := _find_contradiction(tags))
        ]
        if wrong:
            files = get_caption_names(folder, [image for image, _ in wrong])
            yield RuleHit(
                get_images_key(index),
                nmsg(
                    len(wrong),
                    "{n} caption contradicts itself: {pair} in {name}",
                    "{n} captions contradict themselves, such as {pair} in {name}",
                    pair=summarize_tags(folder, wrong[0][1]),
                    name=files[0],
                ),
                msg("remove one of the two tags from {names}", names=summarize_names(files)),
                file=files[0],
            )


def _find_contradiction(tags: Tags) -> Tags:
    """The first two tags that cannot both be true."""
    against, seen = load_contradictions(), {*tags}
    return next(((tag, *sorted(against[tag] & seen))[:2] for tag in tags if tag in against and against[tag] & seen), ())


__all__: list[str] = []
