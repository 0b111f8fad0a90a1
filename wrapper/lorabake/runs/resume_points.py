"""Whether a run can be resumed, and from which of its states. Reads the run folder, changes nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, cast

from lorabake.lora.completeness import incomplete_lora_reason
from lorabake.planning.resume_steps import ResumeSteps, TrainingSchedule, plan_resume_steps
from lorabake.runs.causes.run_facts import collect_run_facts
from lorabake.runs.events import decode_event, iter_events
from lorabake.runs.folder import RunPaths
from lorabake.runs.log.evidence import read_log_evidence
from lorabake.runs.log.parser import LogParser
from lorabake.runs.record import read_plan
from lorabake.runs.states import ExpectedFiles, SavedState, StateLocation, expected_files, list_states, state_problem
from lorabake.runs.verdict import LOST_STATE, RunResult
from lorabake.runs.watch.loss_monitor import LossMonitor
from lorabake.util.files import open_file, read_text, read_toml, reason
from lorabake.util.safetensors import read_header
from lorabake_schemas.events import RunTotals, Step
from lorabake_schemas.messages import Message, escape_undecodable, join_list, msg
from lorabake_schemas.saved_names import STATE_SUFFIX, SavedKind, parse_saved_name, step_name

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake_schemas.record import Record, RunPart

Table = Mapping[str, object]
BAD_LOSS_MARK = b'"event": "bad_loss"'
MAX_START_BYTES = 64 << 20  # bytes of events and log; sd-scripts counts before it trains


@dataclass(frozen=True, slots=True)
class OutputNames:
    """What sd-scripts calls what it saves (TU:89-100)."""

    name: str
    extension: str
    course: TrainingSchedule

    @property
    def final_name(self) -> str:
        return f"{self.name}.{self.extension}"

    def read(self, entry: str, offset: int = 0) -> tuple[SavedKind, int] | None:
        """Whether a file or state folder is of a step, an epoch or the last one, and the run's step; None for any
        other."""
        extension = STATE_SUFFIX if entry.endswith(STATE_SUFFIX) else f".{self.extension}"
        found = parse_saved_name(entry, self.name, extension)
        if found is None:
            return None
        kind, number = found
        return kind, self.course.step_of(kind, number, offset)

    def of_the_run(self, entry: str, written: PartOutputs) -> str:
        """What a file or state folder that a continuation wrote is called in the run."""
        told = self.read(entry, written.offset)
        if told is None or told[0] != "step":
            return entry
        is_state = entry.endswith(STATE_SUFFIX)
        ends = written.stop_at is not None and told[1] == self.course.steps
        return self.last(state=is_state) if ends else self.step_name(told[1], state=is_state)

    def step_name(self, step: int, *, state: bool) -> str:
        return step_name(self.name, step) + (STATE_SUFFIX if state else f".{self.extension}")

    def last(self, *, state: bool) -> str:
        return self.name + (STATE_SUFFIX if state else f".{self.extension}")


@dataclass(frozen=True, slots=True)
class PartOutputs:
    """Where a continuation wrote and how its numbers become the run's: see planning/resume_steps.py."""

    root: Path
    number: int
    first_step: int
    offset: int
    stop_at: int | None

    @property
    def folder(self) -> Path:
        return RunPaths(self.root).part(self.number)

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def helper(self) -> Path:
        """The script that a deterministic continuation is started by."""
        return self.folder / "resume_epoch.py"

    @property
    def replaced(self) -> Path:
        return self.folder / "replaced"

    @property
    def beyond(self) -> Path:
        return self.folder / "beyond"


@dataclass(frozen=True, slots=True)
class Training:
    """A run from sd-scripts' point of view: its compiled settings, its length, the names of its files."""

    settings: Table
    names: OutputNames

    @property
    def course(self) -> TrainingSchedule:
        return self.names.course


@dataclass(frozen=True, slots=True)
class ResumePoint:
    """The state from which a training continues, and how; ``wanted`` is the content of an intact state. ``lost``: the
    trainer failed to load it before, and there is no other one.
    """

    training: Training
    wanted: ExpectedFiles
    state: SavedState
    how: ResumeSteps
    lost: bool = False


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """``way`` is None without a usable state. ``passed`` are later states than the chosen one, each with the reason why
    it was not used. ``complete``: the LoRA of the last step exists.
    """

    training: Training | None = None
    wanted: ExpectedFiles | None = None
    way: ResumePoint | None = None
    passed: tuple[tuple[str, Message], ...] = ()
    complete: bool = False

    @property
    def next_step(self) -> int | None:
        """The step to recommend for resuming."""
        return self.way.how.step if self.way is not None and not self.way.lost else None


def resume_options(paths: RunPaths, record: Record) -> ResumeOptions:
    """The newest state with intact content, from before the loss stayed NaN, that sd-scripts can resume from correctly.
    A state that it failed to load is used only if there is no other one, since the cause may have been fixed.
    """
    training = read_training(paths)
    if training is None:
        return ResumeOptions()
    found = list_states(state_locations(paths, record), training.names.name, training.course)
    wanted = expected_files(found, training.settings, read_plan(paths))
    complete = any(True for _ in iter_final_loras(paths, record, training.names))
    passed: dict[str, Message] = {}
    lost = {part.state for part in record.parts if part.outcome is not None and part.outcome.code == LOST_STATE}
    again: ResumePoint | None = None
    diverged = find_divergence(paths) if found else None
    for state in found:
        place = escape_undecodable(state.path.relative_to(paths.root).as_posix())
        how = plan_resume_steps(training.course, state.step)
        why: Message | None
        if not isinstance(how, ResumeSteps):
            why = how
        elif diverged is not None and diverged <= state.step:
            why = msg("the loss was NaN or infinite from step {step} on", step=diverged)
        else:
            why = state_problem(state, wanted)
        if isinstance(how, ResumeSteps) and why is None:
            way = ResumePoint(training, wanted, state, how, lost=place in lost)
            if not way.lost:
                return ResumeOptions(training, wanted, way, tuple(passed.items()), complete)
            again = again or way
            why = msg("the trainer failed to load it before")
        if why is not None:
            passed[place] = why
    if again is not None:
        del passed[escape_undecodable(again.state.path.relative_to(paths.root).as_posix())]
    return ResumeOptions(training, wanted, again, tuple(passed.items()), complete)


def read_training(paths: RunPaths) -> Training | None:
    """None when sd-scripts never got as far as counting its steps, or the folder is damaged."""
    settings, totals = read_train_settings(paths), read_totals(paths)
    if settings is None or totals is None or not totals.batches_per_epoch:
        return None
    accumulation, every = settings.get("gradient_accumulation_steps"), settings.get("save_every_n_steps")
    course = TrainingSchedule(
        batches=totals.batches_per_epoch,
        accumulation=accumulation if isinstance(accumulation, int) else 1,
        epochs=totals.epochs,
        steps=totals.steps,
        save_every_n_steps=every if isinstance(every, int) else None,
    )
    kind = str(settings.get("save_model_as") or "safetensors")
    return Training(settings, OutputNames(read_output_name(settings), kind, course))


def read_output_name(settings: Table) -> str:
    """What sd-scripts calls what it saves (TU:46)."""
    return str(settings.get("output_name") or "last")


def read_train_settings(paths: RunPaths) -> Table | None:
    """The compiled settings; None if the file is missing or damaged."""
    try:
        return tomllib.loads(read_text(paths.train, within=paths.root))
    except (OSError, ValueError, RecursionError):
        return None


def with_run_facts(evidence: RunResult, paths: RunPaths, record: Record) -> RunResult:
    """What remedies depend on, what the log shows, and whether the state is to blame that the last part was to resume
    from."""
    seen, part = evidence.seen, record.parts[-1] if record.parts else None
    log = read_log_evidence(paths.log, paths.root, part.log_from if part is not None else 0)
    return replace(
        evidence,
        facts=collect_run_facts(paths, record, read_train_settings(paths) or {}, seen, log),
        log=log,
        lost_state=part.state if part is not None and seen.lost_state and seen.step is None else None,
    )


def read_totals(paths: RunPaths) -> RunTotals | None:
    """sd-scripts' own counts at the start of the run, from the events; from the log if the events are missing, for
    example because of a full disk.
    """
    with suppress(OSError):
        for event in iter_events(paths.events, paths.root, containing=b'"totals"', first=MAX_START_BYTES):
            with suppress(LookupError):
                counts = [event[each.name] for each in fields(RunTotals)]
                if all(type(count) is int for count in counts):
                    return RunTotals(*cast("list[int]", counts))
    parser = LogParser()
    with suppress(OSError, ValueError), open_file(paths.log, within=paths.root) as log:
        while parser.seen.totals is None and log.tell() < MAX_START_BYTES and (piece := log.read(1 << 20)):
            parser.feed(piece)
    return parser.seen.totals


def find_divergence(paths: RunPaths) -> int | None:
    """The step from which on the loss was NaN or infinite to the end of the last part; None if it was good at the end.

    A state from there is no use, also if its weights are finite: with fp16 a step whose loss is NaN is skipped, so they
    are those of the last good step, and the loss is NaN again. Those of earlier parts were moved away by `resume`.
    """
    losses = LossMonitor()
    with suppress(OSError):
        if any(True for _ in iter_events(paths.events, paths.root, containing=BAD_LOSS_MARK)):
            for fields in iter_events(paths.events, paths.root):
                if fields.get("event") == "resumed":
                    losses = LossMonitor()
                elif isinstance(step := decode_event(fields), Step):
                    losses.add_step(step)
    return losses.facts.not_finite_since


def state_locations(paths: RunPaths, record: Record) -> list[StateLocation]:
    """Where states can be: in output/, and in the folder of a resumed part that was killed."""
    found = [StateLocation(paths.output)]
    for part in record.parts[1:]:
        folder = paths.part(part.number) / "output"
        if folder.is_dir():
            found.append(StateLocation(folder, part.number, part.offset))
    return found


def part_outputs(paths: RunPaths, part: RunPart, course: TrainingSchedule) -> PartOutputs:
    """Where a start of the trainer wrote, and how its numbers become the run's."""
    how = plan_resume_steps(course, part.first_step)
    stop_at = how.stop_at if isinstance(how, ResumeSteps) else None
    return PartOutputs(paths.root, part.number, part.first_step, part.offset, stop_at)


def iter_final_loras(paths: RunPaths, record: Record, names: OutputNames) -> Iterator[Path]:
    """The intact LoRA of the last step, in output/ or where a resumed part wrote it."""
    if is_complete_lora(paths.output / names.final_name, names.course.steps, 0):
        yield paths.output / names.final_name
    for part in record.parts[1:]:
        written = part_outputs(paths, part, names.course)
        final = names.final_name if written.stop_at is None else names.step_name(written.stop_at, state=False)
        if is_complete_lora(written.output / final, names.course.steps, part.offset):
            yield written.output / final


def is_complete_lora(path: Path, steps: int, offset: int) -> bool:
    """Whether a LoRA file is complete and has that number of steps; ckpt and pt files do not contain it."""
    try:
        if path.suffix != ".safetensors":
            return incomplete_lora_reason(path) is None
        return read_header(path).metadata.get("ss_steps") in {None, str(steps), str(steps - offset)}
    except OSError:
        return False


def missing_files_problem(paths: RunPaths) -> Message | None:
    """Which of the files that are required for resuming is missing or unusable."""
    for path in (paths.train, paths.output):
        if not path.exists():
            return msg("{file} is missing", file=path.name)
    if not paths.output.is_dir():
        return msg("{file} is no longer a folder", file=paths.output.name)
    try:
        read_toml(paths.train, within=paths.root)
    except OSError as error:
        return msg("cannot read {path}: {why}", path=paths.train.name, why=reason(error))
    except ValueError:
        return msg("{file} changed and is not valid TOML", file=paths.train.name)
    if not paths.events.exists() and not paths.log.exists():
        events, log = paths.events.name, paths.log.relative_to(paths.root).as_posix()
        return msg(
            "{events} and {log} are missing, and only they record the total number of steps", events=events, log=log
        )
    return None


def resume_hint(view: ResumeOptions, settings: Table | None) -> Message:
    """Why a run cannot be resumed, and what to do the next time."""
    if view.passed or view.way is not None:
        return msg("none of its saved states can be used; start again with `lorabake rerun RUN`")
    settings = settings or {}
    keys = [] if settings.get("save_state") else ["save.save_state = true"]
    if not any(settings.get(name) for name in ("save_every_n_epochs", "save_every_n_steps")):
        keys.append("save.save_every_n_epochs")
    if not keys or (view.training is None and settings.get("save_state")):
        return msg("it ended before its first state was saved; start again with `lorabake rerun RUN`")
    return msg("no state was saved; set {keys} in the recipe and run it again", keys=join_list(keys))
