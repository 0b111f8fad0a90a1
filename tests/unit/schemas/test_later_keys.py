"""Records of a later lorabake: new keys at any depth are accepted, and the recipe stays strict anyway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_inputs, read_plan, read_record, write_record
from lorabake_schemas.base import parse_lenient
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.machine import Gpu, MachineFacts
from lorabake_schemas.messages import literal
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.record import (
    FileDigest,
    IgnoredFinding,
    Input,
    Inputs,
    Outcome,
    OutputFile,
    Record,
    RunPart,
    TrainerRecord,
)
from situations import RECORDED, recipe
from situations import plan_of as planned

FILE = FileDigest(name="1.png", sha256="a" * 64, size=3)
PICTURES = Input(role="concept", name="pics", place="../../pics", kind="folder", files=(FILE,))
FINDING = Finding(rule="S1", severity=Severity.WARNING, message=literal("m"), fix=literal("f"))
OUTCOME = Outcome(code="trained", message=literal("well"), outputs=(OutputFile(name="1.png", sha256="a" * 64, size=3),))
RECORD = Record(
    lorabake="0.0.1", name="x", rehearsal=False, status="finished", started="2026-01-31T09:30:00.000Z",
    recipe=FILE, compiled=(FILE,), seed=7, trainer=TrainerRecord(kind="own", python="/p", packages={"torch": "2"}),
    machine=MachineFacts(system="Linux", cpus=2, memory_bytes=1, gpus=(Gpu(name="RTX", memory_mib=1),)),
    argv=(), cwd="/r", environment={"COLUMNS": "200"}, findings=(FINDING,),
    ignored=(IgnoredFinding(finding=FINDING, reason="so"),), planned_steps=4, outcome=OUTCOME,
    inputs=(PICTURES.digest(),),
    parts=(RunPart(number=1, started="2026-01-31T09:30:00.000Z", status="finished", argv=(), outcome=OUTCOME),),
    **RECORDED,
)  # fmt: skip
ITEMS, TABLE = TypeAdapter(list[Any]), TypeAdapter(dict[str, Any])
TABLES = (("environment",), ("trainer", "packages"))  # of names: every key is one of them


def grown(value: Any, at: tuple[str, ...] = ()) -> Any:
    """The same with a key more in every table."""
    if isinstance(value, list):
        return [grown(each, at) for each in ITEMS.validate_python(value)]
    if not isinstance(value, dict) or at in TABLES:
        return value  # pyright: ignore[reportUnknownVariableType] - whatever it was
    return {key: grown(each, (*at, key)) for key, each in TABLE.validate_python(value).items()} | {"later": {"a": [1]}}


def written(path: Path, text: str) -> bytes:
    content = json.dumps(grown(json.loads(text))).encode()
    path.write_bytes(content)
    return content


def test_a_record_is_read_and_keeps_what_was_added_to_it(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    written(paths.record, RECORD.model_dump_json())
    for found in (read_record(paths.record),):
        assert found.model_extra == {"later": {"a": [1]}}
        assert found.trainer == RECORD.trainer
        assert found.inputs == RECORD.inputs
    write_record(paths, read_record(paths.record))
    assert json.loads(paths.record.read_bytes()) == json.loads(RECORD.model_dump_json()) | {"later": {"a": [1]}}


def test_inputs_and_plan_are_read(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    written(paths.inputs, Inputs(inputs=(PICTURES,)).model_dump_json())
    assert read_inputs(paths) == (PICTURES,)
    plan = planned(recipe())
    written(paths.plan, plan.model_dump_json())
    found = read_plan(paths)
    assert found is not None
    assert found.model_dump() == plan.model_dump()


@pytest.mark.parametrize("model", [Record, Inputs, Plan])
def test_what_is_no_record_stays_none(model: type[Record | Inputs | Plan]) -> None:
    for content in (b"{}", b"[]", b"", b"null", b'{"later": 1}', b"\xff", b'{"inputs": 3}'):
        with pytest.raises(ValidationError):
            parse_lenient(model, content)


def test_a_recipe_is_as_strict_as_before() -> None:
    table = grown({"name": "x"})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Recipe.model_validate(table)
