"""`lorabake rerun`: from a run to a prepared one of the same recipe, data, trainer and seed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from lorabake import resources, workflow
from lorabake.errors import SetupError
from lorabake.gauge import gauge
from lorabake.runs.again import Again, recipe_of
from lorabake.runs.evidence import plan_of
from lorabake.runs.find import FoundRun
from lorabake.speech import ENGLISH, Speech
from lorabake.trainer.install import Choice
from lorabake.workflow import Prepared, RunOrder, TrainerChoice
from lorabake_schemas.record import Record, TrainerRecord
from lorabake_schemas.words import Said, say

Env = Mapping[str, str]
Tell = Callable[[Said], None]


@dataclass(frozen=True, slots=True)
class Rerun:
    """What `lorabake rerun` was asked for; ``choice`` as it was given, which may be nothing."""

    found: FoundRun
    choice: TrainerChoice
    run_dir: Path | None = None
    verbose: bool = False
    speech: Speech = ENGLISH
    with_drift: bool = False
    refresh_cache: bool = False

    @property
    def trainer(self) -> TrainerChoice:
        """The one that was named, else the run's from lorabake's own store. Raises SetupError for the user's own."""
        return trainer_of(self.found.record.trainer) if self.choice == TrainerChoice() else self.choice


def trainer_of(then: TrainerRecord) -> TrainerChoice:
    """How the trainer of a run is asked for today, by lock and commit.

    Raises SetupError for an own one: a record, which may be a stranger's, never says what is started.
    """
    if then.kind == "own":
        said = say(
            "this run used an sd-scripts that lorabake did not install: {checkout}", checkout=then.checkout or ""
        )
        flags = f"--sd-scripts {quote(then.checkout or 'PATH')} --python {quote(then.python)}"
        raise SetupError(said, say("if it is yours, add {flags}", flags=flags))
    if then.kind == "rehearsal":
        return TrainerChoice()
    lock: Choice = "cuda" if then.lock == "cuda" else "cpu" if then.lock == "cpu" else "auto"
    return TrainerChoice(lock, commit=None if then.commit == resources.pin().commit else then.commit)


def have_trainer(order: Rerun, env: Env, tell: Tell, *, install_it: bool) -> None:
    """Install what the run was trained with, if need be. Raises SetupError when it cannot be had."""
    choice = order.trainer
    if order.found.record.rehearsal or choice.sd_scripts is not None:
        return
    workflow.have_commit(choice, env, tell, install_it=install_it)
    if install_it and choice.commit is None:
        workflow.install(choice, env, tell)


def prepared(order: Rerun, drift: Sequence[Said], env: Env) -> Prepared:
    """The run's recipe, examined as if it lay where it did, for a new folder beside the run's.

    ``drift`` is what is known to be otherwise. Raises MachineError when the recipe is not to be had any more.
    """
    found, record = order.found, order.found.record
    path, content = recipe_of(found)
    name = record.name + ("-rehearsal" if record.rehearsal else "")
    wanted = RunOrder(
        recipe=path,
        trainer=order.trainer,
        rehearse=record.rehearsal,
        run_dir=order.run_dir or workflow.next_folder(found.root.parent, name),
        verbose=order.verbose,
        speech=order.speech,
        refresh_cache=order.refresh_cache,
        content=content,
        again=Again(record, plan_of(found.paths), tuple(drift), order.with_drift),
    )
    with gauge(sys.stderr, order.speech) as progress:
        return workflow.prepare(wanted, env, progress)


def beside(then: FoundRun, now: Record, root: Path) -> Said | None:
    """Whether the LoRA in ``root`` is the same file as that of the run; None where one of them has none."""
    files, run = (_lora(then.record), _lora(now)), then.name
    if now.status != "finished" or None in files:
        return None
    name = f"{now.name}.safetensors"
    if files[0] == files[1]:
        return say("{file} is the same file as that of {run}, byte for byte", file=name, run=run)
    return say(
        "{file} is another file than that of {run}; how far apart they are: lorabake compare {run} {root}",
        file=name,
        run=run,
        root=root,
    )


def _lora(record: Record) -> str | None:
    """The SHA-256 of a run's last LoRA."""
    wanted = f"output/{record.name}.safetensors"
    outputs = record.outcome.outputs if record.outcome is not None else ()
    return next((file.sha256 for file in outputs if file.name == wanted), None)


__all__ = ["Rerun", "beside", "have_trainer", "prepared", "trainer_of"]
