"""The published schemas, and whether a table matches them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from jsonschema import Draft202012Validator

from lorabake.commands.json_schema import SchemaName

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


def hold(table: object, what: SchemaName) -> None:
    """Raises ValidationError if the table does not match the published file."""
    published = json.loads((SCHEMAS / f"{what}.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(published)
    check: Callable[[object], None] = cast("Any", Draft202012Validator(published)).validate
    check(table)
