"""A run from a recipe's path to its finished record: trainer, folder, then every step in order."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.estimate import estimate_disk_needs
from lorabake.analysis.repeat_check import RepeatCheck
from lorabake.errors import MachineError, ResourceError, SetupError
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.manifest import ManifestSpec, hash_inputs
from lorabake.jobs import start_record
from lorabake.jobs.attach import run_supervised
from lorabake.jobs.cache_recorder import CacheRecorder, make_cache_recorder, refresh_caches
from lorabake.jobs.display import NO_DISPLAY, Display, ScanProgress, ignore_event
from lorabake.jobs.gpus import choose_gpus
from lorabake.jobs.join import join_run
from lorabake.jobs.machines import (
    MACHINE_FAILED,
    OtherMachines,
    TrainingSite,
    ensure_port_free,
    start_with_others,
)
from lorabake.jobs.meeting import Meeting
from lorabake.jobs.supervisor import launch_run
from lorabake.planning.resolve import choose_precision
from lorabake.recipe.overrides import Override
from lorabake.runs.command import rehearsal_argv, training_argv
from lorabake.runs.folder import RunPaths
from lorabake.runs.gpu_locks import GpuReservation, GpuUse
from lorabake.runs.index import ensure_inputs_free, register_run
from lorabake.runs.launch_request import LaunchRequest, list_digest_parts
from lorabake.runs.lock import ensure_idle
from lorabake.runs.seat import NO_SEAT_OPTIONS, SeatOptions, describe_unused_machines, find_seat, read_seat
from lorabake.runs.verdict import DIVERGED
from lorabake.runs.watch.input_watch import InputWatch, ensure_dataset_unchanged
from lorabake.trainer import git, manifest, venv, versions
from lorabake.trainer import install as trainers
from lorabake.trainer.build import BuildEnv
from lorabake.trainer.environment import TrainerContents, read_trainer_contents
from lorabake.trainer.install import Trainer, TrainerStatus
from lorabake.trainer.options import not_installed_error
from lorabake.trainer.packages import list_required_modules
from lorabake.trainer.select_packages import LockChoice
from lorabake.util import machine, resources
from lorabake.util.fact_cache import fact_store_path
from lorabake.util.files import exists, is_folder
from lorabake.util.hashing import FileHasher, KnownDigests, ProgressCallback, hash_in_background
from lorabake.util.paths import lorabake_home
from lorabake_schemas.findings import SEVERITY_LABELS
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.pin import Pin
from lorabake_schemas.record import Inputs, Record
from lorabake_schemas.seat import Seat

Tell = Callable[[Message], None]
Env = Mapping[str, str]
RUNS_FOLDER = "runs"
LOGGER_MODULE = "wandb"
PLACEHOLDER_TRAINER = Path("TRAINER/venv/bin/python"), Path("TRAINER/sd-scripts")  # as a dry run has them


@dataclass(frozen=True, slots=True)
class TrainerChoice:
    """The pin's trainer from one of its locks, that of another ``commit``, or the user's own sd-scripts."""

    lock: LockChoice = "auto"
    sd_scripts: Path | None = None
    python: Path | None = None
    commit: str | None = None

    @property
    def pin(self) -> Pin:
        """What to install for it: lorabake's own pin, or its packages with another commit."""
        return versions.pin_at_commit(self.commit)


@dataclass(frozen=True, slots=True)
class RunRequest:
    """What `lorabake run` was asked for. ``again`` is the run to be repeated, ``content`` its recipe's bytes;
    ``overrides`` take the place of values of the recipe. ``detach``: nobody waits for more than its beginning;
    ``once``: not if the same run has finished. ``seat`` is what was given of this machine's seat among several, ``use``
    what to do if another run uses its GPU."""

    recipe: Path
    trainer: TrainerChoice = TrainerChoice()
    rehearse: bool = False
    run_dir: Path | None = None
    refresh_cache: bool = False
    content: bytes | None = None
    again: RepeatCheck | None = None
    display: Display = NO_DISPLAY
    overrides: tuple[Override, ...] = ()
    detach: bool = False
    seat: SeatOptions = NO_SEAT_OPTIONS
    once: bool = False
    use: GpuUse = "refuse"


@dataclass(frozen=True)
class PreparedRun:
    """A recipe that was checked for this machine, and the folder its run will get. Nothing is written yet.

    ``refreshed`` are sd-scripts' caches that were deleted for it. ``seat`` is this machine's among several.
    """

    order: RunRequest
    examination: CheckResult
    root: Path
    refreshed: tuple[Message, ...] = ()
    seat: Seat | None = None

    @property
    def machine(self) -> MachineFacts:
        return self.examination.machine


def prepare_run(order: RunRequest, env: Env, progress: ScanProgress | None = None) -> PreparedRun:
    """Examine the recipe as it will be run here. Raises RecipeError when it cannot be read, MachineError when the
    run folder that was asked for exists or its place cannot be written, or stale caches cannot be deleted: those that a
    run in progress reads are left alone."""
    chosen, seat = order.trainer, None if order.rehearse else read_seat(order.seat, env)
    examined = partial(
        check_recipe, order.recipe, machine.detect_machine(env),
        launching=not order.rehearse, rehearsing=order.rehearse, machines=seat.machines if seat is not None else 1,
        snapshot=versions.load_run_options(chosen.commit, chosen.sd_scripts, chosen.python, env), content=order.content,
        overrides=order.overrides,
        scanning=_scan_options(order, env, progress),
    )  # fmt: skip
    examination = examined()
    prepared = PreparedRun(order, examination, order.run_dir or _choose_run_dir(examination, order.rehearse))
    if seat is not None and examination.plan is not None:
        prepared = replace(prepared, seat=find_seat(order.seat, env, examination.plan.launch, detach=order.detach))
    if not order.refresh_cache or (prepared.seat is not None and prepared.seat.rank):
        return prepared
    examination, deleted = refresh_caches(examination, examined, partial(_check_before_deleting, prepared, env))
    return replace(prepared, examination=examination, refreshed=deleted)


def _check_before_deleting(prepared: PreparedRun, env: Env, folders: Sequence[Path]) -> None:
    """Raises what would stop this run later on, and BusyError when another one reads these folders."""
    check_run_folder(prepared)
    if (choice := prepared.order.trainer).sd_scripts is not None:
        venv.find_user_checkout(choice.sd_scripts, choice.python, env)
    ensure_inputs_free(folders, lorabake_home(env), prepared.root.parent)


def _scan_options(order: RunRequest, env: Env, progress: ScanProgress | None = None) -> ScanOptions:
    """How to look at the dataset. Whether sd-scripts' caches fit depends on its commit, too."""
    own = order.trainer.sd_scripts
    return ScanOptions(
        fact_store_path(lorabake_home(env), env),
        progress=progress,
        hashing=progress and progress.hashing,
        env=env,
        commit=(git.read_head(own, env) or "") if own else "",
        root=order.run_dir,
    )


def preview_run_command(prepared: PreparedRun, env: Env) -> tuple[str, ...]:
    """The command as far as it is known before a trainer is installed, for --dry-run.

    Raises SetupError if the installation that was named is not one.
    """
    order, (_, plan) = prepared.order, prepared.examination.planned()
    if order.rehearse:
        return rehearsal_argv(plan.launch, plan.family)
    choice = order.trainer
    if choice.sd_scripts is not None:
        checkout, python = venv.find_user_checkout(choice.sd_scripts, choice.python, env)
        return training_argv(python, checkout / plan.script, plan.launch, seat=prepared.seat)
    trainer = find_trainer(choice, env)
    if trainer is None:
        unknown = PLACEHOLDER_TRAINER[1] / plan.script
        return training_argv(PLACEHOLDER_TRAINER[0], unknown, plan.launch, seat=prepared.seat)
    return training_argv(trainer.python, trainer.checkout / plan.script, plan.launch, seat=prepared.seat)


def check_run_folder(prepared: PreparedRun) -> None:
    """Raises MachineError when the run folder exists or cannot be made, BusyError when a run of this name is in
    progress, before anything is installed or written."""
    if prepared.seat is not None and prepared.seat.rank:  # the first machine's run may have that folder
        return
    if exists(prepared.root):
        hint = msg("choose another folder, or omit --run-dir (run folders are never reused)")
        raise MachineError(msg("{path} already exists", path=prepared.root), hint)
    if prepared.examination.recipe is not None:
        ensure_idle(prepared.root, prepared.examination.recipe.name)
    if prepared.examination.plan is not None and not prepared.order.rehearse:
        ensure_port_free(prepared.examination.plan.launch, prepared.seat)
    _check_disk_space(prepared)
    parent = next(folder for folder in prepared.root.absolute().parents if exists(folder))
    if not is_folder(parent) or not machine.is_writable(parent):
        raise MachineError(
            msg("cannot write to {folder}", folder=parent),
            msg("set save.runs in the recipe, or choose a folder with --run-dir"),
        )


def _check_disk_space(prepared: PreparedRun) -> None:
    """Raises ResourceError when what the run will write certainly does not fit where --run-dir has it."""
    examination = prepared.examination
    if examination.plan is None or prepared.order.rehearse:
        return
    for need in estimate_disk_needs(examination.plan, examination.dataset, examination.loaded.folder, prepared.root):
        if need.is_too_small:
            hint = msg("free some space, or choose a folder on another disk with --run-dir")
            raise ResourceError(need.describe_shortage(), hint)


def _choose_run_dir(examination: CheckResult, rehearsal: bool) -> Path:
    """runs/NAME-001 next to the recipe (NAME-rehearsal-001), with the first number above all existing ones."""
    recipe = examination.recipe
    name = (recipe.name if recipe else "run") + ("-rehearsal" if rehearsal else "")
    return next_run_dir(examination.loaded.folder / ((recipe.save.runs if recipe else None) or RUNS_FOLDER), name)


def next_run_dir(folder: Path, name: str) -> Path:
    """NAME-001, with the first number above all existing ones."""
    numbered = re.compile(re.escape(name) + r"-(\d+)")
    taken = [int(match[1]) for path in _list_entries(folder) if (match := numbered.fullmatch(path.name))]
    return folder / f"{name}-{max(taken, default=0) + 1:03d}"


def _list_entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def execute_run(prepared: PreparedRun, env: Env, tell: Tell) -> Record:
    """Install the trainer if necessary, compile, launch, and return the finished record.

    Raises what ``make_request`` raises, InterruptedRunError if the user stopped it.
    """
    return launch_prepared(prepared, make_request(prepared, env, tell), env, tell)


def make_request(prepared: PreparedRun, env: Env, tell: Tell) -> LaunchRequest:
    """Everything that the run is made from, with its digest; the trainer is installed if necessary.

    Raises RecipeError for a recipe with errors, SetupError if the trainer cannot be installed, MachineError for the run
    folder.
    """
    check_run_folder(prepared)
    if unused := describe_unused_machines(prepared.order.seat, env, prepared.examination.planned()[1].launch):
        tell(unused)
    gpus = _choose_gpus(prepared, env)
    root, kept = prepared.root, fact_store_path(lorabake_home(env), env)
    wanted = start_record.manifest_spec(prepared.examination, root, env, weights=not prepared.order.rehearse)
    with hash_in_background(kept, partial(_hash_inputs, wanted)) as hashed:
        if prepared.order.rehearse:
            made_from, known = _wait_for_hashes(hashed, prepared.order)
            request = start_record.rehearsal_request(prepared.examination, root, made_from, env)
        else:
            examination, trainer, contents = _examine_with_trainer(prepared, env, tell)
            made_from, known = _wait_for_hashes(hashed, prepared.order)
            request = start_record.training_request(examination, root, trainer, contents, made_from, env, prepared.seat)
    request = replace(request, watch=InputWatch(made_from, root, env, kept, known), gpus=gpus)
    if prepared.order.again is not None:
        request = prepared.order.again.checked(request)
        for said in request.drift[len(prepared.order.again.known) :]:
            tell(said)
    ensure_dataset_unchanged(prepared.examination.dataset, prepared.examination.loaded.folder)
    return replace(request, once=prepared.order.once)


def launch_prepared(prepared: PreparedRun, request: LaunchRequest, env: Env, tell: Tell) -> Record:
    """Launch a request, and return the finished record."""

    def start(others: OtherMachines) -> Record:
        ensure_dataset_unchanged(prepared.examination.dataset, prepared.examination.loaded.folder)
        others.give_sign()
        if not request.rehearsal:
            register_run(lorabake_home(env), request.root, request.provenance.digest)
        caches = make_cache_recorder(prepared.examination, request, _scan_options(prepared.order, env))
        return _launch_with_progress(prepared.order, request, caches, others)

    meeting = _plan_meeting(request, prepared.seat) if prepared.seat is not None else None
    return start_with_others(_training_site(prepared.order, request), meeting, start, tell)


def join_first_machine(prepared: PreparedRun, request: LaunchRequest, seat: Seat, tell: Tell) -> int:
    """The same on every machine but the first one of several: the exit code of the run, whose record the first machine
    writes. Raises the same errors."""
    return join_run(request, _training_site(prepared.order, request), _plan_meeting(request, seat), tell)


def _training_site(order: RunRequest, request: LaunchRequest) -> TrainingSite:
    return TrainingSite(request.root, request.gpus, order.use)


def _plan_meeting(request: LaunchRequest, seat: Seat) -> Meeting:
    digest, parts = request.provenance.digest, list_digest_parts(request)
    return Meeting.next_to_processes(request.plan.launch, seat, digest, parts)


def _choose_gpus(prepared: PreparedRun, env: Env) -> GpuReservation | None:
    """Those to lock, before minutes are spent on an installation. None for a rehearsal or packages for the CPU."""
    order, (_, plan) = prepared.order, prepared.examination.planned()
    if order.rehearse or order.trainer.lock == "cpu":
        return None
    machines = prepared.seat.machines if prepared.seat is not None else 1
    later = order.once and order.use == "refuse"  # it may have finished already, which matters more than a busy GPU
    return choose_gpus(plan.launch, env, "wait" if later else order.use, machines)


def _examine_with_trainer(prepared: PreparedRun, env: Env, tell: Tell) -> tuple[CheckResult, Trainer, TrainerContents]:
    """The trainer, and the recipe checked with the trainer's attention test on this machine."""
    recipe, plan = prepared.examination.planned()
    trainer = ensure_trainer(prepared.order.trainer, env, tell, list_required_modules(plan))
    contents = check_trainer(trainer, env, tell)
    probe = trainers.probe_attention(trainer, choose_precision(recipe, prepared.machine), env)
    understood = versions.read_user_options(trainer, env, tell, plan.script) or prepared.examination.snapshot
    examination = replace(prepared.examination, snapshot=understood).with_attention(probe)
    for finding in examination.findings[len(prepared.examination.findings) :]:
        tell(msg("{severity}: {problem}", severity=SEVERITY_LABELS[finding.severity], problem=finding.message))
    tell(examination.describe_attention())
    return examination, trainer, contents


def _hash_inputs(wanted: ManifestSpec, fingerprints: FileHasher) -> tuple[Inputs, KnownDigests]:
    return hash_inputs(wanted, fingerprints), fingerprints.learned


def _wait_for_hashes(
    hashed: Callable[[ProgressCallback | None], tuple[Inputs, KnownDigests]], order: RunRequest
) -> tuple[Inputs, KnownDigests]:
    """The hashes computed meanwhile, with progress if somebody waits for them."""
    with order.display.hashing() as progress:
        return hashed(progress)


def _launch_with_progress(
    order: RunRequest, request: LaunchRequest, caches: CacheRecorder, others: OtherMachines
) -> Record:
    """In a supervisor, while this process shows how it goes."""

    def launch() -> Record:
        if request.rehearsal:  # it makes no caches
            return launch_run(request, ignore_event)
        with caches:
            return launch_run(request, caches.watching(others.watch), others.begin)

    return run_supervised(
        partial(others.accompany, launch, exit_code),
        RunPaths(request.root),
        request.plan.forecast.steps,
        order.display,
        detach=order.detach,
    )


def ensure_trainer(choice: TrainerChoice, env: Env, tell: Tell, needed: Sequence[str] = ()) -> Trainer:
    """The trainer, installed first if need be; an own one must be able to import ``needed``, lorabake's own one has
    everything but a logger for wandb. Raises SetupError."""
    if choice.sd_scripts is not None:
        return trainers.check_user_trainer(
            choice.sd_scripts, choice.python, resources.load_pin(), tell, env, needed=needed
        )
    trainer = install_chosen_trainer(choice, env, tell)
    if LOGGER_MODULE in needed and LOGGER_MODULE not in trainer.versions:
        raise SetupError(
            msg("wandb is not among the trainer's packages, so sd-scripts would stop"),
            msg("use --sd-scripts and --python with an installation that has wandb, or remove log_with"),
        )
    return trainer


def check_trainer(trainer: Trainer, env: Env, tell: Tell) -> TrainerContents:
    """The content of a trainer, with every file compared.

    Raises SetupError if one of lorabake's own differs; for the user's own that is only reported.
    """
    found = compare_trainer_files(trainer, env)
    if not found.changed:
        return found
    files = manifest.shorten_names(found.changed)
    if trainer.kind == "pin":
        other = "" if trainer.commit == resources.load_pin().commit else f" --commit {trainer.commit}"
        raise SetupError(
            msg("trainer files in {folder} were changed: {files}", folder=trainer.checkout.parent, files=files),
            msg("rebuild it with `lorabake trainer install{commit} --repair`", commit=other),
        )
    tell(msg("warning: trainer files differ from the commit or the installed packages: {files}", files=files))
    return found


def compare_trainer_files(trainer: Trainer, env: Env) -> TrainerContents:
    """What a trainer is made of, and which of its files are not what they should be."""
    kept = fact_store_path(lorabake_home(env), env)
    return read_trainer_contents(trainer, env, FileHasher(kept))


def install_chosen_trainer(choice: TrainerChoice, env: Env, tell: Tell, *, repair: bool = False) -> Trainer:
    """The pin's trainer, or the chosen commit's, installed if it is missing, or built again to ``repair`` it."""
    build = trainers.repair_trainer if repair else trainers.ensure_installed
    return build(
        choice.pin,
        lorabake_home(env),
        choice.lock,
        env,
        tell,
        python=choice.python,
        world=BuildEnv(lender=resources.load_pin()),
    )


def ensure_commit(choice: TrainerChoice, env: Env, tell: Tell, *, install_it: bool) -> None:
    """Make another commit than the pin ready to examine a recipe for: its options are read when it is installed."""
    if choice.commit is not None and install_it:
        install_chosen_trainer(choice, env, tell)
    if warned := versions.commit_warning(choice.commit):
        tell(warned)


def find_trainer(choice: TrainerChoice, env: Env) -> Trainer | None:
    """The pin's trainer, if it is installed."""
    return trainers.find_installed(choice.pin, lorabake_home(env), choice.lock, env, python=choice.python)


def require_trainer(choice: TrainerChoice, env: Env) -> Trainer:
    """The pin's trainer. Raises SetupError if it is not installed."""
    trainer = find_trainer(choice, env)
    if trainer is None and choice.commit is not None:
        raise not_installed_error(choice.commit)
    if trainer is None:
        raise SetupError(msg("the trainer is not installed"), msg("install it with `lorabake trainer install`"))
    return trainer


def chosen_trainer_status(choice: TrainerChoice, env: Env) -> TrainerStatus:
    """What is installed."""
    return trainers.collect_status(choice.pin, lorabake_home(env), choice.lock, env, python=choice.python)


def exit_code(record: Record) -> int:
    """0 for a usable LoRA (or a complete rehearsal) and for a run that goes on, 7 if its inputs changed meanwhile, 8 if
    its loss stayed NaN, 130 if somebody stopped it, 4 if the trainer or another machine failed."""
    by_code = {DIVERGED: 8, MACHINE_FAILED: 4}
    if record.outcome is not None and record.outcome.code in by_code:
        return by_code[record.outcome.code]
    return {"finished": 0, "started": 0, "inputs-changed": 7, "interrupted": 130}.get(record.status, 4)
