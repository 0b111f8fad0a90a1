"""Whether a run that is going on reads a picture folder, whatever it is named and wherever it lies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.reading.inputs import seen_from
from lorabake.runs import register
from lorabake.runs.folder import RunPaths, read_record
from lorabake.runs.lock import find_active
from lorabake_schemas.words import legible, say

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from lorabake_schemas.record import Record

STARTED = '"status": "started"'  # as a record of a run that has not ended is written
PICTURES = ("concept", "regularisation")
Place = tuple[int, int] | str  # device and inode; a path where bytes in it had to be spelt out


def refuse_if_in_use(folders: Iterable[Path], home: Path, runs: Path) -> None:
    """Raises MachineError when a run that is going on is made from one of these picture folders.

    Looked for among the runs that this machine has noted, and those that lie in ``runs``.
    """
    wanted = {place: folder for folder in folders for place in _places(folder)}
    noted = (entry.root for entry in register.entries(home))
    for root in dict.fromkeys((*noted, *(path.parent.absolute() for path in runs.glob("*/record.json")))):
        if not register.holds(root, STARTED):
            continue
        paths = RunPaths(root)
        try:
            record = read_record(paths.record)
        except MachineError:
            continue
        folder = _shared(record, root, wanted)
        if folder is not None and find_active(paths, record) is not None:
            raise MachineError(
                say("{run} is in progress and reads the caches in {folder}", run=root, folder=folder),
                say("wait for it, or stop it first"),
            )


def _shared(record: Record, root: Path, wanted: Mapping[Place, Path]) -> Path | None:
    for each in record.inputs:
        if each.role in PICTURES:
            for place in _places(Path(seen_from(root, each.place))):
                if place in wanted:
                    return wanted[place]
    return None


def _places(folder: Path) -> Iterator[Place]:
    try:
        state = folder.stat()
        yield state.st_dev, state.st_ino
        folder = folder.resolve()
    except (OSError, ValueError):  # not there under this name
        pass
    yield legible(str(folder))


__all__ = ["refuse_if_in_use"]
