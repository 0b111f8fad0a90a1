"""The recipe of the new folder: the user's own text, comments included, with other paths in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from lorabake.inputs.base_model import looks_like_hub_id
from lorabake.recipe.editor_schema import SCHEMA_LINE, write_recipe_schema
from lorabake.recipe.load import LoadedRecipe
from lorabake.recipe.overrides import Override, apply_overrides, make_override, remove_keys
from lorabake.recipe.paths import resolve_run_paths
from lorabake.util.files import exists
from lorabake_schemas.dataset import FolderTable
from lorabake_schemas.recipe import find_written_place

KeyPath = tuple[str | int, ...]
Table = tuple[FolderTable, int]
# The keys that name a file or a folder, apart from those of the dataset.
PATH_KEYS: tuple[KeyPath, ...] = (
    ("base", "tokenizer_cache_dir"),
    ("network", "network_weights"),
    ("save", "runs"),
    ("sample", "prompts"),
    ("kohya", "log_tracker_config"),
    ("kohya", "base_weights"),
)
# Those that may be a name instead: a Hugging Face id, or one of LyCORIS' presets.
NAME_OR_PATH_KEYS: tuple[KeyPath, ...] = (("base", "model"), ("base", "vae"), ("network", "preset"))


class NewPlaces(NamedTuple):
    """What the tables of the recipe name in the new folder, those that get alpha_mask, and those without an image."""

    images: dict[Table, str]
    masks: dict[Table, str]
    metadata: dict[Table, str]
    alpha_masks: set[Table]
    empty: set[Table]


def rewrite_recipe(loaded: LoadedRecipe, root: Path, folder: Path, places: NewPlaces) -> str:
    """The recipe's text as it has to be in ``root``; ``folder`` is where it is now."""
    text = (loaded.source or loaded.content).decode("utf-8-sig")
    raw: dict[str, Any] = tomllib.loads(text)
    changes = [*_list_dataset_changes(places), *_list_path_changes(raw, root, folder)]
    text = apply_overrides(text, raw, changes)[0]
    return remove_keys(text, sorted(places.empty, reverse=True)) or text


def write_named_schema(text: str, folder: Path) -> None:
    """Write the schema for editors next to a recipe that names it."""
    if SCHEMA_LINE in map(str.strip, text.splitlines()):
        write_recipe_schema(folder)


def _list_dataset_changes(places: NewPlaces) -> Iterator[Override]:
    for key, those in (("images", places.images), ("masks", places.masks), ("metadata_file", places.metadata)):
        for (table, index), name in those.items():
            yield make_override((table, index, key), name)
    for table, index in sorted(places.alpha_masks):
        yield make_override((table, index, "alpha_mask"), True)


def _list_path_changes(raw: Mapping[str, Any], root: Path, folder: Path) -> Iterator[Override]:
    written = _list_written_keys(raw)
    for key in (*PATH_KEYS, *NAME_OR_PATH_KEYS):
        where = find_written_place(key, written)
        value = _get_value(raw, where)
        if isinstance(value, list) and key[0] == "kohya":
            paths = cast("list[object]", value)
            yield make_override(where, [_move(path, root, folder) if isinstance(path, str) else path for path in paths])
        elif isinstance(value, str) and (key in PATH_KEYS or _is_path(key, value, folder)):
            yield make_override(where, _move(value, root, folder))


def _is_path(key: KeyPath, value: str, folder: Path) -> bool:
    """Whether the value is no name: by what it looks like, and by what is on the disk."""
    if value.startswith((".", "~")) or exists(folder / value):
        return True
    return value.endswith(".toml") if key == ("network", "preset") else not looks_like_hub_id(value)


def _list_written_keys(raw: Mapping[str, Any]) -> set[KeyPath]:
    """The keys of the tables, and the arguments of the network, among which a key may be instead."""
    found = set[KeyPath]()
    for table, keys in raw.items():
        if isinstance(keys, dict):
            found.update((table, key) for key in cast("dict[str, Any]", keys))
    arguments = _get_value(raw, ("network", "args"))
    if isinstance(arguments, dict):
        found.update(("network", "args", name) for name in cast("dict[str, Any]", arguments))
    return found


def _get_value(raw: Mapping[str, Any], where: KeyPath) -> object:
    holder: object = raw
    for key in where:
        holder = cast("dict[object, object]", holder).get(key) if isinstance(holder, dict) else None
    return holder


def _move(path: str, root: Path, folder: Path) -> str:
    """A path as it is seen from the new folder. Absolute ones stay, and those that start with ~."""
    return path if path.startswith("~") else resolve_run_paths([path], folder, root)[path]
