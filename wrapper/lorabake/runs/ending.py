"""How a run ends: what its record says of it, what its events say, and how it could go on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError
from lorabake.files import remove_file
from lorabake.runs.events import EventLog, Fields, stamp, utc_now
from lorabake.runs.folder import RunPaths, outputs, write_record
from lorabake.runs.input_watch import KEPT, changed_names
from lorabake.runs.outcome import LOST_STATE
from lorabake.runs.place import DELETED, MOVED
from lorabake.runs.resumable import advice, outlook, settings_of
from lorabake_schemas.record import InputChange, Outcome, Record, Status
from lorabake_schemas.words import Said, joined, legible, quoted, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lorabake.runs.happenings import Seen
    from lorabake.runs.loss import LossWatch

LORAS = (".safetensors", ".ckpt", ".pt")
BY_A_MOVE = frozenset({"crashed", "no-output", "damaged-output"})  # verdicts that a moved folder explains


def mishap(error: Exception) -> Outcome:
    """How a run ends that lorabake itself could not carry out."""
    if isinstance(error, LorabakeError):
        return Outcome(code="not-started", message=error.message, hint=error.hint)
    message = say("lorabake itself failed: {error}", error=f"{type(error).__name__}: {error}")
    return Outcome(code="lorabake-failed", message=message, hint=say("this is a fault of lorabake: please report it"))


def loss_remarks(record: Record, losses: LossWatch) -> tuple[Said, ...]:
    """What a loss can say of a training that ended well: it jumped (G5.4), or some steps had none that can be."""
    if record.rehearsal:
        return ()
    found: list[Said] = []
    facts, jump = losses.facts, losses.jump()
    if facts.first is not None:
        said = say(
            "steps with a loss that is NaN, infinite or below zero: {n}, starting at step {step}; files saved before "
            "that are fine",
            n=facts.bad,
            step=facts.first,
        )
        found.append(said)
    if jump is not None:
        said = say(
            "the average loss jumped from {before:.3g} to {after:.3g} around step {step}: compare the files saved "
            "before and after",
            before=jump.before,
            after=jump.after,
            step=jump.step,
        )
        found.append(said)
    return tuple(found)


def with_changes(outcome: Outcome, status: Status, changes: Sequence[InputChange]) -> tuple[Outcome, Status]:
    """The outcome of a run whose inputs changed: which of the old and the new files it was trained with is not known.

    Where it failed, they are most likely why.
    """
    if not changes:
        return outcome, status
    outcome = outcome.model_copy(update={"inputs_changed": tuple(changes[:KEPT])})
    names, n = changed_names(changes), len(changes)
    if status != "finished":
        said = say("inputs that changed while it ran ({n}): {names}", n=n, names=names)
        return outcome.model_copy(update={"remarks": (*outcome.remarks, said)}), status
    message = say("{how}, but inputs changed while it ran ({n}): {names}", how=outcome.message, n=n, names=names)
    hint = say("it may have been trained with the old or the new versions; train again with those you want")
    return outcome.model_copy(update={"code": "inputs-changed", "message": message, "hint": hint}), "inputs-changed"


def with_outputs(outcome: Outcome, paths: RunPaths) -> Outcome:
    """The outcome with what the trainer wrote, and a remark where that is not complete. Raises OSError."""
    outcome = outcome.model_copy(update={"outputs": outputs(paths)})
    return outcome.model_copy(update={"remarks": (*outcome.remarks, *_cut_off(outcome, paths.root))})


def _cut_off(outcome: Outcome, root: Path) -> tuple[Said, ...]:
    """A remark on LoRAs that are not complete, and which one is the last that is."""
    loras = [file for file in outcome.outputs if file.name.endswith(LORAS) and "-state/" not in file.name]
    bad = [file.name for file in loras if file.incomplete is not None]
    if not bad:
        return ()
    good = [file for file in loras if file.incomplete is None]
    names = joined([quoted(name) for name in bad])
    if not good:
        return (say("not complete: {files}; there is no complete LoRA", files=names),)
    last = max(good, key=lambda file: (root / file.name).stat().st_mtime_ns)
    return (say("not complete: {files}; the last complete LoRA is {last}", files=names, last=last.name),)


def deleted(root: Path, seen: Seen, returncode: int | None) -> Outcome:
    """How a run ends whose folder is gone: nothing can be written down."""
    step = seen.step.number if seen.step is not None else 0
    message = say(
        "{folder} was deleted or moved to another disk while it ran; the trainer was stopped after step {step}",
        folder=root,
        step=step,
    )
    hint = say("run it again, and keep its folder where it is until it ends")
    return Outcome(
        code=DELETED, message=message, hint=hint, returncode=returncode, steps=step, last_words=seen.last_words
    )


def moved(outcome: Outcome, status: Status, root: Path) -> Outcome:
    """The outcome of a run whose folder was moved to ``root`` while it ran: the trainer works on in it, but relative
    paths lead elsewhere from there."""
    said = say("the run folder was moved to {folder} while it ran", folder=root)
    outcome = outcome.model_copy(update={"moved_to": legible(str(root))})
    if status != "failed" or outcome.code not in BY_A_MOVE:
        return outcome.model_copy(update={"remarks": (*outcome.remarks, said)})
    message = say("{problem}: {sequel}", problem=said, sequel=outcome.message)
    hint = say("do not move the folder of a run before the run ends")
    return outcome.model_copy(update={"code": MOVED, "message": message, "hint": hint})


def remarked(record: Record, remarks: tuple[Said, ...]) -> Record:
    if record.outcome is None or not remarks:
        return record
    return with_outcome(record, record.outcome.model_copy(update={"remarks": (*record.outcome.remarks, *remarks)}))


def ended(record: Record, outcome: Outcome, status: Status, then: str | None = None) -> Record:
    """The record of a run that is over, and of its last part where it has several; ``then`` by default is now."""
    now = then or stamp(utc_now())
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


def resumption(record: Record, root: Path) -> Said | None:
    """How to go on with a run that did not end well, or how the next one could be; None where nothing was trained."""
    outcome = record.outcome
    over = record.trained or record.status == "started"
    if outcome is None or record.rehearsal or over or outcome.code == DELETED:
        return None
    if outcome.resume_step is not None:
        return say(
            "resume it: lorabake resume {run} (from step {step} of {total})",
            run=root,
            step=outcome.resume_step,
            total=record.planned_steps,
        )
    if not outcome.steps and outcome.code != LOST_STATE:
        return None
    paths = RunPaths(root)
    return say("it cannot be resumed: {advice}", advice=advice(outlook(paths, record), settings_of(paths)))


def finish(paths: RunPaths, record: Record, events: EventLog) -> None:
    """Write the verdict: the record first, then the last event, which a full disk may swallow."""
    with suppress(OSError):
        remove_file(paths.room, within=paths.root)
    write_record(paths, record)
    if record.outcome is not None:
        verdict: Fields = record.outcome.model_dump(include={"code", "message", "returncode"})
        with suppress(OSError):
            events.write([{"event": record.status, "rehearsal": record.rehearsal, **verdict}])


__all__ = ["ended", "finish", "loss_remarks", "mishap", "remarked", "resumption", "with_changes"]
