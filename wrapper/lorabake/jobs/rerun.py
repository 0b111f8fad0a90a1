"""`lorabake rerun`: from a run to a prepared one of the same recipe, data, trainer and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import join, quote

from lorabake.analysis.repeat_check import RepeatCheck, read_run_recipe
from lorabake.errors import SetupError
from lorabake.jobs import run as workflow
from lorabake.jobs.display import NO_DISPLAY, Display
from lorabake.jobs.run import PreparedRun, RunRequest, TrainerChoice
from lorabake.runs.gpu_locks import GpuUse
from lorabake.runs.index import FoundRun
from lorabake.runs.record import read_plan
from lorabake.runs.seat import NO_SEAT_OPTIONS, SeatOptions
from lorabake.trainer.select_packages import LockChoice
from lorabake.util import resources
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import Record, TrainerRecord

Env = Mapping[str, str]
Tell = Callable[[Message], None]


@dataclass(frozen=True, slots=True)
class RerunRequest:
    """The arguments of `lorabake rerun`; ``choice`` is the trainer that was named, if any."""

    found: FoundRun
    choice: TrainerChoice
    run_dir: Path | None = None
    with_drift: bool = False
    refresh_cache: bool = False
    display: Display = NO_DISPLAY
    detach: bool = False
    use: GpuUse = "refuse"
    seat: SeatOptions = NO_SEAT_OPTIONS

    @property
    def trainer(self) -> TrainerChoice:
        """The one that was named, else the run's from lorabake's own store. Raises SetupError for the user's own."""
        return trainer_choice_from_record(self.found.record.trainer) if self.choice == TrainerChoice() else self.choice


def trainer_choice_from_record(then: TrainerRecord) -> TrainerChoice:
    """The choice that selects a run's trainer today, by lock and commit.

    Raises SetupError for a user's own one: a record may come from a stranger and never decides what is started.
    """
    if then.kind == "own":
        said = msg(
            "this run used an sd-scripts that lorabake did not install: {checkout}", checkout=then.checkout or ""
        )
        flags = f"--sd-scripts {quote(then.checkout or 'PATH')} --python {quote(then.python)}"
        raise SetupError(said, msg("if it is yours, add {flags}", flags=flags))
    if then.kind == "rehearsal":
        return TrainerChoice()
    lock: LockChoice = "cuda" if then.lock == "cuda" else "cpu" if then.lock == "cpu" else "auto"
    return TrainerChoice(lock, commit=None if then.commit == resources.load_pin().commit else then.commit)


def ensure_rerun_trainer(order: RerunRequest, env: Env, tell: Tell, *, install_it: bool) -> None:
    """Install the run's trainer if necessary. Raises SetupError if that fails."""
    choice = order.trainer
    if order.found.record.rehearsal or choice.sd_scripts is not None:
        return
    workflow.ensure_commit(choice, env, tell, install_it=install_it)
    if install_it and choice.commit is None:
        workflow.install_chosen_trainer(choice, env, tell)


def prepare_rerun(order: RerunRequest, drift: Sequence[Message], env: Env) -> PreparedRun:
    """Check the run's recipe as if it were in its old place, for a new folder next to the run's.

    ``drift`` is what is known to have changed. Raises MachineError if the recipe is not available.
    """
    found, record = order.found, order.found.record
    path, content = read_run_recipe(found)
    name = record.name + ("-rehearsal" if record.rehearsal else "")
    wanted = RunRequest(
        recipe=path,
        trainer=order.trainer,
        rehearse=record.rehearsal,
        run_dir=order.run_dir or workflow.next_run_dir(found.root.parent, name),
        refresh_cache=order.refresh_cache,
        display=order.display,
        detach=order.detach,
        use=order.use,
        seat=order.seat,
        content=content,
        again=RepeatCheck(record, read_plan(found.paths), tuple(drift), order.with_drift),
    )
    with order.display.scanning() as progress:
        return workflow.prepare_run(wanted, env, progress)


def compare_with_original(then: FoundRun, now: Record, root: Path) -> Message | None:
    """Whether the LoRA in ``root`` is the same file as that of the run; None where one of them has none."""
    files, run = (_lora_digest(then.record), _lora_digest(now)), then.name
    if now.status != "finished" or None in files:
        return None
    name = f"{now.name}.safetensors"
    if files[0] == files[1]:
        return msg("{file} is identical byte for byte to the one of {run}", file=name, run=run)
    return msg(
        "{file} differs from the one of {run}; see how much with `{command}`",
        file=name,
        run=run,
        command=join(["lorabake", "compare", run, str(root)]),
    )


def _lora_digest(record: Record) -> str | None:
    """The SHA-256 of a run's last LoRA."""
    wanted = f"output/{record.name}.safetensors"
    outputs = record.outcome.outputs if record.outcome is not None else ()
    return next((file.sha256 for file in outputs if file.name == wanted), None)
