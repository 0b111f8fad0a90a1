"""Which run is meant: its folder, its record.json, a file inside it, or its name below ./runs or beside a recipe."""

from __future__ import annotations

import difflib
import glob
import json
import os
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from lorabake.errors import MachineError
from lorabake.runs.folder import RunPaths
from lorabake.runs.settle import complete_record
from lorabake.util.files import os_errors_as_messages, read_bytes, read_text, reason
from lorabake_schemas.base import parse_lenient
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS_FOLDER = "runs"
RECORD_FILE = "record.json"
MAX_RECIPE_BYTES = 1 << 20  # bytes of a file that is looked through only to find runs
MAX_DEPTH = 4  # output/NAME-state/... lies no deeper inside a run folder


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run folder, the record in it, and what it is called to a person."""

    paths: RunPaths
    record: Record
    name: str

    @property
    def root(self) -> Path:
        return self.paths.root


def find_run(named: str | Path, here: Path) -> FoundRun:
    """The run that ``named`` means; relative paths and names count from ``here``. The record of one that was killed is
    completed (runs/settle.py).

    Raises MachineError when there is none, when there are several of that name, or when its record cannot be read.
    """
    root = run_path(here / named)
    if root is None:
        with os_errors_as_messages():
            root = _find_by_name(str(named), here)
    paths = RunPaths(root)
    return FoundRun(paths, complete_record(paths, load_record(paths)), _display_path(root, here))


def run_path(path: Path) -> Path | None:
    """The run folder that a path leads to or lies in; None when there is no record.

    Raises MachineError when that cannot be told, such as for want of permission.
    """
    with os_errors_as_messages(path):
        if not path.exists():
            return None
        around = [path, *path.absolute().parents[:MAX_DEPTH]] if path.is_file() else [path]
        return next((folder for folder in around if (folder / RECORD_FILE).is_file()), None)


def load_record(paths: RunPaths) -> Record:
    """The record of a run, or why it cannot be read as MachineError."""
    try:
        found = read_bytes(paths.record, within=paths.root)
    except OSError as error:
        raise MachineError(msg("cannot read {path}: {why}", path=paths.record, why=reason(error))) from error
    try:
        return parse_lenient(Record, found)
    except ValidationError as error:
        raise _invalid_record_error(paths.record, found, error) from error


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


def _find_by_name(name: str, here: Path) -> Path:
    """The run folder of that name, wherever runs are kept around here."""
    if Path(name).name != name or name in {"", ".", ".."}:
        raise _unknown_run_error(name, here)
    found, shut = list[Path](), list[OSError]()
    for folder in iter_runs_folders(here):
        try:
            found += [folder / name] if (folder / name / RECORD_FILE).is_file() else []
        except OSError as error:  # it may lie there: said when it lies nowhere else
            shut.append(error)
    if not found:
        raise shut[0] if shut else _unknown_run_error(name, here)
    if len(found) > 1:
        places = ", ".join(_display_path(each, here) for each in found)
        raise MachineError(
            msg("there are several runs named {name}", name=name), msg("pass one of these: {runs}", runs=places)
        )
    return found[0]


def iter_runs_folders(here: Path) -> Iterator[Path]:
    """Where runs are kept: ./runs, ./*/runs, and what the recipes that lie here name as save.runs."""
    named = [here, here / RUNS_FOLDER, *sorted(here.glob(f"*/{RUNS_FOLDER}"))]
    named += [here / runs for recipe in sorted(here.glob("*.toml")) if (runs := _read_runs_setting(recipe)) is not None]
    seen: set[Path] = set()
    for folder in named:
        real = folder.resolve()
        if real not in seen and os.path.isdir(folder):  # noqa: PTH112 - what cannot be looked at is none
            seen.add(real)
            yield folder


def _read_runs_setting(recipe: Path) -> str | None:
    """A recipe's save.runs; whatever cannot be read names nothing."""
    try:
        save = tomllib.loads(read_text(recipe, MAX_RECIPE_BYTES)).get("save")
    except (OSError, ValueError, RecursionError):
        return None
    runs = cast("dict[str, object]", save).get("runs") if isinstance(save, dict) else None
    return runs if isinstance(runs, str) and "\0" not in runs else None


def _unknown_run_error(name: str, here: Path) -> MachineError:
    """No such run; near names where there are any."""
    path = here / name
    if path.is_dir():
        said = msg("{path} is not a run folder: it has no record.json", path=name or ".")
        inside = sorted(_display_path(each.parent, here) for each in path.glob(f"*/{RECORD_FILE}"))
        return MachineError(said, _suggest_runs(inside) if inside else None)
    if path.is_file():
        hint = msg("pass a run folder, such as runs/NAME-001")
        runs = _list_recipe_runs(path, here) if path.suffix == ".toml" else []
        if runs:
            hint = msg("this is a recipe; pass one of its runs: {runs}", runs=", ".join(runs))
        return MachineError(msg("{path} is not in a run folder", path=name), hint)
    known = {
        each.parent.name: each.parent for folder in iter_runs_folders(here) for each in folder.glob(f"*/{RECORD_FILE}")
    }
    last = Path(name).name
    near = difflib.get_close_matches(last, known, 5, 0.6) or [each for each in sorted(known) if each.startswith(last)]
    hint = msg("pass a run folder, or the name of a run in ./runs or next to a recipe here")
    if near and last:
        hint = _suggest_runs([_display_path(known[each], here) for each in sorted(near)])
    return MachineError(msg("run not found: {name}", name=name), hint)


def _list_recipe_runs(recipe: Path, here: Path) -> list[str]:
    """The runs of a recipe's name that lie around."""
    try:
        name = str(tomllib.loads(read_text(recipe, MAX_RECIPE_BYTES)).get("name"))
    except (OSError, ValueError, RecursionError):
        return []
    found = [
        each.parent
        for folder in iter_runs_folders(here)
        for each in folder.glob(f"{glob.escape(name)}-*/{RECORD_FILE}")
    ]
    return [_display_path(each, here) for each in sorted(found)]


def _suggest_runs(runs: Sequence[str]) -> Message:
    return (
        msg("did you mean {name}?", name=runs[0])
        if len(runs) == 1
        else msg("pass one of these: {runs}", runs=", ".join(runs))
    )


def _display_path(folder: Path, here: Path) -> str:
    """Relative where it lies below, as a person would type it."""
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
