"""Facts about files, kept between runs: one SQLite table in the user's cache folder, never next to the files.

A fact is found by its file's name and stat. The store may be damaged, foreign, locked or read-only at any time: then it
returns and keeps nothing, which is not an error.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, TypeVar
from zlib import crc32

from lorabake.util.files import open_descriptor

OFF_VALUES = ("0", "off", "no", "false")
APPLICATION_ID = 0x6C6F7261  # "lora": whose file it is (PRAGMA application_id)
BUSY_TIMEOUT_S = 1.0  # for another check that is writing
RACY_NS = 2_000_000_000  # some file systems (FAT) have times as coarse as this: a later change might look the same
UNUSED_DAYS, REFRESH_DAYS = 90, 7  # a fact is forgotten when unused for so long; its last use is noted so often
SECONDS_PER_DAY = 86_400
SCHEMA_SQL = """
CREATE TABLE fact (
    kind TEXT, folder TEXT, name BLOB, stamp BLOB, value TEXT, mark INTEGER, day INTEGER,
    PRIMARY KEY (kind, folder, name)
) WITHOUT ROWID
"""
Answer = TypeVar("Answer")
Row = list[Any]


def make_stamp(state: os.stat_result, name: str = "") -> str:
    """A file's current type, name, inode, size, and times of its last write and change.

    The first letter is that of ``ls``: ``-`` a file, ``d`` a folder, ``?`` something else. The name counts, since some
    file systems (FAT, sshfs) number their files again at each mount and have times in full seconds.
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
    """Where facts are kept below lorabake's own folder; None when LORABAKE_SCAN_CACHE turns that off."""
    return None if env.get("LORABAKE_SCAN_CACHE", "").lower() in OFF_VALUES else home / "facts-2.sqlite3"


class FactStore:
    """Facts by their kind, their folder (for example its identity) and the stamp of their file: lists of values.

    ``kind`` has to change with the code that makes the facts. ``path`` None keeps nothing. Not for several threads.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._base: sqlite3.Connection | None = None
        self._rebuilt = False

    def recall(self, kind: str, folder: str, stamps: Sequence[str | None], width: int) -> list[Row | None]:
        """A row of ``width`` values for each file; None for one that is not known, or damaged."""
        query = "SELECT stamp, value, mark, day FROM fact WHERE kind = ? AND folder = ?"
        rows = self._query(lambda base: base.execute(query, (kind, folder)).fetchall())
        if not rows:
            return [None] * len(stamps)
        known = {stamp: rest for stamp, *rest in rows}
        keys = [_encode(stamp or "") for stamp in stamps]
        today = _today()
        old = [key for key in keys if key in known and known[key][2] <= today - REFRESH_DAYS]
        if old:
            update = "UPDATE fact SET day = ? WHERE kind = ? AND folder = ? AND name = ?"
            self._write(update, [(today, kind, folder, _stamp_name(key)) for key in old])
        return [_parse_row(key, known[key], width) if key in known else None for key in keys]

    def keep(self, kind: str, folder: str, facts: Iterable[tuple[str, Row]]) -> None:
        """From now on these rows are known, by their files' stamps."""
        today, rows = _today(), list[tuple[str | bytes | int, ...]]()
        for stamp, row in facts:
            key, value = _encode(stamp), json.dumps(row, separators=(",", ":"))
            rows.append((kind, folder, _stamp_name(key), key, value, _checksum(key, value), today))
        if rows:
            self._write("INSERT OR REPLACE INTO fact VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        if self._base is not None:
            with suppress(sqlite3.Error):
                self._base.close()
            self._base = None

    def _write(self, statement: str, rows: Sequence[tuple[str | bytes | int, ...]]) -> None:
        """Write these, and once a day delete what was not used for long."""
        today = _today()

        def write(base: sqlite3.Connection) -> None:
            with _transaction(base):
                base.executemany(statement, rows)
                if base.execute("PRAGMA user_version").fetchone() != (today,):
                    base.execute("DELETE FROM fact WHERE day < ?", (today - UNUSED_DAYS,))
                    base.execute(f"PRAGMA user_version = {today}")

        self._query(write)

    def _query(self, what: Callable[[sqlite3.Connection], Answer]) -> Answer | None:
        """The answer, or None if the store fails: it is then not used again."""
        while self._path is not None:
            try:
                if self._base is None:
                    self._base = _open_database(self._path)
                return what(self._base)
            except sqlite3.OperationalError:  # locked, read-only, no such folder, no room
                self.close()
                self._path = None
            except (sqlite3.Error, OSError, ValueError, TypeError):  # torn, or no database at all
                self.close()
                if not _remove_database(self._path) or self._rebuilt:
                    self._path = None
                self._rebuilt = True
        return None


def _today() -> int:
    return int(time.time() // SECONDS_PER_DAY)


def _encode(stamp: str) -> bytes:
    """A name may have bytes that are not UTF-8, which SQLite refuses as text."""
    return stamp.encode("utf-8", "surrogatepass")


def _stamp_name(key: bytes) -> bytes:
    return key[2:].rsplit(b":", 5)[0]


def _checksum(key: bytes, value: str) -> int:
    return crc32(key + value.encode())


def _parse_row(key: bytes, kept: Sequence[Any], width: int) -> Row | None:
    value, mark, _ = kept
    if not isinstance(value, str) or mark != _checksum(key, value):
        return None
    with suppress(ValueError):
        row = json.loads(value)
        return row if isinstance(row, list) and len(row) == width else None  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return None


def _open_database(path: Path) -> sqlite3.Connection:
    """Raises sqlite3.Error, OperationalError for a database that is another program's, or OSError."""
    path.parent.mkdir(0o755, parents=True, exist_ok=True)  # trainers are kept there, too
    with suppress(FileNotFoundError):
        os.close(open_descriptor(path))  # SQLite would wait for ever at a pipe
    base = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        (whose,) = base.execute("PRAGMA application_id").fetchone()
        if whose != APPLICATION_ID:
            _create_table(base)
        base.execute("PRAGMA synchronous = OFF")  # what a power failure tears is found out and made again
    except BaseException:
        base.close()
        raise
    return base


def _create_table(base: sqlite3.Connection) -> None:
    base.execute("PRAGMA auto_vacuum = FULL")
    with _transaction(base):
        (whose,), (tables,) = (
            base.execute(query).fetchone() for query in ("PRAGMA application_id", "SELECT count(*) FROM sqlite_master")
        )
        if whose != APPLICATION_ID and tables:
            raise sqlite3.OperationalError("another program's database")
        if not tables:
            base.execute(SCHEMA_SQL)
            base.execute(f"PRAGMA application_id = {APPLICATION_ID}")


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
