"""The folders of images that a file of another program trains on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from lorabake.exchange.draft import PLACEHOLDER_IMAGES
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.util.files import is_folder
from lorabake_schemas.dataset import parse_repeat_folder
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg


def find_folders(config: ForeignConfig, source: Source, missing: list[ImportedKey]) -> tuple[ForeignDataset, ...]:
    """Its datasets, else the folders ``N_token`` in train_data_dir and reg_data_dir, as far as they can be seen here.

    The folder that the user named takes the place of what the file has.
    """
    found = config.datasets or (ForeignDataset(options={}, subsets=tuple(_read_data_dirs(config, source, missing))),)
    if not any(not part.is_reg for block in found for part in block.subsets):
        why = msg("the source does not name a folder of images")
        missing.append(
            ImportedKey(key="concept.images", value=PLACEHOLDER_IMAGES, fate="unknown", to="concept.images", why=why)
        )
        placeholder = ForeignSubset(options={"image_dir": Given(value=PLACEHOLDER_IMAGES, keys=())})
        found = (replace(found[0], subsets=(placeholder, *found[0].subsets)), *found[1:])
    return tuple(replace(block, subsets=tuple(_move(block, source))) for block in found) if source.images else found


def _move(block: ForeignDataset, source: Source) -> Iterator[ForeignSubset]:
    """Its subsets below the folder that the user named: by their own name there, or that folder itself."""
    assert source.images is not None  # noqa: S101 - the caller looked
    for part in block.subsets:
        given = part.options.get("image_dir")
        name = PureWindowsPath(str(given.value)).name if given else ""
        here = source.images / name if name and is_folder(source.images / name) else source.images
        if part.is_reg and here == source.images:
            yield part
            continue
        moved = replace(given, value=str(here)) if given else Given(value=str(here), keys=())
        yield replace(part, options={**part.options, "image_dir": moved})


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
        folders = list(_list_repeat_folders(source.images if source.images and not is_reg else None, given, source))
        if not folders:
            key = "regularization" if is_reg else "concept"
            why = msg(
                "the folders named N_token in {folder} are not here: write each as one [[{table}]]",
                folder=given.value, table=key,
            )  # fmt: skip
            missing.append(ImportedKey(key=f"{key}.images", value=given.value, fate="unknown", why=why))
            yield ForeignSubset(options={"image_dir": given}, is_reg=is_reg)
        for path, repeats, token in folders:
            yield ForeignSubset(
                options={
                    "image_dir": replace(given, value=path),
                    "num_repeats": Given(value=repeats, keys=given.keys, written=path),
                    **({"class_tokens": Given(value=token, keys=given.keys, written=path)} if token else {}),
                },
                is_reg=is_reg,
            )


def _list_repeat_folders(place: Path | None, given: Given, source: Source) -> Iterator[tuple[str, int, str]]:
    """Each with its path as the source would write it, its repeats and its token."""
    written = str(given.value)
    seen = place or source.path.parent / written
    if not is_folder(seen):
        return
    for folder in sorted(seen.iterdir()):
        named = parse_repeat_folder(folder.name) if is_folder(folder) else None
        if named is not None:
            yield (f"{written.rstrip('/')}/{folder.name}" if place is None else str(folder)), *named
