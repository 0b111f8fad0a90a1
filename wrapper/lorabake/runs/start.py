"""One start of the trainer in a ready run folder: followed to its end, judged, and written down."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError, MachineError
from lorabake.files import open_file
from lorabake.process import Command, Supervision, supervise
from lorabake.reading.timeless import all_made_timeless
from lorabake.reading.weights import WeightFacts, WeightsError, read_weights
from lorabake.runs.command import DETERMINISTIC_FILE
from lorabake.runs.ending import (
    deleted,
    ended,
    finish,
    loss_remarks,
    mishap,
    moved,
    remarked,
    resumption,
    with_changes,
    with_outcome,
    with_outputs,
)
from lorabake.runs.folder import RunPaths, read_record
from lorabake.runs.happenings import Saving, Step, Words
from lorabake.runs.lock import drop_claim, new_claim
from lorabake.runs.loss import LossFacts, LossWatch
from lorabake.runs.outcome import REHEARSED, SUCCESS, Evidence, judge, judge_interruption, judge_rehearsal
from lorabake.runs.place import DELETED, Place
from lorabake.runs.progress import Parser
from lorabake.runs.resumable import outlook, with_facts
from lorabake.runs.tensorboard import LossFile
from lorabake_schemas.record import Record, Status
from lorabake_schemas.words import Said, quoted, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lorabake.process import Running
    from lorabake.runs.events import EventLog
    from lorabake.runs.happenings import ProgressEvent, Seen
    from lorabake.runs.input_watch import InputWatch

    Watcher = Callable[[ProgressEvent], None]

LOOK_EVERY_S = 0.2  # how often the log is read; the end of the trainer is noticed at once
NO_FACTS = LossFacts()
ENOUGH = "lorabake"  # what stops a continuation that has reached the run's last step and would go on


@dataclass(frozen=True, slots=True)
class Sequel:
    """What is otherwise in a continuation.

    ``first_step`` steps had been trained before, ``offset`` is what its own step numbers lack. With ``overruns``
    sd-scripts would go on beyond the run's last step and is stopped there. ``named`` gives a file its name in the run;
    ``gather`` moves what was written there and returns what is to be remarked.
    """

    first_step: int
    offset: int
    overruns: bool
    named: Callable[[str], str]
    gather: Callable[[], tuple[Said, ...]]


@dataclass(frozen=True, slots=True)
class Start:
    """What is started, and how it is judged. ``output`` is the LoRA, relative to the run folder.

    The two waits are those of the shutdown ladder, in seconds. ``watch`` tells whether inputs changed meanwhile, and
    ``is_moved`` is set where ``paths`` are others by the end.
    """

    paths: RunPaths
    argv: tuple[str, ...]
    env: Mapping[str, str]
    output: str
    planned_steps: int
    rehearsal: bool = False
    sequel: Sequel | None = None
    interrupt_s: float = 10.0
    terminate_s: float = 5.0
    watch: InputWatch | None = None
    is_moved: bool = False

    @property
    def deterministic(self) -> bool:
        """Whether the same start is to give the same files."""
        return DETERMINISTIC_FILE in self.argv

    @property
    def name(self) -> str:
        """What sd-scripts calls what it saves."""
        return PurePath(self.output).stem


def carried_out(start: Start, record: Record, events: EventLog, watcher: Watcher) -> Record:
    """Train, and return the finished record. Raises SetupError when the trainer cannot be started,
    InterruptedRunError when the user stopped it; the record says so too."""
    try:
        record = train(start, record, Teller(events, watcher, sequel=start.sequel, planned=start.planned_steps))
    except Exception as error:
        with suppress(MachineError):  # somebody took the record away
            if read_record(start.paths.record).status == "started":  # else the guard has ended it
                finish(start.paths, ended(record, mishap(error), "failed"), events)
        raise
    finally:
        drop_claim(start.paths)
    moved_to = record.outcome.moved_to if record.outcome is not None else None
    paths = start.paths if moved_to is None else RunPaths(Path(moved_to))
    drop_claim(paths)
    if record.status == "interrupted" and record.outcome is not None:
        raise InterruptedRunError(
            say("{how}; the log is {path}", how=record.outcome.message, path=paths.log), resumption(record, paths.root)
        )
    return record


def train(start: Start, record: Record, teller: Teller) -> Record:
    """Start the trainer, follow it to its end, judge it and write the verdict down."""
    paths = start.paths
    how = Supervision(
        log=paths.log,
        record=paths.record,
        events=paths.events,
        room=paths.room,
        claim=new_claim(paths, record.name),
        interrupt_s=start.interrupt_s,
        terminate_s=start.terminate_s,
    )
    said_before = paths.log.stat().st_size
    command = Command(start.argv, paths.root.absolute(), start.env)
    with Place(paths.root) as place, supervise(command, how) as running:
        seen = follow(running, start, said_before, teller, place)
        if place.is_deleted:
            return ended(record, deleted(paths.root, seen, running.returncode), "failed")
        if (now := place.now()) != place.root:
            start = replace(start, paths=RunPaths(now), is_moved=True)
        return concluded(start, record, running, seen, teller)


def concluded(start: Start, record: Record, running: Running, seen: Seen, teller: Teller) -> Record:
    """The verdict, written down where the run folder is now."""
    paths = start.paths
    stopped_by = running.stopped_by if running.returncode != 0 else None
    remarks = start.sequel.gather() if start.sequel is not None else ()
    remarks += all_made_timeless(paths.output, start.name) if start.deterministic else ()
    evidence = gathered(start, running.returncode, seen, teller.losses.facts)
    evidence = with_facts(evidence, paths, record)
    reached = stopped_by is not None and evidence.returncode == 0
    record = judged(start, record, evidence, None if reached else stopped_by)
    record = remarked(record, (*loss_remarks(record, teller.losses), *remarks))
    finish(paths, record, teller.events)
    return record


def follow(running: Running, start: Start, begin: int, teller: Teller, place: Place) -> Seen:
    """Read the log from byte ``begin`` as it grows, until the trainer and all it started are gone."""
    shift = start.sequel.first_step - start.sequel.offset if start.sequel is not None else 0
    with (
        open_file(start.paths.log, within=start.paths.root) as file,
        LossFile(start.paths.root, start.paths.tensorboard) as losses,
    ):
        listener = Listener(losses, shift)
        file.seek(begin)
        over = False
        while not over:
            over = running.wait(LOOK_EVERY_S)
            teller.tell(listener.hear(file.read()))
            if teller.enough and running.stopped_by is None:
                running.stop(ENOUGH)
            if running.stopped_by is None and place.is_deleted:
                running.stop(DELETED)  # nothing that it makes could be saved
        teller.tell(listener.close())
    return replace(listener.seen, step=teller.of_the_run(listener.seen.step))


@dataclass(slots=True)
class Listener:
    """What the trainer says, and beside each step the losses that it wrote for TensorBoard.

    ``shift`` is what its step numbers there have over those of its bar.
    """

    losses: LossFile
    shift: int = 0
    parser: Parser = field(default_factory=Parser)

    @property
    def seen(self) -> Seen:
        return self.parser.seen

    def hear(self, data: bytes) -> list[ProgressEvent]:
        """A piece of the log. What is written of a step was written before the log shows the next one."""
        return self._with_losses(self.parser.feed(data))

    def close(self) -> list[ProgressEvent]:
        return self._with_losses(self.parser.close())

    def _with_losses(self, events: list[ProgressEvent]) -> list[ProgressEvent]:
        self.losses.read()
        told = [self._with_loss(event) if isinstance(event, Step) else event for event in events]
        if (held := self.parser.held) is not None and self.losses.take(held + self.shift) is not None:
            told += [self._with_loss(event) for event in self.parser.release() if isinstance(event, Step)]
        return told

    def _with_loss(self, step: Step) -> Step:
        known = self.losses.take(step.number + self.shift)
        return step if known is None else replace(step, loss_average=known.average, loss_current=known.current)


@dataclass(slots=True)
class Teller:
    """Passes events on, with the run's own numbers: to the events file first, then to whoever watches.

    ``enough`` is whether a continuation that does not end by itself is past the run's last step, whose files it has
    then written: sd-scripts saves before it takes the next step (TN:1497-1503).
    """

    events: EventLog
    watcher: Watcher
    losses: LossWatch = field(default_factory=LossWatch)
    lost: bool = False
    sequel: Sequel | None = None
    planned: int = 0
    enough: bool = False

    def tell(self, told: Iterable[ProgressEvent]) -> None:
        """A full disk must not stop hours of training for want of an events file; the trainer's own log goes on."""
        told = list(self._watched(told if self.sequel is None else self._retold(told, self.sequel)))
        if not self.lost:
            try:
                self.events.progress(told)
            except OSError as error:
                self.lost = True
                why = error.strerror or str(error)
                told.append(Words(say("lorabake: events.jsonl ends here: {why}", why=why)))
        for event in told:
            self.watcher(event)

    def _watched(self, told: Iterable[ProgressEvent]) -> Iterable[ProgressEvent]:
        """With a word where the loss becomes one that cannot be."""
        for event in told:
            yield event
            if isinstance(event, Step) and (bad := self.losses.see(event)) is not None:
                yield bad

    def _retold(self, told: Iterable[ProgressEvent], sequel: Sequel) -> Iterable[ProgressEvent]:
        for event in told:
            if isinstance(event, Step):
                self.enough = self.enough or (sequel.overruns and event.number + sequel.first_step > self.planned)
                if (step := self.of_the_run(event)) is not None and not self.enough:
                    yield step
            elif isinstance(event, Saving):
                yield Saving(sequel.named(event.path))
            else:
                yield event

    def of_the_run(self, step: Step | None) -> Step | None:
        """A step as the run counts it, not beyond its last one."""
        if step is None or self.sequel is None:
            return step
        return replace(step, number=min(step.number + self.sequel.first_step, self.planned), total=self.planned)


def gathered(start: Start, returncode: int | None, seen: Seen, loss: LossFacts = NO_FACTS) -> Evidence:
    """What there is to judge by, the LoRA's own numbers among it."""
    path = start.paths.root / start.output
    opaque = path.suffix != ".safetensors" and path.is_file() and path.stat().st_size > 0
    weights, unreadable = (None, None) if opaque else weighed(path)
    if start.sequel is not None and start.sequel.overruns and path.is_file():
        # The last step's file is there: how the trainer ended after that is no matter, most likely lorabake did it.
        returncode, seen = 0, replace(seen, saved=True)
    return Evidence(
        returncode=returncode,
        seen=seen,
        loss=loss,
        planned_steps=start.planned_steps,
        output=start.output,
        weights=weights,
        unreadable=unreadable,
        opaque=opaque,
        disk_free=shutil.disk_usage(start.paths.root).free,
    )


def weighed(path: Path) -> tuple[WeightFacts | None, Said | None]:
    """The facts of a LoRA file, or why it cannot be read; neither when there is none."""
    try:
        return read_weights(path), None
    except FileNotFoundError:
        return None, None
    except WeightsError as error:
        return None, error.why
    except OSError as error:
        return None, quoted(str(error))


def judged(start: Start, record: Record, evidence: Evidence, stopped_by: str | None) -> Record:
    """The record with the verdict and the hashes of what was written."""
    if stopped_by is not None:
        outcome = judge_interruption(evidence, stopped_by)
    else:
        outcome = judge_rehearsal(evidence) if start.rehearsal else judge(evidence)
    status: Status = "interrupted" if stopped_by else "finished" if outcome.code in {SUCCESS, REHEARSED} else "failed"
    outcome = with_outputs(outcome, start.paths)
    outcome = moved(outcome, status, start.paths.root) if start.is_moved else outcome
    changes = start.watch.changes(start.paths.root) if start.watch is not None else ()
    record = ended(record, *with_changes(outcome, status, changes))
    if record.outcome is None or record.trained or start.rehearsal:
        return record
    further = outlook(start.paths, record).next_step
    return with_outcome(record, record.outcome.model_copy(update={"resume_step": further}))


__all__ = ["Sequel", "Start", "Teller", "carried_out", "gathered", "judged"]
