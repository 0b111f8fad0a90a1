"""A run whose lorabake was killed: its record is completed by whoever reads it next, from what the run folder shows.

That it is over is proven first (runs/lock.py). The verdict is never "finished": `lorabake resume` moves, checks and
judges what was trained to the last step.
"""

from __future__ import annotations

import json
import os
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO, cast

from lorabake.errors import MachineError
from lorabake.runs.events import EventLog, format_timestamp
from lorabake.runs.finalize import close_record, finalize_run, with_outcome, with_outputs
from lorabake.runs.folder import RunPaths, read_record
from lorabake.runs.lock import find_active, find_running_trainer, lock_path, remove_stale_claim
from lorabake.runs.log_parser import LogParser
from lorabake.runs.resume_points import resume_options, with_run_facts
from lorabake.runs.verdict import RunResult, judge_run
from lorabake.util.files import open_file
from lorabake.util.locks import try_lock
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.record import Outcome, Record, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorabake.runs.happenings import LogSummary

KILLED_CODE = "lorabake-killed"
STOP_RETURNCODES = frozenset({128 + 2, 128 + 9, 128 + 15})  # how a guard stops a trainer
CHUNK_BYTES = 1 << 20  # bytes
LOG_END_BYTES = 64 << 20  # bytes; a training of days writes less than twice that
EVENTS_TAIL_BYTES = 1_000_000  # bytes of an events file in which the last step and the last time are


def complete_record(paths: RunPaths, record: Record) -> Record:
    """The record as it is, or completed when its run is over and nobody was left to say so.

    It is written down where this is the run's own place and the folder is ours; elsewhere it is only returned.
    """
    if not _is_incomplete(record) or find_active(paths, record) is not None:
        return record
    if not _is_own_run(paths, record):
        return _with_end(paths, record, hashed=False)
    with suppress(OSError, MachineError), try_lock(lock_path(paths.root.parent, record.name), paths.root.name) as busy:
        if busy is None and find_running_trainer(paths) is None:
            record = read_record(paths.record)  # somebody may have completed or resumed it meanwhile
            if _is_incomplete(record):
                record = _with_end(paths, record)
                with closing(EventLog(paths.events)) as events:
                    finalize_run(paths, record, events)
                remove_stale_claim(paths)
            return record
    return _with_end(paths, record)


def _is_incomplete(record: Record) -> bool:
    """Whether it says nothing of the end, or only what a guard could say."""
    outcome = record.outcome
    return record.status == "started" or (outcome is not None and outcome.code == KILLED_CODE and outcome.steps is None)


def _is_own_run(paths: RunPaths, record: Record) -> bool:
    """Whether the run was made here, by this user, and can be written to."""
    try:
        here = paths.root.stat().st_uid == os.geteuid() and os.access(paths.root, os.W_OK)
        return here and record.cwd in {
            escape_undecodable(str(each)) for each in (paths.root.absolute(), paths.root.resolve())
        }
    except (OSError, AttributeError):  # Windows
        return False


def _with_end(paths: RunPaths, record: Record, *, hashed: bool = True) -> Record:
    """``hashed`` says whether the outputs are read: of a run of others their number and size have no bound."""
    seen, step = _summarize_log(paths, record), record.parts[-1].first_step if record.parts else 0
    if seen.step is not None:
        step = min(seen.step.number + step, record.planned_steps)
    elif not paths.log.exists():  # which goes on where the events end: they were lorabake's
        step = read_last_step(paths)
    outcome = _failure_outcome(paths, record, seen, step) or _interruption_outcome(paths, record, seen, step)
    before = record.outcome
    if before is not None:  # the guard's
        outcome = outcome.model_copy(update={"returncode": before.returncode})
    status: RunStatus = "interrupted" if outcome.code == KILLED_CODE else "failed"
    if hashed:
        with suppress(OSError):
            outcome = with_outputs(outcome, paths)
    record = close_record(record, outcome, status, record.ended or _last_activity_time(paths, record))
    if record.rehearsal:
        return record
    return with_outcome(record, outcome.model_copy(update={"resume_step": resume_options(paths, record).next_step}))


def _failure_outcome(paths: RunPaths, record: Record, seen: LogSummary, step: int) -> Outcome | None:
    """The trainer's own end, where its last words are a failure that nobody caused from outside."""
    exception, guards = seen.exception, record.outcome
    stopped = guards is not None and guards.returncode in STOP_RETURNCODES
    if exception is None or exception.startswith("KeyboardInterrupt") or seen.killed_by or seen.saved or stopped:
        return None
    evidence = RunResult(returncode=1, seen=seen, planned_steps=record.planned_steps, output="")
    return judge_run(with_run_facts(evidence, paths, record)).model_copy(update={"returncode": None, "steps": step})


def _interruption_outcome(paths: RunPaths, record: Record, seen: LogSummary, step: int) -> Outcome:
    message: Message = msg("lorabake was killed or crashed; the trainer stopped after step {step}", step=step)
    hint: Message | None = None
    if not record.rehearsal and resume_options(paths, record).complete:
        message = msg(
            "lorabake was killed or crashed; the trainer reached its last step, but the result was not checked"
        )
        hint = msg("check and finish it with `lorabake resume {run}`", run=paths.root)
    return Outcome(code=KILLED_CODE, message=message, hint=hint, steps=step, last_words=seen.last_words)


def _iter_chunks(log: BinaryIO, start: int) -> Iterator[bytes]:
    """A log from ``start``; of one that is longer than any training's, which may be a stranger's, its two ends."""
    size = log.seek(0, os.SEEK_END)
    ends = (
        [(start, size)]
        if size - start <= 2 * LOG_END_BYTES
        else [(start, start + LOG_END_BYTES), (size - LOG_END_BYTES, size)]
    )
    for begin, end in ends:
        log.seek(begin)
        while piece := log.read(min(CHUNK_BYTES, end - log.tell())):
            yield piece
        yield b"\n"


def _summarize_log(paths: RunPaths, record: Record) -> LogSummary:
    """What the log shows of the run's last start."""
    parser = LogParser()
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        for piece in _iter_chunks(log, record.parts[-1].log_from if record.parts else 0):
            parser.feed(piece)
    parser.close()
    return parser.seen


def read_last_step(paths: RunPaths) -> int:
    """The last step that the events tell of, 0 where they tell of none."""
    for event in reversed(_read_last_events(paths)):
        step = event.get("step")
        if event.get("event") == "step" and type(step) is int:
            return step
    return 0


def _read_last_events(paths: RunPaths) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    with suppress(OSError, ValueError), open_file(paths.events, within=paths.root) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - EVENTS_TAIL_BYTES))
        for line in file.read(EVENTS_TAIL_BYTES).splitlines():
            with suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append(cast("dict[str, object]", event))
    return found


def _last_activity_time(paths: RunPaths, record: Record) -> str:
    """When the trainer last wrote to its log; the time of the last event where there is no log."""
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        state = os.fstat(log.fileno())
        if state.st_size:
            return format_timestamp(datetime.fromtimestamp(state.st_mtime, UTC))
    times = [time for event in _read_last_events(paths) if isinstance(time := event.get("time"), str)]
    return times[-1] if times else record.started
