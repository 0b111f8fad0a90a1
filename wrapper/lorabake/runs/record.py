"""record.json, inputs.json and plan.json: how they are read, and how a run's end is put into its record."""

from __future__ import annotations

import json
import os
import tomllib
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from lorabake.errors import MachineError
from lorabake.runs.events import format_timestamp, utc_now
from lorabake.runs.folder import RunPaths, replace_file
from lorabake.util.files import read_bytes, read_json, reason
from lorabake_schemas.base import parse_lenient
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Plan
from lorabake_schemas.record import Inputs, Record, RunPart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lorabake_schemas.messages import Message
    from lorabake_schemas.record import Input, Outcome, RunStatus


def write_record(paths: RunPaths, record: Record) -> None:
    """Raises MachineError when it cannot be written."""
    replace_file(paths.record, (record.model_dump_json(indent=2) + "\n").encode(), within=paths.root)


def read_record(path: Path) -> Record:
    """Raises MachineError when the file is missing or is not a record."""
    try:
        found = read_bytes(path, within=path.parent)
    except OSError as error:
        raise MachineError(msg("cannot read {path}: {why}", path=path, why=reason(error))) from error
    try:
        return parse_lenient(Record, found)
    except ValidationError as error:
        raise _invalid_record_error(path, found, error) from error


def read_record_fields(root: Path) -> Mapping[str, object]:
    """The record of a run folder as it is in the file, for a search through many: nothing is validated, and one that
    cannot be read is empty."""
    try:
        table: object = read_json(RunPaths(root).record, within=root)
    except (OSError, ValueError):
        return {}
    return cast("Mapping[str, object]", table) if isinstance(table, dict) else {}


def read_inputs(paths: RunPaths) -> tuple[Input, ...] | None:
    """What inputs.json lists; None when it is missing or not valid."""
    try:
        return parse_lenient(Inputs, read_bytes(paths.inputs, within=paths.root)).inputs
    except (OSError, ValueError, RecursionError):
        return None


def read_plan(paths: RunPaths) -> Plan | None:
    """The plan that the run started with; None if it is missing or invalid."""
    try:
        return parse_lenient(Plan, read_bytes(paths.plan, within=paths.root))
    except (OSError, ValueError, RecursionError):
        return None


def read_trigger_words(paths: RunPaths) -> tuple[str, ...]:
    """The tokens and outfits of the run's recipe, each once; none without a readable one."""
    try:
        recipe = tomllib.loads(read_bytes(paths.recipe, within=paths.root).decode())
    except (OSError, ValueError, RecursionError):
        return ()
    concepts = recipe.get("concept")
    tables = cast("list[object]", concepts) if isinstance(concepts, list) else []
    words = [
        cast("dict[str, object]", table).get(key)
        for table in tables
        if isinstance(table, dict)
        for key in ("token", "outfit")
    ]
    return tuple(dict.fromkeys(word for word in words if isinstance(word, str) and word))


def _invalid_record_error(path: Path, content: bytes, error: ValidationError) -> MachineError:
    try:
        table: object = json.loads(content)
    except (ValueError, RecursionError):
        return MachineError(msg("{path} is damaged (not valid JSON)", path=path))
    version = cast("dict[str, object]", table).get("version") if isinstance(table, dict) else None
    if isinstance(version, int) and version > 1:
        said = msg("{path} was written by a newer lorabake (record version {n})", path=path, n=version)
        return MachineError(said, msg("update lorabake"))
    first = error.errors(include_url=False)[0]
    key = ".".join(map(str, first["loc"])) or "it"
    return MachineError(msg("{path} is not a valid run record ({key}: {why})", path=path, key=key, why=first["msg"]))


def close_record(record: Record, outcome: Outcome, status: RunStatus, then: str | None = None) -> Record:
    """The record of a run that is over, and of its last part where it has several; ``then`` by default is now."""
    now = then or format_timestamp(utc_now())
    record = record.model_copy(update={"status": status, "ended": now})
    if record.parts:
        last = record.parts[-1].model_copy(update={"status": status, "ended": now})
        record = record.model_copy(update={"parts": (*record.parts[:-1], last)})
    return with_outcome(record, outcome)


def with_outcome(record: Record, outcome: Outcome) -> Record:
    """Set the outcome of the run and of its last part; the list of files is stored once."""
    if record.parts:
        last = record.parts[-1].model_copy(update={"outcome": outcome.model_copy(update={"outputs": ()})})
        record = record.model_copy(update={"parts": (*record.parts[:-1], last)})
    return record.model_copy(update={"outcome": outcome})


def with_remarks(record: Record, remarks: tuple[Message, ...]) -> Record:
    if record.outcome is None or not remarks:
        return record
    return with_outcome(record, record.outcome.model_copy(update={"remarks": (*record.outcome.remarks, *remarks)}))


def with_part(record: Record, part: RunPart) -> Record:
    """The record of a run that continues with another part. A part without an end was killed with its guard."""
    before = record.parts or (first_part(record),)
    ended = (each.model_copy(update={"status": "interrupted"}) if each.status == "started" else each for each in before)
    changes = {"status": "started", "ended": None, "outcome": None, "pid": os.getpid(), "parts": (*ended, part)}
    return record.model_copy(update=changes)


def first_part(record: Record) -> RunPart:
    """The run before it was resumed for the first time."""
    outcome = record.outcome.model_copy(update={"outputs": ()}) if record.outcome is not None else None
    return RunPart(
        number=1,
        started=record.started,
        ended=record.ended,
        status=record.status,
        argv=record.argv,
        seat=record.seat,
        outcome=outcome,
    )
