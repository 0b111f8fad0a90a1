"""Facts about files, kept between runs: SQLite in the user's cache folder, never beside the files.

A fact is a text, found again by what the file system says of its file. The store may be torn, foreign, locked or
read-only at any time: then it knows nothing and keeps nothing, and nobody hears of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast
from zlib import crc32

OFF = ("0", "off", "no", "false")
APPLICATION = 0x6C6F7261  # "lora": says whose file it is (PRAGMA application_id)
WAIT_S = 1.0  # for another check that is writing
RACY_NS = 2_000_000_000  # file systems tell times as coarsely as this (FAT): a later change might look the same
UNUSED_DAYS = 90
TABLES = """
CREATE TABLE IF NOT EXISTS fact (kind TEXT, place TEXT, facts TEXT, mark INTEGER, PRIMARY KEY (kind, place));
CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY, used INTEGER);
"""
Answer = TypeVar("Answer")


def stamp_of(state: os.stat_result) -> str:
    """A file as it is now: which one, how long, and when it was last written or changed in any other way."""
    return f"{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def is_settled(state: os.stat_result, now_ns: int) -> bool:
    """Whether a change from now on would show in the file's times."""
    return max(state.st_mtime_ns, state.st_ctime_ns) < now_ns - RACY_NS


def store_path(home: Path, env: Mapping[str, str]) -> Path | None:
    """Where facts are kept below lorabake's own folder; None when LORABAKE_SCAN_CACHE says that they are not."""
    return None if env.get("LORABAKE_SCAN_CACHE", "").lower() in OFF else home / "facts-1.sqlite3"


class FactStore:
    """Facts by their kind, the place they were learned in (a folder's identity, say) and their file's stamp.

    ``kind`` has to change with whatever makes the facts. ``path`` None keeps nothing. Not for several threads.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._open: sqlite3.Connection | None = None
        self._rebuilt = False

    def known(self, kind: str, place: str) -> dict[str, Any]:
        """Fact by stamp; nothing when they do not look as they were written."""
        query = "SELECT facts, mark FROM fact WHERE kind = ? AND place = ?"
        row = self._ask(lambda base: base.execute(query, (kind, place)).fetchone())
        if row is None or not isinstance(row[0], str) or crc32(row[0].encode()) != row[1]:
            return {}
        facts: object = json.loads(row[0])
        return cast("dict[str, Any]", facts) if isinstance(facts, dict) else {}

    def keep(self, kind: str, place: str, facts: Mapping[str, object]) -> None:
        """These are the facts of this kind and place, whatever they were before."""
        text = json.dumps(facts, separators=(",", ":"))
        values = (kind, place, text, crc32(text.encode()))
        self._ask(lambda base: base.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)", values))

    def used(self, places: tuple[str, ...], today: int | None = None) -> None:
        """Say that these places are still there; what was not used for a long time is forgotten. Once a day."""
        day = int(time.time() // 86_400) if today is None else today

        def write(base: sqlite3.Connection) -> None:
            known = dict(base.execute("SELECT name, used FROM place"))
            late = [(name, day) for name in places if known.get(name) != day]
            if not late:
                return
            old = [(name,) for name, used in known.items() if used < day - UNUSED_DAYS and name not in places]
            with _transaction(base):
                base.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", late)
                base.executemany("DELETE FROM fact WHERE place = ?", old)
                base.executemany("DELETE FROM place WHERE name = ?", old)

        self._ask(write)

    def close(self) -> None:
        if self._open is not None:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    def _ask(self, what: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """The answer, None when there is none to be had: then the store is out of use from now on."""
        while self._path is not None:
            try:
                if self._open is None:
                    self._open = _connect(self._path)
                return what(self._open)
            except sqlite3.OperationalError:  # locked, read-only, no such folder, no room
                self.close()
                self._path = None
            except (sqlite3.Error, OSError, ValueError, TypeError):  # torn, or no database at all
                self.close()
                if not _removed(self._path) or self._rebuilt:
                    self._path = None
                self._rebuilt = True
        return None


class Memory:
    """What the store knows of one kind in one place, as lists of ``width`` values; and what is learned about it."""

    def __init__(self, store: FactStore, kind: str, place: str, width: int) -> None:
        self._store, self._kind, self._place, self._width = store, kind, place, width
        self._known = store.known(kind, place)
        self._now = dict[str, Sequence[object]]()
        self._learned = False

    def recall(self, stamp: str) -> list[Any] | None:
        row: list[Any] | None = self._known.get(stamp)
        if not isinstance(row, list) or len(row) != self._width:
            return None
        self._now[stamp] = row
        return row

    def learn(self, stamp: str, row: Sequence[object]) -> None:
        self._now[stamp] = row
        self._learned = True

    def keep(self, there: Iterable[str] | None = None) -> None:
        """Write down what is new. What was not asked for is forgotten: those files are gone, or others now.

        ``there`` are the stamps of files that are still there, where not all of them were asked for.
        """
        if there is not None:
            if not self._learned:
                return
            self._now = {stamp: self._known[stamp] for stamp in there if stamp in self._known} | self._now
        if self._learned or len(self._now) < len(self._known):
            self._store.keep(self._kind, self._place, self._now)


def _connect(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error or OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    base = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)
    try:
        _prepare(base)
    except BaseException:
        base.close()
        raise
    return base


def _prepare(base: sqlite3.Connection) -> None:
    """Make the tables of a new file; what a power failure tears is found out and made anew, so nothing waits for it.

    Raises sqlite3.Error, OperationalError for a database that is another program's.
    """
    (whose,) = base.execute("PRAGMA application_id").fetchone()
    if whose != APPLICATION:
        if base.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise sqlite3.OperationalError("another program's database")
        base.execute("PRAGMA auto_vacuum = FULL")
        with _transaction(base):
            for table in filter(str.strip, TABLES.split(";")):
                base.execute(table)
            base.execute(f"PRAGMA application_id = {APPLICATION}")
    base.execute("PRAGMA synchronous = OFF")


@contextmanager
def _transaction(base: sqlite3.Connection) -> Generator[None]:
    base.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with suppress(sqlite3.Error):
            base.execute("ROLLBACK")
        raise
    base.execute("COMMIT")


def _removed(path: Path) -> bool:
    try:
        for end in ("", "-journal"):
            Path(f"{path}{end}").unlink(missing_ok=True)
    except OSError:
        return False
    return True


__all__ = ["FactStore", "Memory", "is_settled", "stamp_of", "store_path"]
