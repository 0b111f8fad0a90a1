"""From a checked recipe to everything that `lorabake prepare` would do. Nothing is written."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Literal, NamedTuple

from lorabake.analysis.check import CheckResult
from lorabake.errors import MachineError, RecipeError
from lorabake.inputs.duplicates import DuplicateCandidate, find_exact_duplicates
from lorabake.inputs.prepare.crops import Crop, read_crops
from lorabake.inputs.prepare.folder import (
    LOCK_NAME,
    OWN_NAMES,
    FolderState,
    KnownFolder,
    compare_folder,
    read_known_folder,
)
from lorabake.inputs.prepare.plan import (
    CropError,
    FolderPlan,
    FolderRequest,
    Target,
    fold_name,
    make_plain_name,
    plan_folder,
)
from lorabake.inputs.prepare.texts import CaptionRules, has_underscores
from lorabake.inputs.prepare.work import ImageJob
from lorabake.jobs.dataset_places import refuse_busy, refuse_little_space, refuse_places
from lorabake.jobs.prepare.recipe import NewPlaces, rewrite_recipe
from lorabake.planning.buckets import bucket_assigner
from lorabake.planning.dataset_blocks import read_bucket_rules
from lorabake.planning.profile import build_profile
from lorabake.planning.settings_dataset import plan_datasets
from lorabake.recipe.editor_schema import SCHEMA_FILE
from lorabake.util.hashing import FileHasher
from lorabake_schemas.bucket_fit import BucketFit, Size
from lorabake_schemas.dataset import DatasetFacts, DuplicateGroup, FolderFacts, FolderTable, ImageRef
from lorabake_schemas.guide.caption_settings import get_caption_text, has_wildcards, is_natural
from lorabake_schemas.guide.defaults import group_concepts, list_leading_tags, uses_alpha_mask
from lorabake_schemas.guide.rules.images import MAX_UPSCALE
from lorabake_schemas.guide.rules.masks import has_masks_beside
from lorabake_schemas.guide.tags import get_caption_style
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Concept, Recipe, Regularization

# An image stays as it is up to twice the size that its bucket needs; a larger one is reduced to 1.5 times that, so that
# the resolution can be raised later without starting over (ours).
LARGEST, MARGIN = 2.0, 1.5
MAX_PIXELS = 1 << 26  # of an enlarged image; a stripe of one pixel would become far more
SPARE = 1.02  # of the estimated size
AlphaChoice = Literal["flatten", "mask", "keep"]
NOTHING_MADE = FolderState({}, (), ())
PartKey = tuple[FolderTable, int]


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    """``alpha`` None: flatten, except where the recipe uses alpha_mask. ``upscaler`` are weights that enlarge small
    images, with their digest. ``resize`` False leaves all sizes. ``lossless``: no JPEG is written."""

    to: Path
    alpha: AlphaChoice | None = None
    crops: Path | None = None
    upscaler: Path | None = None
    upscaler_sha256: str = ""
    resize: bool = True
    lossless: bool = False


@dataclass(frozen=True)
class Preparation:
    """All that is to be done. ``folders`` has the plan of each of ``requests``. ``recipe_text`` is the new recipe's,
    ``metadata`` the metadata file of each new folder. ``state`` is what earlier starts have left."""

    root: Path
    examination: CheckResult
    options: PrepareOptions
    requests: tuple[FolderRequest, ...]
    folders: tuple[FolderPlan, ...]
    recipe_name: str
    recipe_text: str
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    known: KnownFolder = field(default_factory=KnownFolder)
    state: FolderState = NOTHING_MADE

    @property
    def sizes(self) -> tuple[Family, list[Size]]:
        """The family and the resolutions that the images are made for."""
        recipe, base = self.examination.recipe, self.examination.base
        assert recipe is not None  # noqa: S101 - it was planned
        assert base is not None  # noqa: S101 - as above
        profile = build_profile(recipe, base, self.examination.machine)
        blocks = plan_datasets(recipe, self.examination.dataset, profile)
        return profile.family.name, sorted({read_bucket_rules(block).resolution for block in blocks})

    @property
    def jobs(self) -> list[ImageJob]:
        return [job for folder in self.folders for job in folder.jobs]

    @property
    def other_names(self) -> list[str]:
        """The files that belong to no image."""
        return [self.recipe_name, *(name_metadata(name, path) for name, path in self.metadata.items())]

    @property
    def size(self) -> int:
        """About how many bytes the new folder takes."""
        return sum(folder.size for folder in self.folders)


def plan_preparation(examination: CheckResult, options: PrepareOptions, hasher: FileHasher) -> Preparation:
    """Raises RecipeError for a recipe without images or a wrong crop, MachineError for a folder that cannot be used,
    BusyError for one that is being prepared, ResourceError for too little space."""
    recipe, folder = examination.recipe, examination.loaded.folder
    if recipe is None:
        examination.planned()
        raise AssertionError
    root = options.to.absolute()
    refuse_places(root, recipe, examination.loaded)
    refuse_busy(root, root / LOCK_NAME)
    _refuse_empty(examination.dataset)
    crops = read_crops(options.crops) if options.crops is not None else ()
    wanted = _group_parts(recipe, examination.dataset)
    requests = tuple(_make_requests(examination, recipe, wanted, options, crops, hasher))
    _refuse_wrong_crops(crops, requests)
    try:
        plans = tuple(map(plan_folder, requests))
    except CropError as error:
        said = msg(
            "{place}: the box is not within {image}: {why}",
            place=error.crop.place,
            image=error.crop.image,
            why=error.why,
        )
        raise RecipeError(said) from error
    places = _find_new_places(recipe, wanted, requests, plans, options)
    name = examination.loaded.path.name
    text = rewrite_recipe(examination.loaded, root, folder, places)
    files = zip(requests, _list_metadata(recipe, folder, wanted), strict=True)
    metadata = {request.name: str(path) for request, path in files if path}
    made = Preparation(root, examination, options, requests, plans, name, text, metadata)
    try:
        made = with_state(made, hasher)
    except MachineError:  # also raised for files that another start has made meanwhile
        refuse_busy(root, root / LOCK_NAME)
        raise
    _refuse_little_space(made)
    return made


class _Parts(NamedTuple):
    """A folder of the dataset, and the tables of the recipe that name it; one that is listed twice is made once."""

    facts: FolderFacts
    tables: tuple[PartKey, ...]

    def first(self, recipe: Recipe) -> Concept | Regularization:
        table, index = self.tables[0]
        return recipe.concept[index] if table == "concept" else recipe.regularization[index]


def _group_parts(recipe: Recipe, dataset: DatasetFacts) -> list[_Parts]:
    found: dict[object, list[PartKey]] = {}
    for table, parts in (("concept", recipe.concept), ("regularization", recipe.regularization)):
        for index, part in enumerate(parts):
            place: PartKey = ("concept" if table == "concept" else "regularization", index)
            facts = dataset.get_folder(*place)
            more = (part.metadata_file, part.masks, part.captions) if isinstance(part, Concept) else ()
            found.setdefault((table, facts.key, facts.caption_extension, more), []).append(place)
    return [_Parts(dataset.get_folder(*places[0]).without_companions(), tuple(places)) for places in found.values()]


def _make_requests(
    examination: CheckResult,
    recipe: Recipe,
    wanted: Sequence[_Parts],
    options: PrepareOptions,
    crops: Sequence[Crop],
    hasher: FileHasher,
) -> Iterator[FolderRequest]:
    folder = examination.loaded.folder
    names = {fold_name(name) for name in (*OWN_NAMES, SCHEMA_FILE, examination.loaded.path.name)}
    assigners = _make_assigners(examination, recipe)
    by_part = [_match_crops(crops, parts, recipe, folder) for parts in wanted]
    twins = (*examination.dataset.twins, *_find_ignored_twins(recipe, folder, wanted, hasher))
    duplicates = _find_duplicates(recipe, examination.dataset, twins, wanted, by_part)
    for number, parts in enumerate(wanted):
        part = parts.first(recipe)
        own = [assign for table in parts.tables for assign in assigners.get(table, ())]
        masks = part.masks if isinstance(part, Concept) else None
        yield FolderRequest(
            root=os.path.abspath(folder / part.images),  # noqa: PTH100 - as inputs.folders has it
            name=_name_folder(Path(os.path.normpath(folder / part.images)).name, names),
            facts=parts.facts,
            find_target=_make_target_finder(own if options.resize else ()),
            rules=_read_rules(part, recipe, parts.facts),
            captions=not (isinstance(part, Concept) and part.captions == "none"),
            alpha=_choose_alpha(part, recipe, options.alpha),
            masks=os.path.abspath(folder / masks) if masks else None,  # noqa: PTH100 - as above
            masks_beside=has_masks_beside(part, recipe, parts.facts),
            lossless=options.lossless,
            upscaler=options.upscaler_sha256,
            duplicates=duplicates[number],
            crops=by_part[number],
        )


def _name_folder(wanted: str, taken: set[str]) -> str:
    """A name that nothing else in the new folder has, its masks and its metadata file included, on any file system."""
    plain = make_plain_name(wanted).lstrip(".") or "images"
    for name in chain([plain], (f"{plain}-{number}" for number in count(2))):
        own = {fold_name(each) for each in (name, f"{name}-masks", f"{name}.json", f"{name}.jsonl")}
        if not own & taken:
            taken |= own
            return name
    raise AssertionError


def _read_rules(part: Concept | Regularization, recipe: Recipe, facts: FolderFacts) -> CaptionRules:
    prefixed = bool(get_caption_text(part, recipe, "caption_prefix"))
    leading = list_leading_tags(part) if isinstance(part, Concept) and not prefixed else ()
    separator = get_caption_style(part, recipe).separator
    return CaptionRules(
        separator=separator,
        leading=leading,
        sentences=isinstance(part, Concept) and is_natural(part, recipe),
        wildcard=has_wildcards(part, recipe),
        mark=get_caption_text(part, recipe, "keep_tokens_separator"),
        underscores=has_underscores((image.caption.text for image in facts.images), separator),
    )


def _choose_alpha(
    part: Concept | Regularization, recipe: Recipe, chosen: AlphaChoice | None
) -> Literal["flatten", "keep"]:
    if chosen is None:
        used = uses_alpha_mask(part, recipe) if isinstance(part, Concept) else recipe.kohya.get("alpha_mask") is True
        return "keep" if used else "flatten"
    if chosen == "mask":
        return "keep" if isinstance(part, Concept) and not part.masks else "flatten"
    return chosen


Assign = Callable[[Size], BucketFit]


def _make_assigners(examination: CheckResult, recipe: Recipe) -> Mapping[PartKey, list[Assign]]:
    """The buckets of each table of the recipe, at all resolutions that it is trained at."""
    assert examination.base is not None  # noqa: S101 - there is a recipe
    profile = build_profile(recipe, examination.base, examination.machine)
    found: dict[PartKey, list[Assign]] = {}
    for block in plan_datasets(recipe, examination.dataset, profile):
        assign = bucket_assigner(read_bucket_rules(block))
        for part in block.subsets:
            found.setdefault((part.table, part.index), []).append(assign)
    return found


def _make_target_finder(assigners: Sequence[Assign]) -> Callable[[Size], Target | None]:
    """The size for an image, by the resolution that needs it largest."""

    def find_target(size: Size) -> Target | None:
        try:
            best = max((assign(size) for assign in assigners), key=lambda fit: fit.scale, default=None)
        except RecipeError:  # `check` reports an image that fits no bucket
            return None
        if best is None or (LARGEST * best.scale >= 1 and best.scale <= MAX_UPSCALE):
            return None
        if best.scale > MAX_UPSCALE:
            fits = best.resized[0] * best.resized[1] <= MAX_PIXELS
            return Target(best.resized, "enlarged") if fits else None
        width, height = (math.ceil(side * best.scale * MARGIN) for side in size)
        return Target((width, height), "reduced")

    return find_target


def _find_ignored_twins(
    recipe: Recipe, folder: Path, wanted: Sequence[_Parts], hasher: FileHasher
) -> tuple[DuplicateGroup, ...]:
    """Equal files among the images that sd-scripts does not look for, which the scan does not compare."""
    folders = {parts.facts.identity: parts for parts in reversed(wanted) if parts.facts.metadata is None}
    return find_exact_duplicates(
        DuplicateCandidate(ImageRef(*parts.tables[0], name), digest.sha256)
        for parts in folders.values()
        for name, digest in hasher.of(folder / parts.first(recipe).images, parts.facts.ignored).items()
        if digest
    )


def _find_duplicates(
    recipe: Recipe,
    dataset: DatasetFacts,
    groups: Sequence[DuplicateGroup],
    wanted: Sequence[_Parts],
    crops: Sequence[Mapping[str, Sequence[Crop]]],
) -> list[dict[str, str]]:
    """For each folder the images that are left out, with the file that each equals.

    One of each stays for each concept: one with a caption if there is one, then the one with the shortest name. An
    image of two concepts stays in both, where each has a caption of its own (G6.8.pictures). Regularization has none of
    the training images (G35.6).
    """
    number = {table: at for at, parts in enumerate(wanted) for table in parts.tables}
    owners = {index: group[0] for group in group_concepts(recipe) for index in group}
    found: list[dict[str, str]] = [{} for _ in wanted]
    captioned = [{image.name for image in parts.facts.images if image.caption.text} for parts in wanted]

    def rank(place: ImageRef) -> tuple[bool, bool, int, str]:
        at = number[place.table, place.index]
        return place.name not in crops[at], place.name not in captioned[at], len(place.name), place.name

    for twins in groups:
        if twins.near:
            continue
        kept: dict[object, ImageRef] = {}
        for place in sorted(twins.places, key=lambda place: (place.table != "concept", rank(place))):
            group = owners[place.index] if place.table == "concept" else "regularization"
            first = kept.get(group) or (next(iter(kept.values()), None) if group == "regularization" else None)
            if first is None:
                kept[group] = place
                continue
            at = number[place.table, place.index]
            same_folder = number[first.table, first.index] == at
            other = dataset.get_folder(first.table, first.index).path
            found[at][place.name] = first.name if same_folder else f"{other}/{first.name}"
    return found


def _match_crops(crops: Sequence[Crop], parts: _Parts, recipe: Recipe, folder: Path) -> dict[str, list[Crop]]:
    """The crops of the images of a folder: by name, or by a path as the recipe has it."""
    root, names = (
        folder / parts.first(recipe).images,
        {*(image.name for image in parts.facts.images), *parts.facts.ignored},
    )
    found: dict[str, list[Crop]] = {}
    for crop in crops:
        name = crop.image
        if "/" in name and name not in names:
            path = folder / name
            name = path.name if os.path.realpath(path.parent) == os.path.realpath(root) else ""
        if name in names:
            found.setdefault(name, []).append(crop)
    return found


def _refuse_wrong_crops(crops: Sequence[Crop], requests: Sequence[FolderRequest]) -> None:
    """Raises RecipeError for a crop of no image, or of images in several folders, and for a text that is not used."""
    uses = Counter(id(crop) for request in requests for those in request.crops.values() for crop in those)
    for crop in crops:
        if uses[id(crop)] == 0:
            raise RecipeError(
                msg("{place}: {image} is not an image of this recipe", place=crop.place, image=crop.image)
            )
        if uses[id(crop)] > 1:
            raise RecipeError(
                msg("{place}: {image} is in several folders", place=crop.place, image=crop.image),
                hint=msg("write it with its folder, as the recipe does"),
            )
    for request in requests:
        for crop in (crop for those in request.crops.values() for crop in those if not request.captions):
            if crop.caption is not None or crop.tags:
                raise RecipeError(
                    msg(
                        '{place}: the recipe uses no captions for {image} (captions = "none")',
                        place=crop.place,
                        image=crop.image,
                    ),
                    hint=msg("remove its caption and its tags from the list"),
                )


def _list_metadata(recipe: Recipe, folder: Path, wanted: Sequence[_Parts]) -> Iterator[Path | None]:
    for parts in wanted:
        part = parts.first(recipe)
        file = part.metadata_file if isinstance(part, Concept) else None
        yield folder / file if file else None


def _find_new_places(
    recipe: Recipe,
    wanted: Sequence[_Parts],
    requests: Sequence[FolderRequest],
    plans: Sequence[FolderPlan],
    options: PrepareOptions,
) -> NewPlaces:
    found = NewPlaces({}, {}, {}, set(), set())
    for parts, request, plan in zip(wanted, requests, plans, strict=True):
        part = parts.first(recipe)
        for table in parts.tables:
            found.images[table] = request.name
            if not plan.jobs and request.duplicates:
                found.empty.add(table)
            masked = isinstance(part, Concept) and (part.masks or request.masks_beside)
            if masked:
                found.masks[table] = request.masks_name
            if isinstance(part, Concept) and part.metadata_file:
                found.metadata[table] = name_metadata(request.name, part.metadata_file)
            clear = any("A" in image.mode or image.alpha for image in parts.facts.images if image.name in plan.names)
            if options.alpha == "mask" and isinstance(part, Concept) and not masked and clear:
                found.alpha_masks.add(table)
    return found


def name_metadata(folder: str, path: str) -> str:
    """The new metadata file of a folder, which is next to it."""
    return f"{folder}.jsonl" if path.endswith(".jsonl") else f"{folder}.json"


def _refuse_empty(dataset: DatasetFacts) -> None:
    """Raises RecipeError for a concept without any image."""
    for facts in (*dataset.concepts, *dataset.regularization):
        if facts.problem or not (facts.images or facts.ignored):
            said = msg("there are no images in {path}, so nothing can be prepared", path=facts.path)
            raise RecipeError(said, hint=msg("`lorabake check` has the details"))


def _refuse_little_space(made: Preparation) -> None:
    there = sum(file.size for image in made.state.kept.values() for file in image.files)
    needed = int(made.size * SPARE) - there
    refuse_little_space(made.root, needed)


def with_state(made: Preparation, hasher: FileHasher) -> Preparation:
    """The same, with the folder as it is now: for whoever has just got its lock. Raises MachineError."""
    known = read_known_folder(made.root)
    state = compare_folder(made.root, known, made.jobs, made.other_names, hasher)
    return replace(made, known=known, state=state)
