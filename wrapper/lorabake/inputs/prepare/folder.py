"""The new folder on disk: whose it is, what an earlier start has made in it, and the journal of this one.

A start may be killed at any moment. Every file is complete or missing; the journal has its digest before, and all about
its image after it. The manifest is written last and takes the journal's place. Both may come from a stranger: a file is
written over or removed only if it has a digest that was recorded for its path.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pydantic import ValidationError

from lorabake.errors import MachineError
from lorabake.inputs.prepare.work import ImageJob
from lorabake.util import files
from lorabake.util.hashing import FileHasher
from lorabake_schemas.base import StrictModel, parse_lenient
from lorabake_schemas.messages import Message, literal, msg, shorten_list
from lorabake_schemas.prepared import PreparedImage, PreparedSet

MANIFEST_NAME = "prepared.json"
JOURNAL_NAME = ".prepared.jsonl"
LOCK_NAME = ".prepare.lock"
STAGE_NAME = ".prepare.staged"
OWN_NAMES = frozenset({MANIFEST_NAME, JOURNAL_NAME, LOCK_NAME, STAGE_NAME})
MAX_NAMES_SHOWN = 3
DEPTH = 2  # of what is made: a file, or a folder with files


class Announcement(StrictModel):
    """A line of the journal: a file that is going to be written, and its digest."""

    path: str
    sha256: str


@dataclass(slots=True)
class KnownFolder:
    """What earlier starts have left: ``images`` by their path, and of each file all digests that it may have; a start
    that was killed may have written another one or not."""

    images: dict[str, PreparedImage] = field(default_factory=dict[str, PreparedImage])
    digests: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def add_file(self, path: str, sha256: str) -> None:
        """Raises ValueError for a path where no file of lorabake's can be."""
        self.digests.setdefault(_check_path(path), set()).add(sha256)


class FolderState(NamedTuple):
    """``kept`` are images that need not be made again; ``surplus`` are files of earlier starts that this one does not
    make. ``changed`` have been edited since, and stay so; ``left`` likewise, and nothing needs them any more."""

    kept: dict[str, PreparedImage]
    surplus: tuple[str, ...]
    changed: tuple[str, ...]
    left: tuple[str, ...] = ()


def read_known_folder(root: Path) -> KnownFolder:
    """What is in the folder. Raises MachineError for one that lorabake did not prepare, or that is damaged."""
    known = KnownFolder()
    try:
        names = {name for name in os.listdir(root) if not name.startswith(LOCK_NAME)}  # noqa: PTH208 - names alone
    except FileNotFoundError:
        return known
    except OSError as error:
        hint = msg("pass a folder that is new or empty")
        raise MachineError(msg("cannot read {path}: {why}", path=root, why=files.reason(error)), hint) from error
    if names and not names & {MANIFEST_NAME, JOURNAL_NAME}:
        raise MachineError(
            msg("{path} has files that `lorabake prepare` did not make", path=root),
            msg("pass a folder that is new or empty"),
        )
    try:
        if MANIFEST_NAME in names:
            _add_manifest(known, files.read_bytes(root / MANIFEST_NAME, within=root))
        if JOURNAL_NAME in names:
            _add_journal(known, files.read_bytes(root / JOURNAL_NAME, within=root))
    except (OSError, ValueError) as error:
        why = files.reason(error) if isinstance(error, OSError) else msg("it is damaged")
        raise MachineError(
            msg("cannot read the manifest in {path}: {why}", path=root, why=why), msg("pass another folder with --to")
        ) from error
    return known


def read_background_colors(root: Path) -> dict[str, str]:
    """The colors of the backgrounds that `lorabake prepare` gave images of this folder, by their paths below it; none
    if it did not make the folder, or if its manifest cannot be read."""
    with suppress(OSError, ValueError):
        found = parse_lenient(PreparedSet, files.read_bytes(root / MANIFEST_NAME, within=root))
        return {image.path: image.color for image in found.images if image.color}
    return {}


def _add_manifest(known: KnownFolder, data: bytes) -> None:
    """Raises ValueError for what is none, or leads out of the folder."""
    found = parse_lenient(PreparedSet, data)
    for image in found.images:
        _add_image(known, image)
    for file in found.files:
        known.add_file(file.path, file.sha256)


def _add_journal(known: KnownFolder, data: bytes) -> None:
    """The last line may be torn."""
    for line in data.split(b"\n"):
        with suppress(ValidationError):
            announced = Announcement.model_validate_json(line)
            known.add_file(announced.path, announced.sha256)
            continue
        with suppress(ValidationError):
            _add_image(known, parse_lenient(PreparedImage, line))


def _add_image(known: KnownFolder, image: PreparedImage) -> None:
    known.images[_check_path(image.path)] = image
    for file in image.files:
        known.add_file(file.path, file.sha256)


def _check_path(path: str) -> str:
    """Raises ValueError for a path that leads out of the folder, or where lorabake makes nothing: it may come from a
    stranger."""
    parts = PurePosixPath(path).parts
    outside = path.startswith("/") or ".." in parts or "\\" in path
    if not 1 <= len(parts) <= DEPTH or outside or parts[0] in OWN_NAMES:
        raise ValueError(path)
    return path


def compare_folder(
    root: Path, known: KnownFolder, jobs: Sequence[ImageJob], others: Collection[str], hasher: FileHasher
) -> FolderState:
    """What of ``jobs`` need not be done again. ``others`` are the files that will be written and belong to no image.

    A file that somebody has edited since stays as it is. Raises MachineError if it would be written over, and for
    foreign files in a place that is needed.
    """
    wanted = {job.path: job for job in jobs}
    now = {path: found.sha256 for path, found in hasher.of(root, list(known.digests)).items() if found}
    changed = {path for path, sha256 in now.items() if sha256 not in known.digests[path]}
    kept = {
        path: image
        for path, image in known.images.items()
        if path in wanted
        and wanted[path].key == image.job
        and all(now.get(file.path) == file.sha256 or file.path in changed for file in image.files)
    }
    kept = _with_same_sources(kept, wanted, hasher)
    staying = {file.path for image in kept.values() for file in image.files}
    targets = {path for job in jobs for path in job.paths}
    surplus = now.keys() - targets - set(others)
    lost = (changed - staying) & targets
    if lost:
        raise MachineError(
            msg("files in {path} have changed since they were prepared: {names}", path=root, names=_shorten(lost)),
            msg("pass another folder with --to, or delete these files to have them made again"),
        )
    _refuse_foreign(root, known, {*targets, *others})
    return FolderState(
        kept,
        tuple(sorted(surplus - changed)),
        tuple(sorted(changed & {*staying, *others})),
        tuple(sorted(surplus & changed)),
    )


def _refuse_foreign(root: Path, known: KnownFolder, targets: Collection[str]) -> None:
    """Raises MachineError for files that lorabake did not make in a place that it needs."""
    foreign = [path for path in targets if path not in known.digests and files.exists(root / path)]
    if foreign:
        raise MachineError(
            msg("files in {path} are in the way: {names}", path=root, names=_shorten(foreign)),
            msg("move them elsewhere and try again"),
        )


def _with_same_sources(
    images: Mapping[str, PreparedImage], jobs: Mapping[str, ImageJob], hasher: FileHasher
) -> dict[str, PreparedImage]:
    """Those whose image and mask are what they were; a caption's text is in the job. One that could not be read is
    tried again."""
    asked = {
        path: [
            (((file.kind == "mask" and jobs[path].mask) or jobs[path].source).lstrip(os.sep), file.source_sha256)
            for file in image.files
            if file.kind != "caption"
        ]
        for path, image in images.items()
        if not image.left_out
    }
    now = hasher.of(Path(os.sep), [source for sources in asked.values() for source, _ in sources])
    return {
        path: images[path]
        for path, sources in asked.items()
        if all((found := now[source]) is not None and found.sha256 == sha256 for source, sha256 in sources)
    }


def _shorten(names: Collection[str]) -> Message:
    return shorten_list(sorted(names), MAX_NAMES_SHOWN, literal)


class Journal:
    """Notes what is done, as it is done; for all threads. Raises OSError."""

    def __init__(self, root: Path) -> None:
        self._file = files.open_append(root / JOURNAL_NAME, within=root)
        self._lock = threading.Lock()
        self._write(b"")  # the last line of a start that was killed may be torn

    def announce(self, path: str, sha256: str) -> None:
        """Note that a file is going to be written."""
        self._write(Announcement(path=path, sha256=sha256).model_dump_json().encode())

    def note(self, image: PreparedImage) -> None:
        self._write(image.model_dump_json().encode())

    def _write(self, line: bytes) -> None:
        with self._lock:
            self._file.write(line + b"\n")

    def close(self) -> None:
        self._file.close()


def write_manifest(root: Path, manifest: PreparedSet) -> bool:
    """The manifest takes the journal's place; whether it is another one than before. Raises OSError."""
    data, path = manifest.model_dump_json(indent=1).encode() + b"\n", root / MANIFEST_NAME
    changed = not files.exists(path) or files.read_bytes(path, within=root) != data
    if changed:
        files.replace_bytes(path, data, within=root)
    files.remove_file(root / JOURNAL_NAME, within=root)
    return changed


def clean_folder(root: Path, surplus: Collection[str], targets: Collection[str]) -> None:
    """Remove what earlier starts have made and this one does not, and what killed ones have left. Raises OSError.

    ``targets`` are all files that this start makes or keeps.
    """
    for path in surplus:
        files.remove_file(root / path, within=root)
    files.remove_tree(root / STAGE_NAME, within=root)
    folders = {".", *(str(PurePosixPath(path).parent) for path in targets)}
    used = {*targets, *surplus}
    for folder in sorted({*folders, *(str(PurePosixPath(path).parent) for path in surplus)}):
        names = {PurePosixPath(path).name for path in used if str(PurePosixPath(path).parent) == folder}
        files.remove_partial_files(root / folder, names | (OWN_NAMES if folder == "." else set()), within=root)
        if folder not in folders:
            with suppress(OSError):
                (root / folder).rmdir()
    with suppress(OSError):
        for lock in root.glob(f"{LOCK_NAME}.*"):  # that were never taken
            files.remove_file(lock, within=root)
