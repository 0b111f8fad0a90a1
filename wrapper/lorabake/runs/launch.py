"""One training run, from a new folder to its finished record."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError, LorabakeError, MachineError
from lorabake.process import Command, Supervision, supervise
from lorabake.reading.weights import WeightFacts, WeightsError, read_weights
from lorabake.runs.alone import only_run
from lorabake.runs.events import EventLog, Fields, stamp, utc_now
from lorabake.runs.folder import RunPaths, outputs, prepare, read_record, write_record
from lorabake.runs.happenings import Step, Words
from lorabake.runs.loss import LossWatch
from lorabake.runs.outcome import REHEARSED, SUCCESS, Evidence, judge, judge_interruption, judge_rehearsal
from lorabake.runs.progress import Parser
from lorabake.runs.request import LaunchRequest, files_of, opened
from lorabake_schemas.record import Outcome, Record, Status
from lorabake_schemas.words import Said, quoted, say

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from pathlib import Path

    from lorabake.process import Running
    from lorabake.runs.happenings import ProgressEvent, Seen

    Watcher = Callable[[ProgressEvent], None]

LOOK_EVERY_S = 0.2  # how often the log is read; the end of the trainer is noticed at once


def launch(request: LaunchRequest, watcher: Watcher) -> Record:
    """Train, and return the finished record, which says whether that went well (``status``).

    Raises MachineError when the folder cannot be made or a run of this name is in progress, SetupError when the
    trainer cannot be started, InterruptedRunError when the user stopped it; the record says so too, where there is
    one. When this process is killed, its guard stops the trainer and finishes the record.
    """
    paths = RunPaths(request.root)
    with only_run(paths, request.plan.name):
        record = opened(request)
        prepare(paths, files_of(request))
        with or_nothing(paths):
            write_record(paths, record)
            events = begun(paths, record)
        with closing(events):
            try:
                record = run(request, paths, record, Teller(events, watcher))
            except Exception as error:
                if read_record(paths.record).status == "started":  # else the guard has ended it
                    finish(paths, ended(record, mishap(error), "failed"), events)
                raise
    if record.status == "interrupted" and record.outcome is not None:
        raise InterruptedRunError(say("{how}; the log is {path}", how=record.outcome.message, path=paths.log))
    return record


@contextmanager
def or_nothing(paths: RunPaths) -> Generator[None, None, None]:
    """No run folder stays without a record and an events file, whatever goes wrong."""
    try:
        yield
    except BaseException:
        shutil.rmtree(paths.root, ignore_errors=True)
        raise


def mishap(error: Exception) -> Outcome:
    """How a run ends that lorabake itself could not carry out."""
    if isinstance(error, LorabakeError):
        return Outcome(code="not-started", message=error.message, hint=error.hint)
    message = say("lorabake itself failed: {error}", error=f"{type(error).__name__}: {error}")
    return Outcome(code="lorabake-failed", message=message, hint=say("this is a fault of lorabake: please report it"))


def begun(paths: RunPaths, record: Record) -> EventLog:
    """The events file with its first line. Raises MachineError when it cannot be written."""
    try:
        events = EventLog(paths.events)
        events.write([{"event": "started", "name": record.name, "rehearsal": record.rehearsal}])
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError(say("cannot write {path}: {why}", path=paths.events, why=why)) from error
    return events


def run(request: LaunchRequest, paths: RunPaths, record: Record, teller: Teller) -> Record:
    """Start the trainer, follow it to its end, judge it and write the verdict down."""
    command = Command(request.argv, paths.root.absolute(), request.env)
    how = Supervision(
        log=paths.log,
        record=paths.record,
        events=paths.events,
        room=paths.room,
        interrupt_s=request.interrupt_s,
        terminate_s=request.terminate_s,
    )
    with supervise(command, how) as running:
        seen = follow(running, paths.log, teller.tell)
        stopped_by = running.stopped_by if running.returncode != 0 else None
        evidence = gathered(request, paths, running.returncode, seen)
        record = remarked(judged(request, paths, record, evidence, stopped_by), teller.losses)
        finish(paths, record, teller.events)
    return record


def follow(running: Running, log: Path, tell: Callable[[Iterable[ProgressEvent]], None]) -> Seen:
    """Read the log as it grows until the trainer and all it started are gone."""
    parser = Parser()
    with log.open("rb") as file:
        over = False
        while not over:
            over = running.wait(LOOK_EVERY_S)
            tell(parser.feed(file.read()))
    tell(parser.close())
    return parser.seen


@dataclass(slots=True)
class Teller:
    """Passes events on: to the events file first, then to whoever watches."""

    events: EventLog
    watcher: Watcher
    losses: LossWatch = field(default_factory=LossWatch)
    lost: bool = False

    def tell(self, told: Iterable[ProgressEvent]) -> None:
        """A full disk must not stop hours of training for want of an events file; the trainer's own log goes on."""
        told = list(told)
        if not self.lost:
            try:
                self.events.progress(told)
            except OSError as error:
                self.lost = True
                why = error.strerror or str(error)
                told.append(Words(say("lorabake: events.jsonl ends here: {why}", why=why)))
        for event in told:
            if isinstance(event, Step):
                self.losses.see(event.number, event.total, event.loss)
            self.watcher(event)


def gathered(request: LaunchRequest, paths: RunPaths, returncode: int | None, seen: Seen) -> Evidence:
    """What there is to judge by, the LoRA's own numbers among it."""
    path = paths.root / request.output
    opaque = path.suffix != ".safetensors" and path.is_file() and path.stat().st_size > 0
    weights, unreadable = (None, None) if opaque else weighed(path)
    return Evidence(
        returncode=returncode,
        seen=seen,
        planned_steps=request.plan.forecast.steps,
        output=request.output,
        weights=weights,
        unreadable=unreadable,
        opaque=opaque,
        disk_free=shutil.disk_usage(paths.root).free,
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


def judged(
    request: LaunchRequest, paths: RunPaths, record: Record, evidence: Evidence, stopped_by: str | None
) -> Record:
    """The record with the verdict and the hashes of what was written."""
    if stopped_by is not None:
        outcome = judge_interruption(evidence, stopped_by)
    else:
        outcome = judge_rehearsal(evidence) if request.rehearsal else judge(evidence)
    status: Status = "interrupted" if stopped_by else "finished" if outcome.code in {SUCCESS, REHEARSED} else "failed"
    return ended(record, outcome.model_copy(update={"outputs": outputs(paths)}), status)


def remarked(record: Record, losses: LossWatch) -> Record:
    """The record with a remark on a loss that jumped, which a training that ended well can hide (G5.4)."""
    jump = losses.jump()
    if jump is None or record.outcome is None or record.rehearsal:
        return record
    remark = say(
        "the loss jumped from {before:.3g} to {after:.3g} around step {step}: compare the files saved before and after",
        before=jump.before,
        after=jump.after,
        step=jump.step,
    )
    return record.model_copy(update={"outcome": record.outcome.model_copy(update={"remarks": (remark,)})})


def ended(record: Record, outcome: Outcome, status: Status) -> Record:
    return record.model_copy(update={"status": status, "ended": stamp(utc_now()), "outcome": outcome})


def finish(paths: RunPaths, record: Record, events: EventLog) -> None:
    """Write the verdict: the record first, then the last event, which a full disk may swallow."""
    with suppress(OSError):
        paths.room.unlink(missing_ok=True)
    write_record(paths, record)
    if record.outcome is not None:
        verdict: Fields = record.outcome.model_dump(include={"code", "message", "returncode"})
        with suppress(OSError):
            events.write([{"event": record.status, "rehearsal": record.rehearsal, **verdict}])


__all__ = ["LaunchRequest", "Teller", "follow", "launch"]
