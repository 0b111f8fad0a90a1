"""A training: makes its run folder, follows each start of the trainer to its end, judges it and records the result."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

from lorabake.errors import InterruptedRunError, MachineError
from lorabake.lora.reproducible import strip_saved_loras
from lorabake.lora.weights import WeightFacts, read_weights
from lorabake.runs.command import DETERMINISTIC_FILE
from lorabake.runs.event_clock import EventClock, Look
from lorabake.runs.events import EventLog
from lorabake.runs.finalize import (
    deleted_folder_outcome,
    failure_outcome,
    finalize_run,
    loss_remarks,
    resume_command_hint,
    with_input_changes,
    with_moved_folder,
    with_outputs,
)
from lorabake.runs.folder import DELETED, FolderHandle, RunPaths, create_run_folder
from lorabake.runs.gpu_locks import reserve_gpus
from lorabake.runs.index import ensure_unfinished
from lorabake.runs.launch_request import LaunchRequest, build_initial_files, new_record
from lorabake.runs.lock import acquire_run_lock, new_claim, remove_stale_claim
from lorabake.runs.log.parser import LogParser
from lorabake.runs.metrics import MetricsReporter
from lorabake.runs.record import close_record, read_record, with_outcome, with_remarks, write_record
from lorabake.runs.resume_points import resume_options, with_run_facts
from lorabake.runs.stop_request import StopSchedule
from lorabake.runs.tensorboard import ScalarFile
from lorabake.runs.verdict import (
    DIVERGED,
    REHEARSED,
    SUCCESS,
    RunResult,
    judge_divergence,
    judge_interruption,
    judge_rehearsal,
    judge_run,
)
from lorabake.runs.watch.loss_monitor import LossFacts
from lorabake.runs.watch.run_watch import RunWatch
from lorabake.runs.watch.stall_signs import StallExaminer
from lorabake.util.files import disk_error, open_file, reason
from lorabake.util.gpu_sensors import GpuSensors
from lorabake.util.process import Command, SupervisionOptions, supervise
from lorabake_schemas.events import LogLine, Saving, Step, Stopping
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import Record, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from lorabake.jobs.display import Watcher
    from lorabake.runs.gpu_locks import GpuReservation
    from lorabake.runs.watch.input_watch import InputWatch
    from lorabake.util.process import RunningCommand
    from lorabake_schemas.events import LogSummary, ProgressEvent
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import Record

POLL_INTERVAL_S = 0.2  # how often the log is read; the end of the trainer is noticed at once
NO_LOSS_FACTS = LossFacts()
STOPPED_ON_REQUEST = "`lorabake stop`"
STOPPED_BY_LORABAKE = "lorabake"  # stops a resumed part that has reached the run's last step and would continue


@dataclass(frozen=True, slots=True)
class ResumeHooks:
    """What is different in a resumed part.

    ``first_step`` steps were trained before; ``offset`` is added to the trainer's own step numbers. With ``overruns``
    sd-scripts would continue beyond the run's last step and is stopped there. ``named`` gives a file its name in the
    run. ``collect`` moves the written files and returns remarks.
    """

    first_step: int
    offset: int
    overruns: bool
    named: Callable[[str], str]
    collect: Callable[[], tuple[Message, ...]]


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What is started, and how it is judged. ``output`` is the LoRA, relative to the run folder.

    The two waits are those of the shutdown ladder, in seconds. ``watch`` reports whether inputs changed meanwhile.
    ``is_moved`` is set if ``paths`` are different by the end. ``plan`` has what is watched meanwhile; it
    trains on ``gpus``.
    """

    paths: RunPaths
    argv: tuple[str, ...]
    env: Mapping[str, str]
    output: str
    planned_steps: int
    rehearsal: bool = False
    sequel: ResumeHooks | None = None
    interrupt_s: float = 10.0
    terminate_s: float = 5.0
    watch: InputWatch | None = None
    is_moved: bool = False
    plan: Plan | None = None
    gpus: GpuReservation | None = None

    @property
    def deterministic(self) -> bool:
        """Whether the same start is to give the same files."""
        return DETERMINISTIC_FILE in self.argv

    @property
    def name(self) -> str:
        """What sd-scripts calls what it saves."""
        return PurePath(self.output).stem


def run_trainer(start: LaunchContext, record: Record, events: EventLog, watcher: Watcher) -> Record:
    """Train, and return the finished record. Raises SetupError if the trainer cannot be started, InterruptedRunError if
    the user stopped it; the record contains that, too.
    """
    try:
        watch = RunWatch.of_plan(start.plan)
        dispatcher = EventDispatcher(events, watcher, watch, sequel=start.sequel, planned=start.planned_steps)
        record = train_and_judge(start, record, dispatcher)
    except Exception as error:
        with suppress(MachineError):  # somebody took the record away
            if read_record(start.paths.record).status == "started":  # else the guard has ended it
                finalize_run(start.paths, close_record(record, failure_outcome(error), "failed"), events)
        raise
    finally:
        remove_stale_claim(start.paths)
    moved_to = record.outcome.moved_to if record.outcome is not None else None
    paths = start.paths if moved_to is None else RunPaths(Path(moved_to))
    remove_stale_claim(paths)
    if record.status == "interrupted" and record.outcome is not None:
        raise InterruptedRunError(
            msg("{how}; the log is in {path}", how=record.outcome.message, path=paths.log),
            resume_command_hint(record, paths.root),
        )
    return record


def train_and_judge(start: LaunchContext, record: Record, dispatcher: EventDispatcher) -> Record:
    """Start the trainer, follow it to its end, judge it and write the verdict down."""
    paths = start.paths
    how = SupervisionOptions(
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
    with FolderHandle(paths.root) as place, supervise(command, how) as running:
        seen = follow_log(running, start, said_before, dispatcher, place)
        if place.is_deleted:
            return close_record(record, deleted_folder_outcome(paths.root, seen, running.returncode), "failed")
        if (now := place.now()) != place.root:
            start = replace(start, paths=RunPaths(now), is_moved=True)
        return conclude_run(start, record, running, seen, dispatcher)


def conclude_run(
    start: LaunchContext, record: Record, running: RunningCommand, seen: LogSummary, dispatcher: EventDispatcher
) -> Record:
    """The verdict, written down where the run folder is now."""
    paths = start.paths
    stopped_by = running.stopped_by if running.returncode != 0 else None
    remarks = start.sequel.collect() if start.sequel is not None else ()
    remarks += strip_saved_loras(paths.output, start.name) if start.deterministic else ()
    evidence = collect_result(start, running.returncode, seen, dispatcher.watch.losses.facts)
    evidence = with_run_facts(evidence, paths, record)
    reached = stopped_by is not None and evidence.returncode == 0
    record = with_verdict(start, record, evidence, None if reached else stopped_by)
    record = with_remarks(record, (*loss_remarks(record, dispatcher.watch.losses), *remarks))
    finalize_run(paths, record, dispatcher.events)
    return record


def follow_log(
    running: RunningCommand, start: LaunchContext, begin: int, dispatcher: EventDispatcher, place: FolderHandle
) -> LogSummary:
    """Read the log from byte ``begin`` as it grows, until the trainer and everything it started have ended."""
    shift = start.sequel.first_step - start.sequel.offset if start.sequel is not None else 0
    with (
        open_file(start.paths.log, within=start.paths.root) as file,
        ScalarFile(start.paths.root, start.paths.tensorboard) as losses,
        GpuSensors(start.gpus.gpus if start.gpus is not None else ()) as sensors,
    ):
        metrics = MetricsReporter(sensors)
        listener, requests = LogListener(losses, shift), StopSchedule(start.paths)
        examine = StallExaminer(running.find_processes, start.env)
        file.seek(begin)
        over = announced = False
        while not over:
            over = running.wait(POLL_INTERVAL_S)
            events = listener.feed_log(*read_log(file))
            dispatcher.dispatch(events, listener.look)
            dispatcher.report(
                dispatcher.watch.look(time.monotonic(), examine, lambda: shutil.disk_usage(place.root).free)
            )
            if not listener.holds_step(events):
                dispatcher.report([*metrics.look(time.monotonic(), losses.rates)])
            if dispatcher.watch.has_diverged and running.stopped_by is None:
                running.stop(DIVERGED)
            if dispatcher.is_past_end and running.stopped_by is None:
                running.stop(STOPPED_BY_LORABAKE)
            if running.stopped_by is None and place.is_deleted:
                running.stop(DELETED)  # nothing that it makes could be saved
            serve_stop_requests(requests, events, running)
            if not announced and not over and is_announced(running.stopped_by):
                announced = True
                dispatcher.report([Stopping(running.stopped_by or "")])
        dispatcher.dispatch(listener.close(), listener.look)
    return replace(listener.seen, step=dispatcher.of_the_run(listener.seen.step))


def read_log(file: BinaryIO) -> tuple[bytes, Look]:
    """What was written since, and when that was read and written."""
    return file.read(), Look(time.time(), os.fstat(file.fileno()).st_mtime)


def serve_stop_requests(requests: StopSchedule, events: Iterable[ProgressEvent], running: RunningCommand) -> None:
    """Stop the trainer as soon as a request for that is due; "now" goes up the whole ladder."""
    requests.feed(events)
    requests.poll()
    if (mode := requests.take()) is not None:
        for _ in range(3 if mode == "now" else 1):
            running.stop(STOPPED_ON_REQUEST)


def is_announced(reason: str | None) -> bool:
    """Whether a stop is shown: somebody asked for it, by a signal or by `lorabake stop`, or the loss stayed NaN."""
    return reason is not None and (reason.startswith("SIG") or reason in {STOPPED_ON_REQUEST, DIVERGED})


@dataclass(slots=True)
class LogListener:
    """The trainer's events, with the losses of each step that it wrote for TensorBoard.

    ``shift`` is the difference between its step numbers there and those of its progress bar. ``look`` is the last one.
    """

    losses: ScalarFile
    shift: int = 0
    parser: LogParser = field(default_factory=LogParser)
    look: Look = Look(0.0, 0.0)  # noqa: RUF009 - frozen

    @property
    def seen(self) -> LogSummary:
        return self.parser.seen

    def feed_log(self, data: bytes, look: Look) -> list[ProgressEvent]:
        """A piece of the log. What is written of a step was written before the log shows the next one."""
        events = self._with_losses(self.parser.feed(data))
        self.look = look._replace(held=self.parser.held)
        return events

    def holds_step(self, events: Iterable[ProgressEvent]) -> bool:
        """Whether a step was shown earlier than ``events`` and is still to be reported, with its time."""
        return self.parser.held is not None and not any(isinstance(event, Step) for event in events)

    def close(self) -> list[ProgressEvent]:
        return self._with_losses(self.parser.close())

    def _with_losses(self, events: list[ProgressEvent]) -> list[ProgressEvent]:
        self.losses.read()
        events = [self._with_loss(event) if isinstance(event, Step) else event for event in events]
        if (held := self.parser.held) is not None and self.losses.take(held.number + self.shift) is not None:
            events += [self._with_loss(event) for event in self.parser.release() if isinstance(event, Step)]
        return events

    def _with_loss(self, step: Step) -> Step:
        known = self.losses.take(step.number + self.shift)
        return step if known is None else replace(step, loss_average=known.average, loss_current=known.current)


@dataclass(slots=True)
class EventDispatcher:
    """Passes events on, with the run's own numbers: to the events file first, then to the viewers.

    ``enough`` is whether a resumed part that does not end by itself is past the run's last step, whose files it has
    then written: sd-scripts saves before it takes the next step (TN:1497-1503).
    """

    events: EventLog
    watcher: Watcher
    watch: RunWatch
    lost: bool = False
    sequel: ResumeHooks | None = None
    planned: int = 0
    is_past_end: bool = False
    clock: EventClock = field(default_factory=EventClock)

    def dispatch(self, events: Iterable[ProgressEvent], look: Look) -> None:
        """What the trainer logged, and what the watch makes of it."""
        events = events if self.sequel is None else self._renumber_steps(events, self.sequel)
        self.report(list(self.watch.add_remarks(events)), look)

    def report(self, events: list[ProgressEvent], look: Look | None = None) -> None:
        """Events of the log, or lorabake's own without a ``look``.

        A full disk must not stop hours of training because events cannot be written; the trainer's own log continues.
        """
        if not self.lost:
            try:
                stamped = self.clock.stamp(events, look) if look else self.clock.stamp_own(events, time.time())
                for moment, group in stamped:
                    self.events.progress(group, datetime.fromtimestamp(moment, UTC))
            except OSError as error:
                self.lost = True
                why = error.strerror or str(error)
                events.append(LogLine(msg("lorabake: events.jsonl ends here ({why})", why=why)))
        for event in events:
            self.watcher(event)

    def _renumber_steps(self, events: Iterable[ProgressEvent], sequel: ResumeHooks) -> Iterable[ProgressEvent]:
        for event in events:
            if isinstance(event, Step):
                self.is_past_end = self.is_past_end or (
                    sequel.overruns and event.number + sequel.first_step > self.planned
                )
                if (step := self.of_the_run(event)) is not None and not self.is_past_end:
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


def collect_result(
    start: LaunchContext, returncode: int | None, seen: LogSummary, loss: LossFacts = NO_LOSS_FACTS
) -> RunResult:
    """What there is to judge by, the LoRA's own numbers among it."""
    path = start.paths.root / start.output
    opaque = path.suffix != ".safetensors" and path.is_file() and path.stat().st_size > 0
    weights, unreadable = (None, None) if opaque else read_output(path)
    if start.sequel is not None and start.sequel.overruns and path.is_file():
        # The last step's file exists: how the trainer ended after that does not matter, most likely lorabake did it.
        returncode, seen = 0, replace(seen, saved=True)
    return RunResult(
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


def read_output(path: Path) -> tuple[WeightFacts | None, Message | None]:
    """The facts of a LoRA file, or why it cannot be read; both are None without a file."""
    try:
        return read_weights(path), None
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, reason(error)


def with_verdict(start: LaunchContext, record: Record, evidence: RunResult, stopped_by: str | None) -> Record:
    """The record with the verdict and the hashes of the written files."""
    status: RunStatus = "failed"
    if stopped_by == DIVERGED:
        outcome = judge_divergence(evidence)
    elif stopped_by is not None:
        outcome, status = judge_interruption(evidence, stopped_by), "interrupted"
    else:
        outcome = judge_rehearsal(evidence) if start.rehearsal else judge_run(evidence)
        status = "finished" if outcome.code in {SUCCESS, REHEARSED} else "failed"
    outcome = with_outputs(outcome, start.paths)
    outcome = with_moved_folder(outcome, status, start.paths.root) if start.is_moved else outcome
    changes = start.watch.changes(start.paths.root) if start.watch is not None else ()
    record = close_record(record, *with_input_changes(outcome, status, changes))
    if record.outcome is None or record.trained or start.rehearsal:
        return record
    further = resume_options(start.paths, record).next_step
    return with_outcome(record, record.outcome.model_copy(update={"resume_step": further}))


def launch_run(request: LaunchRequest, watcher: Watcher, begun: Callable[[Record], None] | None = None) -> Record:
    """Train, and return the finished record with its ``status``. ``begun`` is called when the run folder is complete.

    Raises MachineError if the folder cannot be made, BusyError if a run of this name is in progress or another run uses
    its GPUs (nothing is written then), SetupError if the trainer cannot be started, InterruptedRunError if the user
    stopped it; the record contains that, too, if there is one. If this process is killed, its guard stops the trainer
    and finishes the record.
    """
    paths = RunPaths(request.root)
    with acquire_run_lock(paths, request.plan.name), reserve_gpus(request.gpus, paths.root):
        if request.once:
            ensure_unfinished(paths.root.parent, request.provenance.digest)
        record = new_record(request)
        create_run_folder(paths, build_initial_files(request))
        with remove_on_failure(paths):
            write_record(paths, record)
            events = open_event_log(paths, record)
        with closing(events):
            if begun is not None:
                begun(record)
            return run_trainer(make_launch_context(request, paths), record, events, watcher)


def make_launch_context(request: LaunchRequest, paths: RunPaths) -> LaunchContext:
    return LaunchContext(
        paths=paths,
        argv=request.argv,
        env=request.env,
        output=request.output,
        planned_steps=request.plan.forecast.steps,
        rehearsal=request.rehearsal,
        interrupt_s=request.interrupt_s,
        terminate_s=request.terminate_s,
        watch=request.watch,
        plan=request.plan,
        gpus=request.gpus,
    )


@contextmanager
def remove_on_failure(paths: RunPaths) -> Generator[None, None, None]:
    """No run folder stays without a record and an events file, whatever goes wrong."""
    try:
        yield
    except BaseException:
        shutil.rmtree(paths.root, ignore_errors=True)
        raise


def open_event_log(paths: RunPaths, record: Record) -> EventLog:
    """The events file with its first line. Raises MachineError when it cannot be written."""
    try:
        events = EventLog(paths.events)
        events.write([{"event": "started", "name": record.name, "rehearsal": record.rehearsal}])
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=paths.events, why=error.strerror or str(error))
        raise disk_error(error, said) from error
    return events
