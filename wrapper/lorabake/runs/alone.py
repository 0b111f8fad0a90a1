"""One run of a name at a time: a lock beside the run folders, which the system frees on any death."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.locks import is_held, try_held
from lorabake.runs.folder import RunPaths, read_record
from lorabake_schemas.words import say

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from lorabake_schemas.record import Record


@contextmanager
def only_run(paths: RunPaths, name: str) -> Generator[None, None, None]:
    """Hold the name for this run. The system frees it on any death.

    Raises MachineError when another run has it, or when the guard of this one, whose lorabake is gone, is still at
    work: it would finish a record that is being written anew.
    """
    folder = paths.root.parent
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            free = stack.enter_context(try_held(folder / f".{name}.lock"))
        except OSError as error:
            why = error.strerror or str(error)
            raise MachineError(say("cannot write to {folder}: {why}", folder=folder, why=why)) from error
        if not free:
            busy = in_progress(folder, name)
            said = say("a run named {name} is in progress", name=name)
            if busy:
                said = say("a run named {name} is in progress in {folder}", name=name, folder=busy)
            raise MachineError(said, say("wait for it, stop it, or give this recipe another name"))
        if is_held(paths.root):
            said = say("the trainer of {run} is still being stopped: its lorabake was killed", run=paths.root)
            raise MachineError(said, say("try again in a few seconds"))
        yield


def refuse_if_busy(root: Path, name: str) -> None:
    """Raises MachineError when a run of that name is in progress, before minutes are spent on an installation.

    Only a hint: launch() decides. Makes no folder and no file.
    """
    if (root.parent / f".{name}.lock").exists():
        with only_run(RunPaths(root), name):
            return


def is_going_on(paths: RunPaths, record: Record) -> bool:
    """Whether this run is in progress; one whose lorabake and guard were both killed is not, whatever its record says.

    Makes no folder and no file.
    """
    lock = paths.root.parent / f".{record.name}.lock"
    if record.status != "started":
        return False
    if is_held(paths.root):
        return True
    if not lock.exists():
        return False
    with suppress(OSError), try_held(lock) as free:
        return not free and in_progress(paths.root.parent, record.name) == paths.root
    return True  # the lock cannot be tried: believe the record


def in_progress(folder: Path, name: str) -> Path | None:
    """The run of that name that has begun and not ended; the newest when there are several."""
    found: list[tuple[str, Path]] = []
    for path in folder.glob("*/record.json"):
        try:
            record = read_record(path)
        except MachineError:
            continue
        if record.name == name and record.status == "started":
            found.append((record.started, path.parent))
    return max(found)[1] if found else None


__all__ = ["in_progress", "is_going_on", "only_run", "refuse_if_busy"]
