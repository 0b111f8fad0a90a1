"""Where this machine's runs are: a line for each in lorabake's own folder, so that a file leads back to its run.

Nothing depends on it: without it, a run is still found from a file that lies inside. Lines that cannot be read, and
runs that are gone, count as not there.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.files import open_append, read_bytes, replace_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

REGISTER = "runs.jsonl"
RECORD = "record.json"
TIDY_AT = 1_000_000  # bytes: some 5000 runs; then those that are gone are left out
NEIGHBOURS = 500  # run folders that are looked through beside one that has gone


@dataclass(frozen=True, slots=True)
class Entry:
    """``digest`` is the run's; None for one that has none."""

    root: Path
    digest: str | None


def remember(home: Path, root: Path, digest: str | None) -> None:
    """Note a run that starts. Never raises: a run must not fail for want of a note about it."""
    line = json.dumps({"run": str(root.absolute()), "digest": digest}) + "\n"
    path = home / REGISTER
    with suppress(OSError, ValueError):
        home.mkdir(0o755, parents=True, exist_ok=True)
        with open_append(path) as file:  # a short line is appended in one piece, whoever else does the same
            file.write(line.encode())
            size = file.tell()
        if size > TIDY_AT:
            _tidy(path)


def _tidy(path: Path) -> None:
    """What another run notes in this very moment may be lost; its files then find it by their place only."""
    kept = {entry.root: entry for entry in _entries(path) if (entry.root / RECORD).is_file()}
    lines = (json.dumps({"run": str(entry.root), "digest": entry.digest}) + "\n" for entry in kept.values())
    replace_bytes(path, "".join(lines).encode())


def entries(home: Path) -> list[Entry]:
    """Every run that was noted, the newest first; runs that have gone since are among them."""
    return list(dict.fromkeys(reversed(list(_entries(home / REGISTER)))))


def _entries(path: Path) -> Iterator[Entry]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            told = cast("dict[str, object]", json.loads(line))
            run, digest = told.get("run"), told.get("digest")
            if isinstance(run, str) and run and "\0" not in run:
                yield Entry(Path(run), digest if isinstance(digest, str) else None)


def with_digest(noted: Iterable[Entry], digest: str) -> Iterator[Path]:
    """Run folders whose record has this digest; a folder that was renamed is found beside where it was."""
    searched: set[Path] = set()
    for entry in noted:
        if entry.digest != digest:
            continue
        if holds(entry.root, digest):
            yield entry.root
        elif entry.root.parent not in searched:
            searched.add(entry.root.parent)
            yield from (folder for folder in _folders(entry.root.parent) if holds(folder, digest))


def holds(root: Path, text: str) -> bool:
    """Whether a text stands in the record of a run; quicker than understanding thousands of records."""
    try:
        return text.encode() in read_bytes(root / RECORD)
    except OSError:
        return False


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir())[:NEIGHBOURS]
    except OSError:
        return []


__all__ = ["Entry", "entries", "holds", "remember", "with_digest"]
