"""What a trainer is made of as it lies on disk now: its files in one SHA-256, its packages, its Python."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from email import message_from_string
from importlib.metadata import Distribution
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.process import capture, child_env
from lorabake.reading.fact_store import RACY_NS, FactStore, stamp_of
from lorabake.trainer import git, git_tree, manifest
from lorabake.trainer.install import Trainer
from lorabake.trainer.venv import packages_of
from lorabake_schemas.base import StrictModel
from lorabake_schemas.record import FileDigest
from lorabake_schemas.words import legible

KIND = "a trainer's files 1"  # changes when the same files would be kept as something else
CHECKOUT = "sd-scripts/"

# What Python writes as it goes, and git for itself; sd-scripts writes nothing else into its own folder, since a run
# has a folder of its own to work in.
_NOT_OURS = (".git", "__pycache__")
# In a checkout of the user's own, which may hold models, pictures and outputs, too: beside what git tracks, the kinds
# of files that sd-scripts' code can be made of or reads for itself (configs/, the tokenizer's .model).
_CODE = (".json", ".model", ".py", ".pyd", ".so")
_NOTES = ".json"  # the user's own, too, lies about in this form: counted as sd-scripts' where git tracks it
_INFO = (".dist-info", ".egg-info")
# It is asked with the variables that a training gets (runs/command.py), so that it sees the same packages.
# With -c Python puts the current folder first ("") unless it is at least 3.11 and knows PYTHONSAFEPATH.
_QUESTION = """import sys
sys.path = [folder for folder in sys.path if folder]
import json, platform
print(json.dumps([platform.python_version(), sys.path]))"""


class Digests(Protocol):
    """Who knows the digests of files: reading.fingerprints, which remembers them, or _Plain, which reads them all."""

    def of(self, folder: Path, names: Sequence[str]) -> Mapping[str, FileDigest | None]: ...


@dataclass(frozen=True, slots=True)
class TrainerContents:
    """``clean`` is whether the checkout is its commit and nothing else, None when that is not known;
    ``tree`` one SHA-256 over all of its files; ``packages`` every installed one with its version, sorted by the
    normalised name (PEP 503); ``python_version`` major.minor.patch, "" when the Python does not start; ``changed`` the
    files that are not what they should be, of the checkout and of the packages, below the folder that has both."""

    clean: bool | None
    tree: str
    packages: Mapping[str, str] = field(repr=False)
    python_version: str
    changed: tuple[str, ...] = ()

    @property
    def edited(self) -> tuple[str, ...]:
        """Those of sd-scripts' files that changed."""
        return tuple(name.removeprefix(CHECKOUT) for name in self.changed if name.startswith(CHECKOUT))


def contents(
    trainer: Trainer, env: Mapping[str, str], fingerprints: Digests | None = None, store: Path | None = None
) -> TrainerContents:
    """Look at a trainer, the pin's or the user's own; nothing of it is imported and torch is not needed.

    ``fingerprints`` remembers the digests of unchanged files, ``store`` what was found here last time: while no file
    has changed its size, times or number, none is read. Every file is compared by content with what it should be, which
    is the manifest of the installation for a trainer of lorabake's own (of the pin's commit also the list that
    lorabake ships with), and for one of the user's own its commit and the packages' own RECORD. Where one of lorabake's
    own was changed its Python is not started.
    """
    ours = trainer.files_sha256 is not None
    version, path = "", packages_of(trainer.checkout.parent / "venv") if ours else packages_of_python(trainer.python)
    if not path and not ours:
        version, path = _asked(trainer.python, env)
    with closing(FactStore(store)) as facts:
        found = _known(trainer, path, env, fingerprints, facts)
    if not version and not (ours and found.changed):
        version, _ = _asked(trainer.python, env, "-S")  # without what the packages start by themselves (.pth)
    return TrainerContents(found.clean, found.tree, found.packages, version, tuple(found.changed))


class _Found(StrictModel):
    """What is kept. ``listing`` stands for the state of all files that were looked at."""

    listing: str
    clean: bool | None
    tree: str
    packages: dict[str, str]
    changed: tuple[str, ...]


def _known(
    trainer: Trainer, path: Sequence[Path], env: Mapping[str, str], fingerprints: Digests | None, facts: FactStore
) -> _Found:
    names, place = _names(trainer, env), f"{trainer.kind} {legible(str(trainer.checkout))}"
    before, newest = _state(trainer, names, path)
    with suppress(ValidationError):
        kept = _Found.model_validate_json(str(facts.known(KIND, place)))
        if kept.listing == before:
            facts.used((place,))
            return kept
    changed, clean = _changed(trainer, names, path, env)
    found = _Found(
        listing=before,
        clean=clean,
        tree=tree(trainer.checkout, names, fingerprints),
        packages=packages(path),
        changed=changed,
    )
    if newest < time.time_ns() - RACY_NS and before == _state(trainer, names, path)[0]:
        facts.keep(KIND, place, found.model_dump_json())
        facts.used((place,))
    return found


def _state(trainer: Trainer, names: Sequence[str], path: Sequence[Path]) -> tuple[str, int]:
    """What the file system says of all files that count, as one digest, and when the last of them changed."""
    whole = hashlib.sha256(json.dumps([KIND, trainer.commit, trainer.files_sha256, [*map(str, path)]]).encode())
    if trainer.files_sha256 is not None:
        listing = manifest.listed(trainer.checkout.parent)
        whole.update(listing.digest.encode())
        return whole.hexdigest(), listing.newest_ns
    newest = 0
    for name in names:
        try:
            state = (trainer.checkout / name).stat()
        except OSError:
            whole.update(f"{name} missing\n".encode("utf-8", "surrogateescape"))
            continue
        newest = max(newest, state.st_mtime_ns, state.st_ctime_ns)
        whole.update(stamp_of(state, name).encode("utf-8", "surrogateescape") + b"\n")
    for folder in filter(_has_packages, path):
        listing = manifest.listed(folder, ("",))
        whole.update(listing.digest.encode())
        newest = max(newest, listing.newest_ns)
    return whole.hexdigest(), newest


def _has_packages(folder: Path) -> bool:
    return folder.name in {"site-packages", "dist-packages"}


def _changed(
    trainer: Trainer, names: Sequence[str], path: Sequence[Path], env: Mapping[str, str]
) -> tuple[tuple[str, ...], bool | None]:
    """The files that are not what they should be, and whether the checkout is its commit."""
    blobs = _blobs(trainer, env)
    wrong = _edited(trainer, names, blobs) if blobs is not None else set[str]()
    if trainer.files_sha256 is not None:
        folder = trainer.checkout.parent
        wrong |= {*manifest.differences(folder, trainer.files_sha256, manifest.listed(folder))}
    else:
        for folder in filter(_has_packages, path):
            told, _ = manifest.recorded(folder, "")
            here = manifest.hashes(folder, told)
            wrong |= {f"{folder.name}/{name}" for name, digest in told.items() if here[name] != digest}
    known = blobs is not None or (trainer.files_sha256 is not None and manifest.FILE not in wrong)
    clean = not any(name.startswith(CHECKOUT) for name in wrong) if known else None
    return tuple(sorted(wrong)), clean


def _blobs(trainer: Trainer, env: Mapping[str, str]) -> git_tree.Blobs | None:
    """What the files of the checkout should be by its commit; None where that is not known. Of the pin's commit
    lorabake knows it; a trainer of its own at another commit was that commit when its manifest was made."""
    if trainer.commit == resources.pin().commit:
        return git_tree.from_text(resources.vendor_text(resources.PIN_FILES))
    if trainer.files_sha256 is not None or trainer.commit is None:
        return None
    with suppress(SetupError):
        return git_tree.of_commit(trainer.checkout, trainer.commit, env)
    return None


def _edited(trainer: Trainer, names: Sequence[str], blobs: git_tree.Blobs) -> set[str]:
    """The files that are not as in the commit, are missing, or were added."""
    known = git_tree.checked_out(blobs, resources.pin().sparse)
    changed = {*git_tree.changed(trainer.checkout, known)}
    return {f"{CHECKOUT}{name}" for name in changed | {name for name in names if name not in blobs}}


def _names(trainer: Trainer, env: Mapping[str, str]) -> list[str]:
    """The files that count, by their relative POSIX names: in a checkout of ours all of them."""
    if trainer.kind == "pin":
        return list(_walk(trainer.checkout))
    try:
        known = git.files(trainer.checkout, env)
    except SetupError:
        known = None
    if known is None:
        return [name for name in _walk(trainer.checkout, own=True) if name.endswith(_CODE)]
    tracked, others = known
    return sorted({*tracked, *(name for name in others if name.endswith(_CODE) and not name.endswith(_NOTES))})


def _walk(top: Path, *, own: bool = False) -> Iterator[str]:
    """Every file below ``top``; a folder that is a link is named, not followed. In an ``own`` checkout virtual
    environments are left out: what is installed there is told by its packages."""
    for place, folders, files in os.walk(top):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if name not in _NOT_OURS and name not in links and not (own and (here / name / "pyvenv.cfg").is_file())
        )
        for name in (*files, *links):
            if not name.endswith(".pyc"):
                yield (here / name).relative_to(top).as_posix()


def tree(top: Path, names: Iterable[str], fingerprints: Digests | None = None) -> str:
    """One SHA-256 over the files' names and digests, in the order of the names; a file that cannot be read counts as
    that."""
    known = fingerprints or _Plain()
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    lines: dict[str, str] = {}
    for folder, files in folders.items():
        for file, digest in known.of(top / folder, sorted(files)).items():
            lines[f"{folder}/{file}" if folder else file] = digest.sha256 if digest else "unreadable"
    whole = hashlib.sha256()
    for name in sorted(lines):
        whole.update(f"{lines[name]} {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


class _Plain:
    """Reads every file each time."""

    def of(self, folder: Path, names: Sequence[str]) -> Mapping[str, FileDigest | None]:
        return {name: self._digest(folder / name) for name in names}

    @staticmethod
    def _digest(path: Path) -> FileDigest | None:
        try:
            with path.open("rb") as file:
                made = hashlib.file_digest(file, "sha256")
                return FileDigest(name=path.name, sha256=made.hexdigest(), size=file.tell())
        except OSError:
            return None


def packages(path: Sequence[Path]) -> dict[str, str]:
    """Every distribution installed in these folders by its normalised name; the first folder that has it counts, as
    it does for an import. What lies twice in one folder gives both versions."""
    found: dict[str, str] = {}
    for folder in path:
        here: dict[str, set[str]] = {}
        for name, version in _installed(folder):
            here.setdefault(name, set()).add(version)
        found = {name: ", ".join(sorted(versions)) for name, versions in here.items()} | found
    return dict(sorted(found.items()))


def _installed(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and version of each distribution from the head of its metadata, without the long description after it.

    pip puts a "~" before the name of what it is just replacing.
    """
    try:
        entries = [path for path in folder.iterdir() if path.suffix in _INFO and not path.name.startswith("~")]
    except OSError:  # sys.path may name a zip file, or what is not there
        return
    for entry in entries:
        each = Distribution.at(entry)
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""
        head = message_from_string(text.partition("\n\n")[0])
        if head["Name"] and head["Version"]:
            yield re.sub(r"[-_.]+", "-", head["Name"]).lower(), head["Version"]


def _asked(python: Path, env: Mapping[str, str], *options: str) -> tuple[str, tuple[Path, ...]]:
    """Its version and the folders it takes packages from."""
    argv = [str(python), "-B", *options, "-c", _QUESTION]
    try:
        done = capture(argv, env=child_env(env, drop=("PYTHON", "VIRTUAL_ENV"), PYTHONSAFEPATH="1"), timeout=10)
        version, path = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except (SetupError, ValueError):
        return "", ()
    return str(version), tuple(Path(folder) for folder in path if folder)


def packages_of_python(python: Path) -> tuple[Path, ...]:
    """The one folder of a virtual environment that sees no other packages, known without asking; else nothing."""
    venv = python.parent.parent
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    if re.search(r"^include-system-site-packages\s*=\s*true\s*$", settings, re.MULTILINE | re.IGNORECASE):
        return ()
    return packages_of(venv)


__all__ = ["Digests", "TrainerContents", "contents", "packages", "tree"]
