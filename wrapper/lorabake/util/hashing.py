"""SHA-256 and size of files: streamed, several at once, and kept, so that a checkpoint is hashed once in its life.

What is kept is found again by the file's stamp (fact_store), which any change of the file changes. A file whose last
change is too fresh to show the next one, or that changes while it is read, is hashed and not kept.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from lorabake.util.fact_cache import FactCache, FactStore, Row, is_file_stamp, is_settled, make_stamp
from lorabake.util.files import open_descriptor, open_file
from lorabake_schemas.messages import escape_undecodable
from lorabake_schemas.record import FileDigest

if TYPE_CHECKING:
    from io import BufferedReader

ProgressCallback = Callable[[int, int], None]
Digests = dict[str, FileDigest | None]
KnownDigests = Mapping[tuple[str, str], str]  # a folder's identity and a file's stamp there: its SHA-256
FILE_DIGEST_KIND = "sha-256 of whole files 1"  # changes when the same file would be kept as something else
BLOCK_SIZE, FIRST_BLOCK_SIZE = (
    1 << 20,
    1 << 16,
)  # bytes read at once; most captions and many pictures are over with the first
THREAD_COUNT = 4
PROGRESS_INTERVAL_S = 0.1
ATTEMPT_LIMIT = 3  # for a file that changes while it is read
LARGE_FILE_SIZE = 1 << 26  # bytes; such files come first, so that none is left alone at the end


class HashingStoppedError(Exception):
    """Somebody called ``stop``."""


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files by their names below a folder, with forward slashes; ``stamps`` are those of a listing just made."""

    folder: Path
    names: Sequence[str]
    stamps: Mapping[str, str] = field(default_factory=dict[str, str])


class FoundFile(NamedTuple):
    """What a file was when read; ``stamp`` is None when it changed meanwhile, ``whole`` whether all of it was read."""

    sha256: str
    size: int
    stamp: str | None
    whole: bool


def digest_file(path: Path | str, name: str) -> FileDigest:
    """SHA-256 and size of a file, under the name it is recorded by; nothing is kept. Raises OSError."""
    with open_file(path) as file:
        found = hashlib.file_digest(cast("BufferedReader", file), "sha256")
        return FileDigest(name=name, sha256=found.hexdigest(), size=file.tell())


def digest_bytes(data: bytes, name: str) -> FileDigest:
    """The same for bytes in hand."""
    return FileDigest(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


class FileHasher:
    """Digests of files; ``store`` is where they are kept (None: nowhere).

    ``progress`` is called with (bytes read, bytes to be read) by the thread that asks, and only while there is
    something to read. ``stop`` may be called by any thread, and ends a reading that is going on within a moment;
    what was hashed by then is kept. ``known`` is what another one has learned, whose ``learned`` it was.
    """

    def __init__(
        self,
        store: Path | None,
        progress: ProgressCallback | None = None,
        threads: int = THREAD_COUNT,
        known: KnownDigests | None = None,
    ) -> None:
        self.done = self.total = 0
        self.learned: dict[tuple[str, str], str] = {}
        self._known = known or {}
        self._store, self._progress, self._threads = store, progress, threads
        self._stopped, self._counting = threading.Event(), threading.Lock()

    @property
    def store(self) -> Path | None:
        """Where they are kept."""
        return self._store

    def __enter__(self) -> FileHasher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop. Nothing else is held between two questions."""
        self.stop()

    def stop(self) -> None:
        self._stopped.set()

    def of(self, folder: Path, names: Sequence[str]) -> Digests:
        """The digest of each file, by its name below ``folder``; None where there is none, or it cannot be read."""
        return self.hash_folders([FileSet(folder, names)])[0]

    def hash_folders(self, wanted: Sequence[FileSet]) -> list[Digests]:
        """The same for several folders at once, which share one progress. Raises HashingStoppedError."""
        now, rooms = time.time_ns(), _HashedFolders()
        places = [rooms.enter(files) for files in wanted]
        # opened and closed here: SQLite's connections are not for several threads
        store = FactStore(self._store)
        try:
            for room in rooms.all:
                room.recall(store, self._known)
            self._read(rooms.all, now)
            for room in rooms.all:
                self.learned |= room.learned(now)
        finally:
            store.close()
        return [
            {name: found for room, above, names in parts for name, found in _iter_digests(room, above, names)}
            for parts in places
        ]

    def _read(self, rooms: Sequence[_HashedFolder], now: int) -> None:
        """Hash what is not known."""
        jobs = _list_jobs(rooms)
        if not jobs:
            return
        from concurrent.futures import ThreadPoolExecutor, wait  # not needed where everything is known

        self.total += sum(size for size, _, _ in jobs)
        with ThreadPoolExecutor(self._threads, "hashing") as pool:
            try:
                queue = deque(jobs)
                working = {pool.submit(self._hash_queued, queue) for _ in range(min(self._threads, len(jobs)))}
                while working:
                    over, working = wait(working, PROGRESS_INTERVAL_S, "FIRST_COMPLETED")
                    self._tell(self.done)
                    for room in rooms:
                        room.keep_when_complete(now)
                    for each in over:
                        each.result()
                self._tell(self.total)
            except BaseException:
                self.stop()
                raise
            finally:
                pool.shutdown()
                for room in rooms:
                    room.keep(now)

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(done, self.total), self.total)

    def _hash_queued(self, jobs: deque[tuple[int, _HashedFolder, str]]) -> None:
        while True:
            try:
                _, room, name = jobs.popleft()
            except IndexError:
                return
            room.found[name] = self._digest(f"{room.path}{os.sep}{name}", name)

    def _digest(self, path: str, name: str) -> FoundFile | None:
        """The file as it is now. One that never holds still is told as it was read last, unless a part is missing."""
        found = None
        try:
            for _ in range(ATTEMPT_LIMIT):
                found = self._hash_once(path, name)
                if found is None or found.stamp is not None:
                    break
        except (OSError, ValueError):
            return None
        return found if found is not None and found.whole else None

    def _hash_once(self, path: str, name: str) -> FoundFile | None:
        descriptor = open_descriptor(path)
        try:
            before = make_stamp(os.fstat(descriptor), name)
            if not is_file_stamp(before):
                return None
            digest, size, ask = hashlib.sha256(), 0, FIRST_BLOCK_SIZE
            while size <= _stamp_size(before) and (block := os.read(descriptor, ask)):  # one that grows may have no end
                digest.update(block)
                size += len(block)
                self._count(len(block))
                ask = BLOCK_SIZE  # a short read need not be the end: file systems over a network give what they have
            after = make_stamp(os.fstat(descriptor), name)
            whole = size == _stamp_size(after)
            return FoundFile(digest.hexdigest(), size, before if whole and after == before else None, whole)
        finally:
            os.close(descriptor)

    def _count(self, read: int) -> None:
        if self._stopped.is_set():
            raise HashingStoppedError
        with self._counting:
            self.done += read


class _HashedFolder:
    """A folder on the disk: the names that were asked for, with their stamps and what is known of them."""

    def __init__(self, path: str, identity: str) -> None:
        self.path, self.identity = path, identity
        self.stamps: dict[str, str | None] = {}
        self.rows: dict[str, Row | None] = {}
        self.found: dict[str, FoundFile | None] = {}
        self.asked = 0
        self._memory: FactCache | None = None

    def enter(self, names: Sequence[str], stamps: Mapping[str, str]) -> None:
        for name in names:
            if name not in self.stamps:
                self.stamps[name] = stamps.get(name) or _read_stamp(f"{self.path}{os.sep}{name}", name)

    def recall(self, store: FactStore, known: KnownDigests) -> None:
        self._memory = FactCache(store, FILE_DIGEST_KIND, self.identity, 1)
        self.rows = dict(zip(self.stamps, self._memory.recall(list(self.stamps.values())), strict=True))
        if known:
            for name, stamp in self.stamps.items():
                if self.rows[name] is None and stamp and (digest := known.get((self.identity, stamp))):
                    self.rows[name] = [digest]

    def learned(self, now: int) -> dict[tuple[str, str], str]:
        """The digests of files in which a change from now on would show."""
        read = {found.stamp: found.sha256 for found in self.found.values() if found and is_settled(found.stamp, now)}
        kept = {stamp: row[0] for name, stamp in self.stamps.items() if stamp and (row := self.rows[name])}
        return {(self.identity, stamp): digest for stamp, digest in (kept | read).items() if stamp}

    def keep_when_complete(self, now: int) -> None:
        if self.asked and len(self.found) == self.asked:
            self.keep(now)
            self.asked = 0

    def keep(self, now: int) -> None:
        """Remember what was found, beside what is known of other files that are still here."""
        fresh = {name: found for name, found in self.found.items() if found and is_settled(found.stamp, now)}
        if self._memory is None or not self.asked or not fresh:
            return
        known = {stamp: row for name, row in self.rows.items() if row and (stamp := self.stamps[name])}
        for stamp, row in self._memory.rest(self.stamps.values()):
            name = _stamp_name(stamp)
            if name not in self.stamps and _read_stamp(f"{self.path}{os.sep}{name}", name) == stamp:
                known[stamp] = row
        known |= {str(found.stamp): [found.sha256] for found in fresh.values()}
        self._memory.keep(list(known), list(known.values()))


class _HashedFolders:
    """The folders that names lead to, each once, whatever it is called."""

    def __init__(self) -> None:
        self._by_identity: dict[str, _HashedFolder] = {}

    @property
    def all(self) -> list[_HashedFolder]:
        return list(self._by_identity.values())

    def enter(self, files: FileSet) -> list[tuple[_HashedFolder | None, str, list[str]]]:
        """The room that names below a folder lead to, what stands before them, and they themselves; None: no room."""
        parts: dict[str, list[str]] = {}
        if any("/" in name for name in files.names):
            for name in files.names:
                above, slash, short = name.rpartition("/")
                parts.setdefault(above + slash, []).append(short)
        else:
            parts[""] = list(files.names)
        found = [
            (self._hashed_folder(f"{files.folder}{os.sep}{above}"), above, names) for above, names in parts.items()
        ]
        for room, above, names in found:
            if room is not None:
                room.enter(names, {} if above else files.stamps)
        return found

    def _hashed_folder(self, path: str) -> _HashedFolder | None:
        # normpath: a caption may be named "../my.txt", and sd-scripts takes the dots off before it looks (captions)
        real = os.path.normpath(path)
        try:
            state = os.stat(real)  # noqa: PTH116 - a string
        except (OSError, ValueError):
            return None
        identity = f"{state.st_dev}:{state.st_ino}"
        return self._by_identity.setdefault(identity, _HashedFolder(real, identity))


def _iter_digests(
    room: _HashedFolder | None, above: str, names: Sequence[str]
) -> Iterator[tuple[str, FileDigest | None]]:
    """Of the files of a room by their names there, under the names that were asked for."""
    if room is None:
        yield from ((above + name, None) for name in names)
        return
    for name in names:
        whole = above + name if above else name
        stamp, row = room.stamps[name], room.rows[name]
        if row and stamp:
            yield whole, FileDigest(name=escape_undecodable(whole), sha256=row[0], size=_stamp_size(stamp))
        else:
            found = room.found.get(name)
            yield (
                whole,
                FileDigest(name=escape_undecodable(whole), sha256=found.sha256, size=found.size) if found else None,
            )


def _list_jobs(rooms: Iterable[_HashedFolder]) -> list[tuple[int, _HashedFolder, str]]:
    """What is to be read: size, folder, name."""
    jobs = list[tuple[int, _HashedFolder, str]]()
    for room in rooms:
        asked = [
            (_stamp_size(stamp), room, name)
            for name, stamp in room.stamps.items()
            if stamp is not None and is_file_stamp(stamp) and room.rows[name] is None
        ]
        room.asked = len(asked)
        jobs += asked
    jobs.sort(key=lambda job: -job[0] if job[0] >= LARGE_FILE_SIZE else 0)
    return jobs


def _read_stamp(path: str, name: str) -> str | None:
    try:
        return make_stamp(os.stat(path), name)  # noqa: PTH116 - 100,000 calls
    except (OSError, ValueError):
        return None


def _stamp_size(stamp: str) -> int:
    return int(stamp.rsplit(":", 3)[1])


def _stamp_name(stamp: str) -> str:
    return stamp[2:].rsplit(":", 5)[0]
