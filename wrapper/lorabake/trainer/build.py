"""Building one trainer: checkout, virtual environment, packages, a try; of another commit than the pin the options."""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabake.errors import LorabakeError, ResourceError, SetupError
from lorabake.trainer import checkout as pinned
from lorabake.trainer import git, git_tree, manifest, options, packages, store, venv
from lorabake.trainer.select_packages import LockChoice, check_disk_space, choose_lock
from lorabake.util import machine, resources
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.pin import LockName, Pin

Tell = Callable[[Message], None]

_DISK_FULL_BYTES = 4 * 2**20  # with less than this free, any failure is the disk's


@dataclass(frozen=True, slots=True)
class BuildEnv:
    """What an installation takes from outside and a test may replace: locks, free disk in bytes, whether there is a
    GPU.

    ``lender`` is the pin whose packages any other commit also gets; the options of that commit are then read.
    """

    lock_text: Callable[[str], str] = resources.read_vendor_text
    free_disk: Callable[[Path], int] = machine.get_free_disk
    gpu: Callable[[Mapping[str, str]], bool] = lambda env: bool(machine.detect_machine(env).gpus)
    lender: Pin | None = None


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """The request of one installation."""

    env: Mapping[str, str]
    tell: Tell
    python: Path | None
    version: str
    world: BuildEnv


def build_trainer(pin: Pin, home: Path, choice: LockChoice, job: InstallRequest) -> store.InstallManifest:
    """Build a trainer; only for the owner of the store's lock. Raises SetupError, OSError."""
    for name in store.remove_stale(home):
        job.tell(msg("removed {folder}, left by an unfinished installation", folder=name))
    log = store.trainers_folder(home) / "install.log"
    log.unlink(missing_ok=True)
    with store.stage_folder(home, pin.commit[:8]) as folder:
        try:
            marker = _build_in_folder(folder, pin, choice, log, job)
        except (SetupError, ResourceError) as error:  # looked at before the folder is removed, which makes room again
            raise _or_disk_full_error(error, home, job.world.free_disk(folder)) from error
        store.activate_trainer(home, store.trainer_key(pin, marker.lock, marker.lock_sha256, job.version), marker)
    return marker


def _build_in_folder(
    folder: Path, pin: Pin, choice: LockChoice, log: Path, job: InstallRequest
) -> store.InstallManifest:
    """Fill a new folder with checkout and virtual environment, and return its content."""
    checkout = folder / "sd-scripts"
    job.tell(msg("fetching sd-scripts {commit} from {url}", commit=pin.commit[:12], url=pin.url))
    pinned.fetch_checkout(pin, checkout, job.env)
    lender = job.world.lender
    other = lender is not None and lender.commit != pin.commit
    if lender is not None and other:
        _report_other_commit(pin, lender, checkout, job)
    job.tell(msg("creating a virtual environment with Python {version}", version=job.version))
    python = venv.create_venv(folder / "venv", job.python, job.env)
    name = _select_lock(pin, python, choice, job)
    check_disk_space(pin, name, folder.parent.parent, job.world.free_disk(folder.parent.parent))
    lock = job.world.lock_text(pin.lock(name).file)
    venv.install_packages(python, lock, folder, job.env, log, job.tell)
    shutil.rmtree(folder / "tmp", ignore_errors=True)
    job.tell(msg("checking that the trainer works"))
    health = venv.check_health(python, (*pin.modules, *pin.lock(name).modules), job.env)
    if health.failed:
        said = msg("the trainer was installed but does not work: {why}", why=health.failed[0])
        raise SetupError(said, msg("see pip's log: {log}", log=log))
    if other:
        job.tell(msg("reading the options of sd-scripts"))
        options.extract_options(python, checkout, options.options_path(folder), pin.commit, job.env)
    venv.compile_checkout(python, checkout, job.env)
    pinned.verify_checkout(pin, checkout, job.env)
    files_sha256 = _seal_install(pin, folder, job.env)
    return store.InstallManifest(
        folder=folder.name,
        files_sha256=files_sha256,
        url=pin.url,
        commit=pin.commit,
        lock=name,
        lock_sha256=lock_digest(pin, name, job.world),
        python=health.versions["python"],
        versions=dict(health.versions),
    )


def _seal_install(pin: Pin, folder: Path, env: Mapping[str, str]) -> str:
    """Compare every file with the commit and with the packages' own RECORD, then keep the hashes of them all.

    Raises SetupError when a file is another one, or belongs to neither.
    """
    sha256 = manifest.write_file_hashes(folder)
    found = manifest.read_file_hashes(folder)
    blobs = git_tree.filter_sparse(git_tree.read_commit_blobs(folder / "sd-scripts", pin.commit, env), pin.sparse)
    wrong = [f"sd-scripts/{name}" for name in git_tree.find_changed_blobs(folder / "sd-scripts", blobs)]
    wrong += [name for name in found if name.startswith("sd-scripts/") and not _is_expected(name, blobs)]
    for site in venv.find_package_folders(folder / "venv"):
        wrong += manifest.find_wrong_packages(folder, site, found)
    if wrong:
        said = msg(
            "files of the new trainer do not match its packages or its commit: {files}",
            files=manifest.shorten_names(wrong),
        )
        raise SetupError(
            said, msg("another program is changing files during the installation; stop it, then install again")
        )
    return sha256


def _is_expected(name: str, blobs: Mapping[str, str]) -> bool:
    return name.removeprefix("sd-scripts/") in blobs or "/__pycache__/" in name


def lock_digest(pin: Pin, name: LockName, world: BuildEnv) -> str:
    """The SHA-256 of a lock."""
    return hashlib.sha256(world.lock_text(pin.lock(name).file).encode()).hexdigest()


def _report_other_commit(pin: Pin, lender: Pin, checkout: Path, job: InstallRequest) -> None:
    """Report what is different at a commit other than the pin: it gets the pin's packages, whatever it requires.

    Raises SetupError if it is too old to train with.
    """
    lacking = [name for name in venv.SD_SCRIPTS_FILES if not (checkout / name).is_file()]
    if lacking:
        said = msg("sd-scripts {commit} has no {file}", commit=pin.commit, file=lacking[0])
        raise SetupError(said, msg("use a later commit"))
    job.tell(
        msg(
            "warning: options are read from sd-scripts {commit}, but rules and forecasts are those of "
            "the pinned commit {pin}",
            pin=lender.commit[:12],
            commit=pin.commit[:12],
        )
    )
    try:
        ours = git.read_file_at(checkout, lender.commit, "requirements.txt", job.env)
        theirs = (checkout / "requirements.txt").read_text(encoding="utf-8")
    except (SetupError, OSError, UnicodeDecodeError) as error:
        job.tell(
            msg(
                "warning: cannot compare this commit's requirements.txt with the pinned commit's: {why}", why=str(error)
            )
        )
        return
    wishes = packages.compare_requirements(theirs, ours)
    job.tell(
        msg("warning: this commit gets the pinned commit's locked packages, although its requirements.txt differs:")
        if wishes
        else msg("this commit's requirements.txt matches the pinned commit's, so it gets the same locked packages")
    )
    for wish in wishes:
        job.tell(msg("  {wish}", wish=wish))


def _or_disk_full_error(error: LorabakeError, home: Path, free: int) -> LorabakeError:
    """The error itself, unless the disk is full: programs that fail then rarely report that as the reason."""
    if free >= _DISK_FULL_BYTES:
        return error
    hint = msg("free some space, or set LORABAKE_HOME to a folder on another disk ({why})", why=error.message)
    return ResourceError(msg("the disk is full ({folder})", folder=home), hint)


def _select_lock(pin: Pin, python: Path, choice: LockChoice, job: InstallRequest) -> LockName:
    """The lock to install, reported with its reason."""
    lock = job.world.lock_text(pin.cpu.file)
    name, why = choose_lock(
        choice,
        gpu=choice == "auto" and job.world.gpu(job.env),
        system=(platform.system(), platform.machine()),
        python=job.version,
        offers_cpu=lambda: venv.has_cpu_torch(python, lock, job.env),
    )
    wanted = pin.lock(name)
    job.tell(
        msg(
            "packages: {lock} ({why}); {download:.1f} GB to download, {disk:.1f} GB on disk",
            lock=name,
            why=why,
            download=wanted.download_bytes / 1e9,
            disk=wanted.disk_bytes / 1e9,
        )
    )
    return name
