"""Every file of a trainer with its SHA-256 at the end of the installation, and whether that has changed.

The manifest is in the trainer's folder, its own SHA-256 in the marker. It includes compiled bytecode (``__pycache__``):
Python runs it in place of a source file of the same size and time, and RECORD files have no hash for it. So all of it
is made while installing, and none afterwards (PYTHONDONTWRITEBYTECODE). Git's folder is left out, since no trainer
reads anything from there.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from base64 import urlsafe_b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from stat import S_ISLNK, S_ISREG

from lorabake.trainer.ownership import OTHERS_WRITE_BITS, is_ours, is_writable_by_others
from lorabake.util.hashing import digest_file
from lorabake_schemas.messages import Message, literal, shorten_list

MAX_FILES_NAMED = 5
MANIFEST_FILE = "files.json"
TRAINER_PARTS = ("sd-scripts", "venv")
HASH_THREADS, HASH_BATCH = 4, 200
# Files of the virtual environment itself, not of a package.
_VENV_FILES = (
    "pyvenv.cfg",
    "bin/activate",
    "bin/Activate.ps1",
    "bin/python",
    "lib64",
    ".gitignore",
    "Scripts/",
    "include/",
)
FileHashes = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class FolderState:
    """The stats of a folder's files, without reading any.

    ``digest`` is different after any change, ``newest_ns`` is the time of the last one. ``unsafe`` are files that
    another user owns or can write to.
    """

    digest: str
    names: tuple[str, ...]
    newest_ns: int
    unsafe: tuple[str, ...]


def list_trainer_files(top: Path, parts: Sequence[str] = TRAINER_PARTS) -> FolderState:
    """Links are listed, never followed."""
    lines: list[str] = []
    names: list[str] = []
    unsafe: list[str] = []
    newest = 0
    for name, state in _walk_parts(top, parts):
        names.append(name)
        lines.append(f"{name}\0{state.st_ino} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_mode}")
        newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
        if (state.st_mode & OTHERS_WRITE_BITS or state.st_uid) and (is_writable_by_others(state) or not is_ours(state)):
            unsafe.append(name)
    lines.sort()
    digest = hashlib.sha256("\0\0".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
    return FolderState(digest, tuple(sorted(names)), newest, tuple(sorted(unsafe)))


def _walk_parts(top: Path, parts: Sequence[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Every file, and every folder (its name ends with a slash), below these parts of ``top``, unordered."""
    waiting = [(str(top / part), f"{part}/") for part in parts]
    while waiting:
        place, prefix = waiting.pop()
        try:
            yield prefix, os.lstat(place)
            entries = os.scandir(place)
        except OSError:
            continue
        with entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name != "sd-scripts/.git":
                        waiting.append((entry.path, f"{name}/"))
                else:
                    with suppress(OSError):  # just removed
                        yield name, entry.stat(follow_symlinks=False)


def hash_files(top: Path, names: Iterable[str]) -> FileHashes:
    """The SHA-256 of each file, or of where a link leads; None for what cannot be read. Folders are left out."""
    files = [name for name in names if not name.endswith("/")]
    some = [files[start : start + HASH_BATCH] for start in range(0, len(files), HASH_BATCH)]
    with ThreadPoolExecutor(HASH_THREADS) as pool:
        return dict(chain.from_iterable(pool.map(partial(_hash_batch, top), some)))


def _hash_batch(top: Path, names: Sequence[str]) -> list[tuple[str, str | None]]:
    return [(name, _hash_file(f"{top}/{name}")) for name in names]


def _hash_file(path: str) -> str | None:
    try:
        state = os.lstat(path)
        if S_ISLNK(state.st_mode):
            return hashlib.sha256(b"link " + os.fsencode(Path(path).readlink())).hexdigest()
        if not S_ISREG(state.st_mode):
            return None
        return digest_file(path, "").sha256
    except OSError:
        return None


def shorten_names(names: Sequence[str]) -> Message:
    """The first few of them, and how many more there are."""
    return shorten_list(names, MAX_FILES_NAMED, literal)


def write_file_hashes(folder: Path) -> str:
    """Write the manifest of a complete trainer, and return its SHA-256.

    Removes write permissions of others, whatever the umask. Raises OSError.
    """
    for name, state in _walk_parts(folder, TRAINER_PARTS):
        if state.st_mode & OTHERS_WRITE_BITS and not S_ISLNK(state.st_mode):
            (folder / name).chmod(state.st_mode & 0o7777 & ~OTHERS_WRITE_BITS)
    found = hash_files(folder, list_trainer_files(folder).names)
    content = json.dumps(found, indent=0, sort_keys=True).encode()
    (folder / MANIFEST_FILE).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def find_changed_install(folder: Path, sha256: str, listing: FolderState) -> tuple[str, ...]:
    """Files that are not what was installed, are missing, were added or can be written by others; sorted."""
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != sha256:
        return (MANIFEST_FILE,)
    then: FileHashes = json.loads(content)
    now = hash_files(folder, listing.names)
    return tuple(sorted({name for name in {*then, *now} if then.get(name) != now.get(name)} | {*listing.unsafe}))


def read_file_hashes(folder: Path) -> FileHashes:
    """The manifest just made."""
    found: FileHashes = json.loads((folder / MANIFEST_FILE).read_bytes())
    return found


def read_package_records(site: Path, name: str) -> tuple[dict[str, str], set[str]]:
    """The content of the RECORD files of the packages in a folder: the hash of each file, by its path below
    ``name``, and every file that they name. A RECORD names compiled bytecode without a hash.
    """
    told: dict[str, str] = {}
    every: set[str] = set()
    for record in sorted(site.glob("*.dist-info/RECORD")):
        with suppress(OSError, UnicodeDecodeError, csv.Error), record.open(encoding="utf-8", newline="") as file:
            for row in csv.reader(file):
                if not row:
                    continue
                path = os.path.normpath(f"{name}/{row[0]}" if name else row[0])
                every.add(path)
                if len(row) > 1 and (digest := _parse_record_hash(row[1])):
                    told[path] = digest
    return told, every


def _parse_record_hash(text: str) -> str | None:
    kind, _, digest = text.partition("=")
    with suppress(NotBase64, ValueError):
        return urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex() if kind == "sha256" else None
    return None


def find_wrong_packages(folder: Path, site: Path, found: Mapping[str, str | None]) -> tuple[str, ...]:
    """Of a trainer just installed: files that do not match their package's RECORD, and those of no package."""
    name = site.relative_to(folder).as_posix()
    told, every = read_package_records(site, name)
    wrong = {path for path, digest in told.items() if found.get(path) != digest}
    own = tuple(f"venv/{path}" for path in _VENV_FILES)
    strange = {path for path in found if path.startswith("venv/") and path not in every and not path.startswith(own)}
    return tuple(sorted(wrong | strange))
