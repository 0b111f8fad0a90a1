"""The quickstart as one story: room, trainer, pictures, base, a real run; a rehearsal where nothing can be fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabake import resources, workflow
from lorabake.errors import UnreachableError
from lorabake.first import ingredients as quickstart
from lorabake.reading import machine
from lorabake.trainer import install as trainers
from lorabake.trainer import store
from lorabake.trainer.install import Trainer
from lorabake.workflow import RunOrder, TrainerChoice
from lorabake_schemas.machine import Family
from lorabake_schemas.pin import Lock
from lorabake_schemas.record import Record

Say = Callable[[str], None]
Env = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FirstRun:
    """How the quickstart ended: its record, and the last lines for the person who started it."""

    record: Record
    last_words: tuple[str, ...]


def first_run(family: Family, folder: Path, choice: TrainerChoice, verbose: bool, env: Env, say: Say) -> FirstRun:
    """Try the whole way on drawn pictures and a base of random weights.

    Where the pin's url or pip's index cannot be reached it goes on as a rehearsal and says so. Raises MachineError
    when there is too little memory or disk, SetupError when the trainer cannot be had for another reason.
    """
    _check_room(family, folder, choice, env, say)
    try:
        trainer, why = workflow.had(choice, env, say), ""
    except UnreachableError as error:
        trainer, why = None, f"the trainer could not be fetched: {error.message}"
        say(f"{error.message}; {error.hint}. Going on as a rehearsal, which trains nothing.")
    prepared = quickstart.prepare(folder, family, trainer.python if trainer else None, env, say)
    order = RunOrder(prepared.recipe, choice, rehearse=trainer is None, verbose=verbose)
    run = workflow.prepare(order, env)
    record = workflow.train(run, env, say)
    if record.status != "finished":
        return FirstRun(record, ())
    lora = run.root / "output" / f"{record.name}.safetensors" if trainer else None
    return FirstRun(record, quickstart.farewell(prepared.recipe, family, lora, why))


def _check_room(family: Family, folder: Path, choice: TrainerChoice, env: Env, say: Say) -> None:
    """Say what will be taken, before any of it is."""
    what = quickstart.needs(family, None if _has_trainer(choice, env) else _lock(choice, env))
    say(quickstart.announcement(family, what, folder))
    quickstart.check_room(what, folder, machine.available_memory(), machine.free_disk(folder))


def _has_trainer(choice: TrainerChoice, env: Env) -> Trainer | bool | None:
    return choice.sd_scripts is not None or trainers.find(resources.pin(), store.home(env), choice.lock, env)


def _lock(choice: TrainerChoice, env: Env) -> Lock:
    pin = resources.pin()
    name = choice.lock if choice.lock != "auto" else machine.facts(env).device
    return pin.lock(name)


__all__ = ["FirstRun", "first_run"]
