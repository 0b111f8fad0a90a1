"""Finds runs: by a folder, a file inside it or a name; by what they read; by the digest in a LoRA.

A line for each run in lorabake's own folder makes it possible to find the run from a file. Nothing depends on that
list: lines that cannot be read, and deleted runs, are ignored.
"""

from __future__ import annotations

import difflib
import glob
import json
import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.errors import AlreadyFinishedError, BusyError, MachineError
from lorabake.inputs.manifest import resolve_from_run
from lorabake.recipe.load import advise_foreign, find_importable
from lorabake.runs.finalize import complete_record
from lorabake.runs.folder import RunPaths
from lorabake.runs.folders import MAX_RECIPE_BYTES, RECORD_FILE, display_path, iter_runs_folders
from lorabake.runs.lock import find_active
from lorabake.runs.record import read_record, read_record_fields
from lorabake.util.files import is_file, open_append, os_errors_as_messages, read_bytes, read_text, replace_bytes
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAX_DEPTH = 4  # output/NAME-state/... is never deeper inside a run folder
INDEX_FILE = "runs.jsonl"
MAX_INDEX_BYTES = 1_000_000  # bytes: some 5000 runs; then deleted ones are left out
MAX_NEIGHBORS = 500  # run folders that are searched next to one that is missing
DATASET_ROLES = ("concept", "regularization")
FileId = tuple[int, int] | str  # device and inode; a path where bytes in it had to be escaped


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run folder, its record, and its name for display."""

    paths: RunPaths
    record: Record
    name: str

    @property
    def root(self) -> Path:
        return self.paths.root


def find_run(named: str | Path, here: Path) -> FoundRun:
    """Find the run that ``named`` means; relative paths and names count from ``here``. The record of a killed run is
    completed (runs/finalize.py).

    Raises MachineError for an unknown run, for several of that name, or for a record that cannot be read.
    """
    root = run_path(here / named)
    if root is None:
        with os_errors_as_messages():
            root = _find_by_name(str(named), here)
    return read_run(root, here)


def read_run(root: Path, here: Path) -> FoundRun:
    """The run in a folder, its record completed. Raises MachineError if that cannot be read."""
    paths = RunPaths(root)
    return FoundRun(paths, complete_record(paths, read_record(paths.record)), display_path(root, here))


def run_path(path: Path) -> Path | None:
    """The run folder that a path leads to or is in; None without a record.

    Raises MachineError if that is unknown, for example because of missing permissions.
    """
    with os_errors_as_messages(path):
        if not path.exists():
            return None
        around = [path, *path.absolute().parents[:MAX_DEPTH]] if path.is_file() else [path]
        return next((folder for folder in around if has_record(folder)), None)


def has_record(folder: Path) -> bool:
    """Whether a folder has a record.json, also one that is not a file: its reader says so. Raises OSError."""
    try:
        (folder / RECORD_FILE).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _find_by_name(name: str, here: Path) -> Path:
    """The run folder of that name, wherever runs are kept around here."""
    if Path(name).name != name or name in {"", ".", ".."}:
        raise _unknown_run_error(name, here)
    found, shut = list[Path](), list[OSError]()
    for folder in iter_runs_folders(here):
        try:
            found += [folder / name] if has_record(folder / name) else []
        except OSError as error:  # it may be there: reported if it is nowhere else
            shut.append(error)
    if not found:
        raise shut[0] if shut else _unknown_run_error(name, here)
    if len(found) > 1:
        places = ", ".join(display_path(each, here) for each in found)
        raise MachineError(
            msg("there are several runs named {name}", name=name), msg("pass one of these: {runs}", runs=places)
        )
    return found[0]


def list_runs(folder: Path, here: Path, home: Path, *, everywhere: bool = False) -> list[tuple[Path, str]]:
    """The run folders below ``folder``: where runs are kept around it, and those that this machine has recorded. Each
    with its name for display from ``here``. ``everywhere`` adds all that this machine has recorded.

    Raises MachineError if there is no such folder.
    """
    with os_errors_as_messages(folder):
        if not folder.is_dir():
            raise MachineError(msg("folder not found: {path}", path=folder))
    top = Path(os.path.normpath(folder.absolute()))
    found = [top] if is_file(top / RECORD_FILE) else []
    for runs in iter_runs_folders(top):
        found += (path.parent for path in sorted(runs.glob(f"*/{RECORD_FILE}")))
    noted = (entry.root for entry in read_index(home))
    found += (root for root in noted if (everywhere or root.is_relative_to(top)) and is_file(root / RECORD_FILE))
    unique: dict[Path, Path] = {}
    for root in found:
        unique.setdefault(root.resolve(), root)
    return [(root, display_path(root, here)) for root in unique.values()]


def _unknown_run_error(name: str, here: Path) -> MachineError:
    """No such run; near names where there are any."""
    path = here / name
    if any(_has_machine_log(each) for each in (path, *(folder / name for folder in iter_runs_folders(here)))):
        said = msg("{path} belongs to another machine of a run on several: it has no record.json", path=name or ".")
        return MachineError(said, msg("use the run on the first machine, or copy its run folder from there"))
    if path.is_dir():
        said = msg("{path} is not a run folder: it has no record.json", path=name or ".")
        inside = sorted(display_path(each.parent, here) for each in path.glob(f"*/{RECORD_FILE}"))
        return MachineError(said, _suggest_runs(inside) if inside else None)
    if path.is_file():
        hint = msg("pass a run folder, such as runs/NAME-001")
        runs = _list_recipe_runs(path, here) if path.suffix == ".toml" else []
        if runs:
            hint = msg("this is a recipe; pass one of its runs: {runs}", runs=", ".join(runs))
        if (foreign := find_importable(path)) is not None:
            said = msg("{path} is {what}", path=name, what=foreign.label)
            return MachineError(said, advise_foreign(foreign, Path(name)))
        return MachineError(msg("{path} is not in a run folder", path=name), hint)
    known = {
        each.parent.name: each.parent for folder in iter_runs_folders(here) for each in folder.glob(f"*/{RECORD_FILE}")
    }
    last = Path(name).name
    near = difflib.get_close_matches(last, known, 5, 0.6) or [each for each in sorted(known) if each.startswith(last)]
    hint = msg("pass a run folder, or the name of a run in ./runs or next to a recipe here")
    if near and last:
        hint = _suggest_runs([display_path(known[each], here) for each in sorted(near)])
    return MachineError(msg("run not found: {name}", name=name), hint)


def _has_machine_log(root: Path) -> bool:
    """Whether a folder has the log of another machine than the first, and is thus the run folder of one (jobs/join.py),
    if it has no record."""
    return root.is_dir() and any(root.glob("logs/machine-*.log"))


def _list_recipe_runs(recipe: Path, here: Path) -> list[str]:
    """The runs of a recipe's name in the folders around it."""
    try:
        name = str(tomllib.loads(read_text(recipe, MAX_RECIPE_BYTES)).get("name"))
    except (OSError, ValueError, RecursionError):
        return []
    found = [
        each.parent
        for folder in iter_runs_folders(here)
        for each in folder.glob(f"{glob.escape(name)}-*/{RECORD_FILE}")
    ]
    return [display_path(each, here) for each in sorted(found)]


def _suggest_runs(runs: Sequence[str]) -> Message:
    return (
        msg("did you mean {name}?", name=runs[0])
        if len(runs) == 1
        else msg("pass one of these: {runs}", runs=", ".join(runs))
    )


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """``digest`` is the run's; None for one that has none."""

    root: Path
    digest: str | None


def register_run(home: Path, root: Path, digest: str | None) -> None:
    """Note a run that starts. Never raises: a run must not fail for want of a note about it."""
    line = json.dumps({"run": str(root.absolute()), "digest": digest}) + "\n"
    path = home / INDEX_FILE
    with suppress(OSError, ValueError):
        home.mkdir(0o755, parents=True, exist_ok=True)
        with open_append(path) as file:  # a short line is appended in one piece, whoever else does the same
            file.write(line.encode())
            size = file.tell()
        if size > MAX_INDEX_BYTES:
            _drop_missing_runs(path)


def _drop_missing_runs(path: Path) -> None:
    """What another run notes in this very moment may be lost; its files then find it by their place only."""
    kept = {entry.root: entry for entry in _iter_index(path) if (entry.root / RECORD_FILE).is_file()}
    lines = (json.dumps({"run": str(entry.root), "digest": entry.digest}) + "\n" for entry in kept.values())
    replace_bytes(path, "".join(lines).encode())


def read_index(home: Path) -> list[IndexEntry]:
    """Every recorded run, the newest first; some may have been deleted since."""
    return list(dict.fromkeys(reversed(list(_iter_index(home / INDEX_FILE)))))


def _iter_index(path: Path) -> Iterator[IndexEntry]:
    try:
        lines = read_bytes(path).splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            told = cast("dict[str, object]", json.loads(line))
            run, digest = told.get("run"), told.get("digest")
            if isinstance(run, str) and run and "\0" not in run:
                yield IndexEntry(Path(run), digest if isinstance(digest, str) else None)


def iter_runs_with_digest(noted: Iterable[IndexEntry], digest: str) -> Iterator[Path]:
    """Run folders whose record has this digest; a renamed folder is found next to its old place."""
    searched: set[Path] = set()
    for entry in noted:
        if entry.digest != digest:
            continue
        if has_digest(entry.root, digest):
            yield entry.root
        elif entry.root.parent not in searched:
            searched.add(entry.root.parent)
            yield from list_runs_with_digest(entry.root.parent, digest)


def has_digest(root: Path, digest: str) -> bool:
    """Whether the record of a run folder has this digest."""
    return read_record_fields(root).get("digest") == digest


def ensure_unfinished(folder: Path, digest: str) -> None:
    """Raises AlreadyFinishedError if a run in ``folder`` with this digest has finished."""
    for root in list_runs_with_digest(folder, digest):
        if read_record_fields(root).get("status") == "finished":
            raise AlreadyFinishedError(msg("{run} has finished with the same settings and files", run=root))


def list_runs_with_digest(folder: Path, digest: str) -> list[Path]:
    """The run folders in ``folder`` whose record has this digest."""
    return [root for root in _list_folders(folder) if has_digest(root, digest)]


def _list_folders(parent: Path) -> list[Path]:
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir())[:MAX_NEIGHBORS]
    except OSError:
        return []


def ensure_inputs_free(folders: Iterable[Path], home: Path, runs: Path) -> None:
    """Raises BusyError if a run in progress uses one of these image folders.

    Searches the runs that this machine has recorded, and those in ``runs``.
    """
    wanted = {place: folder for folder in folders for place in _iter_file_ids(folder)}
    noted = (entry.root for entry in read_index(home))
    for root in dict.fromkeys((*noted, *(path.parent.absolute() for path in runs.glob(f"*/{RECORD_FILE}")))):
        if read_record_fields(root).get("status") != "started":
            continue
        paths = RunPaths(root)
        try:
            record = read_record(paths.record)
        except MachineError:
            continue
        folder = _find_shared_folder(record, root, wanted)
        if folder is not None and find_active(paths, record) is not None:
            raise BusyError(
                msg("{run} is in progress and reads the caches in {folder}", run=root, folder=folder),
                msg("wait for it, or stop it first"),
            )


def _find_shared_folder(record: Record, root: Path, wanted: Mapping[FileId, Path]) -> Path | None:
    for each in record.inputs:
        if each.role in DATASET_ROLES:
            for place in _iter_file_ids(Path(resolve_from_run(root, each.place))):
                if place in wanted:
                    return wanted[place]
    return None


def _iter_file_ids(folder: Path) -> Iterator[FileId]:
    try:
        state = folder.stat()
        yield state.st_dev, state.st_ino
        folder = folder.resolve()
    except (OSError, ValueError):  # not there under this name
        pass
    yield escape_undecodable(str(folder))
