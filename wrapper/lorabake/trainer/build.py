"""Building one trainer: checkout, virtual environment, packages, a try; of another commit than the pin the options."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabake import resources
from lorabake.errors import SetupError
from lorabake.reading import machine
from lorabake.trainer import git, git_tree, manifest, options, pinned, requirements, store, venv
from lorabake.trainer.choice import Choice, check_space, choose_lock
from lorabake_schemas.pin import LockName, Pin
from lorabake_schemas.words import Said, say

Tell = Callable[[Said], None]

_FULL_BYTES = 4 * 2**20  # with less than this free, any failure is the disk's


@dataclass(frozen=True, slots=True)
class World:
    """What an installation takes from outside and a test may replace: locks, free disk in bytes, is there a GPU.

    ``lender`` is the pin whose packages any other commit gets, too; its options are then read anew.
    """

    lock_text: Callable[[str], str] = resources.vendor_text
    free_disk: Callable[[Path], int] = machine.free_disk
    gpu: Callable[[Mapping[str, str]], bool] = lambda env: bool(machine.facts(env).gpus)
    lender: Pin | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What one installation was asked for."""

    env: Mapping[str, str]
    tell: Tell
    python: Path | None
    version: str
    world: World


def build(pin: Pin, home: Path, choice: Choice, job: Job) -> store.Marker:
    """Build a trainer; only for who holds the store's lock. Raises SetupError, OSError."""
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
    return marker


def _build_in(folder: Path, pin: Pin, choice: Choice, log: Path, job: Job) -> store.Marker:
    """Fill a new folder with checkout and virtual environment, and say what is in it."""
    checkout = folder / "sd-scripts"
    job.tell(say("fetching sd-scripts {commit} from {url}", commit=pin.commit[:12], url=pin.url))
    pinned.check_out(pin, checkout, job.env)
    lender = job.world.lender
    other = lender is not None and lender.commit != pin.commit
    if lender is not None and other:
        _about_other(pin, lender, checkout, job)
    job.tell(say("making a virtual environment with Python {version}", version=job.version))
    python = venv.make(folder / "venv", job.python, job.env)
    name = _lock_for(pin, python, choice, job)
    check_space(pin, name, folder.parent.parent, job.world.free_disk(folder.parent.parent))
    lock = job.world.lock_text(pin.lock(name).file)
    venv.fill(python, lock, folder, job.env, log, job.tell)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    job.tell(say("checking that it works"))
    health = venv.health(python, (*pin.modules, *pin.lock(name).modules), job.env)
    if health.failed:
        said = say("the trainer was installed but does not work: {why}", why=health.failed[0])
        raise SetupError(said, say("what pip did: {log}", log=log))
    if other:
        job.tell(say("reading its options"))
        options.make(python, checkout, options.place(folder), pin.commit, job.env)
    venv.compile_all(python, checkout, job.env)
    pinned.verify(pin, checkout, job.env)
    files_sha256 = _sealed(pin, folder, job.env)
    return store.Marker(
        folder=folder.name,
        files_sha256=files_sha256,
        url=pin.url,
        commit=pin.commit,
        lock=name,
        lock_sha256=digest(pin, name, job.world),
        python=health.versions["python"],
        versions=dict(health.versions),
    )


def _sealed(pin: Pin, folder: Path, env: Mapping[str, str]) -> str:
    """Compare every file with the commit and with the packages' own RECORD, then keep the hashes of them all.

    Raises SetupError when a file is another one, or belongs to neither.
    """
    sha256 = manifest.make(folder)
    found = manifest.installed_hashes(folder)
    blobs = git_tree.checked_out(git_tree.of_commit(folder / "sd-scripts", pin.commit, env), pin.sparse)
    wrong = [f"sd-scripts/{name}" for name in git_tree.changed(folder / "sd-scripts", blobs)]
    wrong += [name for name in found if name.startswith("sd-scripts/") and not _belongs(name, blobs)]
    for site in venv.packages_of(folder / "venv"):
        wrong += manifest.wrong_packages(folder, site, found)
    if wrong:
        said = say(
            "files of the new trainer do not match its packages or its commit: {files}", files=manifest.named(wrong)
        )
        raise SetupError(said, say("something changes files during the installation; stop it, then install again"))
    return sha256


def _belongs(name: str, blobs: Mapping[str, str]) -> bool:
    return name.removeprefix("sd-scripts/") in blobs or "/__pycache__/" in name


def digest(pin: Pin, name: LockName, world: World) -> str:
    """The SHA-256 of a lock."""
    return hashlib.sha256(world.lock_text(pin.lock(name).file).encode()).hexdigest()


def _about_other(pin: Pin, lender: Pin, checkout: Path, job: Job) -> None:
    """Say what is to be known of a commit that is not the pin: it gets the pin's packages, whatever it asks for.

    Raises SetupError when it is too old to train with.
    """
    lacking = [name for name in venv.LANDMARKS if not (checkout / name).is_file()]
    if lacking:
        said = say("sd-scripts {commit} has no {file} yet", commit=pin.commit, file=lacking[0])
        raise SetupError(said, say("name a later commit"))
    job.tell(
        say(
            "warning: lorabake knows sd-scripts {pin}; of {commit} it reads the options anew, but rules and forecasts"
            " are the pin's",
            pin=lender.commit[:12],
            commit=pin.commit[:12],
        )
    )
    try:
        ours = git.text_at(checkout, lender.commit, "requirements.txt", job.env)
        theirs = (checkout / "requirements.txt").read_text(encoding="utf-8")
    except (SetupError, OSError, UnicodeDecodeError) as error:
        job.tell(say("warning: its requirements.txt could not be compared with the pin's: {why}", why=str(error)))
        return
    wishes = requirements.other_wishes(theirs, ours)
    job.tell(
        say("warning: it gets the pin's locked packages, but its requirements.txt differs:")
        if wishes
        else say("its requirements.txt asks for what the pin's does; it gets the same locked packages")
    )
    for wish in wishes:
        job.tell(say("  {wish}", wish=wish))


def _or_disk_full(error: SetupError, home: Path, free: int) -> SetupError:
    """The error itself, unless the disk is full: the programs that fail then rarely say that it was that."""
    if free >= _FULL_BYTES:
        return error
    hint = say("free some space, or set LORABAKE_HOME to a folder on another disk ({why})", why=error.message)
    return SetupError(say("the disk is full, in {folder}", folder=home), hint)


def _lock_for(pin: Pin, python: Path, choice: Choice, job: Job) -> LockName:
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


__all__ = ["Job", "Tell", "World", "build", "digest"]
