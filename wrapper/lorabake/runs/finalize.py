"""How a run ends: what its record says of it, what its events say, and how it could go on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError
from lorabake.runs.events import EventFields, EventLog, format_timestamp, utc_now
from lorabake.runs.folder import RunPaths, list_outputs, write_record
from lorabake.runs.input_watch import KEPT, format_changed_names
from lorabake.runs.place import DELETED, MOVED
from lorabake.runs.resume_points import read_train_settings, resume_hint, resume_options
from lorabake.runs.verdict import LOST_STATE
from lorabake.util.files import remove_file
from lorabake_schemas.messages import Message, escape_undecodable, join_list, literal, msg
from lorabake_schemas.record import InputChange, Outcome, Record, RunStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabake.runs.happenings import LogSummary
    from lorabake.runs.loss_monitor import LossMonitor

LORA_EXTENSIONS = (".safetensors", ".ckpt", ".pt")
CODES_CAUSED_BY_MOVE = frozenset({"crashed", "no-output", "damaged-output"})  # verdicts that a moved folder explains


def failure_outcome(error: Exception) -> Outcome:
    """How a run ends that lorabake itself could not carry out."""
    if isinstance(error, LorabakeError):
        return Outcome(code="not-started", message=error.message, hint=error.hint)
    name = f"{type(error).__name__}: {error}"
    message = msg("lorabake itself failed: {error}", error=name)
    return Outcome(code="lorabake-failed", message=message, hint=msg("this is a bug in lorabake; please report it"))


def loss_remarks(record: Record, losses: LossMonitor) -> tuple[Message, ...]:
    """What a loss can say of a training that ended well: it jumped (G5.4), or some steps had none that can be."""
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
            (
                "the average loss jumped from {before:.3g} to {after:.3g} around step {step}; compare the "
                "files saved before and after"
            ),
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
    names, n = format_changed_names(changes), len(changes)
    if status != "finished":
        said = msg("inputs that changed during the run ({n}): {names}", n=n, names=names)
        return outcome.model_copy(update={"remarks": (*outcome.remarks, said)}), status
    message = msg("{how}, but inputs changed during the run ({n}): {names}", how=outcome.message, n=n, names=names)
    hint = msg("the run may have used the old or the new files; train again with the ones you want")
    return outcome.model_copy(update={"code": "inputs-changed", "message": message, "hint": hint}), "inputs-changed"


def with_outputs(outcome: Outcome, paths: RunPaths) -> Outcome:
    """The outcome with what the trainer wrote, and a remark where that is not complete. Raises OSError."""
    outcome = outcome.model_copy(update={"outputs": list_outputs(paths)})
    return outcome.model_copy(update={"remarks": (*outcome.remarks, *_incomplete_lora_remarks(outcome, paths.root))})


def _incomplete_lora_remarks(outcome: Outcome, root: Path) -> tuple[Message, ...]:
    """A remark on LoRAs that are not complete, and which one is the last that is."""
    loras = [file for file in outcome.outputs if file.name.endswith(LORA_EXTENSIONS) and "-state/" not in file.name]
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
    """How a run ends whose folder is gone: nothing can be written down."""
    step = seen.step.number if seen.step is not None else 0
    message = msg(
        ("{folder} was deleted or moved to another disk during the run; the trainer was stopped after step {step}"),
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


def with_remarks(record: Record, remarks: tuple[Message, ...]) -> Record:
    if record.outcome is None or not remarks:
        return record
    return with_outcome(record, record.outcome.model_copy(update={"remarks": (*record.outcome.remarks, *remarks)}))


def close_record(record: Record, outcome: Outcome, status: RunStatus, then: str | None = None) -> Record:
    """The record of a run that is over, and of its last part where it has several; ``then`` by default is now."""
    now = then or format_timestamp(utc_now())
    record = record.model_copy(update={"status": status, "ended": now})
    if record.parts:
        last = record.parts[-1].model_copy(update={"status": status, "ended": now})
        record = record.model_copy(update={"parts": (*record.parts[:-1], last)})
    return with_outcome(record, outcome)


def with_outcome(record: Record, outcome: Outcome) -> Record:
    """The outcome is the run's and its last part's; the list of files is not told twice."""
    if record.parts:
        last = record.parts[-1].model_copy(update={"outcome": outcome.model_copy(update={"outputs": ()})})
        record = record.model_copy(update={"parts": (*record.parts[:-1], last)})
    return record.model_copy(update={"outcome": outcome})


def resume_command_hint(record: Record, root: Path) -> Message | None:
    """How to go on with a run that did not end well, or how the next one could be; None where nothing was trained."""
    outcome = record.outcome
    over = record.trained or record.status == "started"
    if outcome is None or record.rehearsal or over or outcome.code == DELETED:
        return None
    if outcome.resume_step is not None:
        return msg(
            "resume it with `lorabake resume {run}` (from step {step} of {total})",
            run=root,
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
