"""What a trainer on disk consists of: its files in one SHA-256, its packages, its Python; and which one a run had.

A run folder may come from a stranger: the Python and the checkout that its record names are never started or read.
"""

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

from pydantic import ValidationError

from lorabake.errors import SetupError
from lorabake.trainer import git, git_tree, manifest
from lorabake.trainer.install import Trainer, list_trainers
from lorabake.trainer.venv import find_package_folders
from lorabake.util import resources
from lorabake.util.environment import make_child_env
from lorabake.util.fact_cache import RACY_NS, FactStore, make_stamp
from lorabake.util.hashing import FileHasher
from lorabake.util.paths import lorabake_home
from lorabake.util.process import capture_output
from lorabake_schemas.base import StrictModel
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.record import TrainerRecord

CONTENTS_KIND = "a trainer's files 2"  # changes when the same files would be kept as something else
CHECKOUT_PREFIX = "sd-scripts/"

# What Python writes as it goes, and git for itself; sd-scripts writes nothing else into its own folder, since a run
# works in a separate folder.
_IGNORED_FOLDERS = (".git", "__pycache__")
# In a user's own checkout, which may contain models, images and outputs, too: apart from what git tracks, the kinds
# of files that sd-scripts' code can be made of or reads for itself (configs/, the tokenizer's .model).
_CODE_EXTENSIONS = (".json", ".model", ".py", ".pyd", ".so")
_NOTES_EXTENSION = ".json"  # users keep such files, too: counted as sd-scripts' only if git tracks them
_METADATA_EXTENSIONS = (".dist-info", ".egg-info")
# It is asked with the variables that a training gets (runs/command.py), so that it sees the same packages.
# With -c Python puts the current folder first ("") unless it is at least 3.11 and knows PYTHONSAFEPATH.
_PYTHON_QUERY = """import sys
sys.path = [folder for folder in sys.path if folder]
import json, platform
print(json.dumps([platform.python_version(), sys.path]))"""


@dataclass(frozen=True, slots=True)
class TrainerContents:
    """``clean`` is whether the checkout is its commit and nothing else, None when that is not known;
    ``tree`` one SHA-256 over all of its files; ``packages`` every installed one with its version, sorted by the
    normalized name (PEP 503); ``python_version`` major.minor.patch, "" when the Python does not start; ``changed`` the
    files that are not what they should be, of the checkout and of the packages, below the folder that has both."""

    clean: bool | None
    tree: str
    packages: Mapping[str, str] = field(repr=False)
    python_version: str
    changed: tuple[str, ...] = ()

    @property
    def edited(self) -> tuple[str, ...]:
        """Those of sd-scripts' files that changed."""
        return tuple(name.removeprefix(CHECKOUT_PREFIX) for name in self.changed if name.startswith(CHECKOUT_PREFIX))


def read_trainer_contents(trainer: Trainer, env: Mapping[str, str], hasher: FileHasher) -> TrainerContents:
    """Look at a trainer, the pin's or the user's own; nothing of it is imported and torch is not needed.

    The store of ``hasher`` remembers the digests of unchanged files and what was found here last time: while no file
    has changed its size, times or number, none is read. Every file is compared by content with what it should be, which
    is the manifest of the installation for a trainer of lorabake's own (of the pin's commit also the list that
    lorabake ships with), and for one of the user's own its commit and the packages' own RECORD. Where one of lorabake's
    own was changed its Python is not started.
    """
    ours = trainer.files_sha256 is not None
    version, path = (
        "",
        find_package_folders(trainer.checkout.parent / "venv") if ours else find_isolated_packages(trainer.python),
    )
    if not path and not ours:
        version, path = _query_python(trainer.python, env)
    with closing(FactStore(hasher.store)) as facts:
        found = _load_or_read(trainer, path, env, hasher, facts)
    if not version and not (ours and found.changed):
        version, _ = _query_python(trainer.python, env, "-S")  # without what the packages start by themselves (.pth)
    return TrainerContents(found.clean, found.tree, found.packages, version, tuple(found.changed))


class _CachedContents(StrictModel):
    """The stored content of a trainer, under a digest of the state of all its files."""

    clean: bool | None
    tree: str
    packages: dict[str, str]
    changed: tuple[str, ...]


def _load_or_read(
    trainer: Trainer, path: Sequence[Path], env: Mapping[str, str], hasher: FileHasher, facts: FactStore
) -> _CachedContents:
    names, place = _list_counted_files(trainer, env), f"{trainer.kind} {escape_undecodable(str(trainer.checkout))}"
    before, newest = _hash_file_state(trainer, names, path)
    (row,) = facts.recall(CONTENTS_KIND, place, [before], 1)
    if row:
        with suppress(ValidationError):
            return _CachedContents.model_validate_json(row[0])
    changed, clean = _find_changed(trainer, names, path, env)
    found = _CachedContents(
        clean=clean,
        tree=hash_tree(trainer.checkout, names, hasher),
        packages=list_packages(path),
        changed=changed,
    )
    if newest < time.time_ns() - RACY_NS and before == _hash_file_state(trainer, names, path)[0]:
        facts.keep(CONTENTS_KIND, place, [(before, [found.model_dump_json()])])
    return found


def _hash_file_state(trainer: Trainer, names: Sequence[str], path: Sequence[Path]) -> tuple[str, int]:
    """The stats of all files that count, as one digest, and when the last of them changed."""
    whole = hashlib.sha256(
        json.dumps([CONTENTS_KIND, trainer.commit, trainer.files_sha256, [*map(str, path)]]).encode()
    )
    if trainer.files_sha256 is not None:
        listing = manifest.list_trainer_files(trainer.checkout.parent)
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
        whole.update(make_stamp(state, name).encode("utf-8", "surrogateescape") + b"\n")
    for folder in filter(_is_package_folder, path):
        listing = manifest.list_trainer_files(folder, ("",))
        whole.update(listing.digest.encode())
        newest = max(newest, listing.newest_ns)
    return whole.hexdigest(), newest


def _is_package_folder(folder: Path) -> bool:
    return folder.name in {"site-packages", "dist-packages"}


def _find_changed(
    trainer: Trainer, names: Sequence[str], path: Sequence[Path], env: Mapping[str, str]
) -> tuple[tuple[str, ...], bool | None]:
    """The files that are not what they should be, and whether the checkout is its commit."""
    blobs = _expected_blobs(trainer, env)
    wrong = _find_edited(trainer, names, blobs) if blobs is not None else set[str]()
    if trainer.files_sha256 is not None:
        folder = trainer.checkout.parent
        wrong |= {*manifest.find_changed_install(folder, trainer.files_sha256, manifest.list_trainer_files(folder))}
    else:
        for folder in filter(_is_package_folder, path):
            told, _ = manifest.read_package_records(folder, "")
            here = manifest.hash_files(folder, told)
            wrong |= {f"{folder.name}/{name}" for name, digest in told.items() if here[name] != digest}
    known = blobs is not None or (trainer.files_sha256 is not None and manifest.MANIFEST_FILE not in wrong)
    clean = not any(name.startswith(CHECKOUT_PREFIX) for name in wrong) if known else None
    return tuple(sorted(wrong)), clean


def _expected_blobs(trainer: Trainer, env: Mapping[str, str]) -> git_tree.Blobs | None:
    """What the files of the checkout should be by its commit; None if unknown. lorabake knows the pinned commit. One
    of lorabake's trainers at another commit was equal to that commit when its manifest was made.
    """
    if trainer.commit == resources.load_pin().commit:
        return git_tree.parse_blobs(resources.read_vendor_text(resources.PIN_FILE_LIST))
    if trainer.files_sha256 is not None or trainer.commit is None:
        return None
    with suppress(SetupError):
        return git_tree.read_commit_blobs(trainer.checkout, trainer.commit, env)
    return None


def _find_edited(trainer: Trainer, names: Sequence[str], blobs: git_tree.Blobs) -> set[str]:
    """The files that are not as in the commit, are missing, or were added."""
    known = git_tree.filter_sparse(blobs, resources.load_pin().sparse)
    changed = {*git_tree.find_changed_blobs(trainer.checkout, known)}
    return {f"{CHECKOUT_PREFIX}{name}" for name in changed | {name for name in names if name not in blobs}}


def _list_counted_files(trainer: Trainer, env: Mapping[str, str]) -> list[str]:
    """The files that count, by their relative POSIX names: in a checkout of ours all of them."""
    if trainer.kind == "pin":
        return list(_walk_checkout(trainer.checkout))
    try:
        known = git.list_repository_files(trainer.checkout, env)
    except SetupError:
        known = None
    if known is None:
        return [name for name in _walk_checkout(trainer.checkout, own=True) if name.endswith(_CODE_EXTENSIONS)]
    tracked, others = known
    return sorted(
        {
            *tracked,
            *(name for name in others if name.endswith(_CODE_EXTENSIONS) and not name.endswith(_NOTES_EXTENSION)),
        }
    )


def _walk_checkout(top: Path, *, own: bool = False) -> Iterator[str]:
    """Every file below ``top``; a folder that is a link is named, not followed. In an ``own`` checkout virtual
    environments are left out: their content is identified by its packages.
    """
    for place, folders, files in os.walk(top):
        here = Path(place)
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(
            name
            for name in folders
            if name not in _IGNORED_FOLDERS
            and name not in links
            and not (own and (here / name / "pyvenv.cfg").is_file())
        )
        for name in (*files, *links):
            if not name.endswith(".pyc"):
                yield (here / name).relative_to(top).as_posix()


def hash_tree(top: Path, names: Iterable[str], hasher: FileHasher) -> str:
    """One SHA-256 over the files' names and digests, in the order of the names; a file that cannot be read counts as
    that."""
    folders: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        folders.setdefault(folder, []).append(file)
    lines: dict[str, str] = {}
    for folder, files in folders.items():
        for file, digest in hasher.of(top / folder, sorted(files)).items():
            lines[f"{folder}/{file}" if folder else file] = digest.sha256 if digest else "unreadable"
    whole = hashlib.sha256()
    for name in sorted(lines):
        whole.update(f"{lines[name]} {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def list_packages(path: Sequence[Path]) -> dict[str, str]:
    """Every distribution installed in these folders by its normalized name; the first folder that has it counts, as
    for an import. A distribution that is twice in one folder gives both versions.
    """
    found: dict[str, str] = {}
    for folder in path:
        here: dict[str, set[str]] = {}
        for name, version in _iter_distributions(folder):
            here.setdefault(name, set()).add(version)
        found = {name: ", ".join(sorted(versions)) for name, versions in here.items()} | found
    return dict(sorted(found.items()))


def _iter_distributions(folder: Path) -> Iterator[tuple[str, str]]:
    """Name and version of each distribution from the head of its metadata, without the long description after it.

    pip puts a "~" before the name of a distribution that it is replacing.
    """
    try:
        entries = [
            path for path in folder.iterdir() if path.suffix in _METADATA_EXTENSIONS and not path.name.startswith("~")
        ]
    except OSError:  # sys.path may name a zip file, or a missing folder
        return
    for entry in entries:
        each = Distribution.at(entry)
        text = each.read_text("METADATA") or each.read_text("PKG-INFO") or each.read_text("") or ""
        head = message_from_string(text.partition("\n\n")[0])
        if head["Name"] and head["Version"]:
            yield re.sub(r"[-_.]+", "-", head["Name"]).lower(), head["Version"]


def _query_python(python: Path, env: Mapping[str, str], *options: str) -> tuple[str, tuple[Path, ...]]:
    """Its version and the folders it takes packages from."""
    argv = [str(python), "-B", *options, "-c", _PYTHON_QUERY]
    try:
        done = capture_output(
            argv, env=make_child_env(env, drop=("PYTHON", "VIRTUAL_ENV"), PYTHONSAFEPATH="1"), timeout=10
        )
        version, path = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    except (SetupError, ValueError):
        return "", ()
    return str(version), tuple(Path(folder) for folder in path if folder)


def find_isolated_packages(python: Path) -> tuple[Path, ...]:
    """The one folder of a virtual environment that sees no other packages, known without asking; else nothing."""
    venv = python.parent.parent
    try:
        settings = (venv / "pyvenv.cfg").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    if re.search(r"^include-system-site-packages\s*=\s*true\s*$", settings, re.MULTILINE | re.IGNORECASE):
        return ()
    return find_package_folders(venv)


@dataclass(frozen=True, slots=True)
class CurrentTrainer:
    """``trainer`` is None if it is missing, was a rehearsal's stand-in, or is not checked; ``unchecked`` is then the
    reason. ``edited`` are the files of its checkout that differ from its commit, ``patched`` the files of packages
    in lorabake's own trainer that differ from what was installed.
    """

    trainer: TrainerRecord | None = None
    edited: tuple[str, ...] = ()
    patched: tuple[str, ...] = ()
    unchecked: Message | None = None


def trainer_record(trainer: Trainer, contents: TrainerContents | None = None) -> TrainerRecord:
    """The trainer as a record has it."""
    record = TrainerRecord(
        kind=trainer.kind,
        url=resources.load_pin().url if trainer.kind == "pin" else None,
        commit=trainer.commit,
        lock=trainer.lock,
        lock_sha256=trainer.lock_sha256,
        checkout=escape_undecodable(str(trainer.checkout)),
        python=escape_undecodable(str(trainer.python)),
    )
    if contents is None:
        return record
    update = {
        "python_version": contents.python_version,
        "clean": contents.clean,
        "tree": contents.tree,
        "packages": dict(contents.packages),
    }
    return record.model_copy(update=update)


def read_current_trainer(
    then: TrainerRecord, env: Mapping[str, str], hasher: FileHasher, given: tuple[Path, Path] | None = None
) -> CurrentTrainer:
    """Look at the trainer of a run. Starts its Python and git for a moment, changes nothing."""
    if then.kind == "rehearsal" or then.checkout is None:
        return CurrentTrainer()
    trainer = find_recorded_trainer(then, env, given)
    if trainer is None:
        return CurrentTrainer(unchecked=_unnamed_trainer_message(then) if then.kind == "own" else None)
    found = read_trainer_contents(trainer, env, hasher)
    damaged = found.changed if trainer.files_sha256 is not None else ()
    now = trainer_record(trainer, found)
    if damaged and not found.python_version:  # one that was changed is not started: its version counts as the same
        now = now.model_copy(update={"python_version": then.python_version})
    patched = tuple(name for name in damaged if not name.startswith(CHECKOUT_PREFIX))
    return CurrentTrainer(now, found.edited, patched)


def find_recorded_trainer(
    then: TrainerRecord, env: Mapping[str, str], given: tuple[Path, Path] | None = None
) -> Trainer | None:
    """``given``, a checkout and its Python from the command line, else the same trainer in the store; None for neither.

    The store's is the same when commit and lock are.
    """
    if given is not None:
        checkout, python = given
        commit = None
        with suppress(SetupError):  # without git on this machine, the files show it
            commit = git.read_head(checkout, env)
        return Trainer("own", checkout, python, commit, None, None, {})
    if then.kind != "pin":
        return None
    wanted = (then.commit, then.lock, then.lock_sha256)
    every = list_trainers(lorabake_home(env))
    return next((each for each in every if (each.commit, each.lock, each.lock_sha256) == wanted), None)


def _unnamed_trainer_message(then: TrainerRecord) -> Message:
    """Why the user's own sd-scripts is not checked, and how to name it."""
    return msg(
        "the trainer was not checked because lorabake did not install it; if it is yours, add "
        "--sd-scripts {checkout} --python {python}",
        checkout=then.checkout or "",
        python=then.python,
    )
