"""The folders of images that a file of another program trains on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from lorabake.exchange.convert import show_value
from lorabake.exchange.draft import PLACEHOLDER_IMAGES
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.util.files import is_folder
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import parse_repeat_folder
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg


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
    named = list(list_repeat_folders(source.images))
    return tuple(replace(block, subsets=tuple(_move(block, source.images, named))) for block in found)


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


def _move(block: ForeignDataset, images: Path, named: list[tuple[Path, int, str]]) -> Iterator[ForeignSubset]:
    """Its subsets below the folder that the user named: by their own name there, else the folders ``N_token`` there,
    else that folder itself."""
    here = {id(part): _find_by_name(part, images, named) for part in block.subsets}
    other = [part for part in block.subsets if not part.is_reg and here[id(part)] is None]
    by_name = len(other) < sum(not part.is_reg for part in block.subsets)
    for part in block.subsets:
        place = here[id(part)]
        if place is not None:
            inside = [] if parse_repeat_folder(place.name) else list(_iter_repeat_folders(place))
            yield from [_put_at(part, *each) for each in inside] or [_put_at(part, place)]
        elif part.is_reg:
            yield part
        elif by_name or not named:
            yield _put_at(part, images)
        elif part is other[0]:
            for path, repeats, token in named:
                yield _put_at(part, path, repeats, token)


def _find_by_name(part: ForeignSubset, images: Path, named: list[tuple[Path, int, str]]) -> Path | None:
    given = part.options.get("image_dir")
    name = PureWindowsPath(str(given.value)).name if given and given.keys else ""
    if name and name == images.name and not part.is_reg and all(path == images for path, _, _ in named):
        return images
    return images / name if name and is_folder(images / name) else None


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
