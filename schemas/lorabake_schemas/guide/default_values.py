"""What lorabake writes for a setting when a recipe does not: a table by family, kind and network.

docs/make_defaults.py makes it; only `lorabake explain` and the documentation read it.
"""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from lorabake_schemas.base import OptionValue, StrictModel, TupleOf
from lorabake_schemas.families.registry import list_family_names
from lorabake_schemas.machine import Family
from lorabake_schemas.plan import Source
from lorabake_schemas.recipe import RecipeKind

DEFAULTS_FILE = "defaults.json"
KINDS: tuple[RecipeKind, ...] = get_args(RecipeKind)
FAMILIES: tuple[Family, ...] = list_family_names()
NETWORK_TYPES = ("lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft")  # of which the guide speaks
Axis = Literal["option", "optimizer", "network", "kind", "family"]


class RecipeGroup(StrictModel):
    """Recipes of these families and kinds, in every combination."""

    families: TupleOf[Family] = FAMILIES
    kinds: TupleOf[RecipeKind] = KINDS


class DefaultValue(StrictModel):
    """A value (None if the option is not written), its source, and the recipes that get it.

    ``also`` is what else such a recipe contains; any one of these lines.
    """

    value: OptionValue | None = None
    source: Source | None = None
    recipes: TupleOf[RecipeGroup] = (RecipeGroup.model_construct(),)
    also: TupleOf[str] = ()


DefaultValues = tuple[DefaultValue, ...]
_ADAPTER = TypeAdapter[DefaultValues](TupleOf[DefaultValue])


@cache
def _load_table() -> dict[str, dict[str, Any]]:
    text = (files("lorabake_schemas.guide") / "book" / DEFAULTS_FILE).read_bytes().decode("utf-8")
    table: dict[str, dict[str, Any]] = json.loads(text)
    return table


def list_default_values(option: str) -> DefaultValues:
    """What recipes get for an option that they do not set; empty when none gets it."""
    return _parse(_load_table()["option"].get(option, ()))


def list_effects(axis: Axis, name: str) -> Mapping[str, DefaultValues]:
    """What an optimizer, a network, a kind or a family decides, by option; for an option its own defaults."""
    if axis == "option":
        found = list_default_values(name)
        return {name: found} if found else {}
    return {option: _parse(given) for option, given in _load_table()[axis].get(name, {}).items()}


def _parse(given: Any) -> DefaultValues:
    return _ADAPTER.validate_json(json.dumps(given))
