"""Judges a finished trainer: exit code 0 proves nothing (sd-scripts-facts 1.3 and 5.3).

Without data, with a NaN loss and with no step trained sd-scripts ends with 0. Pure: the log summary and the file's
facts go in; a verdict with its code and message comes out.
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
    diagnose_exception,
    finite_loss_hint,
    truncate_text,
)
from lorabake.runs.log_parser import REHEARSAL_FAILED
from lorabake.runs.loss_monitor import LossFacts
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.record import Outcome

if TYPE_CHECKING:
    from lorabake.lora.weights import WeightFacts
    from lorabake_schemas.events import LogSummary

SUCCESS = "trained"
REHEARSED = "rehearsed"
LOST_STATE = "lost-state"  # a part failed to load the state it was to resume from


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run is judged by.

    ``returncode`` is 128 + n for a signal, None if the guard was lost. ``weights`` are None if the file ``output`` is
    missing or could not be read; ``unreadable`` is the reason. ``opaque``: it exists, in a format that only torch can
    read (ckpt, pt). ``disk_free`` is the free space on the run folder's disk at the end, in bytes: on a full one the
    trainer cannot even report why it failed. ``facts`` are what remedies depend on. ``lost_state`` is the state that a
    part failed to load.
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
    """The verdict on a run that the user stopped."""
    message = msg("stopped by {signal} after step {step}", signal=by, step=_steps_seen(evidence))
    verdict = Verdict("interrupted", message)
    return _make_outcome(verdict, evidence, success=False)


def _make_outcome(verdict: Verdict, evidence: RunResult, *, success: bool) -> Outcome:
    steps = evidence.weights.steps if evidence.weights is not None else None
    return Outcome(
        code=verdict.code,
        message=verdict.message,
        hint=verdict.hint,
        returncode=evidence.returncode,
        steps=_steps_seen(evidence) if steps is None else steps,
        last_words=() if success else evidence.seen.last_words,
    )


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
    if exception is not None:
        return _diagnose_crash(exception, evidence)
    return _diagnose_signal(evidence) or _diagnose_exit_code(evidence)


def _diagnose_signal(evidence: RunResult) -> Verdict | None:
    """A death by a signal."""
    name = evidence.seen.killed_by or signal_name(evidence.returncode or 0)
    if name is None:
        return None
    if name == "SIGKILL":
        message = msg("the trainer was killed from outside (SIGKILL), probably because this machine ran out of memory")
        return Verdict(OUT_OF_RAM.code, message, OUT_OF_RAM.hint(evidence.facts))
    hint = (
        msg("the crash was in compiled code") if name in {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"} else None
    )
    return Verdict("killed", msg("the trainer was killed by {signal}", signal=name), hint)


def _diagnose_exit_code(evidence: RunResult) -> Verdict:
    """An exit code and nothing else."""
    message = msg("the trainer exited with code {code}", code=str(evidence.returncode))
    if evidence.disk_free is not None and evidence.disk_free < FULL_DISK_BYTES:
        full = msg("{problem}: {sequel}", problem=DISK_FULL.message, sequel=message)
        return Verdict(DISK_FULL.code, full, DISK_FULL.hint(evidence.facts))
    return Verdict("crashed", message, msg("its output is in the log"))


def _diagnose_crash(exception: str, evidence: RunResult) -> Verdict:
    """A crash by its exception, with a remedy if the text is known."""
    if exception.startswith(REHEARSAL_FAILED):
        return Verdict("rehearsal-failed", literal(exception))
    if (verdict := diagnose_exception(exception, evidence.facts)) is not None:
        return verdict
    if evidence.lost_state is not None:
        message = msg(
            "the trainer could not load {state}: {words}", state=evidence.lost_state, words=truncate_text(exception)
        )
        return Verdict(LOST_STATE, message)
    message = msg("the trainer failed: {words}", words=truncate_text(exception))
    return Verdict("crashed", message, msg("the full traceback is in the log"))


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
        return Verdict("nan-loss", message, finite_loss_hint(evidence.facts))
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
    return Verdict("not-finite", message, finite_loss_hint(evidence.facts))


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
