"""A run from a recipe's path to its finished record: which trainer, which folder, then everything in order."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lorabake import commits, resources, starting, terminal
from lorabake.cache_upkeep import Keeper, keeper, refreshed
from lorabake.errors import MachineError, SetupError
from lorabake.examine import Examination, examine
from lorabake.files import exists, is_folder
from lorabake.gauge import Gauge, Progress, gauge, hashing
from lorabake.planning.resolve import precision_of
from lorabake.prospects import disk_needs
from lorabake.reading import machine
from lorabake.reading.beside import beside
from lorabake.reading.cache_origins import CacheMemory
from lorabake.reading.dataset import Scanning
from lorabake.reading.fact_store import store_path
from lorabake.reading.fingerprints import Fingerprints, Known
from lorabake.reading.inputs import Ingredients, inputs
from lorabake.run_files import write_compiled
from lorabake.runs import register
from lorabake.runs.again import Again
from lorabake.runs.command import rehearsal_argv, training_argv
from lorabake.runs.in_use import refuse_if_in_use
from lorabake.runs.input_watch import InputWatch, refuse_changed
from lorabake.runs.launch import launch
from lorabake.runs.lock import ensure_idle
from lorabake.runs.request import LaunchRequest
from lorabake.speech import ENGLISH, Speech
from lorabake.trainer import git, manifest, store, venv
from lorabake.trainer import install as trainers
from lorabake.trainer.contents import TrainerContents
from lorabake.trainer.contents import contents as trainer_contents
from lorabake.trainer.install import Choice, Trainer, TrainerStatus, World
from lorabake.trainer.requirements import modules_for
from lorabake_schemas.dataset import CAPTION_EXTENSION
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.pin import Pin
from lorabake_schemas.record import Inputs, Record
from lorabake_schemas.words import Said, say

Tell = Callable[[Said], None]
Env = Mapping[str, str]
RUNS = "runs"
NOT_INSTALLED = Path("TRAINER/venv/bin/python"), Path("TRAINER/sd-scripts")  # as a dry run has them


@dataclass(frozen=True, slots=True)
class TrainerChoice:
    """The pin's trainer from one of its locks, that of another ``commit``, or the user's own sd-scripts."""

    lock: Choice = "auto"
    sd_scripts: Path | None = None
    python: Path | None = None
    commit: str | None = None

    @property
    def pin(self) -> Pin:
        """What is to be installed for it: lorabake's own pin, or its packages with another commit."""
        return commits.at(self.commit)


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What `lorabake run` was asked for. ``again`` is the run to be repeated, ``content`` its recipe's bytes."""

    recipe: Path
    trainer: TrainerChoice = TrainerChoice()
    rehearse: bool = False
    run_dir: Path | None = None
    verbose: bool = False
    speech: Speech = ENGLISH
    refresh_cache: bool = False
    content: bytes | None = None
    again: Again | None = None


@dataclass(frozen=True)
class Prepared:
    """A recipe that has been examined for this machine, and the folder its run will get. Nothing is written yet.

    ``refreshed`` says which of sd-scripts' caches were deleted for it.
    """

    order: RunOrder
    examination: Examination
    root: Path
    refreshed: tuple[Said, ...] = ()

    @property
    def machine(self) -> MachineFacts:
        return self.examination.machine


def prepare(order: RunOrder, env: Env, progress: Gauge | None = None) -> Prepared:
    """Examine the recipe as it will be run here. Raises RecipeError when it cannot be read, MachineError when the
    run folder that was asked for exists or its place cannot be written, or stale caches cannot be deleted: those that a
    run in progress reads are left alone."""
    facts, caches = machine.facts(env), replace(_caches(order, env), progress=progress and progress.hashing)
    examined = partial(
        examine, order.recipe, facts, launching=not order.rehearse, rehearsing=order.rehearse,
        snapshot=commits.snapshot(order.trainer.commit, env), content=order.content,
        scanning=Scanning(caches.facts, progress=progress, caches=caches),
    )  # fmt: skip
    examination = examined()
    prepared = Prepared(order, examination, order.run_dir or _next_root(examination, order.rehearse))
    if not order.refresh_cache:
        return prepared
    examination, deleted = refreshed(examination, examined, partial(_check_before_deleting, prepared, env))
    return replace(prepared, examination=examination, refreshed=deleted)


def _check_before_deleting(prepared: Prepared, env: Env, folders: Sequence[Path]) -> None:
    """Raises MachineError or SetupError when this run would be refused later on, or another one reads these folders."""
    check_place(prepared)
    if (choice := prepared.order.trainer).sd_scripts is not None:
        venv.own_place(choice.sd_scripts, choice.python, env)
    refuse_if_in_use(folders, store.home(env), prepared.root.parent)


def _caches(order: RunOrder, env: Env) -> CacheMemory:
    """What tells whether sd-scripts' caches fit: they depend on its commit, too."""
    memory = CacheMemory.of(store.home(env), env, store_path(store.home(env), env), order.run_dir)
    own = order.trainer.sd_scripts
    return replace(memory, commit=git.head(own, env) or "") if own else memory


def expected_command(prepared: Prepared, env: Env) -> tuple[str, ...]:
    """The command as far as it is known before a trainer is installed, for --dry-run.

    Raises SetupError when an installation that was named is none.
    """
    order, (_, plan) = prepared.order, prepared.examination.planned()
    if order.rehearse:
        return rehearsal_argv(plan.launch, plan.family)
    choice = order.trainer
    if choice.sd_scripts is not None:
        checkout, python = venv.own_place(choice.sd_scripts, choice.python, env)
        return training_argv(python, checkout / plan.script, plan.launch)
    trainer = found(choice, env)
    if trainer is None:
        return training_argv(NOT_INSTALLED[0], NOT_INSTALLED[1] / plan.script, plan.launch)
    return training_argv(trainer.python, trainer.checkout / plan.script, plan.launch)


def check_place(prepared: Prepared) -> None:
    """Raises MachineError when the run folder exists or cannot be made, or when a run of this name is in progress,
    before anything is installed or written."""
    if exists(prepared.root):
        hint = say("a run folder is never used twice: name another one, or leave --run-dir out")
        raise MachineError(say("{path} exists already", path=prepared.root), hint)
    if prepared.examination.recipe is not None:
        ensure_idle(prepared.root, prepared.examination.recipe.name)
    _check_room(prepared)
    parent = next(folder for folder in prepared.root.absolute().parents if exists(folder))
    if not is_folder(parent) or not machine.writable(parent):
        raise MachineError(
            say("{folder} cannot be written to", folder=parent),
            say("set save.runs in the recipe, or name a folder by --run-dir"),
        )


def _check_room(prepared: Prepared) -> None:
    """Raises MachineError when what the run will write certainly does not fit where --run-dir has it."""
    examination = prepared.examination
    if examination.plan is None or prepared.order.rehearse:
        return
    for need in disk_needs(examination.plan, examination.dataset, examination.loaded.folder, prepared.root):
        if need.too_small:
            gigabytes, free = f"{need.room.least / 1e9:.1f}", f"{need.free / 1e9:.1f}"
            said = say("the run needs at least {n} GB on the disk of {folder}, but only {free} GB are free",
                       n=gigabytes, folder=need.folder, free=free)  # fmt: skip
            raise MachineError(said, say("free some space, or name a folder on another disk with --run-dir"))


def _next_root(examination: Examination, rehearsal: bool) -> Path:
    """runs/NAME-001 beside the recipe (NAME-rehearsal-001), with the first number above all that are there."""
    recipe = examination.recipe
    name = (recipe.name if recipe else "run") + ("-rehearsal" if rehearsal else "")
    return next_folder(examination.loaded.folder / ((recipe.save.runs if recipe else None) or RUNS), name)


def next_folder(folder: Path, name: str) -> Path:
    """NAME-001, with the first number above all that are there."""
    numbered = re.compile(re.escape(name) + r"-(\d+)")
    taken = [int(match[1]) for path in _entries(folder) if (match := numbered.fullmatch(path.name))]
    return folder / f"{name}-{max(taken, default=0) + 1:03d}"


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def train(prepared: Prepared, env: Env, tell: Tell) -> Record:
    """Install the trainer if need be, compile, launch, and return the finished record.

    Raises RecipeError for a recipe with errors, SetupError when the trainer cannot be had, MachineError for the run
    folder, InterruptedRunError when the user stopped it.
    """
    check_place(prepared)
    root, kept = prepared.root, store_path(store.home(env), env)
    wanted = starting.ingredients(prepared.examination, root, env, weights=not prepared.order.rehearse)
    with beside(kept, partial(_hashed, wanted)) as hashed:
        if prepared.order.rehearse:
            made_from, known = _waited(hashed, prepared.order)
            request = starting.rehearsal_request(prepared.examination, root, made_from, env)
        else:
            examination, trainer, contents = _with_trainer(prepared, env, tell)
            made_from, known = _waited(hashed, prepared.order)
            request = starting.training_request(examination, root, trainer, contents, made_from, env)
    request = replace(request, watch=InputWatch(made_from, root, env, kept, known))
    if prepared.order.again is not None:
        request = prepared.order.again.checked(request)
        for said in request.drift[len(prepared.order.again.known) :]:
            tell(said)
    _check_unchanged(prepared.examination)
    if not prepared.order.rehearse:
        register.remember(store.home(env), root, request.provenance.digest if request.provenance else None)
    return _launch(prepared.order, request, keeper(prepared.examination, request, _caches(prepared.order, env)))


def _check_unchanged(examination: Examination) -> None:
    """Raises MachineError when images or captions changed while the trainer was made ready."""
    recipe, _ = examination.planned()
    ending = recipe.captions.caption_extension or CAPTION_EXTENSION
    refuse_changed(examination.dataset, examination.loaded.folder, ending)


def _with_trainer(prepared: Prepared, env: Env, tell: Tell) -> tuple[Examination, Trainer, TrainerContents]:
    """The trainer, and the recipe examined with what the trainer says of attention on this machine."""
    recipe, plan = prepared.examination.planned()
    trainer = had(prepared.order.trainer, env, tell, modules_for(plan))
    contents = checked(trainer, env, tell)
    probe = trainers.probe_attention(trainer, precision_of(recipe, prepared.machine), env)
    understood = commits.own(trainer, env, tell) or prepared.examination.snapshot
    examination = replace(prepared.examination, snapshot=understood).with_attention(probe)
    for finding in examination.findings[len(prepared.examination.findings) :]:
        tell(say("{severity}: {problem}", severity=finding.severity, problem=finding.message))
    tell(examination.attention_words())
    return examination, trainer, contents


def _hashed(wanted: Ingredients, fingerprints: Fingerprints) -> tuple[Inputs, Known]:
    return inputs(wanted, fingerprints), fingerprints.learned


def _waited(hashed: Callable[[Progress | None], tuple[Inputs, Known]], order: RunOrder) -> tuple[Inputs, Known]:
    """What was hashed meanwhile; how far it is, where somebody waits for it."""
    with gauge(sys.stderr, order.speech, hashing) as progress:
        return hashed(progress)


def _launch(order: RunOrder, request: LaunchRequest, caches: Keeper) -> Record:
    steps = request.plan.forecast.steps
    with terminal.watching(sys.stderr, steps, verbose=order.verbose, speech=order.speech) as watcher, caches:
        return launch(request, caches.watching(watcher))


def had(choice: TrainerChoice, env: Env, tell: Tell, needed: Sequence[str] = ()) -> Trainer:
    """The trainer, installed first if need be; an own one must be able to import ``needed``. Raises SetupError."""
    if choice.sd_scripts is not None:
        return trainers.own(choice.sd_scripts, choice.python, resources.pin(), tell, env, needed=needed)
    return install(choice, env, tell)


def checked(trainer: Trainer, env: Env, tell: Tell) -> TrainerContents:
    """What a trainer is made of, every file compared with what it should be.

    Raises SetupError when one of lorabake's own differs; of the user's own it is only told.
    """
    found = made_of(trainer, env)
    if not found.changed:
        return found
    files = manifest.named(found.changed)
    if trainer.kind == "pin":
        other = "" if trainer.commit == resources.pin().commit else f" --commit {trainer.commit}"
        raise SetupError(
            say("files of the trainer in {folder} were changed: {files}", folder=trainer.checkout.parent, files=files),
            say("build it again: `lorabake trainer install{commit} --repair`", commit=other),
        )
    tell(say("warning: files differ from the commit or from the installed packages: {files}", files=files))
    return found


def made_of(trainer: Trainer, env: Env) -> TrainerContents:
    """What a trainer is made of, and which of its files are not what they should be."""
    kept = store_path(store.home(env), env)
    return trainer_contents(trainer, env, Fingerprints(kept), kept)


def install(choice: TrainerChoice, env: Env, tell: Tell, *, repair: bool = False) -> Trainer:
    """The pin's trainer, or the chosen commit's, installed if it is not there yet, or built again to ``repair`` it."""
    build = trainers.repair if repair else trainers.install
    return build(
        choice.pin, store.home(env), choice.lock, env, tell, python=choice.python, world=World(lender=resources.pin())
    )


def have_commit(choice: TrainerChoice, env: Env, tell: Tell, *, install_it: bool) -> None:
    """Make another commit than the pin ready to examine a recipe for: its options are read when it is installed."""
    if choice.commit is not None and install_it:
        install(choice, env, tell)
    if warned := commits.warning(choice.commit):
        tell(warned)


def found(choice: TrainerChoice, env: Env) -> Trainer | None:
    """The pin's trainer, if it is there."""
    return trainers.find(choice.pin, store.home(env), choice.lock, env, python=choice.python)


def installed(choice: TrainerChoice, env: Env) -> Trainer:
    """The pin's trainer. Raises SetupError when it is not there."""
    trainer = found(choice, env)
    if trainer is None and choice.commit is not None:
        raise commits.not_installed(choice.commit)
    if trainer is None:
        raise SetupError(say("the trainer is not installed"), say("install it: `lorabake trainer install`"))
    return trainer


def trainer_status(choice: TrainerChoice, env: Env) -> TrainerStatus:
    """What is installed."""
    return trainers.status(choice.pin, store.home(env), choice.lock, env, python=choice.python)


def exit_code(record: Record) -> int:
    """0 for a usable LoRA (or a whole rehearsal), 7 where its inputs changed meanwhile, 4 when the trainer failed."""
    return {"finished": 0, "inputs-changed": 7}.get(record.status, 4)


__all__ = [
    "Prepared",
    "RunOrder",
    "TrainerChoice",
    "check_place",
    "checked",
    "exit_code",
    "expected_command",
    "found",
    "had",
    "have_commit",
    "install",
    "installed",
    "made_of",
    "next_folder",
    "prepare",
    "train",
    "trainer_status",
    "write_compiled",
]
