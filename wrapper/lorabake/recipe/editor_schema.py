"""The JSON schema of a recipe, which editors complete and check recipes by."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from lorabake.util.files import exists, write_bytes
from lorabake_schemas.recipe import Recipe

SCHEMA_FILE = "recipe.schema.json"
SCHEMA_LINE = f"#:schema {SCHEMA_FILE}"  # editors look for it in the recipe's folder
JSON_SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def format_recipe_schema() -> str:
    """As people write a recipe, not as it is stored."""
    return json.dumps(JSON_SCHEMA | Recipe.model_json_schema(by_alias=True), indent=2, ensure_ascii=False) + "\n"


def write_recipe_schema(folder: Path) -> None:
    """Write the schema to the path in a recipe's first line. An existing file stays. A recipe works without it, so a
    disk that refuses it is not an error.
    """
    with contextlib.suppress(OSError):
        if not exists(folder / SCHEMA_FILE):
            write_bytes(folder / SCHEMA_FILE, format_recipe_schema().encode(), within=folder)
