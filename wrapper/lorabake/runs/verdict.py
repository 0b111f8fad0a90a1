"""Judges a finished trainer: exit code 0 proves nothing (sd-scripts-facts 1.3 and 5.3).

Without data, with a NaN loss and with no step trained sd-scripts ends with 0. Pure: the log summary and the file's
facts go in; a verdict with its code and message comes out.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lorabake.runs.causes.diagnose import (
    Diagnosis,
    Ending,
    RunFacts,
    advise,
    diagnose,
    failure_from_words,
    truncate_text,
)
from lorabake.runs.causes.general import UNKNOWN_FAILURE
from lorabake.runs.causes.training import FINITE_LOSS
from lorabake.runs.log.evidence import LogEvidence
from lorabake.runs.log.parser import REHEARSAL_FAILED
from lorabake.runs.watch.loss_monitor import LossFacts
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.record import EvidenceLine, Outcome

if TYPE_CHECKING:
    from lorabake.lora.weights import WeightFacts
    from lorabake_schemas.events import LogSummary

SUCCESS = "trained"
REHEARSED = "rehearsed"
DIVERGED = "diverged"  # stopped because the loss stayed NaN
LOST_STATE = "lost-state"  # a part failed to load the state it was to resume from


@dataclass(frozen=True, slots=True)
class Verdict:
    """A code, what is wrong in one sentence, what to do, and the lines of the log that show it."""

    code: str
    message: Message
    hint: Message | None = None
    evidence: tuple[EvidenceLine, ...] = ()


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run is judged by.

    ``returncode`` is 128 + n for a signal, None if the guard was lost. ``weights`` are None if the file ``output`` is
    missing or could not be read; ``unreadable`` is the reason. ``opaque``: it exists, in a format that only torch can
    read (ckpt, pt). ``disk_free`` is the free space on the run folder's disk at the end, in bytes: on a full one the
    trainer cannot even report why it failed. ``facts`` are what remedies depend on. ``lost_state`` is the state that a
    part failed to load. ``log`` is what the log shows of a failure, None if it was not read again.
    """

    returncode: int | None
    seen: LogSummary
    planned_steps: int
    output: str
    weights: WeightFacts | None = None
    unreadable: Message | None = None
    opaque: bool = False
    disk_free: int | None = None
    loss: LossFacts = LossFacts()  # noqa: RUF009 - frozen
    facts: RunFacts = RunFacts()  # noqa: RUF009 - frozen
    lost_state: str | None = None
    log: LogEvidence | None = None


FULL_DISK_BYTES = 1_000_000  # bytes; with less than that left, the disk counts as full


def judge_run(evidence: RunResult) -> Outcome:
    """The verdict on a real run: success only if everything agrees that it was one."""
    verdict = _diagnose_exit(evidence) or _diagnose_missing_output(evidence) or _diagnose_output(evidence)
    if verdict is None:
        unchecked = msg("not a safetensors file, so its values were not checked")
        message = msg(
            "trained {steps} steps and saved {file} ({known})",
            steps=evidence.planned_steps,
            file=evidence.output,
            known=unchecked if evidence.opaque else _describe_values(evidence.weights),
        )
        verdict = Verdict(SUCCESS, message)
    return _make_outcome(verdict, evidence, success=verdict.code == SUCCESS)


def _describe_values(weights: WeightFacts | None) -> Message:
    if weights is not None and weights.infinite_alphas:
        return msg(
            "all learned values are finite; alphas that are infinite in fp16, which full-matrix LoKr does not use: {n}",
            n=len(weights.infinite_alphas),
        )
    return msg("all values are finite")


def judge_rehearsal(evidence: RunResult) -> Outcome:
    """The verdict on a rehearsal: it ended well, walked every step, and left no weights that could be mistaken."""
    verdict = _diagnose_exit(evidence) or _diagnose_rehearsal(evidence)
    if verdict is None:
        steps = evidence.planned_steps
        message = msg("rehearsed {steps} steps; nothing was trained", steps=steps)
        verdict = Verdict(REHEARSED, message)
    return _make_outcome(verdict, evidence, success=verdict.code == REHEARSED)


def judge_interruption(evidence: RunResult, by: str) -> Outcome:
    """The verdict on a run that the user stopped; maybe because it did not go on after an error."""
    message = msg("stopped by {signal} after step {step}", signal=by, step=_steps_seen(evidence))
    outcome = _make_outcome(Verdict("interrupted", message), evidence, success=False)
    found = diagnose_log(evidence) if evidence.log is not None and evidence.log.chains else None
    if found is None:
        return outcome
    remark = msg("before that, the log shows an error: {problem}", problem=found.message)
    return outcome.model_copy(update={"hint": found.cure, "evidence": found.evidence, "remarks": (remark,)})


def judge_divergence(evidence: RunResult) -> Outcome:
    """The verdict on a run that was stopped because its loss stayed NaN or infinite."""
    message = msg(
        "the loss was NaN or infinite from step {step} on, so lorabake stopped the run after step {last}",
        step=evidence.loss.not_finite_since or 0,
        last=_steps_seen(evidence),
    )
    return _make_outcome(Verdict(DIVERGED, message, advise(FINITE_LOSS, evidence.facts)), evidence, success=False)


def _make_outcome(verdict: Verdict, evidence: RunResult, *, success: bool) -> Outcome:
    steps = evidence.weights.steps if evidence.weights is not None else None
    return Outcome(
        code=verdict.code,
        message=verdict.message,
        hint=verdict.hint,
        evidence=verdict.evidence,
        returncode=evidence.returncode,
        steps=_steps_seen(evidence) if steps is None else steps,
        last_words=() if success else _last_words(evidence),
    )


def _last_words(evidence: RunResult) -> tuple[str, ...]:
    return tuple(line.text for line in evidence.log.tail) if evidence.log is not None else evidence.seen.last_words


def _steps_seen(evidence: RunResult) -> int:
    return evidence.seen.step.number if evidence.seen.step is not None else 0


def _diagnose_exit(evidence: RunResult) -> Verdict | None:
    """The trainer did not end by itself with exit code 0."""
    if evidence.returncode == 0:
        return None
    exception = evidence.seen.exception
    if evidence.returncode is None:
        message = msg("the process that guards the trainer was killed, so the trainer was stopped")
        return Verdict(
            "guard-killed", message, msg("check whether the system's out-of-memory killer did this, then run it again")
        )
    if exception is not None and exception.startswith(REHEARSAL_FAILED):
        return Verdict("rehearsal-failed", literal(exception))
    if (found := diagnose_log(evidence)) is not None:
        return Verdict(found.code, found.message, found.cure, found.evidence)
    return _unknown_failure(evidence, exception)


def diagnose_log(evidence: RunResult) -> Diagnosis | None:
    """The cause of a failure, by the log and by how the trainer ended; None if it is not known."""
    log = evidence.log
    if log is None or (not log.chains and evidence.seen.exception is not None):
        log = failure_from_words(evidence.seen.exception, evidence.seen.last_words)
    full = evidence.disk_free is not None and evidence.disk_free < FULL_DISK_BYTES
    words = dict(evidence.facts.words)
    if evidence.lost_state is not None:
        words["state"] = evidence.lost_state
    facts = replace(evidence.facts, facts={**evidence.facts.facts, "run.disk_full": full}, words=words)
    code = evidence.returncode
    signal_sent = evidence.seen.killed_by or log.killed_by or signal_name(code or 0)
    return diagnose(log, facts, Ending(signal_sent, code))


def _unknown_failure(evidence: RunResult, exception: str | None) -> Verdict:
    """A failure that is not recognized, as it is."""
    if exception is None:
        name = signal_name(evidence.returncode or 0)
        if name is not None:
            return Verdict("killed", msg("the trainer was killed by {signal}", signal=name))
        message = msg("the trainer exited with code {code}", code=str(evidence.returncode))
        return Verdict(UNKNOWN_FAILURE, message, msg("its output is in the log"))
    if evidence.lost_state is not None:
        message = msg(
            "the trainer could not load {state}: {words}", state=evidence.lost_state, words=truncate_text(exception)
        )
        return Verdict(LOST_STATE, message)
    message = msg("the trainer failed: {words}", words=truncate_text(exception))
    return Verdict(UNKNOWN_FAILURE, message, msg("the full traceback is in the log"))


def signal_name(returncode: int) -> str | None:
    """The name of the signal of an exit status above 128, None for any other."""
    try:
        return signal.Signals(returncode - 128).name
    except ValueError:
        return None


def _diagnose_missing_output(evidence: RunResult) -> Verdict | None:
    """It ended with 0 but has nothing to show."""
    seen = evidence.seen
    if seen.no_data:
        hint = msg("check the image folders; `lorabake check` lists what sd-scripts would find")
        return Verdict("no-data", msg("sd-scripts found no images and trained nothing"), hint)
    file = evidence.output
    if evidence.unreadable is not None:
        return Verdict("damaged-output", msg("cannot read {file}: {why}", file=file, why=evidence.unreadable))
    if evidence.weights is None and not evidence.opaque:
        return Verdict("no-output", msg("the trainer exited without an error but did not write {file}", file=file))
    if not seen.saved:
        said = msg(
            'the trainer exited without reporting "model saved.", so {file} may not be the final version', file=file
        )
        return Verdict("not-saved", said)
    return None


def _diagnose_output(evidence: RunResult) -> Verdict | None:
    """It wrote a file, but not the one that was planned. ``_shortfall`` has made sure that there is one."""
    weights = evidence.weights
    if weights is not None and weights.not_finite:
        return _not_finite_verdict(evidence, weights)
    if (bad := _diagnose_loss(evidence)) is not None:
        return bad
    if weights is None:
        steps = _steps_seen(evidence)  # it cannot be looked into: only what the log shows is known
        return None if steps == evidence.planned_steps else _wrong_steps_verdict(evidence, steps)
    if weights.steps != evidence.planned_steps:
        return _wrong_steps_verdict(evidence, weights.steps)
    if weights.is_all_zero or weights.is_untouched:
        message = msg(
            "{file} has no effect: all weights that training should have changed are still zero", file=evidence.output
        )
        hint = msg("check the learning rate, and compare the warm-up with the number of steps")
        return Verdict("nothing-learned", message, hint)
    return None


def _diagnose_loss(evidence: RunResult) -> Verdict | None:
    """The numbers in the file may be finite although it learned nothing, or the wrong thing.

    A NaN that passes is not a failure: with mixed precision such a step is skipped. A loss below zero is: it is not a
    distance from the images, so those steps trained away from them.
    """
    loss, file = evidence.loss, evidence.output
    if loss.negative is not None:
        message = msg(
            "the loss fell below zero at step {step}, so {file} was trained away from the images",
            step=loss.negative,
            file=file,
        )
        return Verdict("negative-loss", message, msg("huber_c, prior_loss_weight and similar options must be positive"))
    if loss.since is not None:
        message = msg(
            "the loss was NaN or infinite from step {step} to the end, so {file} learned nothing from then on",
            step=loss.since,
            file=file,
        )
        return Verdict("nan-loss", message, advise(FINITE_LOSS, evidence.facts))
    return None


def _wrong_steps_verdict(evidence: RunResult, steps: int | None) -> Verdict:
    file = evidence.output
    if steps is None:
        return Verdict("no-metadata", msg("{file} does not record its number of training steps (ss_steps)", file=file))
    if steps <= 0:
        said = msg("the trainer exited without an error but trained no steps (ss_steps = {steps})", steps=steps)
        return Verdict("no-steps", said)
    message = msg(
        "{file} was trained for {steps} steps instead of the planned {planned}",
        file=file,
        steps=steps,
        planned=evidence.planned_steps,
    )
    return Verdict(
        "wrong-steps", message, msg("this is a bug in lorabake's forecast or in the trainer; please report it")
    )


def _not_finite_verdict(evidence: RunResult, weights: WeightFacts) -> Verdict:
    message = msg(
        "{number} of {total} tensors in {file} contain NaN or infinity, so the file is unusable",
        number=len(weights.not_finite),
        total=len(weights.shapes),
        file=evidence.output,
    )
    if evidence.loss.first is not None:
        message = msg("the loss became NaN at step {step}, and {sequel}", step=evidence.loss.first, sequel=message)
    return Verdict("not-finite", message, advise(FINITE_LOSS, evidence.facts))


def _diagnose_rehearsal(evidence: RunResult) -> Verdict | None:
    """What can still be missing after a rehearsal that ended with 0."""
    if evidence.seen.no_data:
        return Verdict("no-data", msg("the rehearsal found no images"))
    steps = _steps_seen(evidence)
    if steps != evidence.planned_steps:
        planned = evidence.planned_steps
        said = msg("the rehearsal ran {steps} steps instead of the planned {planned}", steps=steps, planned=planned)
        return Verdict("wrong-steps", said, msg("this is a bug in lorabake's forecast; please report it"))
    if evidence.weights is not None or evidence.unreadable is not None or evidence.opaque:
        said = msg("the rehearsal left {file}, an untrained file that should not exist", file=evidence.output)
        return Verdict("unexpected-output", said, msg("delete it"))
    return None
