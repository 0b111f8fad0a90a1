"""The trainer: the pinned sd-scripts with its own Python, found, installed, or the user's own."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lorabake import locks, resources
from lorabake.errors import SetupError
from lorabake.reading import machine
from lorabake.trainer import attention, git, pinned, store, venv
from lorabake.trainer.choice import Choice, check_space, choose_lock
from lorabake_schemas.machine import AttentionProbe, Precision
from lorabake_schemas.pin import LockName, Pin
from lorabake_schemas.words import Said, say

Tell = Callable[[Said], None]

_FULL_BYTES = 4 * 2**20  # with less than this free, any failure is the disk's

# sd-scripts' checkout is known by these (it is no package and has no version).


@dataclass(frozen=True, slots=True)
class Trainer:
    """A checkout of sd-scripts and the Python to run it with.

    ``kind`` is "own" for the user's installation, which has no lock; its ``commit`` is None when git does not tell.
    ``versions`` are those of every installed package, and of "python".
    """

    kind: Literal["pin", "own"]
    checkout: Path
    python: Path
    commit: str | None
    lock: LockName | None
    lock_sha256: str | None
    versions: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class TrainerStatus:
    """What is installed in ``home``: ``trainer`` for the choice asked for, ``installed`` for this pin at all."""

    home: Path
    url: str
    commit: str
    python: str
    trainer: Trainer | None
    installed: tuple[Trainer, ...]


@dataclass(frozen=True, slots=True)
class World:
    """What an installation takes from outside and a test may replace: locks, free disk in bytes, is there a GPU."""

    lock_text: Callable[[str], str] = resources.vendor_text
    free_disk: Callable[[Path], int] = machine.free_disk
    gpu: Callable[[Mapping[str, str]], bool] = lambda env: bool(machine.facts(env).gpus)


_WORLD = World()


def find(
    pin: Pin,
    home: Path,
    choice: Choice,
    env: Mapping[str, str],
    *,
    python: Path | None = None,
    world: World = _WORLD,
) -> Trainer | None:
    """An installed trainer for this pin, None when there is none; nothing is fetched or built.

    ``python`` is the one that made its virtual environment, by default the one that runs lorabake. With "auto" a
    machine with an NVIDIA GPU gets the CUDA one only.
    """
    names = _candidates(choice, gpu=choice == "auto" and world.gpu(env))
    version = venv.python_version(python, env)
    found = (_installed(pin, home, name, version, world) for name in names)
    return next((trainer for trainer in found if trainer is not None), None)


def _candidates(choice: Choice, *, gpu: bool) -> tuple[LockName, ...]:
    """The locks that will do, best first; a GPU matters to "auto" only."""
    if choice != "auto":
        return (choice,)
    return ("cuda",) if gpu else ("cpu", "cuda")


def _digest(pin: Pin, name: LockName, world: World) -> str:
    return hashlib.sha256(world.lock_text(pin.lock(name).file).encode()).hexdigest()


def _installed(pin: Pin, home: Path, name: LockName, version: str, world: World) -> Trainer | None:
    """The trainer that a marker speaks of, if its Python and its checkout are still there."""
    marker = store.read(home, store.key(pin, name, _digest(pin, name, world), version))
    if marker is None:
        return None
    folder = store.root(home) / marker.folder
    checkout, python = folder / "sd-scripts", venv.interpreter(folder / "venv")
    if not python.exists() or not (checkout / venv.LANDMARKS[0]).exists():
        return None
    return Trainer("pin", checkout, python, marker.commit, marker.lock, marker.lock_sha256, marker.versions)


def install(
    pin: Pin,
    home: Path,
    choice: Choice,
    env: Mapping[str, str],
    tell: Tell,
    *,
    python: Path | None = None,
    world: World = _WORLD,
) -> Trainer:
    """The trainer for this pin, built first if it is not there. ``tell`` gets one short line at a time.

    Safe to interrupt, and to run twice at once: one builds, the other waits and takes the result. ``python`` makes the
    virtual environment, by default the one that runs lorabake. Raises SetupError; nothing half-made stays behind.
    """
    found = find(pin, home, choice, env, python=python, world=world)
    if found is not None:
        return found
    version = venv.python_version(python, env)
    venv.check_version(version, pin.python_min, pin.python_max)
    try:
        store.root(home).mkdir(parents=True, exist_ok=True)
        with locks.held(store.root(home) / ".lock", lambda: tell(say("waiting for another installation to end"))):
            found = find(pin, home, choice, env, python=python, world=world)
            return found or _build(pin, home, choice, _Job(env, tell, python, version, world))
    except OSError as error:
        hint = say("free some space, or set LORABAKE_HOME to a folder that can be written")
        said = say("cannot write in {folder}: {why}", folder=home, why=error.strerror or str(error))
        raise SetupError(said, hint) from error


@dataclass(frozen=True, slots=True)
class _Job:
    """What one installation was asked for."""

    env: Mapping[str, str]
    tell: Tell
    python: Path | None
    version: str
    world: World


def _build(pin: Pin, home: Path, choice: Choice, job: _Job) -> Trainer:
    """Build a trainer; only for who holds the store's lock."""
    for name in store.sweep(home):
        job.tell(say("removed {folder}, left by an installation that did not end", folder=name))
    log = store.root(home) / "install.log"
    log.unlink(missing_ok=True)
    with store.building(home, pin.commit[:8]) as folder:
        try:
            marker = _build_in(folder, pin, choice, log, job)
        except SetupError as error:  # looked at before the folder is removed, which makes room again
            raise _or_disk_full(error, home, job.world.free_disk(folder)) from error
        store.publish(home, store.key(pin, marker.lock, marker.lock_sha256, job.version), marker)
    found = _installed(pin, home, marker.lock, job.version, job.world)
    if found is None:
        said = say("the trainer vanished from {folder} as it was finished", folder=home)
        raise SetupError(said, say("is something else cleaning there?"))
    return found


def _build_in(folder: Path, pin: Pin, choice: Choice, log: Path, job: _Job) -> store.Marker:
    """Fill a new folder with checkout and virtual environment, and say what is in it."""
    checkout = folder / "sd-scripts"
    job.tell(say("fetching sd-scripts {commit} from {url}", commit=pin.commit[:12], url=pin.url))
    pinned.check_out(pin, checkout, job.env)
    job.tell(say("making a virtual environment with Python {version}", version=job.version))
    python = venv.make(folder / "venv", job.python, job.env)
    name = _lock_for(pin, python, choice, job)
    check_space(pin, name, folder.parent.parent, job.world.free_disk(folder.parent.parent))
    lock = job.world.lock_text(pin.lock(name).file)
    venv.fill(python, lock, folder, job.env, log, job.tell)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    job.tell(say("checking that it works"))
    health = venv.health(python, (*pin.modules, *pin.lock(name).modules), checkout, job.env)
    if health.failed:
        said = say("the trainer was installed but does not work: {why}", why=health.failed[0])
        raise SetupError(said, say("what pip did: {log}", log=log))
    pinned.verify(pin, checkout, job.env)
    return store.Marker(
        folder=folder.name,
        url=pin.url,
        commit=pin.commit,
        lock=name,
        lock_sha256=_digest(pin, name, job.world),
        python=health.versions["python"],
        versions=dict(health.versions),
    )


def _or_disk_full(error: SetupError, home: Path, free: int) -> SetupError:
    """The error itself, unless the disk is full: the programs that fail then rarely say that it was that."""
    if free >= _FULL_BYTES:
        return error
    hint = say("free some space, or set LORABAKE_HOME to a folder on another disk ({why})", why=error.message)
    return SetupError(say("the disk is full, in {folder}", folder=home), hint)


def _lock_for(pin: Pin, python: Path, choice: Choice, job: _Job) -> LockName:
    """The lock to install, said with its reason."""
    lock = job.world.lock_text(pin.cpu.file)
    name, why = choose_lock(
        choice,
        gpu=choice == "auto" and job.world.gpu(job.env),
        system=(platform.system(), platform.machine()),
        python=job.version,
        offers_cpu=lambda: venv.offers_cpu_torch(python, lock, job.env),
    )
    wanted = pin.lock(name)
    job.tell(
        say(
            "packages: {lock} ({why}); {download:.1f} GB to download, {disk:.1f} GB on disk",
            lock=name,
            why=why,
            download=wanted.download_bytes / 1e9,
            disk=wanted.disk_bytes / 1e9,
        )
    )
    return name


def own(
    sd_scripts: Path, python: Path | None, pin: Pin, tell: Tell, env: Mapping[str, str], *, needed: Sequence[str] = ()
) -> Trainer:
    """The user's installation, checked: the folder is sd-scripts, and the Python imports what training needs.

    ``needed`` are modules beside those that every training imports (requirements.modules_for says which). Without
    ``python`` that of a ``venv`` or ``.venv`` in the folder. Raises SetupError; ``tell`` hears when the commit is not
    the pin's.
    """
    checkout, chosen = venv.own_place(sd_scripts, python, env)
    tell(say("checking {path}", path=chosen))
    health = venv.health(chosen, (*pin.modules, *needed), checkout, env)
    if health.failed:
        raise health.refusal(chosen)
    commit = git.head(checkout, env)
    if commit != pin.commit:
        theirs = commit or say("an unknown commit")
        tell(
            say("warning: {path} is at {commit}, lorabake knows {pin}", path=sd_scripts, commit=theirs, pin=pin.commit)
        )
    return Trainer("own", checkout, chosen, commit, None, None, health.versions)


def status(
    pin: Pin, home: Path, choice: Choice, env: Mapping[str, str], *, python: Path | None = None, world: World = _WORLD
) -> TrainerStatus:
    """What is there, without fetching or building anything."""
    version = venv.python_version(python, env)
    both = (_installed(pin, home, name, version, world) for name in ("cuda", "cpu"))
    return TrainerStatus(
        home,
        pin.url,
        pin.commit,
        version,
        find(pin, home, choice, env, python=python, world=world),
        tuple(trainer for trainer in both if trainer is not None),
    )


def probe_attention(trainer: Trainer, precision: Precision, env: Mapping[str, str]) -> AttentionProbe:
    """Whether xformers' attention works here at the run's precision, tried for real once per GPU and precision.

    The answer is kept in the trainer's folder; the user's own installation may change, so there it is tried each time.
    """
    kept = trainer.checkout.parent / "attention.json" if trainer.kind == "pin" else None
    return attention.probe(trainer.python, precision, env, kept)


__all__ = [
    "Choice",
    "Tell",
    "Trainer",
    "TrainerStatus",
    "World",
    "choose_lock",
    "find",
    "install",
    "own",
    "probe_attention",
    "status",
]
