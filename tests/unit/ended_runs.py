"""The record of a run that has ended in any way."""

from __future__ import annotations

from lorabake_schemas.record import Record
from situations import CPU


def record(status: str, outcome: dict[str, object] | None) -> Record:
    names = {"recipe": "recipe.toml", "plan_file": "plan.json", "inputs_file": "inputs.json"}
    files = {field: {"name": name, "sha256": "0", "size": 1} for field, name in names.items()}
    fields: dict[str, object] = {
        "lorabake": "0", "name": "x", "rehearsal": False, "status": status, "started": "now", **files,
        "recipe_text": "", "recipe_place": "r.toml", "digest": "0",
        "compiled": [], "seed": 1, "trainer": {"kind": "pin", "python": "py"}, "machine": CPU.model_dump(), "argv": [],
        "cwd": "/", "environment": {}, "planned_steps": 3, "outcome": outcome,
    }  # fmt: skip
    return Record.model_validate(fields)
