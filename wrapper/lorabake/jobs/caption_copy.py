"""A copy of a dataset with edited captions, to train: images, captions and recipe."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from lorabake.analysis.captioned_recipe import CaptionedRecipe
from lorabake.errors import MachineError
from lorabake.inputs.captions import caption_path
from lorabake.jobs.caption_edits import EditPlan
from lorabake.jobs.dataset_places import hold_place, refuse_little_space, refuse_places
from lorabake.jobs.prepare.recipe import NewPlaces, rewrite_recipe, write_named_schema
from lorabake.recipe.paths import resolve_run_paths
from lorabake.util.files import (
    copy_into,
    disk_error,
    exists,
    identify_file,
    is_file,
    is_folder,
    make_folder,
    move_file,
    read_bytes,
    reason,
    remove_file,
    remove_tree,
    write_bytes,
)
from lorabake_schemas.dataset import FolderFacts, FolderTable
from lorabake_schemas.messages import msg

_IMAGES: FolderTable = "concept"
_OTHERS: FolderTable = "regularization"
_MARK = ".lorabake-copy"  # in a folder that lorabake has begun


def copy_dataset(plan: EditPlan, read: CaptionedRecipe, place: Path) -> Path:
    """Make the folder ``place`` with every concept's images and captions, edited or not; the path of its recipe.

    It gets its name when it is complete, so an interrupted copy can be made again. Images whose captions are in a
    metadata file stay where they are, since that file names them; it is copied. Images and captions that links lead to
    are copied as files. Raises MachineError if ``place`` exists or is in the dataset, BusyError if another
    process is making it, ResourceError for too little space, and whatever the disk refuses.
    """
    given, place = place, Path(os.path.abspath(place))  # noqa: PTH100 - links stay
    refuse_places(place, read.recipe, read.loaded)
    part = place.with_name(f".{place.name}.lorabake-part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with hold_place(place, part.with_name(f"{part.name}.lock")):
            if os.path.lexists(place):
                raise MachineError(msg("{path} already exists", path=place), msg("choose a new folder"))
            refuse_little_space(place, _measure_images(read))
            _make_part(part)
            places = _copy_folders(plan, read, part, place)
            text = rewrite_recipe(replace(read.loaded, source=b""), place, read.loaded.folder, places)
            write_bytes(part / read.loaded.path.name, text.encode(), within=part, durable=True)
            write_named_schema(text, part)
            remove_file(part / _MARK, within=part)
            move_file(part, place, within=place.parent)
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=place, why=reason(error))) from error
    return given / read.loaded.path.name


def _measure_images(read: CaptionedRecipe) -> int:
    """The bytes of all images that are copied."""
    copied = (facts for part, facts in zip(read.recipe.concept, read.folders, strict=True) if not part.metadata_file)
    images = {Path(facts.path) / image.name for facts in copied for image in facts.images}
    return sum(image.stat().st_size for image in images if is_file(image))


def _make_part(part: Path) -> None:
    """The folder that is filled, without what an interrupted copy has left. Raises MachineError if it is another's."""
    if is_folder(part) and not part.is_symlink() and (exists(part / _MARK) or not any(part.iterdir())):
        remove_tree(part)
    if os.path.lexists(part):
        raise MachineError(msg("{path} already exists", path=part), msg("move it elsewhere and try again"))
    make_folder(part)
    write_bytes(part / _MARK, b"", within=part)


def _copy_folders(plan: EditPlan, read: CaptionedRecipe, part: Path, place: Path) -> NewPlaces:
    """Fill ``part``, which becomes ``place``; where the recipe's tables find their folders from there."""
    recipe, folder = read.recipe, read.loaded.folder
    known = dict[Path, tuple[int, int] | Path]()  # folders by what they are: one that has two names is copied once
    edited = {identify_file(each.file.path, known): each.after for each in plan.files}
    places, made = NewPlaces({}, {}, {}, set(), set()), dict[object, str]()

    def move(path: str) -> str:
        return resolve_run_paths([path], folder, place)[path]

    for number, (concept, facts) in enumerate(zip(recipe.concept, read.folders, strict=True)):
        key = (_IMAGES, number)
        if concept.masks:
            places.masks[key] = move(concept.masks)
        if concept.metadata_file:
            source = Path(os.path.abspath(folder / concept.metadata_file))  # noqa: PTH100 - as above
            found = identify_file(source, known)
            if found not in made:
                made[found] = _choose_name(source.name, made)
                write_bytes(part / made[found], edited.get(found) or read_bytes(source), within=part)
            places.images[key], places.metadata[key] = move(concept.images), made[found]
            continue
        source = Path(facts.path)
        same = identify_file(source / "image", known)
        if same not in made:
            made[same] = _choose_name(source.name or "images", made)
            make_folder(part / made[same], within=part)
        _copy_images(facts, part, part / made[same], lambda path: edited.get(identify_file(path, known)))
        places.images[key] = made[same]
    for number, other in enumerate(recipe.regularization):
        places.images[_OTHERS, number] = move(other.images)
    return places


def _choose_name(name: str, made: Mapping[object, str]) -> str:
    taken, number = set(made.values()), 2
    while name in taken:
        name, number = f"{name}-{number}", number + 1
    return name


def _copy_images(facts: FolderFacts, part: Path, folder: Path, edited: Callable[[Path], bytes | None]) -> None:
    """The images of a folder, each with its caption as a file of its own name."""
    for image in facts.images:
        original = Path(facts.path) / image.name
        if is_file(original) and not exists(folder / image.name):
            copy_into(original, folder / image.name, within=part)
        own = caption_path(f"{facts.path}{os.sep}{image.name}", facts.caption_extension)
        source = Path(image.caption.borrowed_from or own)
        if is_file(source):
            new = folder / Path(caption_path(image.name, facts.caption_extension))
            after = edited(source)
            write_bytes(new, read_bytes(source) if after is None else after, within=part)
