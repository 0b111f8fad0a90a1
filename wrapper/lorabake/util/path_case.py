"""Paths that exist except for capital letters, which count on Linux and do not on Windows, where recipes come from."""

from __future__ import annotations

from pathlib import Path

from lorabake.util.files import exists


def match_case_insensitive(path: Path) -> Path | None:
    """The one path that differs from this one in capital letters only; None for no such path or several."""
    if exists(path):
        return None
    parent = (
        path.parent if exists(path.parent) else match_case_insensitive(path.parent) if path.parent != path else None
    )
    if parent is None:
        return None
    try:
        alike = [each for each in parent.iterdir() if each.name.casefold() == path.name.casefold()]
    except (OSError, ValueError):
        return None
    return alike[0] if len(alike) == 1 else None


def recipe_relative_path(path: Path, folder: Path) -> str:
    """A path as a recipe in ``folder`` names it."""
    try:
        return path.relative_to(folder).as_posix()
    except ValueError:
        return path.as_posix()
