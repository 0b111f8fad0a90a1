"""The published JSON schemas."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, cast

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from lorabake.recipe.editor_schema import JSON_SCHEMA, format_recipe_schema
from lorabake_schemas.base import StrictModel
from lorabake_schemas.caption_report import CaptionReport
from lorabake_schemas.check_report import CheckReport, PlanDifference, PlanReport
from lorabake_schemas.comparison import LoraComparison
from lorabake_schemas.doctor import DoctorReport
from lorabake_schemas.error_report import ErrorReport
from lorabake_schemas.explanation import ExplainReport
from lorabake_schemas.export_report import ExportReport
from lorabake_schemas.import_report import ImportReport
from lorabake_schemas.init_report import InitReport
from lorabake_schemas.inspection import InspectReport
from lorabake_schemas.prepared import PreparedSet, PrepareReport
from lorabake_schemas.queue_report import QueueReport
from lorabake_schemas.record import Inputs, Record
from lorabake_schemas.run_status import LogExcerpt, StatusReport
from lorabake_schemas.run_table import RunTable
from lorabake_schemas.tag_report import CaptionEditReport, TagReport
from lorabake_schemas.verification import VerifyReport
from lorabake_schemas.versions import CommitDifference

SchemaName = Literal[
    "import",
    "recipe", "check", "plan", "diff", "explain", "record", "inputs", "inspect", "verify", "compare", "commits",
    "status", "logs", "error", "doctor", "table", "queue", "tags", "tag-edits", "caption", "init",
    "prepare", "prepared", "export",
]  # fmt: skip
OUTPUT_MODELS: Mapping[str, type[StrictModel]] = MappingProxyType(
    {
        "import": ImportReport,
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
        "status": StatusReport,
        "logs": LogExcerpt,
        "doctor": DoctorReport,
        "error": ErrorReport,
        "table": RunTable,
        "queue": QueueReport,
        "tags": TagReport,
        "tag-edits": CaptionEditReport,
        "caption": CaptionReport,
        "init": InitReport,
        "prepare": PrepareReport,
        "prepared": PreparedSet,
        "export": ExportReport,
    }
)


def generate_schema(what: SchemaName) -> str:
    """The JSON schema of a recipe, of a run's files, or of the JSON that a command prints."""
    if what == "recipe":
        return format_recipe_schema()
    made = OUTPUT_MODELS[what].model_json_schema(
        by_alias=True, mode="serialization", schema_generator=_OutputSchemaGenerator
    )
    whole = JSON_SCHEMA | cast("dict[str, object]", _allow_extra_fields(made))
    return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


class _OutputSchemaGenerator(GenerateJsonSchema):
    """Output has every field, defaults too."""

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,
    ) -> bool:
        del total
        return not field.get("serialization_exclude")

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> dict[str, Any]:
        """Without the default itself, which output does not contain."""
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
