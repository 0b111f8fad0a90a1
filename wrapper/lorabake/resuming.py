"""`lorabake resume` from a run's name to its finished record: may it go on, from where, with which trainer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake import commits, rerunning, resources, terminal, workflow
from lorabake.errors import MachineError, SetupError
from lorabake.homes import home
from lorabake.planning.file_drift import file_drift
from lorabake.reading.fact_store import store_path
from lorabake.runs.command import DETERMINISTIC_FILE, trainer_env
from lorabake.runs.evidence import listing, plan_of
from lorabake.runs.find import FoundRun
from lorabake.runs.input_watch import InputWatch
from lorabake.runs.lock import ensure_idle, find_active
from lorabake.runs.recompiled import recompiled
from lorabake.runs.resumable import Way, outlook
from lorabake.runs.resume import ResumeRequest, command_of, next_part, resume, way_on
from lorabake.runs.settle import last_step
from lorabake.runs.trainer_now import place
from lorabake.speech import ENGLISH, Speech
from lorabake.trainer.install import Trainer
from lorabake_schemas.record import Inputs, Record, TrainerRecord
from lorabake_schemas.words import Said, say, told

if TYPE_CHECKING:
    from lorabake.reading.fingerprints import Fingerprints
    from lorabake_schemas.plan import Script
    from lorabake_schemas.verification import Difference

Tell = Callable[[Said], None]
Env = Mapping[str, str]
SCRIPTS: tuple[Script, ...] = ("train_network.py", "sdxl_train_network.py")


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


def trainer_of(then: TrainerRecord, env: Env, tell: Tell) -> Trainer:
    """The trainer of the run, installed again where it is gone. Raises SetupError when it cannot be had."""
    if then.commit != resources.pin().commit:
        said = say(
            "lorabake has tried with its own commit of sd-scripts how a training goes on, not with {commit}: "
            "look at the steps",
            commit=then.commit or say("an unknown commit"),
        )
        tell(said)
    here = place(then, env)
    if here is not None:
        workflow.checked(here, env, tell)
        return here
    if then.kind != "pin":
        said = say("the trainer of this run is not at {path} any more", path=then.checkout or "")
        raise SetupError(said, say("put it back: another one could not go on from the state"))
    return workflow.install(rerunning.trainer_of(then), env, tell)


def edited(found: FoundRun, fingerprints: Fingerprints) -> tuple[Difference, ...]:
    """What is otherwise in the files of the run folder that sd-scripts reads once more."""
    record, paths = found.record, found.paths
    now = fingerprints.of(paths.root, [file.name for file in record.compiled])
    changed = [file for file in record.compiled if now[file.name] != file]
    if not changed:
        return ()
    was = recompiled(record, plan_of(paths)).texts
    differences: list[Difference] = []
    for file in changed:
        text: str | None = None
        if now[file.name] is not None:
            with suppress(OSError, ValueError):
                text = (paths.root / file.name).read_text(encoding="utf-8")
        differences += file_drift("compiled", file, now[file.name], (was.get(file.name), text))
    return tuple(differences)


def refuse_lacking(way: Way, record: Record, trainer: Trainer, env: Env, tell: Tell) -> None:
    """Raises SetupError for an sd-scripts without the options by which a training goes on: an older one.

    Where its options cannot be had, it is up to sd-scripts itself. The pin knows them all.
    """
    snapshot = None
    if trainer.kind != "pin":
        snapshot = commits.own(trainer, env, tell)
    elif trainer.commit is not None:
        with suppress(SetupError):
            snapshot = commits.snapshot(trainer.commit, env)
    names = {Path(each).name for each in record.argv}
    scripts: list[Script] = [each for each in SCRIPTS if each in names]
    if snapshot is None or not scripts:
        return
    known = {f"--{option.name}" for option in snapshot.of(scripts[0])}
    lacking = [flag for flag in ("--resume", *way.how.flags) if flag.startswith("--") and flag not in known]
    if lacking:
        said = say(
            "sd-scripts {commit} cannot go on from a state where it stopped: it does not know {options}",
            commit=trainer.commit[:12] if trainer.commit else str(trainer.checkout),
            options=", ".join(lacking),
        )
        raise SetupError(said, say("start the run again with `lorabake rerun`"))


def command(record: Record, trainer: Trainer | None) -> tuple[str, ...]:
    """The command of the run's first start; Python and script where they lie today."""
    first = record.parts[0].argv if record.parts else record.argv
    if trainer is None:
        return tuple(first)
    argv = [str(trainer.checkout / Path(each).name) if Path(each).name in SCRIPTS else each for each in first]
    return (str(trainer.python), *argv[1:])


def expected_command(ready: Ready, env: Env) -> tuple[str, ...]:
    """What would be run, for --dry-run; nothing where nothing is left to train. Installs nothing."""
    way = ready.way
    if way is None:
        return ()
    record = ready.found.record
    argv = command(record, place(record.trainer, env))
    return command_of(argv, next_part(ready.found.paths, record, way.how), way)


def go_on(
    ready: Ready, trainer: Trainer | None, env: Env, *, verbose: bool = False, speech: Speech = ENGLISH
) -> Record:
    """Train the rest; the finished record. Without a ``trainer`` nothing is left to train.

    Raises MachineError for the run folder, SetupError when the trainer cannot be started, InterruptedRunError when the
    user stopped it.
    """
    record = ready.found.record
    argv = command(record, trainer)
    child = trainer_env(
        env,
        python=trainer.python if trainer is not None else Path(record.trainer.python),
        checkout=trainer.checkout if trainer is not None else None,
        offline=record.environment.get("HF_HUB_OFFLINE") == "1",
        cpu="--cpu" in argv,
        deterministic=DETERMINISTIC_FILE in argv,
        complete=record.trainer.kind == "pin",
    )
    request = ResumeRequest(ready.found.paths, argv, child, watch=input_watch(ready.found, env))
    with terminal.watching(sys.stderr, record.planned_steps, verbose=verbose, speech=speech) as watcher:
        return resume(request, watcher)


def input_watch(found: FoundRun, env: Env) -> InputWatch:
    """What the run was made from when it began, and what had changed while its earlier parts ran."""
    ended = [found.record.outcome, *(part.outcome for part in found.record.parts)]
    before = {(each.role, each.index, each.name): each for one in ended if one for each in one.inputs_changed}
    inputs = Inputs(inputs=listing(found.paths, found.record).inputs)
    return InputWatch(inputs, found.root, env, store_path(home(env), env), before=tuple(before.values()))


__all__ = [
    "Ready",
    "command",
    "edited",
    "expected_command",
    "go_on",
    "ready",
    "refuse_lacking",
    "trainer_of",
    "words",
]
