"""The dataset as a sheet shows it: each image with its captions, how it is cropped, and the findings that name it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from lorabake.analysis.check import ATTENTION_NOT_PROBED, CheckResult
from lorabake.analysis.tag_counts import TagTable, describe_concept, list_concepts, select_concepts, tag_images
from lorabake.errors import RecipeError
from lorabake.planning.resolve import resolve_plan
from lorabake_schemas.bucket_fit import BucketFit
from lorabake_schemas.dataset import FolderFacts, ImageFacts
from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.caption_settings import is_natural
from lorabake_schemas.guide.rules.dataset import get_caption_name
from lorabake_schemas.guide.tags import get_caption_style, is_sentence, normalize_tag, split_tags
from lorabake_schemas.messages import Message, ShortenedList, escape_invisible
from lorabake_schemas.recipe import Recipe

DATASET_TABLES = ("concept", "regularization", "captions")


@dataclass(frozen=True, slots=True)
class SheetTag:
    """A piece of a caption: its text, and the tag that it is; empty for a sentence."""

    text: str
    tag: str


@dataclass(frozen=True, slots=True)
class SheetImage:
    """An image. ``path`` is where its file is, ``fits`` how it is cropped at each resolution, ``captions`` have the
    pieces of each caption, ``findings`` are the indices of those that name it."""

    path: str
    facts: ImageFacts
    fits: tuple[BucketFit, ...]
    captions: tuple[tuple[SheetTag, ...], ...]
    findings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SheetConcept:
    """A concept with its images, and the indices of the findings about it."""

    name: str
    folders: tuple[str, ...]
    own_tags: frozenset[str]
    images: tuple[SheetImage, ...]
    findings: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sheet:
    """``findings`` are those about the dataset; ``others`` is the number of those about the rest of the recipe."""

    title: str
    concepts: tuple[SheetConcept, ...]
    findings: tuple[Finding, ...]
    others: int
    table: TagTable
    has_buckets: bool


def make_sheet(result: CheckResult, wanted: str | None) -> Sheet:
    """The sheet of a checked recipe; of the concepts that are ``wanted``. Raises RecipeError for a recipe with faults
    in its shape, UnknownNameError for a concept that does not exist."""
    recipe = result.recipe
    if recipe is None:
        result.planned()
        raise AssertionError
    chosen = select_concepts(recipe, wanted)
    fits = list_fits(result, recipe)
    findings = tuple(each for each in result.findings if each.where[:1] and each.where[0] in DATASET_TABLES)
    named = [frozenset(_iter_names(finding)) for finding in findings]
    concepts = list[SheetConcept]()
    for group in list_concepts(recipe):
        if chosen.isdisjoint(group):
            continue
        about = [at for at, each in enumerate(findings) if each.where[:1] == ("concept",) and each.where[1] in group]
        shared = [at for at, each in enumerate(findings) if each.where[0] != "concept"]
        images = list[SheetImage]()
        for number in group:
            own = [at for at in about if findings[at].where[1] == number]
            about_images = [(at, named[at]) for at in (*own, *shared)]
            images += _iter_images(result, recipe, number, fits.get(number, []), about_images)
        first = recipe.concept[group[0]]
        concepts.append(
            SheetConcept(
                describe_concept(first),
                tuple(recipe.concept[at].images for at in group),
                frozenset(map(normalize_tag, split_tags(describe_concept(first)))) if first.token else frozenset(),
                tuple(images),
                tuple(about),
            )
        )
    folders = [folder if at in chosen else FolderFacts("") for at, folder in enumerate(result.dataset.concepts)]
    others = len(result.findings) - len(findings)
    return Sheet(recipe.name, tuple(concepts), findings, others, tag_images(recipe, folders), bool(fits))


def list_fits(result: CheckResult, recipe: Recipe) -> dict[int, list[tuple[BucketFit | None, ...]]]:
    """How the images of each concept are cropped, once for each resolution; nothing if that cannot be computed."""
    plan, dataset = result.plan, result.dataset
    if plan is None and result.base is not None:
        dataset = replace(
            dataset,
            concepts=tuple(map(_select_sized, dataset.concepts)),
            regularization=tuple(map(_select_sized, dataset.regularization)),
        )
        try:  # errors elsewhere do not change the buckets
            facts = (result.base, dataset, result.machine)
            plan = resolve_plan(recipe, *facts, ATTENTION_NOT_PROBED, result.snapshot.signatures)
        except RecipeError:
            return {}
    found: dict[int, list[tuple[BucketFit | None, ...]]] = {}
    for part, fits in zip(plan.subsets, plan.fits, strict=True) if plan else ():
        if part.table == "concept":
            by_name = dict(zip((image.name for image in dataset.concepts[part.index].images), fits, strict=False))
            every = tuple(by_name.get(image.name) for image in result.dataset.concepts[part.index].images)
            found.setdefault(part.index, []).append(every)
    return found


def _select_sized(folder: FolderFacts) -> FolderFacts:
    """The folder with the images whose size is known."""
    return replace(folder, images=tuple(image for image in folder.images if image.width and image.height))


def _iter_images(
    result: CheckResult,
    recipe: Recipe,
    number: int,
    fits: Sequence[Sequence[BucketFit | None]],
    findings: Sequence[tuple[int, frozenset[str]]],
) -> Iterator[SheetImage]:
    concept, folder = recipe.concept[number], result.dataset.concepts[number]
    place = result.loaded.folder / concept.images
    style, natural = get_caption_style(concept, recipe), is_natural(concept, recipe)
    for at, image in enumerate(folder.images):
        names = {escape_invisible(image.name), escape_invisible(get_caption_name(folder, image))}
        pieces = [[text] if natural else split_tags(text, style) for text in image.caption.texts if text]
        captions = (
            tuple(SheetTag(piece, "" if natural or is_sentence(piece) else normalize_tag(piece)) for piece in caption)
            for caption in pieces
        )
        own = (each[at] for each in fits if at < len(each))
        yield SheetImage(
            str(place / image.name),
            image,
            tuple(dict.fromkeys(fit for fit in own if fit is not None)),
            tuple(captions),
            tuple(index for index, named in findings if not names.isdisjoint(named)),
        )


def _iter_names(finding: Finding) -> Iterator[str]:
    """Every name in a finding: its file, and what is filled into its message, lists complete."""
    if finding.file is not None:
        yield escape_invisible(finding.file)
    yield from _iter_filled(finding.message)
    yield from _iter_filled(finding.fix)  # some rules list the images there


def _iter_filled(message: Message) -> Iterator[str]:
    whole = message.make_complete() if isinstance(message, ShortenedList) else message
    for value in whole.filled.values():
        if isinstance(value, Message):
            yield from _iter_filled(value)
        elif isinstance(value, str):
            yield value
            yield from value.split(", ")
