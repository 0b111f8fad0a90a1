"""Rules about duplicate images: in a folder, in two concepts, or in the regularization set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lorabake_schemas.dataset import DuplicateGroup, ImageRef
from lorabake_schemas.guide.defaults import group_concepts
from lorabake_schemas.guide.registry import ERROR, HINT, WARNING, RuleContext, RuleHit, or_in_copy, rule
from lorabake_schemas.guide.rules.dataset import format_table_name, iter_folders, summarize_names
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg


def _format_duplicates(places: tuple[ImageRef, ...] | list[ImageRef]) -> Message:
    return join_list([literal(place.name) for place in places], " = ")


def _iter_folder_duplicates(
    situation: RuleContext, table: str, index: object
) -> Iterator[tuple[DuplicateGroup, list[ImageRef]]]:
    """The groups with at least two images in this folder."""
    for twins in situation.dataset.twins:
        here = [place for place in twins.places if (place.table, place.index) == (table, index)]
        if len(here) > 1:
            yield twins, here


@rule(
    "G1.9",
    WARNING,
    "A duplicate image counts twice; in a small set that is enough to memorize it.",
    unless="regularization, from which sd-scripts uses what it needs",
)
def duplicate_images(situation: RuleContext) -> Iterator[RuleHit]:
    for where, folder in iter_folders(situation):
        if where[0] != "concept":
            continue
        found = list(_iter_folder_duplicates(situation, "concept", where[1]))
        same = [_format_duplicates(here) for twins, here in found if not twins.near]
        alike = [_format_duplicates(here) for twins, here in found if twins.near]
        if same:
            spare = sum(len(here) - 1 for twins, here in found if not twins.near)
            message = msg(
                "duplicate images: {names} ({n} of {all})",
                n=spare,
                all=len(folder.images),
                names=summarize_names(same),
            )
            fix = msg(
                "keep one of each; to give an image more weight, put it in a separate folder with its own num_repeats"
            )
            yield RuleHit(where, message, or_in_copy(fix), file=_get_first_name(found, near=False))
        if alike:
            message = nmsg(
                len(alike),
                "{n} group of similar images: {names}",
                "{n} groups of similar images: {names}",
                names=summarize_names(alike),
            )
            yield RuleHit(
                where,
                message,
                msg("keep the best image of each group"),
                file=_get_first_name(found, near=True),
                severity=HINT,
            )
    fix = msg("keep each image in one folder; num_repeats gives a folder more weight")
    yield from _iter_shared_hits(situation, fix, of_one_concept=True)


def _iter_shared_hits(situation: RuleContext, fix: Message, *, of_one_concept: bool) -> Iterator[RuleHit]:
    for first, second, pairs in _iter_shared_images(situation, of_one_concept=of_one_concept):
        yield RuleHit(
            ("concept", second, "images"),
            nmsg(
                len(pairs),
                "{n} image is also in {other}: {names}",
                "{n} images are also in {other}: {names}",
                other=format_table_name(situation, "concept", first),
                names=summarize_names([_format_duplicates(pair) for pair in pairs]),
            ),
            fix,
            file=pairs[0][1].name,
        )


def _iter_shared_images(
    situation: RuleContext, *, of_one_concept: bool
) -> Iterator[tuple[int, int, list[tuple[ImageRef, ImageRef]]]]:
    """Folders with images that are in an earlier one, too, which belongs to the same concept or to another."""
    owners = {index: group for group in group_concepts(situation.recipe) for index in group}
    shared: dict[tuple[int, int], list[tuple[ImageRef, ImageRef]]] = {}
    for twins in situation.dataset.twins:
        firsts: dict[int, ImageRef] = {}
        for place in twins.places:
            if place.table == "concept":
                firsts.setdefault(place.index, place)
        places = list(firsts.values())
        for other in places[1:]:
            if (owners[places[0].index] == owners[other.index]) is of_one_concept:
                shared.setdefault((places[0].index, other.index), []).append((places[0], other))
    yield from ((first, second, pairs) for (first, second), pairs in shared.items())


def _get_first_name(found: list[tuple[DuplicateGroup, list[ImageRef]]], *, near: bool) -> str:
    return next(here[0].name for twins, here in found if twins.near is near)


@rule("G6.8.pictures", WARNING, "An image in two concepts teaches both tokens the same, so that they blend.")
def shared_images(situation: RuleContext) -> Iterator[RuleHit]:
    fix = msg("keep each image in one concept only, or crop it to what that concept is about")
    yield from _iter_shared_hits(situation, fix, of_one_concept=False)


@rule("G35.6", WARNING, "A regularization set that contains the subject trains against it.")
def subject_in_regularization(situation: RuleContext) -> Iterator[RuleHit]:
    tokens = {concept.token.casefold() for concept in situation.recipe.concept if concept.token}
    for index, part in enumerate(situation.recipe.regularization):
        if part.class_.casefold() in tokens:
            yield RuleHit(
                ("regularization", index, "class"),
                msg('"{words}" is the token being trained', words=part.class_),
                msg("write the class token here, the general word for the subject"),
            )
        yield from _find_subject_images(situation, index)


def _find_subject_images(situation: RuleContext, index: int) -> Iterator[RuleHit]:
    """Images that are in the training and in the regularization set: identical files, and similar ones."""
    for near in (False, True):
        pairs = list[tuple[ImageRef, ImageRef]]()
        for twins in situation.dataset.twins:
            trained = [place for place in twins.places if place.table == "concept"]
            here = [place for place in twins.places if (place.table, place.index) == ("regularization", index)]
            if trained and twins.near is near:
                pairs += [(place, trained[0]) for place in here]
        if pairs:
            names, where = (
                summarize_names([_format_duplicates(pair) for pair in pairs]),
                ("regularization", index, "images"),
            )
            alike = nmsg(
                len(pairs),
                "{n} image looks like a training image: {names}",
                "{n} images look like training images: {names}",
                names=names,
            )
            same = nmsg(
                len(pairs),
                "{n} image is identical to a training image: {names}",
                "{n} images are identical to training images: {names}",
                names=names,
            )
            fix = nmsg(
                len(pairs),
                "remove it; regularization images must show the class, never the subject",
                "remove them; regularization images must show the class, never the subject",
            )
            yield RuleHit(where, *((alike, fix) if near else (same, or_in_copy(fix))), file=pairs[0][0].name)


@rule(
    "S12.stem",
    WARNING,
    "Images with the same stem share a caption file, and on disk a latent cache.",
    unless="latents are cached on disk: then it is an error",
)
def duplicate_stems(situation: RuleContext) -> Iterator[RuleHit]:
    on_disk = situation.recipe.train.cache_latents_to_disk
    for where, folder in iter_folders(situation):
        stems = [image.name.rpartition(".")[0] for image in folder.images]
        if len(set(stems)) == len(stems):
            continue
        counts = Counter(stems)
        same = [image.name for image, stem in zip(folder.images, stems, strict=True) if counts[stem] > 1]
        shared = msg("a caption and a latent cache") if on_disk else msg("a caption")
        yield RuleHit(
            where,
            msg(
                "{n} images differ only in their extension and share {what}: {names}",
                n=len(same),
                what=shared,
                names=summarize_names(same),
            ),
            or_in_copy(msg("rename them and give each its own caption")),
            file=same[0],
            severity=ERROR if on_disk else None,
        )


__all__: list[str] = []
