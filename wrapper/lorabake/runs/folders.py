"""Where runs are kept around a folder, and their names. Imports little: shells ask for it at every press of Tab."""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, cast

from lorabake.util.files import read_text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

RUNS_FOLDER = "runs"
RECORD_FILE = "record.json"
PLAIN_NAME = re.compile(r"[\w./+@%,=-]+")
MAX_RECIPE_BYTES = 1 << 20  # bytes of a file that is looked through only to find runs


def iter_runs_folders(here: Path) -> Iterator[Path]:
    """Where runs are kept: ./runs, ./*/runs, and the save.runs of recipes in this folder."""
    named = [here, here / RUNS_FOLDER, *sorted(here.glob(f"*/{RUNS_FOLDER}"))]
    named += [here / runs for recipe in sorted(here.glob("*.toml")) if (runs := _read_runs_setting(recipe)) is not None]
    seen: set[Path] = set()
    for folder in named:
        real = folder.resolve()
        if real not in seen and os.path.isdir(folder):  # noqa: PTH112 - what cannot be read is not one
            seen.add(real)
            yield folder


def _read_runs_setting(recipe: Path) -> str | None:
    """A recipe's save.runs; None if it cannot be read."""
    try:
        save = tomllib.loads(read_text(recipe, MAX_RECIPE_BYTES)).get("save")
    except (OSError, ValueError, RecursionError):
        return None
    runs = cast("dict[str, object]", save).get("runs") if isinstance(save, dict) else None
    return runs if isinstance(runs, str) and "\0" not in runs else None


def list_run_names(here: Path) -> list[str]:
    """What the runs around here may be called: their folder's name, or its path from here if several have that name.
    Without names that a shell would take apart.
    """
    roots = [path.parent for folder in iter_runs_folders(here) for path in folder.glob(f"*/{RECORD_FILE}")]
    known = Counter(root.name for root in roots)
    names = (root.name if known[root.name] == 1 else display_path(root, here) for root in roots)
    return sorted(name for name in names if PLAIN_NAME.fullmatch(name))


def display_path(folder: Path, here: Path) -> str:
    """Relative if it is below, as a person would type it."""
    return str(folder.relative_to(here)) if folder.is_relative_to(here) else str(folder)
