"""The folder of one run: its paths, how it is made, and how its record is written."""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.runs.states import incomplete
from lorabake_schemas.base import kept
from lorabake_schemas.record import FileDigest, OutputFile, Record
from lorabake_schemas.words import legible, say

if TYPE_CHECKING:
    from collections.abc import Mapping


ROOM = 65536  # bytes; more than a record and the last event take


@dataclass(frozen=True, slots=True)
class RunPaths:
    """Where everything of a run lies. The trainer works in ``root``; compiled files name paths relative to it."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.toml"

    @property
    def train(self) -> Path:
        return self.root / "train.toml"

    @property
    def dataset(self) -> Path:
        return self.root / "dataset.toml"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts.txt"

    @property
    def command(self) -> Path:
        return self.root / "command.json"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def inputs(self) -> Path:
        return self.root / "inputs.json"

    @property
    def record(self) -> Path:
        return self.root / "record.json"

    @property
    def log(self) -> Path:
        return self.root / "logs" / "trainer.log"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.root / "tensorboard"

    @property
    def room(self) -> Path:
        """Space held back while the trainer runs, so that a full disk still lets the record be finished."""
        return self.root / ".room"

    @property
    def running(self) -> Path:
        """Who runs the trainer, from before its start until its end (runs/lock.py)."""
        return self.root / ".running"

    @property
    def output(self) -> Path:
        return self.root / "output"


def prepare(paths: RunPaths, files: Mapping[str, bytes]) -> None:
    """Make the run folder with ``files`` (name to content) and the folders a trainer writes to.

    The folder is always new. Raises MachineError when it exists or cannot be written; nothing half-made stays.
    """
    try:
        paths.root.mkdir(parents=True)
    except FileExistsError as error:
        hint = say("a run folder is never used twice: name another one, or move this one away")
        raise MachineError(say("{path} exists already", path=paths.root), hint) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError(say("cannot make the run folder {folder}: {why}", folder=paths.root, why=why)) from error
    try:
        for folder in (paths.log.parent, paths.tensorboard, paths.output):
            folder.mkdir()
        for name, content in files.items():
            write_to_disk(paths.root / name, content)  # before the record, which says that they are there
        settle(paths.root)
        paths.log.touch()
        paths.room.write_bytes(bytes(ROOM))
    except OSError as error:
        shutil.rmtree(paths.root, ignore_errors=True)
        why = error.strerror or str(error)
        raise MachineError(say("cannot write to the run folder {folder}: {why}", folder=paths.root, why=why)) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a power cut, finds the old content or the new one, never a part.

    Raises MachineError when it cannot be written.
    """
    aside = path.with_name(f".{path.name}.part")
    try:
        write_to_disk(aside, data)
        aside.replace(path)
        settle(path.parent)
    except BaseException as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise MachineError(say("cannot write {path}: {why}", path=path, why=error.strerror or str(error))) from error


def write_to_disk(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it. Raises OSError."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def settle(folder: Path) -> None:
    """Wait until the disk has the names in a folder, where the system knows how to."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_record(paths: RunPaths, record: Record) -> None:
    """Raises MachineError when it cannot be written."""
    write_whole(paths.record, (record.model_dump_json(indent=2) + "\n").encode())


def read_record(path: Path) -> Record:
    """Raises MachineError when the file is missing or is not a record."""
    try:
        return kept(Record, path.read_bytes())
    except (OSError, ValueError) as error:
        raise MachineError(say("{path} is not the record of a run: {why}", path=path, why=str(error))) from error


def digest(path: Path, name: str) -> FileDigest:
    """SHA-256 and size of a file, under the name it is recorded by."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256")
        return FileDigest(name=name, sha256=found.hexdigest(), size=file.tell())


def digest_of(data: bytes, name: str) -> FileDigest:
    """The same for bytes in hand."""
    return FileDigest(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def outputs(paths: RunPaths) -> tuple[OutputFile, ...]:
    """Everything the trainer wrote under output/, by its path inside the run folder.

    What is left of a file that was being rewritten when lorabake was killed is no output.
    """
    files = sorted(path for path in paths.output.rglob("*") if path.is_file() and not is_part(path.name))
    return tuple(_output(path, legible(path.relative_to(paths.root).as_posix())) for path in files)


def _output(path: Path, name: str) -> OutputFile:
    return OutputFile(**digest(path, name).model_dump(), incomplete=incomplete(path))


def is_part(name: str) -> bool:
    """Whether a file is one that was to take the place of another when it was whole."""
    return name.startswith(".") and name.endswith(".part")


__all__ = [
    "RunPaths",
    "digest",
    "digest_of",
    "is_part",
    "outputs",
    "prepare",
    "read_record",
    "settle",
    "write_record",
    "write_to_disk",
    "write_whole",
]
