"""The folder of one run: its paths, how it is made, what the trainer left in it, and where it is now."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.lora.completeness import incomplete_lora_reason
from lorabake.util import files
from lorabake.util.hashing import digest_file
from lorabake_schemas.messages import escape_undecodable, msg
from lorabake_schemas.record import OutputFile

if TYPE_CHECKING:
    from collections.abc import Mapping


RESERVED_BYTES = 65536  # bytes; more than a record and the last event take
MOVED, DELETED = "folder-moved", "folder-deleted"
DELETED_SUFFIX = " (deleted)"  # what Linux appends to the path of a deleted folder


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The paths of a run. The trainer works in ``root``; compiled files name paths relative to it."""

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
        """Reserved space while the trainer runs, so that the record can be finished on a full disk."""
        return self.root / ".room"

    @property
    def running(self) -> Path:
        """Who runs the trainer, from before its start until its end (runs/lock.py)."""
        return self.root / ".running"

    @property
    def stop(self) -> Path:
        """Requests to stop the run (runs/stop_request.py)."""
        return self.root / ".stop"

    @property
    def output(self) -> Path:
        return self.root / "output"

    def part(self, number: int) -> Path:
        """What a continuation writes to before its files come into output/."""
        return self.root / "parts" / f"{number:03d}"


def create_run_folder(paths: RunPaths, contents: Mapping[str, bytes]) -> None:
    """Make the run folder with its files (``contents`` by name) and the folders a trainer writes to.

    The folder is always new. Raises MachineError when it exists or cannot be written; nothing half-made stays.
    """
    try:
        paths.root.mkdir(parents=True)
    except FileExistsError as error:
        hint = msg("run folders are never reused; choose another one, or move this one away")
        raise MachineError(msg("{path} already exists", path=paths.root), hint) from error
    except OSError as error:
        why = error.strerror or str(error)
        said = msg("cannot create the run folder {folder}: {why}", folder=paths.root, why=why)
        raise files.disk_error(error, said) from error
    try:
        for folder in (paths.log.parent, paths.tensorboard, paths.output):
            files.make_folder(folder, within=paths.root)
        for name, content in contents.items():
            # before the record, which lists them
            files.write_bytes(paths.root / name, content, within=paths.root, durable=True)
        files.sync_folder(paths.root)
        files.write_bytes(paths.log, b"", within=paths.root)
        reserve_space(paths)
    except OSError as error:
        files.remove_tree(paths.root)
        said = msg(
            "cannot write to the run folder {folder}: {why}", folder=paths.root, why=error.strerror or str(error)
        )
        raise files.disk_error(error, said) from error


def reserve_space(paths: RunPaths) -> None:
    """Reserve the space that finishing the record needs. Raises OSError."""
    files.write_bytes(paths.room, bytes(RESERVED_BYTES), within=paths.root)


def replace_file(path: Path, data: bytes, *, within: Path) -> None:
    """Write a file so that a reader finds the old content or the new one. Raises MachineError when it cannot."""
    try:
        files.replace_bytes(path, data, within=within)
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=path, why=files.reason(error))
        raise files.disk_error(error, said) from error


def list_outputs(paths: RunPaths) -> tuple[OutputFile, ...]:
    """Everything the trainer wrote under output/, by its path inside the run folder.

    Leftovers of a file that was being rewritten when lorabake was killed are not outputs, and links are not either.
    """
    if paths.output.is_symlink():
        return ()
    every = sorted(Path(folder, name) for folder, _, names in os.walk(paths.output) for name in names)
    plain = (path for path in every if S_ISREG(path.lstat().st_mode) and not is_partial_file(path.name))
    return tuple(_digest_output(path, escape_undecodable(path.relative_to(paths.root).as_posix())) for path in plain)


def _digest_output(path: Path, name: str) -> OutputFile:
    return OutputFile(**digest_file(path, name).model_dump(), incomplete=incomplete_lora_reason(path))


def is_partial_file(name: str) -> bool:
    """Whether a file was to replace another one when it was complete."""
    return name.startswith(".") and name.endswith(".part")


class FolderHandle:
    """An open handle of a folder, which stays valid if the folder is renamed."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._descriptor = os.open(root, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))

    def __enter__(self) -> FolderHandle:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def is_deleted(self) -> bool:
        """Whether it certainly has no name; a folder that was moved to another disk was copied and deleted.

        A disk that does not answer for a moment (NFS, a ticket that ran out) is no reason to stop a training.
        """
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                return True
            here = os.path.samestat(self.root.stat(), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            here = False
        except OSError:
            return False
        return not here and self._find_moved_path() is None

    def now(self) -> Path:
        """Where it is; where it was, when it is nowhere."""
        return self.root if self._is_at(self.root) else self._find_moved_path() or self.root

    def _find_moved_path(self) -> Path | None:
        path = _descriptor_path(self._descriptor)
        return path if path is not None and self._is_at(path) else None

    def _is_at(self, path: Path) -> bool:
        with suppress(OSError):
            return os.path.samestat(path.stat(), os.fstat(self._descriptor))
        return False


def _descriptor_path(descriptor: int) -> Path | None:
    """The path of an open folder, as the system has it today."""
    with suppress(OSError, AttributeError):
        if sys.platform == "darwin":
            import fcntl

            return Path(os.fsdecode(fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(1024)).rstrip(b"\0")))
        return Path(os.readlink(f"/proc/self/fd/{descriptor}").removesuffix(DELETED_SUFFIX))  # noqa: PTH115 - no file
    return None
