"""A file of another program to a recipe on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.recipe.writing import create_recipe_file, write_recipe
from lorabake.util.files import exists

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

# Keys of a recipe that name a file or a folder, by their table.
_PATH_KEYS: Mapping[str, tuple[str, ...]] = {
    "base": ("model", "vae", "tokenizer_cache_dir"),
    "network": ("network_weights", "preset"),
    "concept": ("images", "masks", "metadata_file"),
    "regularization": ("images",),
    "sample": ("prompts",),
}


def import_file(source: Source, *, faithful: bool = False) -> ImportedRecipe:
    """Raises RecipeError for a file that cannot be read as one of another program."""
    return make_recipe(read_foreign_file(source), source, faithful=faithful)


def format_imported_recipe(made: ImportedRecipe, translate: Callable[[str], str]) -> str:
    """Its text, with comments in the language of ``translate``."""
    comments = {path: translate(said) for path, said in made.comments.items()}
    return write_recipe(made.content, [translate(line) for line in made.head], comments)


def write_import(made: ImportedRecipe, target: Path | None, translate: Callable[[str], str]) -> Path:
    """Write it to ``target``, by default to NAME.toml here. Raises MachineError if that exists."""
    path = target or Path(f"{made.content['name']}.toml")
    moved = replace(made, content=move_paths(made.content, Path(made.report.source).parent, path.parent))
    create_recipe_file(path, format_imported_recipe(moved, translate))
    return path


def move_paths(content: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The recipe for the folder ``new``: a relative path of something in ``old`` is written as seen from there."""
    made = dict(content)
    for name in _PATH_KEYS.keys() & made.keys():
        value = made[name]
        if isinstance(value, list):
            made[name] = [_move_table(each, _PATH_KEYS[name], old, new) for each in cast("list[dict[str, Any]]", value)]
        else:
            made[name] = _move_table(value, _PATH_KEYS[name], old, new)
    return made


def _move_table(table: Mapping[str, Any], keys: tuple[str, ...], old: Path, new: Path) -> dict[str, Any]:
    made = dict(table)
    for key in keys:
        value = made.get(key)
        if isinstance(value, str) and not Path(value).is_absolute() and exists(old / value) and not exists(new / value):
            made[key] = Path(os.path.relpath(old / value, new)).as_posix()
    return made
