"""A file of another program to a recipe on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.recipe.writing import create_recipe_file, write_recipe

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source


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
    create_recipe_file(path, format_imported_recipe(made, translate))
    return path
