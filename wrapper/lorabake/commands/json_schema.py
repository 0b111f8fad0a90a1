"""Shipped recipes and the published JSON schemas, for people and editors to take away."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from lorabake.errors import MachineError, RecipeError
from lorabake.util import resources
from lorabake.util.files import is_folder
from lorabake_schemas.base import StrictModel
from lorabake_schemas.check_report import CheckReport, PlanDifference, PlanReport
from lorabake_schemas.comparison import LoraComparison
from lorabake_schemas.explanation import ExplainReport
from lorabake_schemas.inspection import InspectReport
from lorabake_schemas.messages import literal, msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import Inputs, Record
from lorabake_schemas.verification import VerifyReport
from lorabake_schemas.versions import CommitDifference

SchemaName = Literal[
    "recipe", "check", "plan", "diff", "explain", "record", "inputs", "inspect", "verify", "compare", "commits"
]  # fmt: skip
OUTPUT_MODELS: Mapping[str, type[StrictModel]] = MappingProxyType(
    {
        "check": CheckReport,
        "plan": PlanReport,
        "diff": PlanDifference,
        "explain": ExplainReport,
        "record": Record,
        "inputs": Inputs,
        "inspect": InspectReport,
        "verify": VerifyReport,
        "compare": LoraComparison,
        "commits": CommitDifference,
    }
)


def read_shipped_recipe(name: str) -> str:
    """The text of a shipped recipe. Raises RecipeError with the nearest name when there is none."""
    plain = name.removesuffix(".toml")
    names = resources.list_recipe_names()
    if plain in names:
        return resources.read_recipe_text(plain)
    near = difflib.get_close_matches(plain, names, 1, 0.6)
    hint = msg("did you mean {name}?", name=near[0]) if near else msg("`lorabake recipes list` shows them all")
    raise RecipeError(msg("no shipped recipe is named {name}", name=name), hint=hint)


def copy_recipe(name: str, target: Path | None) -> Path:
    """Write a shipped recipe to a new file. Raises RecipeError for an unknown name, MachineError when the file
    exists or cannot be written."""
    text = read_shipped_recipe(name)
    path = target or Path(f"{name.removesuffix('.toml')}.toml")
    if is_folder(path):
        path /= f"{name.removesuffix('.toml')}.toml"
    if path.suffix == ".toml":
        text = text.replace(f"{name.removesuffix('.toml')}.toml", path.name)  # the commands in its head
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError as error:
        hint = msg("choose another file")
        raise MachineError(msg("{path} already exists and was not changed", path=str(path)), hint) from error
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=str(path), why=literal(error.strerror or str(error)))
        raise MachineError(said, msg("choose a folder you can write to")) from error
    return path


def generate_schema(what: SchemaName) -> str:
    """The JSON schema of a recipe as people write it, of a run's files, or of what a command prints with --json."""
    if what == "recipe":
        made: object = Recipe.model_json_schema(by_alias=True)
    else:
        made = _allow_extra_fields(
            OUTPUT_MODELS[what].model_json_schema(
                by_alias=True, mode="serialization", schema_generator=_OutputSchemaGenerator
            )
        )
    whole = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | cast("dict[str, object]", made)
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _OutputSchemaGenerator(GenerateJsonSchema):
    """What is printed has every field, defaults too."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        del total
        return not field.get("serialization_exclude")

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        """Without the default itself, which is no part of what was printed."""
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: object) -> bool:
        del schema
        return False


def _allow_extra_fields(node: object) -> object:
    """Without what would make a reader of this schema stumble over a field that a later lorabake adds."""
    if isinstance(node, list):
        return [_allow_extra_fields(each) for each in cast("list[object]", node)]
    if not isinstance(node, dict):
        return node
    table = cast("dict[str, object]", node)
    return {
        key: _allow_extra_fields(value)
        for key, value in table.items()
        if key != "additionalProperties" or not isinstance(value, bool)
    }
