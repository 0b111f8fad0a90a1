"""How a run ends: its record, its events, and how it can be resumed.

The record of a run whose lorabake was killed is completed by the next reader, from the content of the run folder.
Before that, it is proven that the run is over (runs/lock.py). The verdict is never "finished": `lorabake resume` moves,
checks and judges what was trained to the last step.
"""

from __future__ import annotations

import os
import shlex
from contextlib import closing, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, BinaryIO

from lorabake.errors import LorabakeError, MachineError
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.events import EventFields, EventLog, format_timestamp, read_last_events, read_last_step
from lorabake.runs.folder import DELETED, MOVED, RunPaths, list_outputs
from lorabake.runs.lock import find_active, find_running_trainer, lock_path, read_claim, remove_stale_claim
from lorabake.runs.log.parser import LogParser
from lorabake.runs.record import close_record, read_record, with_outcome, write_record
from lorabake.runs.resume_points import read_train_settings, resume_hint, resume_options, with_run_facts
from lorabake.runs.verdict import LOST_STATE, RunResult, judge_run
from lorabake.runs.watch.input_watch import KEPT, format_changed_names
from lorabake.util.files import exists, open_file, read_bytes, remove_file
from lorabake.util.locks import LOCK_FILE_LIMIT, try_lock
from lorabake.util.owners import LockOwner, current_owner, parse_owner
from lorabake_schemas.messages import Message, escape_undecodable, join_list, literal, msg
from lorabake_schemas.record import InputChange, Outcome, Record, RunStatus
from lorabake_schemas.saved_names import LORA_EXTENSIONS, STATE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from lorabake.runs.watch.loss_monitor import LossMonitor
    from lorabake_schemas.events import LogSummary

# Verdicts that a moved folder explains: relative paths lead elsewhere from there.
CODES_CAUSED_BY_MOVE = frozenset(
    {"crashed", "no-output", "damaged-output", "output-missing", "save-failed", "tensorboard-folder", "image-missing",
     "dataset-folder", "model-missing", "lora-damaged", "prompt-file"}
)  # fmt: skip
KILLED_CODE = "lorabake-killed"
STOP_RETURNCODES = frozenset({128 + 2, 128 + 9, 128 + 15})  # how a guard stops a trainer
CHUNK_BYTES = 1 << 20  # bytes
LOG_END_BYTES = 64 << 20  # bytes; a training of days writes less than twice that


def failure_outcome(error: Exception) -> Outcome:
    """How a run ends that lorabake itself could not carry out."""
    if isinstance(error, LorabakeError):
        return Outcome(code="not-started", message=error.message, hint=error.hint)
    name = f"{type(error).__name__}: {error}"
    message = msg("lorabake itself failed: {error}", error=name)
    return Outcome(code="lorabake-failed", message=message, hint=msg("this is a bug in lorabake; please report it"))


def loss_remarks(record: Record, losses: LossMonitor) -> tuple[Message, ...]:
    """Remarks on the loss of a training that ended well: it jumped (G5.4), or some steps had an impossible one."""
    if record.rehearsal:
        return ()
    found: list[Message] = []
    facts, jump = losses.facts, losses.jump()
    if facts.first is not None:
        said = msg(
            "steps with a loss that is NaN, infinite or below zero: {n}, starting at step {step}; files saved before "
            "that are fine",
            n=facts.bad,
            step=facts.first,
        )
        found.append(said)
    if jump is not None:
        said = msg(
            "the average loss jumped from {before:.3g} to {after:.3g} around step {step}; compare the "
            "files saved before and after",
            before=jump.before,
            after=jump.after,
            step=jump.step,
        )
        found.append(said)
    return tuple(found)


def with_input_changes(
    outcome: Outcome, status: RunStatus, changes: Sequence[InputChange]
) -> tuple[Outcome, RunStatus]:
    """The outcome of a run whose inputs changed: which of the old and the new files it was trained with is not known.

    Where it failed, they are most likely why.
    """
    if not changes:
        return outcome, status
    outcome = outcome.model_copy(update={"inputs_changed": tuple(changes[:KEPT])})
    names = format_changed_names(changes)
    if status != "finished":
        said = msg("inputs changed during the run: {names}", names=names)
        if outcome.code == UNKNOWN_FAILURE:
            message = msg("{how}; before that, inputs changed: {names}", how=outcome.message, names=names)
            hint = msg("restore them and run it again; leave images, captions and models alone until the training ends")
            return outcome.model_copy(update={"message": message, "hint": hint}), status
        return outcome.model_copy(update={"remarks": (*outcome.remarks, said)}), status
    message = msg("{how}, but inputs changed during the run: {names}", how=outcome.message, names=names)
    hint = msg("the run may have used the old or the new files; train again with the ones you want")
    return outcome.model_copy(update={"code": "inputs-changed", "message": message, "hint": hint}), "inputs-changed"


def with_outputs(outcome: Outcome, paths: RunPaths) -> Outcome:
    """The outcome with what the trainer wrote, and a remark where that is not complete. Raises OSError."""
    outcome = outcome.model_copy(update={"outputs": list_outputs(paths)})
    return outcome.model_copy(update={"remarks": (*outcome.remarks, *_incomplete_lora_remarks(outcome, paths.root))})


def _incomplete_lora_remarks(outcome: Outcome, root: Path) -> tuple[Message, ...]:
    """A remark on LoRAs that are not complete, and which one is the last that is."""
    saved = (file for file in outcome.outputs if f"{STATE_SUFFIX}/" not in file.name)
    loras = [file for file in saved if file.name.endswith(LORA_EXTENSIONS)]
    bad = [file.name for file in loras if file.incomplete is not None]
    if not bad:
        return ()
    good = [file for file in loras if file.incomplete is None]
    names = join_list([literal(name) for name in bad])
    if not good:
        return (msg("incomplete: {files}; no complete LoRA exists", files=names),)
    last = max(good, key=lambda file: (root / file.name).stat().st_mtime_ns)
    return (msg("incomplete: {files}; the last complete LoRA is {last}", files=names, last=last.name),)


def deleted_folder_outcome(root: Path, seen: LogSummary, returncode: int | None) -> Outcome:
    """The outcome of a run whose folder was deleted: nothing can be written."""
    step = seen.step.number if seen.step is not None else 0
    message = msg(
        "{folder} was deleted or moved to another disk during the run; the trainer was stopped after step {step}",
        folder=root,
        step=step,
    )
    hint = msg("run it again, and do not move or delete its folder until it ends")
    return Outcome(
        code=DELETED, message=message, hint=hint, returncode=returncode, steps=step, last_words=seen.last_words
    )


def with_moved_folder(outcome: Outcome, status: RunStatus, root: Path) -> Outcome:
    """The outcome of a run whose folder was moved to ``root`` while it ran: the trainer works on in it, but relative
    paths lead elsewhere from there."""
    said = msg("the run folder was moved to {folder} during the run", folder=root)
    outcome = outcome.model_copy(update={"moved_to": escape_undecodable(str(root))})
    if status != "failed" or outcome.code not in CODES_CAUSED_BY_MOVE:
        return outcome.model_copy(update={"remarks": (*outcome.remarks, said)})
    message = msg("{problem}: {sequel}", problem=said, sequel=outcome.message)
    hint = msg("do not move the run folder until the run ends")
    return outcome.model_copy(update={"code": MOVED, "message": message, "hint": hint})


def resume_command_hint(record: Record, root: Path) -> Message | None:
    """How to resume a run that did not end well, or make the next one resumable; None if nothing was trained."""
    outcome = record.outcome
    over = record.trained or record.status == "started"
    if outcome is None or record.rehearsal or over or outcome.code == DELETED:
        return None
    if outcome.resume_step is not None:
        return msg(
            "resume it with `{command}` (from step {step} of {total})",
            command=shlex.join(["lorabake", "resume", str(root)]),
            step=outcome.resume_step,
            total=record.planned_steps,
        )
    if not outcome.steps and outcome.code != LOST_STATE:
        return None
    paths = RunPaths(root)
    return msg(
        "it cannot be resumed: {advice}", advice=resume_hint(resume_options(paths, record), read_train_settings(paths))
    )


def finalize_run(paths: RunPaths, record: Record, events: EventLog) -> None:
    """Write the verdict: the record first, then the last event, which a full disk may swallow."""
    with suppress(OSError):
        remove_file(paths.room, within=paths.root)
    write_record(paths, record)
    if record.outcome is not None:
        verdict: EventFields = record.outcome.model_dump(include={"code", "message", "returncode"})
        with suppress(OSError):
            events.write([{"event": record.status, "rehearsal": record.rehearsal, **verdict}])


def complete_record(paths: RunPaths, record: Record, *, only_own: bool = False) -> Record:
    """The record, completed if its run is over and nothing recorded that.

    It is written if this is the run's own place and the folder belongs to this user. Elsewhere it is only returned,
    since that reads the whole log each time; with ``only_own`` not even that.
    """
    if not _is_incomplete(record):
        _remove_leftovers(paths, record)
        return record
    if find_active(paths, record) is not None:
        return record
    owner = _find_last_owner(paths, record)
    if not _is_own_run(paths, record):
        return record if only_own else _with_end(paths, record, owner, hashed=False)
    with suppress(OSError, MachineError), try_lock(lock_path(paths.root.parent, record.name), paths.root.name) as busy:
        if busy is None and find_running_trainer(paths) is None:
            record = read_record(paths.record)  # somebody may have completed or resumed it meanwhile
            if _is_incomplete(record):
                record = _with_end(paths, record, owner)
                with closing(EventLog(paths.events)) as events:
                    finalize_run(paths, record, events)
                remove_stale_claim(paths)
            return record
    return _with_end(paths, record, owner)


def _find_last_owner(paths: RunPaths, record: Record) -> LockOwner | None:
    """Who had the run last: by its claim, or by the lock of its name, which a supervisor that was killed leaves."""
    if (claim := read_claim(paths)) is not None:
        return claim.owner
    with suppress(OSError):
        found = parse_owner(read_bytes(lock_path(paths.root.parent, record.name), LOCK_FILE_LIMIT))
        return found[0] if found is not None and found[0].use == paths.root.absolute().name else None
    return None


def _remove_leftovers(paths: RunPaths, record: Record) -> None:
    """Remove the lock and the claim of a run whose processes were killed after its verdict."""
    lock = lock_path(paths.root.parent, record.name)
    if (exists(lock) or exists(paths.running)) and _is_own_run(paths, record):
        with suppress(OSError), try_lock(lock, paths.root.name) as busy:
            if busy is None:
                remove_stale_claim(paths)


def _is_incomplete(record: Record) -> bool:
    """Whether it has no end, or only what a guard could write."""
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


def _with_end(paths: RunPaths, record: Record, owner: LockOwner | None, *, hashed: bool = True) -> Record:
    """``hashed`` is whether the outputs are read: in a stranger's run their number and size have no limit."""
    seen, step = _summarize_log(paths, record), record.parts[-1].first_step if record.parts else 0
    if seen.step is not None:
        step = min(seen.step.number + step, record.planned_steps)
    elif not paths.log.exists():  # the log continues after the last event, which lorabake wrote
        step = read_last_step(paths)
    outcome = _failure_outcome(paths, record, seen, step)
    outcome = outcome or _interruption_outcome(paths, record, seen, step, owner)
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
    """The trainer's own end, if its last lines show a failure that nothing outside caused."""
    exception, guards = seen.exception, record.outcome
    stopped = guards is not None and guards.returncode in STOP_RETURNCODES
    if exception is None or exception.startswith("KeyboardInterrupt") or seen.killed_by or seen.saved or stopped:
        return None
    evidence = RunResult(returncode=1, seen=seen, planned_steps=record.planned_steps, output="")
    return judge_run(with_run_facts(evidence, paths, record)).model_copy(update={"returncode": None, "steps": step})


def _interruption_outcome(
    paths: RunPaths, record: Record, seen: LogSummary, step: int, owner: LockOwner | None
) -> Outcome:
    """How a run ended that nobody ended: where, and whether that host was restarted, if that is known."""
    here, hint = current_owner(), None
    if owner is None:
        how = msg("lorabake was killed or crashed")
    elif owner.host == here.host and owner.boot and here.boot and owner.boot != here.boot:
        how = msg("{host} was restarted or lost power", host=owner.host)
    else:
        how = msg("lorabake was killed or crashed on {host}", host=owner.host)
        hint = msg("if nobody ended it, look for the out-of-memory killer in the log of that host (`journalctl -k`)")
    message = msg("{how}; the trainer stopped after step {step}", how=how, step=step)
    if not record.rehearsal and resume_options(paths, record).complete:
        message = msg("{how}; the trainer reached its last step, but the result was not checked", how=how)
        command = shlex.join(["lorabake", "resume", str(paths.root)])
        hint = msg("check and finish it with `{command}`", command=command)
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


def _last_activity_time(paths: RunPaths, record: Record) -> str:
    """When the trainer last wrote to its log; without a log the time of the last event."""
    with suppress(OSError, ValueError, OverflowError), open_file(paths.log, within=paths.root) as log:
        state = os.fstat(log.fileno())
        if state.st_size:
            return format_timestamp(datetime.fromtimestamp(state.st_mtime, UTC))
    times = (time for event in read_last_events(paths) if isinstance(time := event.get("time"), str))
    return next(times, record.started)
