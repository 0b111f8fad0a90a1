"""Facts about files, kept between runs: SQLite in the user's cache folder, never beside the files.

A fact is a text, found again by what the file system says of its file. The store may be torn, foreign, locked or
read-only at any time: then it knows nothing and keeps nothing, and nobody hears of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeVar
from zlib import crc32

from lorabake.util.files import open_descriptor

OFF_VALUES = ("0", "off", "no", "false")
APPLICATION_ID = 0x6C6F7261  # "lora": says whose file it is (PRAGMA application_id)
BUSY_TIMEOUT_S = 1.0  # for another check that is writing
RACY_NS = 2_000_000_000  # file systems tell times as coarsely as this (FAT): a later change might look the same
UNUSED_DAYS = 90
SCHEMA_SQL = """
CREATE TABLE IF NOT EXISTS fact (kind TEXT, place TEXT, facts TEXT, mark INTEGER, PRIMARY KEY (kind, place));
CREATE TABLE IF NOT EXISTS place (name TEXT PRIMARY KEY, used INTEGER);
"""
Answer = TypeVar("Answer")
Row = list[Any]
Stamps = Sequence[str | None]  # None: a file that is not there


def make_stamp(state: os.stat_result, name: str = "") -> str:
    """A file as it is now: what kind of thing, its name, which one, how long, when it was written and when changed.

    The letter in front is as ``ls`` has it: ``-`` a file, ``d`` a folder, ``?`` something else. The name counts, since
    some file systems (FAT, sshfs) number their files anew each time and tell times in whole seconds.
    """
    mode = state.st_mode
    kind = "-" if S_ISREG(mode) else "d" if S_ISDIR(mode) else "?"
    return f"{kind}:{name}:{state.st_dev}:{state.st_ino}:{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def is_file_stamp(stamp: str | None) -> bool:
    return stamp is not None and stamp[0] == "-"


def is_settled(stamp: str | None, now_ns: int) -> bool:
    """Whether it is a file, and a change from now on would show in its times."""
    if stamp is None or not is_file_stamp(stamp):
        return False
    return max(map(int, stamp.rsplit(":", 2)[1:])) < now_ns - RACY_NS


def fact_store_path(home: Path, env: Mapping[str, str]) -> Path | None:
    """Where facts are kept below lorabake's own folder; None when LORABAKE_SCAN_CACHE says that they are not."""
    return None if env.get("LORABAKE_SCAN_CACHE", "").lower() in OFF_VALUES else home / "facts-1.sqlite3"


class FactStore:
    """Facts by their kind, the place they were learned in (a folder's identity, say) and their file's stamp.

    ``kind`` has to change with whatever makes the facts. ``path`` None keeps nothing. Not for several threads.
    """

    def __init__(self, path: Path | None, unused_days: int = UNUSED_DAYS) -> None:
        self._path = path
        self._unused_days = unused_days
        self._open: sqlite3.Connection | None = None
        self._rebuilt = False

    def known(self, kind: str, place: str) -> Any:
        """What was kept last of this kind and place; None when it does not look as it was written."""
        query = "SELECT facts, mark FROM fact WHERE kind = ? AND place = ?"
        row = self._query(lambda base: base.execute(query, (kind, place)).fetchone())
        return None if row is None else _parse_checked(*row)

    def everywhere(self, kind: str) -> Iterator[Any]:
        """What was kept of this kind, of every place; nothing that does not look as it was written."""
        query = "SELECT facts, mark FROM fact WHERE kind = ? ORDER BY place"
        for facts, mark in self._query(lambda base: base.execute(query, (kind,)).fetchall()) or ():
            if (known := _parse_checked(facts, mark)) is not None:
                yield known

    def keep(self, kind: str, place: str, facts: object) -> None:
        """From now on this is what is known of this kind and place."""
        text = json.dumps(facts, separators=(",", ":"))
        values = (kind, place, text, crc32(text.encode()))
        self._query(lambda base: base.execute("INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?)", values))

    def used(self, places: tuple[str, ...], today: int | None = None) -> None:
        """Say that these places are still there; what was not used for a long time is forgotten. Once a day."""
        day = int(time.time() // 86_400) if today is None else today

        def write(base: sqlite3.Connection) -> None:
            known = dict(base.execute("SELECT name, used FROM place"))
            late = [(name, day) for name in places if known.get(name) != day]
            if not late:
                return
            old = [(name,) for name, used in known.items() if used < day - self._unused_days and name not in places]
            with _transaction(base):
                base.executemany("INSERT OR REPLACE INTO place VALUES (?, ?)", late)
                base.executemany("DELETE FROM fact WHERE place = ?", old)
                base.executemany("DELETE FROM place WHERE name = ?", old)

        self._query(write)

    def close(self) -> None:
        if self._open is not None:
            with suppress(sqlite3.Error):
                self._open.close()
            self._open = None

    def _query(self, what: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """The answer, None when there is none to be had: then the store is out of use from now on."""
        while self._path is not None:
            try:
                if self._open is None:
                    self._open = _open_database(self._path)
                return what(self._open)
            except sqlite3.OperationalError:  # locked, read-only, no such folder, no room
                self.close()
                self._path = None
            except (sqlite3.Error, OSError, ValueError, TypeError):  # torn, or no database at all
                self.close()
                if not _remove_database(self._path) or self._rebuilt:
                    self._path = None
                self._rebuilt = True
        return None


class FactCache:
    """What the store knows of one kind about the files of one place, as rows of ``width`` values."""

    def __init__(self, store: FactStore, kind: str, place: str, width: int) -> None:
        self._store, self._kind, self._place = store, kind, place
        self._stamps, self._rows = _parse_rows(store.known(kind, place), width)

    def recall(self, stamps: Stamps) -> list[Row | None]:
        """A row for each file, None for those that are not known. Mostly nothing has changed, and this is quick."""
        if stamps == self._stamps:
            return self._rows.copy()
        known = dict(zip(self._stamps, self._rows, strict=True))
        return [known.get(stamp) if stamp else None for stamp in stamps]

    def rest(self, stamps: Iterable[str | None]) -> list[tuple[str, Row]]:
        """What is known of other files than these."""
        these = set(stamps)
        return [
            (stamp, row)
            for stamp, row in zip(self._stamps, self._rows, strict=True)
            if stamp and row and stamp not in these
        ]

    def keep(self, stamps: Stamps, rows: list[Row | None]) -> None:
        """From now on this is what is known; None for what is not to be."""
        if stamps != self._stamps or rows != self._rows:
            self._store.keep(self._kind, self._place, [stamps, rows])


def _parse_checked(text: Any, mark: Any) -> Any:
    """What ``FactStore.keep`` wrote, None when it is not whole."""
    return json.loads(text) if isinstance(text, str) and crc32(text.encode()) == mark else None


def _parse_rows(facts: Any, width: int) -> tuple[Stamps, list[Row | None]]:
    """Stamps and rows as ``Memory.keep`` wrote them; nothing when they are anything else."""
    try:
        stamps, rows = facts
        known = [row for row in rows if row is not None]
        if len(stamps) == len(rows) and _are_lists((stamps, rows, *known)) and set(map(len, known)) <= {width}:
            return stamps, rows
    except (TypeError, ValueError):
        pass
    return [], []


def _are_lists(things: Iterable[Any]) -> bool:
    return set(map(type, things)) <= {list}


def _open_database(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error or OSError."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)  # trainers are kept there, too
    with suppress(FileNotFoundError):
        os.close(open_descriptor(path))  # SQLite would wait for ever at a pipe
    base = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        _create_tables(base)
    except BaseException:
        base.close()
        raise
    return base


def _create_tables(base: sqlite3.Connection) -> None:
    """Make the tables of a new file; what a power failure tears is found out and made anew, so nothing waits for it.

    Raises sqlite3.Error, OperationalError for a database that is another program's.
    """
    (whose,) = base.execute("PRAGMA application_id").fetchone()
    if whose != APPLICATION_ID:
        if base.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise sqlite3.OperationalError("another program's database")
        base.execute("PRAGMA auto_vacuum = FULL")
        with _transaction(base):
            for table in filter(str.strip, SCHEMA_SQL.split(";")):
                base.execute(table)
            base.execute(f"PRAGMA application_id = {APPLICATION_ID}")
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


def _remove_database(path: Path) -> bool:
    try:
        for end in ("", "-journal"):
            Path(f"{path}{end}").unlink(missing_ok=True)
    except OSError:
        return False
    return True
