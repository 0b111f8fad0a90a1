"""Shipped recipes and the recipe's JSON schema, for people and editors to take away."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

from lorabake import resources
from lorabake.errors import MachineError, RecipeError
from lorabake_schemas.recipe import Recipe


def shipped_recipe(name: str) -> str:
    """The text of a shipped recipe. Raises RecipeError with the nearest name when there is none."""
    plain = name.removesuffix(".toml")
    names = resources.recipe_names()
    if plain in names:
        return resources.recipe_text(plain)
    near = difflib.get_close_matches(plain, names, 1, 0.4)
    hint = f"did you mean {near[0]}?" if near else "`lorabake recipes list` names them all"
    raise RecipeError(f"no recipe {name} ships with lorabake", hint=hint)


def copy_recipe(name: str, target: Path | None) -> Path:
    """Write a shipped recipe to a new file. Raises RecipeError for an unknown name, MachineError when the file
    exists or cannot be written."""
    text = shipped_recipe(name)
    path = target or Path(f"{name.removesuffix('.toml')}.toml")
    if path.is_dir():
        path /= f"{name.removesuffix('.toml')}.toml"
    if path.suffix == ".toml":
        text = text.replace(f"{name.removesuffix('.toml')}.toml", path.name)  # the commands in its head
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        raise MachineError(f"{path} exists and is left as it is", "name another file") from error
    except OSError as error:
        raise MachineError(f"cannot write {path}: {error.strerror}", "name a folder that can be written") from error
    return path


def recipe_schema() -> str:
    """The recipe's JSON schema, for editors that complete and check TOML."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Recipe.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


__all__ = ["copy_recipe", "recipe_schema", "shipped_recipe"]
