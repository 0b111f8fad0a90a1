"""Judges a finished trainer: exit code 0 proves nothing (sd-scripts-facts 1.3 and 5.3).

Without data, with a NaN loss and with no step trained sd-scripts ends with 0. Pure: what was seen and what the file
holds go in, a verdict with its own code and words comes out.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.runs.known_failures import (
    DISK_FULL,
    OUT_OF_RAM,
    RunFacts,
    Verdict,
    finite_loss,
    shortened,
    verdict_on,
)
from lorabake.runs.loss import LossFacts
from lorabake.runs.progress import REHEARSAL_FAILED
from lorabake_schemas.record import Outcome
from lorabake_schemas.words import Said, quoted, say

if TYPE_CHECKING:
    from lorabake.reading.weights import WeightFacts
    from lorabake.runs.happenings import Seen

SUCCESS = "trained"
REHEARSED = "rehearsed"
LOST_STATE = "lost-state"  # a part failed to load the state it was to resume from


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to judge by.

    ``returncode`` is 128 + n for a signal, None when the guard was lost. ``weights`` are None when the file named
    ``output`` is not there or could not be read; ``unreadable`` then says why it could not. ``opaque``: it is there,
    in a format that only torch can look into (ckpt, pt). ``disk_free`` is what was left on the run folder's disk at
    the end, in bytes: on a full one the trainer cannot even say why it failed. ``facts`` are what remedies depend on.
    ``lost_state`` is the state that a part was to resume from, when it failed to load it.
    """

    returncode: int | None
    seen: Seen
    planned_steps: int
    output: str
    weights: WeightFacts | None = None
    unreadable: Said | None = None
    opaque: bool = False
    disk_free: int | None = None
    loss: LossFacts = LossFacts()  # noqa: RUF009 - frozen
    facts: RunFacts = RunFacts()  # noqa: RUF009 - frozen
    lost_state: str | None = None


FULL = 1_000_000  # bytes; with less than that left, the disk counts as full


def judge(evidence: Evidence) -> Outcome:
    """The verdict on a real run: success only if everything agrees that it was one."""
    verdict = _stopped(evidence) or _shortfall(evidence) or _unsound(evidence)
    if verdict is None:
        unchecked = say("its numbers are not checked, only safetensors is")
        message = say(
            "trained {steps} steps into {file}; {known}",
            steps=evidence.planned_steps,
            file=evidence.output,
            known=unchecked if evidence.opaque else say("every number in it is finite"),
        )
        verdict = Verdict(SUCCESS, message)
    return _outcome(verdict, evidence, success=verdict.code == SUCCESS)


def judge_rehearsal(evidence: Evidence) -> Outcome:
    """The verdict on a rehearsal: it ended well, walked every step, and left no weights that could be mistaken."""
    verdict = _stopped(evidence) or _walked(evidence)
    if verdict is None:
        steps = evidence.planned_steps
        message = say("rehearsed {steps} steps; this was a rehearsal, nothing was trained", steps=steps)
        verdict = Verdict(REHEARSED, message)
    return _outcome(verdict, evidence, success=verdict.code == REHEARSED)


def judge_interruption(evidence: Evidence, by: str) -> Outcome:
    """The verdict on a run that the user stopped."""
    message = say("stopped by {signal} after step {step}", signal=by, step=_steps_seen(evidence))
    verdict = Verdict("interrupted", message)
    return _outcome(verdict, evidence, success=False)


def _outcome(verdict: Verdict, evidence: Evidence, *, success: bool) -> Outcome:
    steps = evidence.weights.steps if evidence.weights is not None else None
    return Outcome(
        code=verdict.code,
        message=verdict.message,
        hint=verdict.hint,
        returncode=evidence.returncode,
        steps=_steps_seen(evidence) if steps is None else steps,
        last_words=() if success else evidence.seen.last_words,
    )


def _steps_seen(evidence: Evidence) -> int:
    return evidence.seen.step.number if evidence.seen.step is not None else 0


def _stopped(evidence: Evidence) -> Verdict | None:
    """The trainer did not end by itself with exit code 0."""
    if evidence.returncode == 0:
        return None
    exception = evidence.seen.exception
    if evidence.returncode is None:
        message = say("the guard beside the trainer was killed, so the trainer was stopped")
        return Verdict("guard-killed", message, say("look for the system's out-of-memory killer, then run it again"))
    if exception is not None:
        return _crash(exception, evidence)
    return _killed(evidence) or _ended(evidence)


def _killed(evidence: Evidence) -> Verdict | None:
    """A death by a signal."""
    name = evidence.seen.killed_by or signal_name(evidence.returncode or 0)
    if name is None:
        return None
    if name == "SIGKILL":
        message = say(
            "the trainer was killed from outside (SIGKILL), most likely because this machine ran out of memory"
        )
        return Verdict(OUT_OF_RAM.code, message, OUT_OF_RAM.hint(evidence.facts))
    hint = say("a crash in compiled code") if name in {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"} else None
    return Verdict("killed", say("the trainer was ended by {signal}", signal=name), hint)


def _ended(evidence: Evidence) -> Verdict:
    """An exit code and nothing else."""
    message = say("the trainer ended with exit code {code}", code=str(evidence.returncode))
    if evidence.disk_free is not None and evidence.disk_free < FULL:
        full = say("{problem}: {sequel}", problem=DISK_FULL.message, sequel=message)
        return Verdict(DISK_FULL.code, full, DISK_FULL.hint(evidence.facts))
    return Verdict("crashed", message, say("its words are in the log"))


def _crash(exception: str, evidence: Evidence) -> Verdict:
    """A crash by its exception, with a remedy where the words are known."""
    if exception.startswith(REHEARSAL_FAILED):
        return Verdict("rehearsal-failed", quoted(exception))
    if (verdict := verdict_on(exception, evidence.facts)) is not None:
        return verdict
    if evidence.lost_state is not None:
        message = say(
            "the trainer could not load {state}: {words}", state=evidence.lost_state, words=shortened(exception)
        )
        return Verdict(LOST_STATE, message)
    message = say("the trainer failed: {words}", words=shortened(exception))
    return Verdict("crashed", message, say("the whole traceback is in the log"))


def signal_name(returncode: int) -> str | None:
    """The name of the signal behind an exit status above 128, None when there is none."""
    try:
        return signal.Signals(returncode - 128).name
    except ValueError:
        return None


def _shortfall(evidence: Evidence) -> Verdict | None:
    """It ended with 0 but has nothing to show."""
    seen = evidence.seen
    if seen.no_data:
        hint = say("look at the image folders: `lorabake check` lists what sd-scripts would see")
        return Verdict("no-data", say("sd-scripts found no pictures and trained nothing"), hint)
    file = evidence.output
    if evidence.unreadable is not None:
        return Verdict("damaged-output", say("{file} cannot be read: {why}", file=file, why=evidence.unreadable))
    if evidence.weights is None and not evidence.opaque:
        return Verdict("no-output", say("the trainer ended without an error but did not write {file}", file=file))
    if not seen.saved:
        said = say('the trainer ended without saying "model saved.", so {file} may not be its last word', file=file)
        return Verdict("not-saved", said)
    return None


def _unsound(evidence: Evidence) -> Verdict | None:
    """It wrote a file, but not the one that was planned. ``_shortfall`` has made sure that there is one."""
    weights = evidence.weights
    if weights is not None and weights.not_finite:
        return _not_finite(evidence, weights)
    if (bad := _bad_loss(evidence)) is not None:
        return bad
    if weights is None:
        steps = _steps_seen(evidence)  # it cannot be looked into: only what the log shows is known
        return None if steps == evidence.planned_steps else _miscounted(evidence, steps)
    if weights.steps != evidence.planned_steps:
        return _miscounted(evidence, weights.steps)
    if weights.all_zero or weights.untouched:
        message = say(
            "{file} changes nothing: every weight that training should have moved is still zero", file=evidence.output
        )
        hint = say("look at the learning rate, and at the warm-up against the steps")
        return Verdict("nothing-learned", message, hint)
    return None


def _bad_loss(evidence: Evidence) -> Verdict | None:
    """The numbers in the file may be finite, and yet it learned nothing, or the wrong thing.

    A NaN that passes is no failure: with mixed precision such a step is left out. A loss below zero is: it is no
    distance from the images, so those steps trained away from them.
    """
    loss, file = evidence.loss, evidence.output
    if loss.negative is not None:
        message = say(
            "the loss fell below zero at step {step}, so {file} was trained away from the images",
            step=loss.negative,
            file=file,
        )
        return Verdict("negative-loss", message, say("huber_c, prior_loss_weight and similar options must be positive"))
    if loss.since is not None:
        message = say(
            "the loss was NaN or infinite from step {step} to the end, so {file} learned nothing from then on",
            step=loss.since,
            file=file,
        )
        return Verdict("nan-loss", message, finite_loss(evidence.facts))
    return None


def _miscounted(evidence: Evidence, steps: int | None) -> Verdict:
    file = evidence.output
    if steps is None:
        return Verdict("no-metadata", say("{file} does not say how many steps it was trained (ss_steps)", file=file))
    if steps <= 0:
        said = say("the trainer ended without an error but trained no step (ss_steps = {steps})", steps=steps)
        return Verdict("no-steps", said)
    message = say(
        "{file} was trained for {steps} steps, the plan says {planned}",
        file=file,
        steps=steps,
        planned=evidence.planned_steps,
    )
    return Verdict("wrong-steps", message, say("this is a fault of the forecast or of the trainer: please report it"))


def _not_finite(evidence: Evidence, weights: WeightFacts) -> Verdict:
    message = say(
        "{number} of {total} tensors in {file} hold NaN or infinity: the file is useless",
        number=len(weights.not_finite),
        total=len(weights.shapes),
        file=evidence.output,
    )
    if evidence.loss.first is not None:
        message = say("the loss became NaN at step {step} and {sequel}", step=evidence.loss.first, sequel=message)
    return Verdict("not-finite", message, finite_loss(evidence.facts))


def _walked(evidence: Evidence) -> Verdict | None:
    """What a rehearsal that ended with 0 can still lack."""
    if evidence.seen.no_data:
        return Verdict("no-data", say("the rehearsal found no pictures"))
    steps = _steps_seen(evidence)
    if steps != evidence.planned_steps:
        planned = evidence.planned_steps
        said = say("the rehearsal walked {steps} steps, the plan says {planned}", steps=steps, planned=planned)
        return Verdict("wrong-steps", said, say("this is a fault of the forecast: please report it"))
    if evidence.weights is not None or evidence.unreadable is not None or evidence.opaque:
        said = say("the rehearsal left {file}, which holds no training", file=evidence.output)
        return Verdict("unexpected-output", said)
    return None


__all__ = ["REHEARSED", "SUCCESS", "Evidence", "judge", "judge_interruption", "judge_rehearsal", "signal_name"]
