"""What a trainer is made of as it lies on disk now: its files in one SHA-256, its packages, its Python."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_string
from importlib.metadata import Distribution
from pathlib import Path
from typing import Protocol

from lorabake.errors import SetupError
from lorabake.process import capture, child_env
from lorabake.trainer import git
from lorabake.trainer.install import Trainer
from lorabake_schemas.record import FileDigest

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
    """``clean`` is whether git finds the checkout to be its commit and nothing else, None when git does not tell;
    ``tree`` one SHA-256 over all of its files; ``packages`` every installed one with its version, sorted by the
    normalised name (PEP 503); ``python_version`` major.minor.patch, "" when the Python does not start."""

    clean: bool | None
    tree: str
    packages: Mapping[str, str] = field(repr=False)
    python_version: str


def contents(trainer: Trainer, env: Mapping[str, str], fingerprints: Digests | None = None) -> TrainerContents:
    """Look at a trainer, the pin's or the user's own; nothing of it is imported and torch is not needed.

    ``fingerprints`` remembers the digests of unchanged files. A package that was changed by hand counts as long as its
    version says so; a file of the checkout by its bytes.
    """
    version, path = _python(trainer.python, env)
    return TrainerContents(
        clean=_clean(trainer.checkout, env),
        tree=tree(trainer.checkout, _names(trainer, env), fingerprints),
        packages=packages(path),
        python_version=version,
    )


def _clean(checkout: Path, env: Mapping[str, str]) -> bool | None:
    try:
        return git.is_clean(checkout, env) if git.head(checkout, env) else None
    except SetupError:
        return None


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


def _python(python: Path, env: Mapping[str, str]) -> tuple[str, tuple[Path, ...]]:
    """Its version and the folders it takes packages from. A virtual environment's are known without asking."""
    version, path = _asked(python, env)
    return version, _of_venv(python) or path


def _asked(python: Path, env: Mapping[str, str]) -> tuple[str, tuple[Path, ...]]:
    argv = [str(python), "-c", _QUESTION]
    try:
        done = capture(argv, env=child_env(env, drop=("PYTHON", "VIRTUAL_ENV"), PYTHONSAFEPATH="1"), timeout=10)
        version, path = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except (SetupError, ValueError):
        return "", ()
    return str(version), tuple(Path(folder) for folder in path if folder)


def _of_venv(python: Path) -> tuple[Path, ...]:
    """The one folder of a virtual environment that sees no other packages; else nothing."""
    venv = python.parent.parent
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    if re.search(r"^include-system-site-packages\s*=\s*true\s*$", settings, re.MULTILINE | re.IGNORECASE):
        return ()
    folders = sorted(venv.glob("lib/python3*/site-packages")) or [venv / "Lib" / "site-packages"]
    return tuple(folder for folder in folders if folder.is_dir())


__all__ = ["Digests", "TrainerContents", "contents", "packages", "tree"]
