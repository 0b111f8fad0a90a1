"""Reads the two compiled files for the rehearsal as sd-scripts would: same reader, flattening and fall-backs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

import toml

from lorabake.errors import RecipeError
from lorabake.inputs.dataset import ImageFolder, ScanOptions, scan_folders
from lorabake.planning.batches import DatasetBlock, SubsetInput
from lorabake.planning.buckets import BucketRules
from lorabake.planning.forecast import Schedule
from lorabake.util.files import read_text
from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.caches import find_run_sizes
from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.families.registry import DEFAULT_FAMILY, get_family
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import msg

T = TypeVar("T", bool, int, str)
Table = Mapping[str, object]

# Names that differ between the train TOML and the dataset TOML (CU:261-264).
_TRAIN_TOML_NAMES = {"batch_size": "train_batch_size", "num_repeats": "dataset_repeats"}


@dataclass(frozen=True, slots=True)
class RehearsalBlock:
    """One ``[[datasets]]``: what is counted, and the folders behind its subsets, in the same order."""

    counted: DatasetBlock
    folders: tuple[FolderFacts, ...]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Everything a rehearsal needs. ``cache_latents``: images are then resized even without buckets."""

    blocks: tuple[RehearsalBlock, ...]
    schedule: Schedule
    output_dir: str
    cache_latents: bool


class LayeredSettings:
    """Look-up through tables in order of precedence, with a type check that sd-scripts does not have."""

    def __init__(self, *tables: Table) -> None:
        self._tables = tables

    def given(self, name: str, kind: type[T]) -> T | None:
        """The first value of this name, None when no table has it. Raises RecipeError for another type."""
        value = next(
            (table[each] for table in self._tables for each in _alternative_names(name) if each in table), None
        )
        if value is not None and type(value) is not kind:
            said = msg(
                "{key} is {value} in the compiled files, but must be of type {kind}",
                key=name,
                value=repr(value),
                kind=kind.__name__,
            )
            raise RecipeError(said)
        return value

    def get(self, name: str, default: T) -> T:
        value = self.given(name, type(default))
        return default if value is None else value

    def resolution(self) -> Size:
        """A number or a pair in the dataset TOML, "N" or "W,H" in the train TOML (TU:5410)."""
        value = next((table["resolution"] for table in self._tables if "resolution" in table), None)
        match value:
            case bool():
                pass
            case int() as side:
                return side, side
            case [int() as width, int() as height]:
                return width, height
            case str() as text if all(part.strip().isdecimal() for part in text.split(",")):
                sides = [int(part) for part in text.split(",")]
                return sides[0], sides[-1]
            case _:
                pass
        said = msg(
            "resolution is {value} in the compiled files, but must be a number or a pair of numbers", value=repr(value)
        )
        raise RecipeError(said)


def _alternative_names(name: str) -> tuple[str, ...]:
    other = _TRAIN_TOML_NAMES.get(name)
    return (name, other) if other else (name,)


def load_compiled(path: Path) -> dict[str, object]:
    """A TOML file by sd-scripts' own reader. Raises RecipeError when it is missing or cannot be read."""
    try:
        return cast("dict[str, object]", toml.loads(read_text(path)))
    except FileNotFoundError as error:
        raise RecipeError(msg("{path} does not exist", path=path)) from error
    except (OSError, ValueError, IndexError, RecursionError) as error:  # toml 0.10.2 lets an IndexError through
        raise RecipeError(msg("cannot read {file} as TOML: {why}", file=path, why=str(error))) from error


def flatten_sections(config: Table) -> dict[str, object]:
    """One level, whatever the sections are called; the later key wins (TU:4748-4758)."""
    flat: dict[str, object] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat.update(cast("dict[str, object]", value))
        else:
            flat[name] = value
    return flat


def read_rehearsal(
    config_file: Path, dataset_config: Path, num_processes: int = 1, family: Family = DEFAULT_FAMILY
) -> Rehearsal:
    """Read both files; relative paths in them count from the working directory, as in sd-scripts.

    ``family`` decides which leftover latent caches sd-scripts would read; the files do not contain it. Raises
    RecipeError if a file cannot be read, a folder is missing or a value has the wrong type.
    """
    flat = flatten_sections(load_compiled(config_file))
    train = LayeredSettings(flat)
    dataset = load_compiled(dataset_config)
    general = _read_tables({"general": [dataset.get("general", {})]}, "general")[0]
    blocks = tuple(
        _read_block(table, general, flat, get_family(family).latent_cache_suffix)
        for table in _read_tables(dataset, "datasets")
    )
    return Rehearsal(
        blocks,
        _read_schedule(train, num_processes),
        train.get("output_dir", "."),
        train.get("cache_latents", default=False) or train.get("cache_latents_to_disk", default=False),
    )


def _read_tables(config: Table, name: str) -> list[Table]:
    found = config.get(name, [])
    if isinstance(found, list) and all(isinstance(each, dict) for each in cast("list[object]", found)):
        return cast("list[Table]", found)
    raise RecipeError(msg("{key} in the dataset file is not a list of tables", key=name))


def _read_schedule(train: LayeredSettings, num_processes: int) -> Schedule:
    """Epochs win over steps, and 1600 steps are sd-scripts' default (TN:799)."""
    epochs = train.given("max_train_epochs", int)
    return Schedule(
        output_name=train.get("output_name", "last"),
        max_train_epochs=epochs,
        max_train_steps=None if epochs is not None else train.get("max_train_steps", 1600),
        gradient_accumulation_steps=train.get("gradient_accumulation_steps", 1),
        num_processes=num_processes,
        save_every_n_epochs=train.given("save_every_n_epochs", int),
        save_every_n_steps=train.given("save_every_n_steps", int),
        extension=train.get("save_model_as", "safetensors"),
    )


def _read_block(table: Table, general: Table, train: Table, caches: str) -> RehearsalBlock:
    own = LayeredSettings(table, general, train)
    rules = BucketRules(
        resolution=own.resolution(),
        enable_bucket=own.get("enable_bucket", default=False),
        bucket_no_upscale=own.get("bucket_no_upscale", default=False),
        min_bucket_reso=own.get("min_bucket_reso", 256),
        max_bucket_reso=own.get("max_bucket_reso", 1024),
        bucket_reso_steps=own.get("bucket_reso_steps", 64),
    )
    subsets = [LayeredSettings(subset, table, general, train) for subset in _read_tables(table, "subsets")]
    folders = tuple(_read_folder(subset) for subset in subsets)
    counted = tuple(_read_subset(subset, folder, caches) for subset, folder in zip(subsets, folders, strict=True))
    return RehearsalBlock(DatasetBlock(counted, rules, own.get("batch_size", 1)), folders)


def _read_folder(subset: LayeredSettings) -> FolderFacts:
    """sd-scripts would silently leave out a folder it cannot read (TU:1973)."""
    image_dir, metadata = subset.get("image_dir", ""), subset.get("metadata_file", "")
    asked = ImageFolder(
        Path(image_dir),
        subset.get("caption_extension", ".caption"),
        wildcard=subset.get("enable_wildcard", default=False),
        metadata=Path(metadata) if metadata else None,
    )
    folder = scan_folders([asked], [], ScanOptions()).concepts[0]
    if not image_dir or folder.problem:
        where, why = image_dir or msg("(none given)"), folder.problem or msg("missing")
        raise RecipeError(msg("image folder {folder}: {why}", folder=where, why=why))
    bad = next((image for image in folder.images if image.problem), None)
    if bad:
        file = f"{image_dir}/{bad.name}"
        said = msg("{file}: {problem}", file=file, problem=bad.problem or "")
        raise RecipeError(said, hint=msg("save it again or remove it"))
    return folder


def _read_subset(subset: LayeredSettings, folder: FolderFacts, caches: str) -> SubsetInput:
    sizes = find_run_sizes(folder, caches, cache_info=subset.get("cache_info", default=False))
    return SubsetInput(folder.path, sizes, subset.get("num_repeats", 1), subset.get("is_reg", default=False))
