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

from lorabake.util.files import open_append, read_bytes, replace_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

INDEX_FILE = "runs.jsonl"
RECORD_FILE = "record.json"
MAX_INDEX_BYTES = 1_000_000  # bytes: some 5000 runs; then those that are gone are left out
MAX_NEIGHBORS = 500  # run folders that are looked through beside one that has gone


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """``digest`` is the run's; None for one that has none."""

    root: Path
    digest: str | None


def register_run(home: Path, root: Path, digest: str | None) -> None:
    """Note a run that starts. Never raises: a run must not fail for want of a note about it."""
    line = json.dumps({"run": str(root.absolute()), "digest": digest}) + "\n"
    path = home / INDEX_FILE
    with suppress(OSError, ValueError):
        home.mkdir(0o755, parents=True, exist_ok=True)
        with open_append(path) as file:  # a short line is appended in one piece, whoever else does the same
            file.write(line.encode())
            size = file.tell()
        if size > MAX_INDEX_BYTES:
            _drop_missing_runs(path)


def _drop_missing_runs(path: Path) -> None:
    """What another run notes in this very moment may be lost; its files then find it by their place only."""
    kept = {entry.root: entry for entry in _iter_index(path) if (entry.root / RECORD_FILE).is_file()}
    lines = (json.dumps({"run": str(entry.root), "digest": entry.digest}) + "\n" for entry in kept.values())
    replace_bytes(path, "".join(lines).encode())


def read_index(home: Path) -> list[IndexEntry]:
    """Every run that was noted, the newest first; runs that have gone since are among them."""
    return list(dict.fromkeys(reversed(list(_iter_index(home / INDEX_FILE)))))


def _iter_index(path: Path) -> Iterator[IndexEntry]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, RecursionError, AttributeError, TypeError):
            told = cast("dict[str, object]", json.loads(line))
            run, digest = told.get("run"), told.get("digest")
            if isinstance(run, str) and run and "\0" not in run:
                yield IndexEntry(Path(run), digest if isinstance(digest, str) else None)


def iter_runs_with_digest(noted: Iterable[IndexEntry], digest: str) -> Iterator[Path]:
    """Run folders whose record has this digest; a folder that was renamed is found beside where it was."""
    searched: set[Path] = set()
    for entry in noted:
        if entry.digest != digest:
            continue
        if record_contains(entry.root, digest):
            yield entry.root
        elif entry.root.parent not in searched:
            searched.add(entry.root.parent)
            yield from (folder for folder in _list_folders(entry.root.parent) if record_contains(folder, digest))


def record_contains(root: Path, text: str) -> bool:
    """Whether a text stands in the record of a run; quicker than understanding thousands of records."""
    try:
        return text.encode() in read_bytes(root / RECORD_FILE)
    except OSError:
        return False


def _list_folders(parent: Path) -> list[Path]:
    try:
        return sorted(each for each in parent.iterdir() if each.is_dir())[:MAX_NEIGHBORS]
    except OSError:
        return []
