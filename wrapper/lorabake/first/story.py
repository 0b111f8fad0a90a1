"""The quickstart as one story: room, trainer, pictures, base, a real run; a rehearsal where nothing can be fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabake import resources, workflow
from lorabake.errors import UnreachableError
from lorabake.examine import Examination
from lorabake.first import ingredients as quickstart
from lorabake.reading import machine
from lorabake.speech import ENGLISH, Speech
from lorabake.workflow import RunOrder, TrainerChoice
from lorabake_schemas.machine import Family
from lorabake_schemas.pin import Lock
from lorabake_schemas.record import Record
from lorabake_schemas.words import Said, say

Tell = Callable[[Said], None]
Env = Mapping[str, str]
Show = Callable[[Examination], None]


@dataclass(frozen=True, slots=True)
class FirstRun:
    """How the quickstart ended: its record, and the last lines for the person who started it."""

    record: Record
    last_words: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class Wish:
    """What `lorabake quickstart` was asked for; ``program`` is how it was started."""

    family: Family
    folder: Path
    trainer: TrainerChoice
    verbose: bool = False
    speech: Speech = ENGLISH
    program: str = "lorabake"


def first_run(wish: Wish, env: Env, tell: Tell, show: Show) -> FirstRun:
    """Try the whole way on drawn pictures and a base of random weights.

    Where the pin's url or pip's index cannot be reached it goes on as a rehearsal and says so. ``show`` gets what is
    to be said of the recipe, which may be the user's own by now. Raises MachineError when there is too little memory
    or disk, SetupError when the trainer cannot be had for another reason.
    """
    _check_room(wish, env, tell)
    try:
        trainer, why = workflow.had(wish.trainer, env, tell), None
        workflow.checked(trainer, env, tell)
    except UnreachableError as error:
        trainer, why = None, say("the trainer could not be fetched: {why}", why=error.message)
        rehearsing = say("Going on as a rehearsal, which trains nothing.")
        tell(say("{problem}; {hint}. {sequel}", problem=error.message, hint=error.hint or "", sequel=rehearsing))
    prepared = quickstart.prepare(wish.folder, wish.family, trainer.python if trainer else None, env, tell)
    order = RunOrder(prepared.recipe, wish.trainer, rehearse=trainer is None, verbose=wish.verbose, speech=wish.speech)
    run = workflow.prepare(order, env)
    show(run.examination)
    record = workflow.train(run, env, tell)
    if record.status != "finished":
        return FirstRun(record, ())
    lora = run.root / "output" / f"{record.name}.safetensors" if trainer else None
    return FirstRun(record, quickstart.farewell(prepared.recipe, wish.family, lora, why, wish.program))


def _check_room(wish: Wish, env: Env, tell: Tell) -> None:
    """Say what will be taken, before any of it is."""
    there = wish.trainer.sd_scripts is not None or workflow.found(wish.trainer, env) is not None
    what = quickstart.needs(wish.family, None if there else _lock(wish.trainer, env))
    tell(quickstart.announcement(wish.family, what, wish.folder))
    quickstart.check_room(what, wish.folder, machine.available_memory(), machine.free_disk(wish.folder))


def _lock(choice: TrainerChoice, env: Env) -> Lock:
    pin = resources.pin()
    name = choice.lock if choice.lock != "auto" else machine.facts(env).device
    return pin.lock(name)


__all__ = ["FirstRun", "Wish", "first_run"]
