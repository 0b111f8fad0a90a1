"""SHA-256 and size of files: streamed, several at a time, and stored, so that a checkpoint is hashed only once.

Stored hashes are found by the file's stamp (fact_cache), which changes with the file. A file that was changed too
recently for the stamp to show the next change, or that changes while it is read, is hashed and not stored.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from lorabake.util.fact_cache import FactStore, is_file_stamp, is_settled, make_stamp
from lorabake.util.files import open_descriptor, open_file
from lorabake_schemas.messages import escape_undecodable
from lorabake_schemas.record import FileDigest

if TYPE_CHECKING:
    from io import BufferedReader

ProgressCallback = Callable[[int, int], None]
Digests = dict[str, FileDigest | None]
KnownDigests = Mapping[tuple[str, str], str]  # a folder's identity and a file's stamp there: its SHA-256
FILE_DIGEST_KIND = "sha-256 of files 1"  # changes when the same file would be kept as something else
BLOCK_SIZE, FIRST_BLOCK_SIZE = 1 << 20, 1 << 16  # bytes read at once; most files of a dataset end in the first
THREAD_COUNT = 4
PROGRESS_INTERVAL_S = 0.1
ATTEMPT_LIMIT = 3  # for a file that changes while it is read
LARGE_FILE_SIZE = 1 << 26  # bytes; such files come first, so that none is left alone at the end
Made = TypeVar("Made")


class HashingStoppedError(Exception):
    """``stop`` was called."""


@dataclass(frozen=True, slots=True)
class FileSet:
    """Files by their names below a folder, with forward slashes; ``stamps`` are those of a listing just made."""

    folder: Path
    names: Sequence[str]
    stamps: Mapping[str, str] = field(default_factory=dict[str, str])


def digest_file(path: Path | str, name: str) -> FileDigest:
    """SHA-256 and size of a file, under the name it is recorded by; nothing is kept. Raises OSError."""
    with open_file(path) as file:
        found = hashlib.file_digest(cast("BufferedReader", file), "sha256")
        return FileDigest(name=name, sha256=found.hexdigest(), size=file.tell())


def digest_bytes(data: bytes, name: str) -> FileDigest:
    """The same for bytes in hand."""
    return FileDigest(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


class _File:
    """A requested file: its path, its stamp, and its digest if known."""

    __slots__ = ("name", "path", "sha256", "size", "stamp")

    def __init__(self, path: str, name: str, stamp: str | None) -> None:
        self.path, self.name = path, name
        self.stamp = stamp or _read_stamp(path, name)
        self.size = int(self.stamp.rsplit(":", 3)[1]) if self.stamp else 0
        self.sha256: str | None = None

    def digest(self, name: str) -> FileDigest | None:
        return FileDigest(name=escape_undecodable(name), sha256=self.sha256, size=self.size) if self.sha256 else None

    def read(self, count: Callable[[int], None]) -> None:
        """Hash its current content. If it keeps changing, the last reading counts, unless a part is missing."""
        try:
            for _ in range(ATTEMPT_LIMIT):
                self._read_once(count)
                if self.stamp is not None:
                    break
        except (OSError, ValueError):
            self.sha256 = None

    def _read_once(self, count: Callable[[int], None]) -> None:
        descriptor = open_descriptor(self.path)
        try:
            before = os.fstat(descriptor)
            digest, size, ask = hashlib.sha256(), 0, FIRST_BLOCK_SIZE
            while size <= before.st_size and (block := os.read(descriptor, ask)):  # one that grows may have no end
                digest.update(block)
                size += len(block)
                count(len(block))
                ask = BLOCK_SIZE  # a short read need not be the end: file systems over a network give what they have
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        whole, stamp = size == after.st_size, make_stamp(after, self.name)
        self.sha256, self.size = digest.hexdigest() if whole else None, size
        self.stamp = stamp if whole and stamp == make_stamp(before, self.name) else None


class FileHasher:
    """Digests of files; ``store`` is where they are kept (None: nowhere).

    ``progress`` is called with (bytes read, bytes to be read) by the thread that asks, and only while there is
    something to read. ``stop`` may be called by any thread, and ends a reading in progress within a moment; what was
    hashed by then is kept. ``known`` is the ``learned`` of another one.
    """

    def __init__(
        self,
        store: Path | None,
        progress: ProgressCallback | None = None,
        threads: int = THREAD_COUNT,
        known: KnownDigests | None = None,
    ) -> None:
        self.store = store
        self.done = self.total = 0
        self.learned: dict[tuple[str, str], str] = {}
        self._known = known or {}
        self._progress, self._threads = progress, threads
        self._stopped, self._counting = threading.Event(), threading.Lock()

    def __enter__(self) -> FileHasher:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()

    def of(self, folder: Path, names: Sequence[str]) -> Digests:
        """The digest of each file, by its name below ``folder``; None for one that is missing or cannot be read."""
        return self.hash_folders([FileSet(folder, names)])[0]

    def hash_folders(self, wanted: Sequence[FileSet]) -> list[Digests]:
        """The same for several folders at once, which share one progress. Raises HashingStoppedError."""
        now, folders = time.time_ns(), dict[str, dict[str, _File]]()
        asked = [_find_files(files, folders) for files in wanted]
        with closing(FactStore(self.store)) as store:  # SQLite's connections are not for several threads
            missing = {folder: self._recall(folder, files, store) for folder, files in folders.items()}
            try:
                self._read([file for files in missing.values() for file in files])
            finally:
                for folder, files in missing.items():
                    facts = [(file.stamp, [file.sha256]) for file in files if file.stamp and file.sha256]
                    store.keep(FILE_DIGEST_KIND, folder, [fact for fact in facts if is_settled(fact[0], now)])
        for folder, those in folders.items():
            for file in those.values():
                if file.sha256 and file.stamp and is_settled(file.stamp, now):
                    self.learned[folder, file.stamp] = file.sha256
        return [{name: file.digest(name) if file else None for name, file in found.items()} for found in asked]

    def _recall(self, folder: str, files: Mapping[str, _File], store: FactStore) -> list[_File]:
        """The files of a folder whose digest is not known."""
        rows = store.recall(FILE_DIGEST_KIND, folder, [file.stamp for file in files.values()], 1)
        for file, row in zip(files.values(), rows, strict=True):
            file.sha256 = row[0] if row else self._known.get((folder, file.stamp or ""))
        return [file for file in files.values() if is_file_stamp(file.stamp) and not file.sha256]

    def _read(self, files: Sequence[_File]) -> None:
        if not files:
            return
        from concurrent.futures import ThreadPoolExecutor, wait  # not needed where everything is known

        self.total += sum(file.size for file in files)
        queue = deque(sorted(files, key=lambda file: -file.size if file.size >= LARGE_FILE_SIZE else 0))
        with ThreadPoolExecutor(self._threads, "hashing") as pool:
            try:
                working = {pool.submit(self._read_queued, queue) for _ in range(min(self._threads, len(files)))}
                while working:
                    over, working = wait(working, PROGRESS_INTERVAL_S, "FIRST_COMPLETED")
                    self._tell(self.done)
                    for each in over:
                        each.result()
                self._tell(self.total)
            except BaseException:
                self.stop()
                raise

    def _read_queued(self, queue: deque[_File]) -> None:
        while True:
            try:
                file = queue.popleft()
            except IndexError:
                return
            file.read(self._count)

    def _count(self, read: int) -> None:
        if self._stopped.is_set():
            raise HashingStoppedError
        with self._counting:
            self.done += read

    def _tell(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(done, self.total), self.total)


def _find_files(wanted: FileSet, folders: dict[str, dict[str, _File]]) -> dict[str, _File | None]:
    """The files by the names they were asked for; ``folders`` has each once, by its folder's identity and its name."""
    places, found = dict[str, tuple[str, str] | None](), dict[str, _File | None]()
    for name in wanted.names:
        above, _, short = name.rpartition("/")
        if above not in places:
            places[above] = _find_folder(f"{wanted.folder}{os.sep}{above}")
        place = places[above]
        if place is None:
            found[name] = None
            continue
        files = folders.setdefault(place[0], {})
        if short not in files:
            files[short] = _File(f"{place[1]}{os.sep}{short}", short, None if above else wanted.stamps.get(short))
        found[name] = files[short]
    return found


def _find_folder(path: str) -> tuple[str, str] | None:
    """A folder's device and inode, and its path; None if it is missing."""
    # normpath: a caption may be named "../my.txt", and sd-scripts takes the dots off before it looks (captions)
    real = os.path.normpath(path)
    try:
        state = os.stat(real)  # noqa: PTH116 - a string
    except (OSError, ValueError):
        return None
    return f"{state.st_dev}:{state.st_ino}", real


def _read_stamp(path: str, name: str) -> str | None:
    try:
        return make_stamp(os.stat(path), name)  # noqa: PTH116 - 100,000 calls
    except (OSError, ValueError):
        return None


@contextmanager
def hash_in_background(
    store: Path | None, make: Callable[[FileHasher], Made]
) -> Generator[Callable[[ProgressCallback | None], Made]]:
    """``make`` starts at once in a separate thread; what is yielded waits for what it makes, and reports progress.

    Leaving the block stops it.
    """
    from concurrent.futures import ThreadPoolExecutor

    with FileHasher(store) as hasher, ThreadPoolExecutor(1, "hashing") as pool:
        made = pool.submit(make, hasher)

        def wait(progress: ProgressCallback | None = None) -> Made:
            while not made.done():
                try:
                    made.exception(PROGRESS_INTERVAL_S)
                except TimeoutError:
                    if progress is not None and hasher.total:
                        progress(min(hasher.done, hasher.total), hasher.total)
            return made.result()

        try:
            yield wait
        finally:
            hasher.stop()
