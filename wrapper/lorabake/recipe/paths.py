"""How the recipe's paths are written in the compiled files: relative to the run folder, where the trainer starts.

A relative path of a recipe stays relative, so that the same project gives the same bytes in any place and can be moved.
An absolute one stays absolute.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from lorabake.util.files import exists
from lorabake_schemas.recipe import Recipe


def list_recipe_paths(recipe: Recipe) -> tuple[str, ...]:
    """Every value of the recipe that names a file or a folder, apart from a hub id among them."""
    base, kohya = recipe.base, recipe.kohya
    trackers = kohya.get("log_tracker_config")
    single = (base.model, base.vae, base.tokenizer_cache_dir, recipe.network.network_weights, trackers)
    several = kohya.get("base_weights")
    folders = (*(part.images for part in recipe.concept), *(part.images for part in recipe.regularization))
    beside = (path for part in recipe.concept for path in (part.masks, part.metadata_file))
    listed = several if isinstance(several, tuple) else ()
    return tuple(dict.fromkeys(path for path in (*single, *folders, *beside, *listed) if isinstance(path, str)))


def list_hub_ids(recipe: Recipe) -> tuple[str, ...]:
    """Those of them that may be a hub id; the others are paths even if they do not exist yet."""
    return tuple(name for name in (recipe.base.model, recipe.base.vae) if name is not None)


def resolve_run_paths(
    paths: Iterable[str], recipe_folder: Path, run_folder: Path, maybe_ids: Collection[str] = ()
) -> dict[str, str]:
    """Each path as the trainer has to see it from ``run_folder``, with forward slashes (they work everywhere).

    Folders above the last name are resolved first: ``..`` through a symbolic link would lead astray. What does not
    exist and is among ``maybe_ids`` is a hub id and has no entry.
    """
    found: dict[str, str] = {}
    start = Path(os.path.realpath(run_folder.parent)) / run_folder.name
    for path in paths:
        target = recipe_folder / path
        if path in maybe_ids and not Path(path).is_absolute() and not exists(target):
            continue
        found[path] = Path(path).as_posix() if Path(path).is_absolute() else _relative_path(target, start)
    return found


def _relative_path(target: Path, start: Path) -> str:
    named = target.name not in {"", ".", ".."}
    real = Path(os.path.realpath(target.parent)) / target.name if named else Path(os.path.realpath(target))
    try:
        return Path(os.path.relpath(real, start)).as_posix()
    except ValueError:  # another drive
        return real.as_posix()


def find_windows_path(written: str, folder: Path) -> str | None:
    r"""The path here for one that is written as on Windows: D:\train as WSL mounts it, train\img with slashes.

    None for one that is not, or of which nothing is there; ``folder`` is the recipe's.
    """
    drive = re.fullmatch(r"([A-Za-z]):[\\/]+(.*)", written, re.DOTALL)
    there = f"/mnt/{drive[1].lower()}/{drive[2]}" if drive else written
    there = there.replace("\\", "/")
    return there if there != written and exists(folder / there) else None
