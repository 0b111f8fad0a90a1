"""Rules about pictures that are there more than once: in a folder, in two concepts, among the regularisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lorabake_schemas.dataset import Place, Twins
from lorabake_schemas.guide.data import folders, listed, titled
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, Remark, Situation, rule
from lorabake_schemas.words import Said, joined, quoted, say, told


def _row(places: tuple[Place, ...] | list[Place]) -> Said:
    return joined([quoted(place.name) for place in places], " = ")


def _within(situation: Situation, table: str, index: object) -> Iterator[tuple[Twins, list[Place]]]:
    """The groups of which this folder holds at least two."""
    for twins in situation.dataset.twins:
        here = [place for place in twins.places if (place.table, place.index) == (table, index)]
        if len(here) > 1:
            yield twins, here


@rule(
    "G1.9",
    WARNING,
    "A picture that is there twice counts twice; in a small set that is enough to be learned by heart.",
    unless="regularisation, of which sd-scripts takes what it needs",
)
def pictures_are_there_once(situation: Situation) -> Iterator[Remark]:
    for where, folder in folders(situation):
        if where[0] != "concept":
            continue
        found = list(_within(situation, "concept", where[1]))
        same = [_row(here) for twins, here in found if not twins.near]
        alike = [_row(here) for twins, here in found if twins.near]
        if same:
            spare = sum(len(here) - 1 for twins, here in found if not twins.near)
            message = told(
                spare,
                "{n} of {all} pictures is the same file as another: {names}",
                "{n} of {all} pictures are the same files as others: {names}",
                all=len(folder.images),
                names=listed(same),
            )
            fix = say("keep one of each; to have a picture count more, give it a folder with num_repeats of its own")
            yield Remark(where, message, fix, file=_first(found, near=False))
        if alike:
            message = told(
                len(alike),
                "{n} group of pictures looks alike: {names}",
                "{n} groups of pictures look alike: {names}",
                names=listed(alike),
            )
            yield Remark(where, message, say("keep the best of each"), file=_first(found, near=True), severity=HINT)


def _first(found: list[tuple[Twins, list[Place]]], *, near: bool) -> str:
    return next(here[0].name for twins, here in found if twins.near is near)


@rule("G6.8.pictures", WARNING, "A picture of two concepts teaches both tokens the same, so that they blend.")
def concepts_share_no_picture(situation: Situation) -> Iterator[Remark]:
    shared: dict[tuple[int, int], list[tuple[Place, Place]]] = {}
    for twins in situation.dataset.twins:
        firsts: dict[int, Place] = {}
        for place in twins.places:
            if place.table == "concept":
                firsts.setdefault(place.index, place)
        places = list(firsts.values())
        for other in places[1:]:
            shared.setdefault((places[0].index, other.index), []).append((places[0], other))
    for (first, second), pairs in shared.items():
        yield Remark(
            ("concept", second, "images"),
            told(
                len(pairs),
                "{n} picture is also one of {other}: {names}",
                "{n} pictures are also among those of {other}: {names}",
                other=titled(situation, "concept", first),
                names=listed([_row(pair) for pair in pairs]),
            ),
            say("leave each picture to one concept, or crop it to what that concept is about"),
            file=pairs[0][1].name,
        )


@rule("G35.6", ERROR, "A regularisation set that holds the subject trains against it.")
def regularisation_is_other(situation: Situation) -> Iterator[Remark]:
    tokens = {concept.token.casefold() for concept in situation.recipe.concept}
    for index, part in enumerate(situation.recipe.regularisation):
        if part.class_.casefold() in tokens:
            yield Remark(
                ("regularisation", index, "class"),
                say('"{words}" is what is being trained', words=part.class_),
                say("write the class token here: the general word for it"),
            )
        yield from _subjects_among(situation, index)


def _subjects_among(situation: Situation, index: int) -> Iterator[Remark]:
    """Pictures that are trained for and against at once: the same files are an error, alike ones a warning."""
    for near in (False, True):
        pairs = list[tuple[Place, Place]]()
        for twins in situation.dataset.twins:
            trained = [place for place in twins.places if place.table == "concept"]
            here = [place for place in twins.places if (place.table, place.index) == ("regularisation", index)]
            if trained and twins.near is near:
                pairs += [(place, trained[0]) for place in here]
        if pairs:
            names, where = listed([_row(pair) for pair in pairs]), ("regularisation", index, "images")
            alike = told(
                len(pairs),
                "{n} picture looks like one that is trained on: {names}",
                "{n} pictures look like ones that are trained on: {names}",
                names=names,
            )
            same = told(
                len(pairs),
                "{n} picture is the same file as one that is trained on: {names}",
                "{n} pictures are the same files as ones that are trained on: {names}",
                names=names,
            )
            fix = told(
                len(pairs),
                "take it out: regularisation pictures show the class, never the subject",
                "take them out: regularisation pictures show the class, never the subject",
            )
            severity = WARNING if near else ERROR
            yield Remark(where, alike if near else same, fix, file=pairs[0][0].name, severity=severity)


@rule(
    "S12.stem",
    WARNING,
    "Pictures of one stem share a caption file, and on disk a latent cache.",
    unless="latents are cached on disk: then it is an error",
)
def stems_differ(situation: Situation) -> Iterator[Remark]:
    on_disk = situation.recipe.train.cache_latents_to_disk
    for where, folder in folders(situation):
        stems = [image.name.rpartition(".")[0] for image in folder.images]
        if len(set(stems)) == len(stems):
            continue
        counts = Counter(stems)
        same = [image.name for image, stem in zip(folder.images, stems, strict=True) if counts[stem] > 1]
        shared = say("a caption and a latent cache") if on_disk else say("a caption")
        yield Remark(
            where,
            say(
                "{n} pictures differ only in their ending and share {what}: {names}",
                n=len(same),
                what=shared,
                names=listed(same),
            ),
            say("rename them, each with a caption of its own"),
            file=same[0],
            severity=ERROR if on_disk else None,
        )


__all__: list[str] = []
