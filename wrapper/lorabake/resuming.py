"""`lorabake resume` from a run's name to its finished record: may it go on, from where, with which trainer."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake import commits, rerunning, resources, terminal, workflow
from lorabake.errors import MachineError, RecipeError, SetupError
from lorabake.examine import plan_again
from lorabake.files import read_bytes
from lorabake.homes import home
from lorabake.planning.file_drift import file_drift
from lorabake.reading.dataset import Scanning
from lorabake.reading.fact_store import store_path
from lorabake.reading.hub import is_offline
from lorabake.reading.load import load
from lorabake.run_files import run_files
from lorabake.runs.again import recipe_of
from lorabake.runs.command import ACCELERATE_CONFIG, ACCELERATE_FILE, planned_argv, trainer_env
from lorabake.runs.evidence import listing
from lorabake.runs.find import FoundRun
from lorabake.runs.folder import digest_of
from lorabake.runs.input_watch import InputWatch
from lorabake.runs.lock import ensure_idle, find_active
from lorabake.runs.resumable import Way, outlook
from lorabake.runs.resume import ResumeRequest, command_of, next_part, resume, way_on
from lorabake.runs.settle import last_step
from lorabake.runs.trainer_now import find_trainer
from lorabake.speech import ENGLISH, Speech
from lorabake.trainer import store
from lorabake.trainer.install import Trainer
from lorabake.workflow import TrainerChoice
from lorabake_schemas.record import Inputs, Record, TrainerRecord
from lorabake_schemas.trainer import UnknownOptionError
from lorabake_schemas.words import Said, say, told

if TYPE_CHECKING:
    from lorabake_schemas.options import Snapshot
    from lorabake_schemas.plan import Plan, Script
    from lorabake_schemas.verification import Difference

Tell = Callable[[Said], None]
Env = Mapping[str, str]
SAFE_TORCH = (2, 4)  # accelerate loads states with weights_only from there on (1.6.0 utils/other.py:252)


@dataclass(frozen=True, slots=True)
class Ready:
    """A run that can go on. ``way`` is None for one that had reached its last step and only was not judged.

    ``passed`` are the states that are further and no use, each with why; ``again`` is how many steps are trained a
    second time.
    """

    found: FoundRun
    way: Way | None = None
    passed: tuple[tuple[str, Said], ...] = ()
    again: int = 0


def ready(found: FoundRun) -> Ready:
    """Raises MachineError for a run that cannot go on: a rehearsal, one in progress, one without a usable state."""
    record, paths = found.record, found.paths
    if record.rehearsal:
        said = say("{run} is a rehearsal: nothing was trained, so there is nothing to resume", run=found.root)
        raise MachineError(said, say("train: `lorabake run` with its recipe"))
    if (active := find_active(paths, record)) is not None:
        raise active.error
    ensure_idle(paths.root, record.name)
    view = outlook(paths, record)
    if view.complete:
        return Ready(found)
    way = way_on(view, paths)
    return Ready(found, way, view.passed, max(0, last_step(paths) - way.how.step))


def words(ready: Ready) -> tuple[Said, ...]:
    """From where it goes on, and why not from further."""
    way = ready.way
    if way is None:
        return (
            say(
                "{run} had reached its last step: what it made is checked, and nothing more is trained",
                run=ready.found.root,
            ),
        )
    lines = [say("{state} is not used: {why}", state=place, why=why) for place, why in ready.passed]
    said = say(
        "{run} goes on from {state}, after step {step} of {total}",
        run=ready.found.root,
        state=way.state.path.relative_to(ready.found.root),
        step=way.how.step,
        total=ready.found.record.planned_steps,
    )
    lines.append(said)
    if ready.again:
        lines.append(told(ready.again, "{n} step after it is trained again", "{n} steps after it are trained again"))
    return tuple(lines)


@dataclass(frozen=True, slots=True)
class Remade:
    """A run as its recipe gives it once more: the ``plan``, the ``files`` that the trainer reads by name, whether it
    needs nothing of the hub, and the ``differences`` to what is in the run folder."""

    plan: Plan
    files: Mapping[str, bytes]
    offline: bool
    differences: tuple[Difference, ...]


def trainer_of(then: TrainerRecord, choice: TrainerChoice, env: Env, tell: Tell) -> Trainer:
    """The trainer named on the command line, else the run's from lorabake's own store, installed again where it is
    missing. Raises SetupError when it cannot be had, or is the user's own and was not named."""
    if choice.sd_scripts is not None:
        own = workflow.had(choice, env, tell)
        torch = own.versions.get("torch", "")
        if (numbers := re.match(r"(\d+)\.(\d+)", torch)) and tuple(map(int, numbers.groups())) < SAFE_TORCH:
            tell(
                say(
                    "warning: PyTorch {version} runs code that a state contains: resume only runs of yours",
                    version=torch,
                )
            )
        return own
    if then.commit != resources.pin().commit:
        said = say(
            "lorabake has tried with its own commit of sd-scripts how a training goes on, not with {commit}: "
            "look at the steps",
            commit=then.commit or say("an unknown commit"),
        )
        tell(said)
    asked, here = rerunning.trainer_of(then), find_trainer(then, env)
    if here is None:
        return workflow.install(asked, env, tell)
    workflow.checked(here, env, tell)
    return here


def understood(trainer: Trainer | None, then: TrainerRecord, env: Env, tell: Tell) -> Snapshot:
    """What the trainer understands; what the pin does where it does not answer, or is not there yet."""
    found: Snapshot | None = None
    if trainer is not None and trainer.kind != "pin":
        found = commits.own(trainer, env, tell)
    elif then.kind == "pin":
        with suppress(SetupError):
            found = commits.snapshot(then.commit, env)
    return found or resources.snapshot()


def remade(found: FoundRun, snapshot: Snapshot, env: Env) -> Remade:
    """Plan and compile a run's recipe once more, for the machine that it was planned for.

    Nothing that the run folder has of plan, command and compiled files is used: it may be edited, or a stranger's.
    Raises MachineError when the recipe is not to be had, RecipeError when it gives no plan, or no files.
    """
    path, content = recipe_of(found)
    record, kept = found.record, store_path(store.home(env), env)
    examination = plan_again(load(path, content), record.machine, record.attention, snapshot, Scanning(kept))
    recipe, plan = examination.planned()
    try:
        files = run_files(examination, found.root) | {ACCELERATE_FILE: ACCELERATE_CONFIG}
    except UnknownOptionError as error:  # [kohya] sets an option of lorabake's own: no run was started with that
        said = say("the recipe of {run} sets what lorabake sets itself: {why}", run=found.name, why=str(error))
        raise RecipeError(said) from error
    offline = is_offline(recipe, examination.base, examination.loaded.folder)
    read = {name: data for name, data in files.items() if name != found.paths.recipe.name}  # that one is a copy
    differences = (each for name, data in read.items() for each in _edited(found, name, data))
    return Remade(plan, files, offline, tuple(differences))


def _edited(found: FoundRun, name: str, wanted: bytes) -> Sequence[Difference]:
    """In what a file of the run folder differs from the one that the recipe gives."""
    then, now, text = digest_of(wanted, name), None, None
    with suppress(OSError, ValueError):
        data = read_bytes(found.root / name, within=found.root)
        now, text = digest_of(data, name), data.decode("utf-8", "replace")
    if now == then:
        return ()
    return file_drift("compiled", then, now, (wanted.decode("utf-8", "replace"), text))


def refuse_lacking(way: Way, script: Script, trainer: Trainer, snapshot: Snapshot) -> None:
    """Raises SetupError for an sd-scripts without the options by which a training goes on: an older one."""
    known = {f"--{option.name}" for option in snapshot.of(script)}
    lacking = [flag for flag in ("--resume", *way.how.flags) if flag.startswith("--") and flag not in known]
    if lacking:
        said = say(
            "sd-scripts {commit} cannot go on from a state where it stopped: it does not know {options}",
            commit=trainer.commit[:12] if trainer.commit else str(trainer.checkout),
            options=", ".join(lacking),
        )
        raise SetupError(said, say("start the run again with `lorabake rerun`"))


def expected_command(ready: Ready, made: Remade, trainer: Trainer | None) -> tuple[str, ...]:
    """What would be run, for --dry-run; nothing where nothing is left to train."""
    if ready.way is None:
        return ()
    record = ready.found.record
    argv = _argv(record, made, trainer)
    return command_of(argv, next_part(ready.found.paths, record, ready.way.how), ready.way)


def _argv(record: Record, made: Remade, trainer: Trainer | None) -> tuple[str, ...]:
    """The command of the run's first start with the trainer of today."""
    python, checkout = (trainer.python, trainer.checkout) if trainer is not None else workflow.NOT_INSTALLED
    return planned_argv(made.plan, record.digest or "", python, checkout)


def go_on(
    ready: Ready, made: Remade | None, trainer: Trainer | None, env: Env, *, verbose: bool = False,
    speech: Speech = ENGLISH,
) -> Record:  # fmt: skip
    """Train the rest; the finished record. Without ``made`` and ``trainer`` nothing is left to train.

    Raises MachineError for the run folder, SetupError when the trainer cannot be started, InterruptedRunError when the
    user stopped it.
    """
    record = ready.found.record
    argv: tuple[str, ...] = ()
    child: dict[str, str] = {}
    if made is not None and trainer is not None:
        argv = _argv(record, made, trainer)
        child = trainer_env(
            env,
            python=trainer.python,
            checkout=trainer.checkout,
            offline=made.offline,
            cpu=made.plan.launch.cpu,
            deterministic=made.plan.launch.deterministic,
            complete=trainer.kind == "pin",
        )
    files = made.files if made is not None else dict[str, bytes]()
    request = ResumeRequest(ready.found.paths, argv, child, files, watch=input_watch(ready.found, env))
    with terminal.watching(sys.stderr, record.planned_steps, verbose=verbose, speech=speech) as watcher:
        return resume(request, watcher)


def input_watch(found: FoundRun, env: Env) -> InputWatch:
    """What the run was made from when it began, and what had changed while its earlier parts ran."""
    ended = [found.record.outcome, *(part.outcome for part in found.record.parts)]
    before = {(each.role, each.index, each.name): each for one in ended if one for each in one.inputs_changed}
    inputs = Inputs(inputs=listing(found.paths, found.record).inputs)
    return InputWatch(inputs, found.root, env, store_path(home(env), env), before=tuple(before.values()))
