"""Where trainers are kept: one folder each, and a marker file for a complete one.

A folder without a marker was left by an installation that died; nobody uses it and the next one removes it. Folder
names are never used twice, so that nothing still running from a dead installation can write into a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError

from lorabake.errors import SetupError
from lorabake.trainer.ownership import refuse_unsafe
from lorabake.util import files
from lorabake_schemas.base import StrictModel
from lorabake_schemas.pin import LockName, Pin

if TYPE_CHECKING:
    from collections.abc import Generator


REPLACED_FILE = ".replaced"
REPLACED_KEEP_SECONDS = 7 * 86_400  # no training of a LoRA takes as long


class InstallManifest(StrictModel):
    """A complete trainer: ``folder`` is its name in the store, ``versions`` the installed packages'.

    ``files_sha256`` is that of its manifest, which has a hash for each of its files. A new ``version`` must go into
    key(), too, or an older lorabake sharing the store would write over its markers.
    """

    version: Literal[2] = 2
    folder: str = Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=200)
    url: str
    commit: str
    lock: LockName
    lock_sha256: str
    files_sha256: str
    python: str
    versions: dict[str, str]


def trainers_folder(home: Path) -> Path:
    """The folder of all trainers."""
    return home / "trainers"


def trainer_key(pin: Pin, lock: LockName, lock_sha256: str, python: str) -> str:
    """What makes a trainer another trainer. ``python`` is major.minor: a venv survives its Python's patches."""
    parts = [2, pin.url, pin.commit, list(pin.sparse), lock, lock_sha256, python]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def read_marker(home: Path, key: str) -> InstallManifest | None:
    """The marker of a trainer; None without one that can be understood.

    Raises SetupError if others can write to the store, the marker or the trainer's folder, or own one of them.
    """
    path = trainers_folder(home) / f"{key}.json"
    refuse_unsafe_store(home)
    refuse_unsafe(path)
    try:
        marker = InstallManifest.model_validate_json(files.read_bytes(path, within=trainers_folder(home)))
    except (OSError, ValidationError):
        return None
    refuse_unsafe(trainers_folder(home) / marker.folder)
    return marker


def list_complete(home: Path) -> tuple[tuple[InstallManifest, Path], ...]:
    """Every trainer in the store that is marked as complete, of whatever commit, and its folder; those that may not
    be used are passed over."""
    found: list[tuple[InstallManifest, Path]] = []
    for path in sorted(trainers_folder(home).glob("*.json")):
        with suppress(SetupError):
            if marker := read_marker(home, path.stem):
                found.append((marker, trainers_folder(home) / marker.folder))
    return tuple(found)


def refuse_unsafe_store(home: Path) -> None:
    """Raises SetupError for a store that others can write to. Both folders may be links, such as to a larger disk: only
    who may write to the folder above can have made them."""
    for folder in (home, trainers_folder(home)):
        refuse_unsafe(folder.resolve())


def create_store(home: Path) -> None:
    """Make the store, which no other user can write to. Raises OSError, SetupError for one that others can."""
    for folder in (home, trainers_folder(home)):
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)  # whatever the umask
    refuse_unsafe_store(home)


def activate_trainer(home: Path, key: str, marker: InstallManifest) -> None:
    """Write the marker atomically. Raises OSError.

    The folder that it named before, of a trainer that is repaired, stays for a while: a training may run from it.
    """
    target = trainers_folder(home) / f"{key}.json"
    with suppress(SetupError):
        before = read_marker(home, key)
        if before is not None and before.folder != marker.folder:
            (trainers_folder(home) / before.folder / REPLACED_FILE).touch()
    aside = target.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("x", encoding="utf-8") as file:
            aside.chmod(0o644)
            file.write(marker.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def remove_stale(home: Path) -> tuple[str, ...]:
    """Remove what dead installations left; only for the owner of the store's lock. Returns the names removed.

    A folder stays if any marker names it, even one that only a newer lorabake understands, or if it was replaced a few
    days ago: a training may be running from it. Raises OSError if a marker cannot be read.
    """
    named = "\n".join(path.read_bytes().decode("utf-8", "replace") for path in trainers_folder(home).glob("*.json"))
    removed: list[str] = []
    for path in sorted(trainers_folder(home).iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in named and not _is_just_replaced(path):
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path.name)
        elif path.suffix == ".tmp":
            with suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return tuple(removed)


def _is_just_replaced(folder: Path) -> bool:
    try:
        return (folder / REPLACED_FILE).lstat().st_mtime > time.time() - REPLACED_KEEP_SECONDS
    except OSError:
        return False


@contextmanager
def stage_folder(home: Path, name: str) -> Generator[Path, None, None]:
    """A new empty folder, its name starting with ``name``; removed again when the block ends by any exception."""
    folder = trainers_folder(home) / f"{name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(mode=0o755)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
