"""The folders of images that a file of another program trains on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

from lorabake.exchange.convert import show_value
from lorabake.exchange.draft import PLACEHOLDER_IMAGES
from lorabake.exchange.foreign import CountedImages, ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.inputs.folders import list_folder, list_image_folders
from lorabake.inputs.image_tree import TREE_DEPTH
from lorabake.util.files import is_folder
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import CAPTION_EXTENSION, parse_repeat_folder
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import literal, msg, nmsg


def find_folders(config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> tuple[ForeignDataset, ...]:
    """Its datasets, else the folders ``N_token`` in train_data_dir and reg_data_dir, as far as they can be seen here.

    The folder that the user named takes the place of what the file has, with the folders ``N_token`` in it.
    """
    found = config.datasets or (ForeignDataset(options={}, subsets=tuple(_read_data_dirs(config, source, missing))),)
    if not any(not part.is_reg for block in found for part in block.subsets):
        if source.images is None:
            why = msg("the source does not name a folder of images; --images FOLDER names it")
            missing.append(
                ImportedKey(
                    key="concept.images", value=PLACEHOLDER_IMAGES, fate="unknown", to="concept.images", why=why
                )
            )
        placeholder = ForeignSubset(options={"image_dir": Given(value=PLACEHOLDER_IMAGES, keys=())})
        found = (replace(found[0], subsets=(placeholder, *found[0].subsets)), *found[1:])
    if source.images is None:
        return found
    place = _Place(source.images, list(list_repeat_folders(source.images)), _list_below(source.images))
    moved = tuple(replace(block, subsets=tuple(_move(block, place, missing))) for block in found)
    missing[:] = dict.fromkeys(missing)
    return moved


class _Place(NamedTuple):
    """The folder that the user named, the folders N_token in it, and all folders with images below it."""

    images: Path
    named: list[tuple[Path, int, str]]
    below: list[Path]


def _list_below(images: Path) -> list[Path]:
    return [images / path for path in list_image_folders(list_folder(images, CAPTION_EXTENSION), TREE_DEPTH)]


def list_repeat_folders(place: Path) -> Iterator[tuple[Path, int, str]]:
    """The folders ``N_token`` of a place with repeats and token: itself, those in it, else those in its folder img."""
    if own := parse_repeat_folder(Path(os.path.abspath(place)).name):  # noqa: PTH100 - not where a link leads
        yield (place, *own)
        return
    for folder in (place, place / "img"):
        found = list(_iter_repeat_folders(folder))
        if found:
            yield from found
            return


def _iter_repeat_folders(place: Path) -> Iterator[tuple[Path, int, str]]:
    try:
        folders = sorted(place.iterdir()) if is_folder(place) else []
    except OSError:
        return
    for folder in folders:
        named = parse_repeat_folder(folder.name) if is_folder(folder) else None
        if named is not None:
            yield (folder, *named)


def _move(block: ForeignDataset, place: _Place, missing: list[ImportedKey]) -> Iterator[ForeignSubset]:
    """Its subsets below the folder that the user named: by their own name there, else the folders ``N_token`` there,
    else that folder itself. A folder is compared with what was counted only where it clearly takes its place."""
    trained = {_get_name(part) for part in block.subsets if not part.is_reg}
    here = {
        id(part): None if part.is_reg and _get_name(part) in trained else _find_by_name(part, place)
        for part in block.subsets
    }
    other = [part for part in block.subsets if not part.is_reg and here[id(part)] is None]
    by_name = len(other) < sum(not part.is_reg for part in block.subsets)
    alone = len(other) == 1 and not by_name and len(place.named) < 2
    for part in block.subsets:
        found = here[id(part)]
        plain = part if alone or found else replace(part, counted=None)
        if part.counted and plain.counted is None:
            missing.append(_describe_lost(part.counted, place.images))
        if found is not None:
            inside = [] if parse_repeat_folder(found.name) else list(_iter_repeat_folders(found))
            yield from [_put_at(replace(part, counted=None), *each) for each in inside] or [_put_at(part, found)]
        elif part.is_reg:
            yield part
        elif by_name or not place.named:
            yield _put_at(plain, place.images)
        elif part is other[0]:
            for path, repeats, token in place.named:
                yield _put_at(plain, path, repeats, token)


def _describe_lost(counted: CountedImages, images: Path) -> ImportedKey:
    why = nmsg(
        counted.images,
        'the LoRA was trained on {n} image of "{name}" (num_repeats {repeats}); no folder here has this name',
        'the LoRA was trained on {n} images of "{name}" (num_repeats {repeats}); no folder here has this name',
        name=literal(counted.name), repeats=counted.repeats,
    )  # fmt: skip
    return ImportedKey(key="concept.images", value=images.name, fate="unknown", to="concept.images", why=why)


def _find_by_name(part: ForeignSubset, place: _Place) -> Path | None:
    """In the folder itself, else the only one below it that has images and this name."""
    name = _get_name(part)
    if not name:
        return None
    if name == place.images.name and not part.is_reg and all(path == place.images for path, _, _ in place.named):
        return place.images
    if is_folder(place.images / name):
        return place.images / name
    below = [path for path in place.below if path.name == name]
    return below[0] if len(below) == 1 else None


def _get_name(part: ForeignSubset) -> str:
    """That of its folder, empty where the source has none."""
    given = part.options.get("image_dir")
    return PureWindowsPath(str(given.value)).name if given and given.keys else ""


def _put_at(part: ForeignSubset, place: Path, repeats: int | None = None, token: str = "") -> ForeignSubset:
    """The subset with another folder, and with the repeats and the token that this is named after."""
    given = part.options.get("image_dir")
    values: dict[str, OptionValue] = {"image_dir": place.as_posix()}
    if repeats is not None:
        values |= {"num_repeats": repeats, **({"class_tokens": token} if token else {})}
    old = {name: part.options.get(name, given) for name in values}
    said = {
        name: Given(value=value, keys=before.keys, written=before.written or show_value(before.value))
        if (before := old[name]) is not None and before.keys
        else Given(value=value, keys=())
        for name, value in values.items()
    }
    return replace(part, options={**part.options, **said})


def _read_data_dirs(config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> Iterator[ForeignSubset]:
    for option, is_reg in (("train_data_dir", False), ("reg_data_dir", True)):
        given = config.options.get(option)
        if given is None or not isinstance(given.value, str) or not given.value:
            continue
        masks, captions = config.options.get("conditioning_data_dir"), config.options.get("in_json")
        if captions is not None and captions.value and not is_reg:
            yield ForeignSubset(options={"image_dir": given, "metadata_file": captions})
            continue
        if masks is not None and masks.value and not is_reg:
            yield ForeignSubset(options={"image_dir": given, "conditioning_data_dir": masks})
            continue
        if source.images is not None and not is_reg:
            yield ForeignSubset(options={"image_dir": given})
            continue
        folders = list(_iter_repeat_folders(source.path.parent / given.value))
        if not folders:
            key = "regularization" if is_reg else "concept"
            if is_reg:
                why = msg(
                    "the folders named N_token in {folder} are not here: write each as one [[{table}]]",
                    folder=given.value, table=key,
                )  # fmt: skip
            else:
                why = msg(
                    "not found: name the folder that contains the folders N_token with --images FOLDER, and the base "
                    "model with --model PATH"
                )
            missing.append(ImportedKey(key=f"{key}.images", value=given.value, fate="unknown", why=why))
            yield ForeignSubset(options={"image_dir": given}, is_reg=is_reg)
        for folder, repeats, token in folders:
            path = f"{given.value.rstrip('/')}/{folder.name}"
            yield ForeignSubset(
                options={
                    "image_dir": replace(given, value=path),
                    "num_repeats": Given(value=repeats, keys=given.keys, written=path),
                    **({"class_tokens": Given(value=token, keys=given.keys, written=path)} if token else {}),
                },
                is_reg=is_reg,
            )
