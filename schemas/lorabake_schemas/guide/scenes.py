"""Rules about what tags say of a picture as a whole: how many subjects, sheets of several views, composition."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lorabake_schemas.dataset import ImageFacts
from lorabake_schemas.glossary import contradictions, kind
from lorabake_schemas.guide.data import caption_files, listed
from lorabake_schemas.guide.registry import HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.guide.tags import ENOUGH, images_of, named, own_words, tagged
from lorabake_schemas.tags import Tags
from lorabake_schemas.words import say, told

VIEWS = 2  # composition tags on a picture: the angle, and how much is seen (GC.6)
SHEET, VIEWS_TAG = "reference sheet", "multiple views"
LARGE = 2  # times the pixels of the training resolution, from which a sheet is worth cutting (ours)


def _names(pictures: Sequence[tuple[ImageFacts, Tags]]) -> list[str]:
    return [image.name for image, _ in pictures]


@rule("G1.18", HINT, "Pictures that show the subject alone teach it best.", unless="a style is what is trained")
def subject_is_alone(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        others = list(folder.holding(kind("group")))
        if situation.recipe.kind != "style" and len(others) > 1 and 4 * len(others) > len(folder):
            tags = dict.fromkeys(tag for _, tags in others for tag in tags if tag in kind("group"))
            yield Remark(
                images_of(index),
                say(
                    "{n} of {all} pictures show several subjects ({tags}): {names}",
                    n=len(others),
                    all=len(folder),
                    tags=named(folder, tags),
                    names=listed(_names(others)),
                ),
                say("crop or paint out the others, or keep those in which the subject is well visible"),
                file=others[0][0].name,
            )


@rule("G1.19", HINT, "What a second subject brings along and has no tag is learned as part of the first.")
def groups_are_tagged_completely(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        others = list(folder.holding(kind("group") - own_words(situation)))
        alone = len(folder) - len(others)
        if not others or alone < ENOUGH:
            continue
        mean = (sum(map(len, folder.tags)) - sum(len(tags) for _, tags in others)) / alone
        short = [(image, tags) for image, tags in others if 4 * len(tags) < 3 * mean]
        if short:
            yield Remark(
                images_of(index),
                told(
                    len(short),
                    "{n} picture with several subjects has fewer tags than those with one: {names}",
                    "{n} pictures with several subjects have fewer tags than those with one: {names}",
                    names=listed(_names(short)),
                ),
                told(len(short), "tag every subject in it, or crop it", "tag every subject in them, or crop them"),
                file=short[0][0].name,
            )


@rule(
    "G2.11",
    HINT,
    "A sheet of several views is shrunk to the training resolution, each view with it.",
    unless="sheets that are hardly larger than that",
    needs_plan=True,
)
def large_sheets_are_cut(situation: Situation) -> Iterator[Remark]:
    area = _training_area(situation)
    for index, folder in tagged(situation):
        sheets = [each for each in folder.holding(kind("sheet")) if each[0].width * each[0].height >= LARGE * area]
        if sheets and area:
            yield Remark(
                images_of(index),
                told(
                    len(sheets),
                    "{n} sheet of several views is far larger than it is trained at: {names}",
                    "{n} sheets of several views are far larger than they are trained at: {names}",
                    names=listed(_names(sheets)),
                ),
                say("cut it into single pictures, and each view keeps its detail"),
                file=sheets[0][0].name,
            )


def _training_area(situation: Situation) -> int:
    plan = situation.plan
    sides = next((each.value for each in plan.dataset if each.option == "resolution"), None) if plan else None
    if isinstance(sides, int):
        return sides * sides
    width, height = (sides[0], sides[-1]) if isinstance(sides, tuple) else (0, 0)
    return width * height if isinstance(width, int) and isinstance(height, int) else 0


@rule("G2.12", HINT, "A sheet that stays whole needs both tags, so that its views are not learned as one picture.")
def sheets_have_both_tags(situation: Situation) -> Iterator[Remark]:
    for index, folder in tagged(situation):
        half = [(image, tags) for image, tags in folder.holding(frozenset({SHEET})) if VIEWS_TAG not in tags]
        if half:
            yield Remark(
                images_of(index),
                told(
                    len(half),
                    '{n} picture is tagged "{sheet}" and not "{views}": {names}',
                    '{n} pictures are tagged "{sheet}" and not "{views}": {names}',
                    sheet=SHEET,
                    views=VIEWS_TAG,
                    names=listed(_names(half)),
                ),
                say('add "{views}", or cut the sheet into single pictures', views=VIEWS_TAG),
                file=half[0][0].name,
            )


@rule("G3.16", HINT, "View and medium are key elements of a picture; without a tag they become part of the token.")
def key_elements_are_tagged(situation: Situation) -> Iterator[Remark]:
    elements, own = kind("composition") | kind("style") | kind("sketch"), own_words(situation)
    for index, folder in tagged(situation):
        said = any(not own.issuperset(tags) for tags in folder.tags)  # else G5.15 speaks
        if said and len(folder) >= ENOUGH and not folder.known(elements):
            yield Remark(
                images_of(index),
                say("none of {all} captions has a tag for composition or medium", all=len(folder)),
                say('add one or two to each picture where it matters: "close-up", "portrait", "watercolor" ...'),
            )


@rule("GC.6", HINT, "More than one or two composition tags on a picture pull in several directions.")
def views_are_few(situation: Situation) -> Iterator[Remark]:
    views = kind("composition")
    for index, folder in tagged(situation):
        many = [(image, tags) for image, tags in folder.holding(views) if len(views & {*tags}) > VIEWS]
        if 10 * len(many) > len(folder):
            yield Remark(
                images_of(index),
                told(
                    len(many),
                    "{n} picture has more than two composition tags: {tags} on {name}",
                    "{n} pictures have more than two composition tags, as {tags} on {name}",
                    tags=named(folder, [tag for tag in many[0][1] if tag in views]),
                    name=many[0][0].name,
                ),
                say("keep the angle, and how much is seen"),
                file=many[0][0].name,
            )


@rule(
    "GC.6.contradicting",
    WARNING,
    "Composition tags that cannot both be true break anatomy.",
    unless="sheets, comics and collages, which show several views",
)
def views_agree(situation: Situation) -> Iterator[Remark]:
    against, several = contradictions(), kind("sheet") | kind("panels")
    for index, folder in tagged(situation):
        wrong = [
            (image, pair)
            for image, tags in folder.holding(frozenset(against))
            if several.isdisjoint(tags) and (pair := _opposites(tags))
        ]
        if wrong:
            files = caption_files(situation, [image for image, _ in wrong])
            yield Remark(
                images_of(index),
                told(
                    len(wrong),
                    "{n} caption contradicts itself: {pair} in {name}",
                    "{n} captions contradict themselves, as {pair} in {name}",
                    pair=named(folder, wrong[0][1]),
                    name=files[0],
                ),
                say("take one of the two out of {names}", names=listed(files)),
                file=files[0],
            )


def _opposites(tags: Tags) -> Tags:
    """The first two tags that cannot both be true."""
    against, seen = contradictions(), {*tags}
    return next(((tag, *sorted(against[tag] & seen))[:2] for tag in tags if tag in against and against[tag] & seen), ())


__all__: list[str] = []
