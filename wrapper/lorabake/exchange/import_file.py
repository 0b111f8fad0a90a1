"""A file of another program to a recipe on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorabake.errors import RecipeError
from lorabake.exchange.base_search import CHECKPOINT_EXTENSIONS
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.planning.compile import PATH_OPTIONS
from lorabake.recipe.writing import create_recipe_file, write_recipe
from lorabake.util.files import exists
from lorabake_schemas.messages import msg
from lorabake_schemas.secrets import hide_secrets_in_message

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

# Keys of a recipe that name a file or a folder, by their table.
_PATH_KEYS: Mapping[str, tuple[str, ...]] = {
    "base": ("model", "vae", "tokenizer_cache_dir"),
    "network": ("network_weights", "preset"),
    "concept": ("images", "masks", "metadata_file"),
    "regularization": ("images",),
    "sample": ("prompts",),
    "kohya": tuple(sorted(PATH_OPTIONS)),
}


def import_file(source: Source, *, faithful: bool = False) -> ImportedRecipe:
    """Raises RecipeError for a file that cannot be read as one of another program, without the secrets in it."""
    try:
        return _import_file(source, faithful=faithful)
    except RecipeError as error:
        raise hide_secrets_in_error(error) from error


def hide_secrets_in_error(error: RecipeError) -> RecipeError:
    """Whoever raises an error about a file of a stranger need not know what is a secret in it."""
    hide = hide_secrets_in_message
    findings = [
        each.model_copy(update={"message": hide(each.message), "fix": hide(each.fix)}) for each in error.findings
    ]
    return RecipeError(hide(error.message), findings, error.hint and hide(error.hint))


def _import_file(source: Source, *, faithful: bool) -> ImportedRecipe:
    images = source.images and _make_absolute(source.images)
    model = source.model and (source.model if _is_hub_id(source.model) else _make_absolute(source.model))
    found = replace(source, images=images, model=model)  # the user's are seen from here, all others from the file
    made = make_recipe(read_foreign_file(found), found, faithful=faithful)
    keys = made.report.keys
    for place in (source.images, source.model):
        if place is not None and not place.is_absolute():
            here = partial(_write_relative, place=_make_absolute(place), new=Path.cwd())
            keys = tuple(line.model_copy(update={"value": here(line.value)}) for line in keys)
    return replace(made, report=made.report.model_copy(update={"keys": keys}))


def _make_absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _is_hub_id(path: Path) -> bool:
    return not exists(path) and len(path.parts) == 2 and path.suffix not in CHECKPOINT_EXTENSIONS


def format_imported_recipe(made: ImportedRecipe, translate: Callable[[str], str]) -> str:
    """Its text, with comments in the language of ``translate``."""
    comments = {path: translate(said) for path, said in made.comments.items()}
    return write_recipe(made.content, [translate(line) for line in made.head], comments)


def write_import(
    made: ImportedRecipe,
    target: Path | None,
    translate: Callable[[str], str],
    named: Sequence[Path | None] = (),
    *,
    write_command: Callable[[Path], str],
) -> Path:
    """Write it to ``target``, by default to NAME.toml here. Raises MachineError if that exists, with what
    ``write_command`` makes of a file that does not exist: the command that writes that one.

    Paths below those of ``named`` that are relative become relative to the recipe.
    """
    path = target or Path(f"{made.content['name']}.toml")
    content = move_paths(made.content, Path(made.report.source).parent, path.parent)
    for place in named:
        if place is not None and not place.is_absolute():
            content = _map_paths(content, partial(_write_relative, place=_make_absolute(place), new=path.parent))
    text = format_imported_recipe(replace(made, content=content), translate)
    hint = None
    if exists(path) and path.name:
        free = next(other for n in count(2) if not exists(other := path.with_stem(f"{path.stem}-{n}")))
        hint = msg("delete it, or write another file: `{command}`", command=write_command(free))
    create_recipe_file(path, text, hint)
    return path


def move_paths(content: Mapping[str, Any], old: Path, new: Path) -> dict[str, Any]:
    """The recipe for the folder ``new``: a relative path of something in ``old`` is written as seen from there."""
    if _make_absolute(old) == _make_absolute(new):
        return dict(content)
    return _map_paths(content, partial(_move_path, old=old, new=new))


def _move_path(path: str, old: Path, new: Path) -> str:
    return path if Path(path).is_absolute() or not exists(old / path) else _make_relative(old / path, new)


def _write_relative(path: str, place: Path, new: Path) -> str:
    return _make_relative(Path(path), new) if Path(path).is_relative_to(place) else path


def _make_relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return str(path)


def _map_paths(content: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    made = dict(content)
    for name in _PATH_KEYS.keys() & made.keys():
        value, keys = made[name], _PATH_KEYS[name]
        if isinstance(value, list):
            made[name] = [_map_table(each, keys, change) for each in cast("list[dict[str, Any]]", value)]
        else:
            made[name] = _map_table(value, keys, change)
    return made


def _map_table(table: Mapping[str, Any], keys: tuple[str, ...], change: Callable[[str], str]) -> dict[str, Any]:
    made = dict(table)
    for key in keys:
        value = made.get(key)
        if isinstance(value, str):
            made[key] = change(value)
        elif isinstance(value, list) and key in PATH_OPTIONS:  # sample.prompts may be a list, too, and has none
            made[key] = [change(str(each)) for each in cast("list[object]", value)]
    return made
