"""The keys of a recipe by all their names: what each means, what people call it, which option it becomes."""

import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lorabake_schemas.recipe import Recipe


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """``name`` with its table (train.seed), the ``option`` of sd-scripts, or of the network, that it becomes, and what
    it may be where that is one of a few words."""

    name: str
    option: str
    description: str
    choices: tuple[str, ...]


@cache
def list_recipe_keys() -> Mapping[str, RecipeKey]:
    """Every key by its name, in the schema's order; a table comes before its keys."""
    found: dict[str, RecipeKey] = {}
    for name, field in _fields(Recipe).items():
        found[name] = _make_key(name, field)
        if table := unwrap_model(field.annotation):
            found |= {f"{name}.{key}": _make_key(f"{name}.{key}", inner) for key, inner in _fields(table).items()}
    return found


def _fields(model: type[BaseModel]) -> dict[str, Any]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def unwrap_model(annotation: Any) -> type[BaseModel] | None:
    """The table that a field contains, once or several times."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := unwrap_model(part))), None)


def _make_key(name: str, field: Any) -> RecipeKey:
    option = load_key_table()["options"].get(name, name.rpartition(".")[2])
    table = unwrap_model(field.annotation)
    description = field.description or (table.__doc__ if table else "") or ""
    return RecipeKey(name, option, description, _list_choices(field.annotation))


def _list_choices(annotation: Any) -> tuple[str, ...]:
    """The words of a Literal, alone or beside None."""
    kinds = (annotation, *get_args(annotation))
    return next((tuple(map(str, get_args(kind))) for kind in kinds if get_origin(kind) is Literal), ())


@cache
def load_key_table() -> dict[str, dict[str, str]]:
    """guide/glossary/keys.toml as it is."""
    text = (files("lorabake_schemas.guide") / "glossary" / "keys.toml").read_bytes().decode("utf-8")
    return tomllib.loads(text)


@cache
def list_key_names() -> Mapping[str, str]:
    """What people call a key, as ``normalize_name`` writes it, with the key; sd-scripts' names are among them."""
    loaded, own = load_key_table(), {name.rpartition(".")[2] for name in list_recipe_keys()}
    options = {option: key for key, option in reversed(loaded["options"].items()) if option not in own}
    names = [*options.items(), *((name, key) for key, given in loaded["names"].items() for name in given.split(","))]
    return {normalize_name(name): key for name, key in names}


def find_key(name: str) -> str | None:
    """The key that people mean by another name (Network Rank), None for a name that is nobody's."""
    return list_key_names().get(normalize_name(name))


def normalize_name(name: str) -> str:
    """Without case, accents, blanks and punctuation, which people do not care about in a name."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(sign for sign in plain if sign.isalnum())
