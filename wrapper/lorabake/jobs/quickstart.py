"""All steps of the quickstart: space, trainer, images, base model, a real run; a rehearsal if nothing can be
fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabake.analysis.check import CheckResult
from lorabake.errors import UnreachableError
from lorabake.jobs import quickstart_files as quickstart
from lorabake.jobs import run as workflow
from lorabake.jobs.display import NO_DISPLAY, Display
from lorabake.jobs.run import RunRequest, TrainerChoice
from lorabake.util import machine, resources
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.pin import PackageLock
from lorabake_schemas.record import Record

Tell = Callable[[Message], None]
Env = Mapping[str, str]
Show = Callable[[CheckResult], None]


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """How the quickstart ended: its record, and the last lines for the person who started it."""

    record: Record
    last_words: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class QuickstartOptions:
    """The options of `lorabake quickstart`; ``program`` is how it was started."""

    family: Family
    folder: Path
    trainer: TrainerChoice
    program: str = "lorabake"
    display: Display = NO_DISPLAY


def run_quickstart(wish: QuickstartOptions, env: Env, tell: Tell, show: Show) -> QuickstartResult:
    """Try the whole process on drawn images and a base model of random weights.

    If the pin's URL or pip's index cannot be reached, it continues as a rehearsal and reports that. ``show`` gets the
    findings about the recipe, which the user may have edited. Raises MachineError for a folder with other
    files and for too little memory or disk space, SetupError if the trainer cannot be installed for another reason.
    """
    quickstart.check_folder(wish.folder)
    _check_resources(wish, env, tell)
    try:
        trainer, why = workflow.ensure_trainer(wish.trainer, env, tell), None
        workflow.check_trainer(trainer, env, tell)
    except UnreachableError as error:
        trainer, why = None, msg("the trainer could not be downloaded: {why}", why=error.message)
        rehearsing = msg("Continuing as a rehearsal, which trains nothing.")
        tell(msg("{problem}; {hint}. {sequel}", problem=error.message, hint=error.hint or "", sequel=rehearsing))
    prepared = quickstart.write_quickstart_files(
        wish.folder, wish.family, trainer.python if trainer else None, env, tell
    )
    order = RunRequest(prepared.recipe, wish.trainer, rehearse=trainer is None, display=wish.display)
    run = workflow.prepare_run(order, env)
    show(run.examination)
    record = workflow.execute_run(run, env, tell)
    if record.status != "finished":
        return QuickstartResult(record, ())
    lora = run.root / "output" / f"{record.name}.safetensors" if trainer else None
    return QuickstartResult(record, quickstart.final_message(prepared.recipe, wish.family, lora, why, wish.program))


def _check_resources(wish: QuickstartOptions, env: Env, tell: Tell) -> None:
    """Report what it will need, before it starts."""
    there = wish.trainer.sd_scripts is not None or workflow.find_trainer(wish.trainer, env) is not None
    what = quickstart.resource_needs(wish.family, None if there else _choose_lock(wish.trainer, env))
    tell(quickstart.start_message(wish.family, what, wish.folder))
    quickstart.check_resources(what, wish.folder, machine.get_available_memory(), machine.get_free_disk(wish.folder))


def _choose_lock(choice: TrainerChoice, env: Env) -> PackageLock:
    pin = resources.load_pin()
    name = choice.lock if choice.lock != "auto" else machine.detect_machine(env).device
    return pin.lock(name)
