"""Where a copy of a dataset may be made: outside of the dataset, with room for it, and by one process at a time."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from lorabake.errors import BusyError, MachineError, ResourceError
from lorabake.recipe.load import LoadedRecipe
from lorabake.util import machine
from lorabake.util.files import get_identity
from lorabake.util.locks import LockHolder, find_holder, try_lock
from lorabake_schemas.messages import msg
from lorabake_schemas.recipe import Recipe


def refuse_places(root: Path, recipe: Recipe, loaded: LoadedRecipe) -> None:
    """Raises MachineError where the dataset would be written into, or where the new folder would be part of it."""
    folder = loaded.folder
    named = [path for part in recipe.concept for path in (part.images, part.masks, part.metadata_file) if path]
    used = [folder / path for path in (*named, *(part.images for part in recipe.regularization))]
    new = _list_identities(root)
    for path in used:
        if not path.is_file() and get_identity(path) in new:
            raise MachineError(
                msg("{path} is in the dataset's folder {folder}", path=root, folder=path),
                msg("pass a folder outside of it with --to"),
            )
    here = get_identity(root)
    for path in (*used, loaded.path):
        if here is not None and here in _list_identities(path.absolute()):
            raise MachineError(
                msg("{path} contains {file} of the recipe", path=root, file=path),
                msg("pass a new folder with --to"),
            )


def _list_identities(path: Path) -> set[tuple[int, int]]:
    """The file numbers of a path and all folders above it: a path has many names, on some systems in any case."""
    real = Path(os.path.realpath(path))
    return {found for each in (real, *real.parents) if (found := get_identity(each)) is not None}


def refuse_little_space(root: Path, needed: int) -> None:
    """Raises ResourceError if less than ``needed`` bytes are free for the new folder."""
    free = machine.get_free_disk(root)
    if needed > free:
        raise ResourceError(
            msg(
                "not enough disk space for {path}: about {need:.1f} GB needed, {free:.1f} GB free",
                path=root,
                need=needed / 1e9,
                free=free / 1e9,
            ),
            msg("free some space, or pass a folder on another disk with --to"),
        )


@contextmanager
def hold_place(place: Path, lock: Path) -> Generator[None]:
    """Keep other processes from making ``place``. Raises BusyError if one is, OSError if there can be no lock."""
    with try_lock(lock) as holder:
        if holder is not None:
            raise _make_busy_error(place, holder)
        yield


def refuse_busy(place: Path, lock: Path) -> None:
    """Raises BusyError if another process is making ``place``; changes nothing."""
    try:
        holder = find_holder(lock)
    except OSError:
        return
    if holder is not None:
        raise _make_busy_error(place, holder)


def _make_busy_error(place: Path, holder: LockHolder) -> BusyError:
    return BusyError(msg("{path} is being prepared by {who}", path=place, who=holder.who), holder.hint)
