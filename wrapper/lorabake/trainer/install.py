"""The trainer: the pinned sd-scripts with its own Python, found, installed, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lorabake.errors import SetupError
from lorabake.trainer import attention, git, store, venv
from lorabake.trainer.build import BuildEnv, InstallRequest, Tell, build_trainer, lock_digest
from lorabake.trainer.select_packages import LockChoice
from lorabake.util import locks
from lorabake.util.files import disk_error
from lorabake_schemas.machine import AttentionProbe, Precision
from lorabake_schemas.messages import msg
from lorabake_schemas.pin import LockName, Pin

_DEFAULT_BUILD_ENV = BuildEnv()


@dataclass(frozen=True, slots=True)
class Trainer:
    """A checkout of sd-scripts and the Python to run it with.

    ``kind`` is "own" for the user's installation, which has no lock; its ``commit`` is None if git cannot report it.
    ``versions`` are those of every installed package, and of "python"; ``files_sha256`` is the manifest's.
    """

    kind: Literal["pin", "own"]
    checkout: Path
    python: Path
    commit: str | None
    lock: LockName | None
    lock_sha256: str | None
    versions: Mapping[str, str] = field(repr=False)
    files_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class TrainerStatus:
    """The trainers in ``home``: ``trainer`` for the given choice, ``installed`` all for this pin.

    ``others`` are those of other commits, or made with another Python.
    """

    home: Path
    url: str
    commit: str
    python: str
    trainer: Trainer | None
    installed: tuple[Trainer, ...]
    others: tuple[Trainer, ...] = ()


def find_installed(
    pin: Pin,
    home: Path,
    choice: LockChoice,
    env: Mapping[str, str],
    *,
    python: Path | None = None,
    world: BuildEnv = _DEFAULT_BUILD_ENV,
) -> Trainer | None:
    """An installed trainer for this pin, or None; nothing is fetched or built.

    ``python`` is the one that made its virtual environment, by default the one that runs lorabake. With "auto" a
    machine with an NVIDIA GPU gets the CUDA one only.
    """
    names = _candidate_locks(choice, gpu=choice == "auto" and world.gpu(env))
    version = venv.read_python_version(python, env)
    found = (_read_installed(pin, home, name, version, world) for name in names)
    return next((trainer for trainer in found if trainer is not None), None)


def _candidate_locks(choice: LockChoice, *, gpu: bool) -> tuple[LockName, ...]:
    """The locks that will do, best first; a GPU matters to "auto" only."""
    if choice != "auto":
        return (choice,)
    return ("cuda",) if gpu else ("cpu", "cuda")


def _read_installed(pin: Pin, home: Path, name: LockName, version: str, world: BuildEnv) -> Trainer | None:
    """The trainer of a marker, if its Python and its checkout still exist."""
    marker = store.read_marker(home, store.trainer_key(pin, name, lock_digest(pin, name, world), version))
    return None if marker is None else _trainer_from_marker(marker, store.trainers_folder(home) / marker.folder)


def _trainer_from_marker(marker: store.InstallManifest, folder: Path) -> Trainer | None:
    checkout, python = folder / "sd-scripts", venv.interpreter_path(folder / "venv")
    if not python.exists() or not (checkout / venv.SD_SCRIPTS_FILES[0]).exists():
        return None
    return Trainer(
        "pin", checkout, python, marker.commit, marker.lock, marker.lock_sha256, marker.versions, marker.files_sha256
    )


def ensure_installed(
    pin: Pin,
    home: Path,
    choice: LockChoice,
    env: Mapping[str, str],
    tell: Tell,
    *,
    python: Path | None = None,
    world: BuildEnv = _DEFAULT_BUILD_ENV,
) -> Trainer:
    """The trainer for this pin, built first if it is missing. ``tell`` gets one short line at a time.

    Safe to interrupt, and to run twice at once: one builds, the other waits and uses the result. ``python`` makes the
    virtual environment, by default the one that runs lorabake. Raises SetupError; nothing incomplete stays behind.
    """
    found = find_installed(pin, home, choice, env, python=python, world=world)
    return found or _build_if_needed(
        pin, home, choice, InstallRequest(env, tell, python, venv.read_python_version(python, env), world)
    )


def repair_trainer(
    pin: Pin,
    home: Path,
    choice: LockChoice,
    env: Mapping[str, str],
    tell: Tell,
    *,
    python: Path | None = None,
    world: BuildEnv = _DEFAULT_BUILD_ENV,
) -> Trainer:
    """The same, but always built again; a training in progress keeps the old one."""
    job = InstallRequest(env, tell, python, venv.read_python_version(python, env), world)
    return _build_if_needed(pin, home, choice, job, again=True)


def _build_if_needed(pin: Pin, home: Path, choice: LockChoice, job: InstallRequest, *, again: bool = False) -> Trainer:
    venv.check_python_version(job.version, pin.python_min, pin.python_max)
    env, python, world = job.env, job.python, job.world
    try:
        store.create_store(home)
        busy = msg("waiting for another installation to end")
        with locks.hold_lock(store.trainers_folder(home) / ".lock", lambda other: job.tell(other.describe_wait(busy))):
            found = None if again else find_installed(pin, home, choice, env, python=python, world=world)
            if found is None:
                built = build_trainer(pin, home, choice, job)
                found = _read_installed(pin, home, built.lock, job.version, world)
    except OSError as error:
        hint = msg("free some space, or set LORABAKE_HOME to a writable folder")
        said = msg("cannot write to {folder}: {why}", folder=home, why=error.strerror or str(error))
        raise disk_error(error, said, hint, otherwise=SetupError) from error
    if found is None:
        said = msg("the trainer disappeared from {folder} right after it was installed", folder=home)
        raise SetupError(said, msg("check whether another program is deleting files there"))
    return found


def list_trainers(home: Path) -> tuple[Trainer, ...]:
    """Every trainer in the store."""
    every = (_trainer_from_marker(marker, folder) for marker, folder in store.list_complete(home))
    return tuple(trainer for trainer in every if trainer is not None)


def check_user_trainer(
    sd_scripts: Path, python: Path | None, pin: Pin, tell: Tell, env: Mapping[str, str], *, needed: Sequence[str] = ()
) -> Trainer:
    """The user's installation, checked: the folder is sd-scripts, and the Python imports what training needs.

    ``needed`` are modules in addition to those that every training imports (see requirements.modules_for). Without
    ``python`` that of a ``venv`` or ``.venv`` in the folder. Raises SetupError; ``tell`` is called if the commit is not
    the pin's.
    """
    checkout, chosen = venv.find_user_checkout(sd_scripts, python, env)
    tell(msg("checking {path}", path=chosen))
    health = venv.check_health(chosen, (*pin.modules, *needed), env)
    if health.failed:
        raise health.refusal(chosen)
    commit = git.read_head(checkout, env)
    if commit != pin.commit:
        theirs = commit or msg("an unknown commit")
        tell(
            msg(
                "warning: {path} is at {commit}, not at the pinned commit {pin}",
                path=sd_scripts,
                commit=theirs,
                pin=pin.commit,
            )
        )
    return Trainer("own", checkout, chosen, commit, None, None, health.versions)


def collect_status(
    pin: Pin,
    home: Path,
    choice: LockChoice,
    env: Mapping[str, str],
    *,
    python: Path | None = None,
    world: BuildEnv = _DEFAULT_BUILD_ENV,
) -> TrainerStatus:
    """What is installed, without fetching or building anything."""
    version = venv.read_python_version(python, env)
    both = (_read_installed(pin, home, name, version, world) for name in ("cuda", "cpu"))
    installed = tuple(trainer for trainer in both if trainer is not None)
    return TrainerStatus(
        home,
        pin.url,
        pin.commit,
        version,
        find_installed(pin, home, choice, env, python=python, world=world),
        installed,
        tuple(trainer for trainer in list_trainers(home) if trainer not in installed),
    )


def probe_attention(trainer: Trainer, precision: Precision, env: Mapping[str, str]) -> AttentionProbe:
    """Whether xformers' attention works here at the run's precision, tried for real once per GPU and precision.

    The answer is kept in the trainer's folder; the user's own installation may change, so there it is tried each time.
    """
    kept = trainer.checkout.parent / "attention.json" if trainer.kind == "pin" else None
    return attention.probe_xformers(trainer.python, precision, env, kept)
