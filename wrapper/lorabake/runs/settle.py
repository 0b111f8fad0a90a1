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
from lorabake.files import open_file
from lorabake.locks import try_held
from lorabake.runs.ending import ended, finish, with_outcome, with_outputs
from lorabake.runs.events import EventLog, stamp
from lorabake.runs.folder import RunPaths, read_record
from lorabake.runs.lock import drop_claim, find_active, find_trainer, lock_file
from lorabake.runs.outcome import Evidence, judge
from lorabake.runs.progress import Parser
from lorabake.runs.resumable import outlook, with_facts
from lorabake_schemas.record import Outcome, Record, Status
from lorabake_schemas.words import Said, legible, say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorabake.runs.happenings import Seen

KILLED = "lorabake-killed"
BY_SIGNAL = frozenset({128 + 2, 128 + 9, 128 + 15})  # how a guard stops a trainer
PIECE = 1 << 20  # bytes
LOG_END = 64 << 20  # bytes; a training of days writes less than twice that
TAIL = 1_000_000  # bytes of an events file in which the last step and the last time are


def settled(paths: RunPaths, record: Record) -> Record:
    """The record as it is, or completed when its run is over and nobody was left to say so.

    It is written down where this is the run's own place and the folder is ours; elsewhere it is only returned.
    """
    if not _is_incomplete(record) or find_active(paths, record) is not None:
        return record
    if not _is_ours(paths, record):
        return _completed(paths, record, hashed=False)
    with suppress(OSError, MachineError), try_held(lock_file(paths.root.parent, record.name), paths.root.name) as busy:
        if busy is None and find_trainer(paths) is None:
            record = read_record(paths.record)  # somebody may have completed or resumed it meanwhile
            if _is_incomplete(record):
                record = _completed(paths, record)
                with closing(EventLog(paths.events)) as events:
                    finish(paths, record, events)
                drop_claim(paths)
            return record
    return _completed(paths, record)


def _is_incomplete(record: Record) -> bool:
    """Whether it says nothing of the end, or only what a guard could say."""
    outcome = record.outcome
    return record.status == "started" or (outcome is not None and outcome.code == KILLED and outcome.steps is None)


def _is_ours(paths: RunPaths, record: Record) -> bool:
    """Whether the run was made here, by this user, and can be written to."""
    try:
        here = paths.root.stat().st_uid == os.geteuid() and os.access(paths.root, os.W_OK)
        return here and record.cwd in {legible(str(each)) for each in (paths.root.absolute(), paths.root.resolve())}
    except (OSError, AttributeError):  # Windows
        return False


def _completed(paths: RunPaths, record: Record, *, hashed: bool = True) -> Record:
    """``hashed`` says whether the outputs are read: of a run of others their number and size have no bound."""
    seen, step = _seen(paths, record), record.parts[-1].first_step if record.parts else 0
    if seen.step is not None:
        step = min(seen.step.number + step, record.planned_steps)
    elif not paths.log.exists():  # which goes on where the events end: they were lorabake's
        step = last_step(paths)
    outcome = _failure(paths, record, seen, step) or _interruption(paths, record, seen, step)
    before = record.outcome
    if before is not None:  # the guard's
        outcome = outcome.model_copy(update={"returncode": before.returncode})
    status: Status = "interrupted" if outcome.code == KILLED else "failed"
    if hashed:
        with suppress(OSError):
            outcome = with_outputs(outcome, paths)
    record = ended(record, outcome, status, record.ended or _last_sign(paths, record))
    if record.rehearsal:
        return record
    return with_outcome(record, outcome.model_copy(update={"resume_step": outlook(paths, record).next_step}))


def _failure(paths: RunPaths, record: Record, seen: Seen, step: int) -> Outcome | None:
    """The trainer's own end, where its last words are a failure that nobody caused from outside."""
    exception, guards = seen.exception, record.outcome
    stopped = guards is not None and guards.returncode in BY_SIGNAL
    if exception is None or exception.startswith("KeyboardInterrupt") or seen.killed_by or seen.saved or stopped:
        return None
    evidence = Evidence(returncode=1, seen=seen, planned_steps=record.planned_steps, output="")
    return judge(with_facts(evidence, paths, record)).model_copy(update={"returncode": None, "steps": step})


def _interruption(paths: RunPaths, record: Record, seen: Seen, step: int) -> Outcome:
    message: Said = say("lorabake was killed or crashed; the trainer stopped after step {step}", step=step)
    hint: Said | None = None
    if not record.rehearsal and outlook(paths, record).complete:
        message = say(
            "lorabake was killed or crashed; the trainer reached its last step, but the result was not checked"
        )
        hint = say("check and finish it: lorabake resume {run}", run=paths.root)
    return Outcome(code=KILLED, message=message, hint=hint, steps=step, last_words=seen.last_words)


def _pieces(log: BinaryIO, start: int) -> Iterator[bytes]:
    """A log from ``start``; of one that is longer than any training's, which may be a stranger's, its two ends."""
    size = log.seek(0, os.SEEK_END)
    ends = [(start, size)] if size - start <= 2 * LOG_END else [(start, start + LOG_END), (size - LOG_END, size)]
    for begin, end in ends:
        log.seek(begin)
        while piece := log.read(min(PIECE, end - log.tell())):
            yield piece
        yield b"\n"


def _seen(paths: RunPaths, record: Record) -> Seen:
    """What the log shows of the run's last start."""
    parser = Parser()
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        for piece in _pieces(log, record.parts[-1].log_from if record.parts else 0):
            parser.feed(piece)
    parser.close()
    return parser.seen


def last_step(paths: RunPaths) -> int:
    """The last step that the events tell of, 0 where they tell of none."""
    for event in reversed(_last_events(paths)):
        step = event.get("step")
        if event.get("event") == "step" and type(step) is int:
            return step
    return 0


def _last_events(paths: RunPaths) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    with suppress(OSError, ValueError), open_file(paths.events, within=paths.root) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        for line in file.read(TAIL).splitlines():
            with suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append(cast("dict[str, object]", event))
    return found


def _last_sign(paths: RunPaths, record: Record) -> str:
    """When the trainer last wrote to its log; the time of the last event where there is no log."""
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        state = os.fstat(log.fileno())
        if state.st_size:
            return stamp(datetime.fromtimestamp(state.st_mtime, UTC))
    times = [time for event in _last_events(paths) if isinstance(time := event.get("time"), str)]
    return times[-1] if times else record.started
