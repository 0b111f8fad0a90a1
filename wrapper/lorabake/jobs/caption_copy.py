"""A copy of a dataset with edited captions, to train: its images are hard links where the disk allows them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorabake.analysis.captioned_recipe import CaptionedRecipe
from lorabake.errors import MachineError
from lorabake.inputs.captions import caption_path
from lorabake.jobs.caption_edits import EditPlan
from lorabake.jobs.prepare.recipe import NewPlaces, rewrite_recipe
from lorabake.recipe.paths import resolve_run_paths
from lorabake.util.files import (
    disk_error,
    exists,
    is_file,
    link_or_copy,
    make_folder,
    move_file,
    read_bytes,
    reason,
    remove_tree,
    write_bytes,
)
from lorabake_schemas.dataset import FolderFacts, FolderTable
from lorabake_schemas.messages import msg

_IMAGES: FolderTable = "concept"
_OTHERS: FolderTable = "regularization"


def copy_dataset(plan: EditPlan, read: CaptionedRecipe, place: Path) -> Path:
    """Make the folder ``place`` with every concept's images and captions, edited or not; the path of its recipe.

    It gets its name when it is complete, so an interrupted copy can be made again. Images whose captions are in a
    metadata file stay where they are, since that file names them; it is copied. Captions that links lead to are copied
    as files. Raises MachineError if ``place`` exists, and whatever the disk refuses.
    """
    given, place = place, Path(os.path.abspath(place))  # noqa: PTH100 - links stay
    if exists(place):
        raise MachineError(msg("{path} already exists", path=place), msg("choose a new folder"))
    part = place.with_name(f".{place.name}.lorabake-part")
    try:
        remove_tree(part)
        make_folder(part)
        places = _copy_folders(plan, read, part, place)
        text = rewrite_recipe(replace(read.loaded, source=b""), place, read.loaded.folder, places)
        write_bytes(part / read.loaded.path.name, text.encode(), within=part, durable=True)
        move_file(part, place, within=place.parent)
    except OSError as error:
        raise disk_error(error, msg("cannot write {path}: {why}", path=place, why=reason(error))) from error
    return given / read.loaded.path.name


def _copy_folders(plan: EditPlan, read: CaptionedRecipe, part: Path, place: Path) -> NewPlaces:
    """Fill ``part``, which becomes ``place``; where the recipe's tables find their folders from there."""
    recipe, folder = read.recipe, read.loaded.folder
    edited = {each.file.path: each.after for each in plan.files}
    places, made = NewPlaces({}, {}, {}, set()), dict[Path, str]()

    def move(path: str) -> str:
        return resolve_run_paths([path], folder, place)[path]

    for number, (concept, facts) in enumerate(zip(recipe.concept, read.folders, strict=True)):
        key = (_IMAGES, number)
        if concept.masks:
            places.masks[key] = move(concept.masks)
        if concept.metadata_file:
            source = Path(os.path.abspath(folder / concept.metadata_file))  # noqa: PTH100 - as above
            if source not in made:
                made[source] = _choose_name(source.name, made)
                write_bytes(part / made[source], edited.get(source) or read_bytes(source), within=part)
            places.images[key], places.metadata[key] = move(concept.images), made[source]
            continue
        source = Path(facts.path)
        if source not in made:
            made[source] = _choose_name(source.name or "images", made)
            make_folder(part / made[source], within=part)
        _copy_images(facts, part, part / made[source], edited)
        places.images[key] = made[source]
    for number, other in enumerate(recipe.regularization):
        places.images[_OTHERS, number] = move(other.images)
    return places


def _choose_name(name: str, made: Mapping[Path, str]) -> str:
    taken, number = set(made.values()), 2
    while name in taken:
        name, number = f"{name}-{number}", number + 1
    return name


def _copy_images(facts: FolderFacts, part: Path, folder: Path, edited: Mapping[Path, bytes]) -> None:
    """The images of a folder as links, each with its caption as a file of its own name."""
    for image in facts.images:
        original = Path(facts.path) / image.name
        if is_file(original) and not exists(folder / image.name):
            link_or_copy(original, folder / image.name, within=part)
        own = caption_path(f"{facts.path}{os.sep}{image.name}", facts.caption_extension)
        source = Path(image.caption.borrowed_from or own)
        if is_file(source):
            new = folder / Path(caption_path(image.name, facts.caption_extension))
            write_bytes(new, edited[source] if source in edited else read_bytes(source), within=part)
