"""Whether a run that is going on reads a picture folder, whatever it is named and wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import BusyError, MachineError
from lorabake.inputs.manifest import resolve_from_run
from lorabake.runs import register
from lorabake.runs.folder import RunPaths, read_record
from lorabake.runs.lock import find_active
from lorabake_schemas.messages import escape_undecodable, msg

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lorabake_schemas.record import Record

STARTED_FIELD = '"status": "started"'  # as a record of a run that has not ended is written
DATASET_ROLES = ("concept", "regularization")
FileId = tuple[int, int] | str  # device and inode; a path where bytes in it had to be spelt out


def ensure_inputs_free(folders: Iterable[Path], home: Path, runs: Path) -> None:
    """Raises BusyError when a run that is going on is made from one of these picture folders.

    Looked for among the runs that this machine has noted, and those that lie in ``runs``.
    """
    wanted = {place: folder for folder in folders for place in _iter_file_ids(folder)}
    noted = (entry.root for entry in register.read_index(home))
    for root in dict.fromkeys((*noted, *(path.parent.absolute() for path in runs.glob("*/record.json")))):
        if not register.record_contains(root, STARTED_FIELD):
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
