"""Where trainers are kept: one folder each, and a marker file that says a folder is complete.

A folder without a marker is what an installation left that died; nobody uses it and the next one removes it. Folder
names are never used twice, so that nothing still running from a dead installation can write into a new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from lorabake.homes import home
from lorabake_schemas.base import StrictModel
from lorabake_schemas.pin import LockName, Pin

if TYPE_CHECKING:
    from collections.abc import Generator


class Marker(StrictModel):
    """A complete trainer: ``folder`` is its name in the store, ``versions`` the installed packages'.

    A new ``version`` must go into key(), too, or an older lorabake sharing the store would write over its markers.
    """

    version: Literal[1] = 1
    folder: str
    url: str
    commit: str
    lock: LockName
    lock_sha256: str
    python: str
    versions: dict[str, str]


def root(home: Path) -> Path:
    """The folder that holds the trainers."""
    return home / "trainers"


def key(pin: Pin, lock: LockName, lock_sha256: str, python: str) -> str:
    """What makes a trainer another trainer. ``python`` is major.minor: a venv survives its Python's patches."""
    parts = [pin.url, pin.commit, list(pin.sparse), lock, lock_sha256, python]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def read(home: Path, key: str) -> Marker | None:
    """The marker of a trainer; None when there is none that can be understood."""
    try:
        return Marker.model_validate_json((root(home) / f"{key}.json").read_bytes())
    except (OSError, ValidationError):
        return None


def complete(home: Path) -> tuple[tuple[Marker, Path], ...]:
    """Every trainer in the store that is marked as complete, of whatever commit, and its folder."""
    markers = (read(home, path.stem) for path in sorted(root(home).glob("*.json")))
    return tuple((marker, root(home) / marker.folder) for marker in markers if marker is not None)


def publish(home: Path, key: str, marker: Marker) -> None:
    """Write the marker so that it is either there and whole or not there. Raises OSError."""
    target = root(home) / f"{key}.json"
    aside = target.with_suffix(f".{uuid.uuid4().hex}.tmp")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.write(marker.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def sweep(home: Path) -> tuple[str, ...]:
    """Remove what dead installations left; only for who holds the store's lock. Returns the names removed.

    A folder stays when any marker names it, be it one that only a newer lorabake understands: a training may be
    running from it. Raises OSError when a marker cannot be read.
    """
    named = "\n".join(path.read_bytes().decode("utf-8", "replace") for path in root(home).glob("*.json"))
    removed: list[str] = []
    for path in sorted(root(home).iterdir()):
        if path.is_dir() and not path.is_symlink() and path.name not in named:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path.name)
        elif path.suffix == ".tmp":
            with suppress(OSError):
                path.unlink()
                removed.append(path.name)
    return tuple(removed)


@contextmanager
def building(home: Path, name: str) -> Generator[Path, None, None]:
    """A new empty folder, its name starting with ``name``; removed again when the block ends by any exception."""
    folder = root(home) / f"{name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


__all__ = ["Marker", "building", "complete", "home", "key", "publish", "read", "root", "sweep"]
