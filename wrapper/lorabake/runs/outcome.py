"""Judges a finished trainer: exit code 0 proves nothing (sd-scripts-facts 1.3 and 5.3).

Without data, with a NaN loss and with no step trained sd-scripts ends with 0. Pure: what was seen and what the file
holds go in, a verdict with its own code and words comes out.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.runs.progress import REHEARSAL_FAILED
from lorabake_schemas.record import Outcome

if TYPE_CHECKING:
    from lorabake.reading.weights import WeightFacts
    from lorabake.runs.happenings import Seen

SUCCESS = "trained"
REHEARSED = "rehearsed"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What there is to judge by.

    ``returncode`` is 128 + n for a signal, None when the guard was lost. ``weights`` are None when the file named
    ``output`` is not there or could not be read; ``unreadable`` then says why it could not. ``opaque``: it is there,
    in a format that only torch can look into (ckpt, pt). ``disk_free`` is what was left on the run folder's disk at
    the end, in bytes: on a full one the trainer cannot even say why it failed.
    """

    returncode: int | None
    seen: Seen
    planned_steps: int
    output: str
    weights: WeightFacts | None = None
    unreadable: str | None = None
    opaque: bool = False
    disk_free: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A code, what is wrong in one sentence, and what to do."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A failure by the words it leaves in the trainer's last exception."""

    code: str
    words: re.Pattern[str]
    message: str
    hint: str


LESS_MEMORY = "use a lower resolution or train_batch_size, set gradient_checkpointing = true, or cache_latents = true"
OUT_OF_RAM = Known(
    "out-of-memory",
    re.compile(r"an't allocate memory|^MemoryError|Cannot allocate memory|not enough memory|killed by signal: Killed"),
    "this machine ran out of memory",
    f"close other programs, lower max_data_loader_n_workers, or {LESS_MEMORY}",
)
DISK_FULL = Known(
    "disk-full",
    re.compile(r"No space left on device|Disk quota exceeded"),
    "the disk is full",
    "free some space, or keep fewer files (save.save_last_n_epochs)",
)
FULL = 1_000_000  # bytes; with less than that left, the disk counts as full
KNOWN = (
    Known(
        "out-of-gpu-memory",
        re.compile(r"CUDA out of memory|OutOfMemoryError|CUBLAS_STATUS_ALLOC_FAILED"),
        "the GPU ran out of memory",
        LESS_MEMORY,
    ),
    OUT_OF_RAM,
    DISK_FULL,
    Known(
        "offline",
        re.compile(
            r"Can't load tokenizer|LocalEntryNotFoundError|OfflineModeIsEnabled|couldn't connect to 'https?://"
            r"|MaxRetryError|Cannot find the requested files in the disk cache"
        ),
        "a file from the Hugging Face hub is missing on this machine and could not be fetched",
        "connect once so that it is kept, or give base.tokenizer_cache_dir a folder that holds the tokenizer",
    ),
    Known(
        "missing-package",
        re.compile(r"ModuleNotFoundError|ImportError"),
        "the trainer's Python lacks a package",
        "`lorabake trainer install` makes an environment that has them all",
    ),
    Known(
        "no-gpu",
        re.compile(r"No CUDA GPUs are available|NVIDIA driver|no kernel image is available|CUDA error: invalid device"),
        "the GPU cannot be used",
        "look whether nvidia-smi shows it and whether its driver is new enough for the trainer's torch",
    ),
)


def judge(evidence: Evidence) -> Outcome:
    """The verdict on a real run: success only if everything agrees that it was one."""
    verdict = _stopped(evidence) or _shortfall(evidence) or _unsound(evidence)
    if verdict is None:
        known = (
            "its numbers are not checked, only safetensors is" if evidence.opaque else "every number in it is finite"
        )
        verdict = Verdict(SUCCESS, f"trained {evidence.planned_steps} steps into {evidence.output}; {known}")
    return _outcome(verdict, evidence, success=verdict.code == SUCCESS)


def judge_rehearsal(evidence: Evidence) -> Outcome:
    """The verdict on a rehearsal: it ended well, walked every step, and left no weights that could be mistaken."""
    verdict = _stopped(evidence) or _walked(evidence)
    if verdict is None:
        message = f"rehearsed {evidence.planned_steps} steps; this was a rehearsal, nothing was trained"
        verdict = Verdict(REHEARSED, message)
    return _outcome(verdict, evidence, success=verdict.code == REHEARSED)


def judge_interruption(evidence: Evidence, by: str) -> Outcome:
    """The verdict on a run that the user stopped."""
    verdict = Verdict("interrupted", f"stopped by {by} after step {_steps_seen(evidence)}")
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
        message = "the guard beside the trainer was killed, so the trainer was stopped"
        return Verdict("guard-killed", message, "look for the system's out-of-memory killer, then run it again")
    if exception is not None:
        return _crash(exception)
    return _killed(evidence.seen.killed_by or signal_name(evidence.returncode)) or _ended(evidence)


def _killed(name: str | None) -> Verdict | None:
    """A death by the signal of that name."""
    if name is None:
        return None
    if name == "SIGKILL":
        message = "the trainer was killed from outside (SIGKILL), most likely because this machine ran out of memory"
        return Verdict(OUT_OF_RAM.code, message, OUT_OF_RAM.hint)
    hint = "a crash in compiled code" if name in {"SIGSEGV", "SIGBUS", "SIGILL", "SIGFPE", "SIGABRT"} else None
    return Verdict("killed", f"the trainer was ended by {name}", hint)


def _ended(evidence: Evidence) -> Verdict:
    """An exit code and nothing else."""
    message = f"the trainer ended with exit code {evidence.returncode}"
    if evidence.disk_free is not None and evidence.disk_free < FULL:
        return Verdict(DISK_FULL.code, f"{DISK_FULL.message}: {message}", DISK_FULL.hint)
    return Verdict("crashed", message, "its words are in the log")


def _crash(exception: str) -> Verdict:
    """A crash by its exception, with a remedy where the words are known."""
    if exception.startswith(REHEARSAL_FAILED):
        return Verdict("rehearsal-failed", exception)
    for known in KNOWN:
        if known.words.search(exception):
            return Verdict(known.code, f"{known.message} ({_short(exception)})", known.hint)
    return Verdict("crashed", f"the trainer failed: {_short(exception)}", "the whole traceback is in the log")


def _short(text: str, limit: int = 300) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."


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
        hint = "look at the image folders: `lorabake check` lists what sd-scripts would see"
        return Verdict("no-data", "sd-scripts found no pictures and trained nothing", hint)
    if evidence.unreadable is not None:
        return Verdict("damaged-output", f"{evidence.output} cannot be read: {evidence.unreadable}")
    if evidence.weights is None and not evidence.opaque:
        return Verdict("no-output", f"the trainer ended without an error but did not write {evidence.output}")
    if not seen.saved:
        message = f'the trainer ended without saying "model saved.", so {evidence.output} may not be its last word'
        return Verdict("not-saved", message)
    return None


def _unsound(evidence: Evidence) -> Verdict | None:
    """It wrote a file, but not the one that was planned. ``_shortfall`` has made sure that there is one."""
    weights = evidence.weights
    if weights is None:
        return _unsound_by_log(evidence)
    if weights.not_finite:
        return _not_finite(evidence, weights)
    if weights.steps != evidence.planned_steps:
        return _miscounted(evidence, weights.steps)
    if weights.all_zero or weights.untouched:
        message = f"{evidence.output} changes nothing: every weight that training should have moved is still zero"
        return Verdict("nothing-learned", message, "look at the learning rate, and at the warm-up against the steps")
    return None


def _unsound_by_log(evidence: Evidence) -> Verdict | None:
    """A file that cannot be looked into: only what the log shows is known."""
    if evidence.seen.loss_broke:
        hint = 'set mixed_precision = "bf16" or no_half_vae = true, or lower the learning rate'
        return Verdict("not-finite", f"the loss became NaN, so {evidence.output} is useless", hint)
    steps = _steps_seen(evidence)
    return None if steps == evidence.planned_steps else _miscounted(evidence, steps)


def _miscounted(evidence: Evidence, steps: int | None) -> Verdict:
    if steps is None:
        return Verdict("no-metadata", f"{evidence.output} does not say how many steps it was trained (ss_steps)")
    if steps <= 0:
        return Verdict("no-steps", f"the trainer ended without an error but trained no step (ss_steps = {steps})")
    message = f"{evidence.output} was trained for {steps} steps, the plan says {evidence.planned_steps}"
    return Verdict("wrong-steps", message, "this is a fault of the forecast or of the trainer: please report it")


def _not_finite(evidence: Evidence, weights: WeightFacts) -> Verdict:
    loss = "the loss became NaN and " if evidence.seen.loss_broke else ""
    count = f"{len(weights.not_finite)} of {len(weights.shapes)} tensors"
    message = f"{loss}{count} in {evidence.output} hold NaN or infinity: the file is useless"
    hint = 'set mixed_precision = "bf16" or no_half_vae = true, or lower the learning rate'
    return Verdict("not-finite", message, hint)


def _walked(evidence: Evidence) -> Verdict | None:
    """What a rehearsal that ended with 0 can still lack."""
    if evidence.seen.no_data:
        return Verdict("no-data", "the rehearsal found no pictures")
    steps = _steps_seen(evidence)
    if steps != evidence.planned_steps:
        message = f"the rehearsal walked {steps} steps, the plan says {evidence.planned_steps}"
        return Verdict("wrong-steps", message, "this is a fault of the forecast: please report it")
    if evidence.weights is not None or evidence.unreadable is not None or evidence.opaque:
        return Verdict("unexpected-output", f"the rehearsal left {evidence.output}, which holds no training")
    return None


__all__ = ["REHEARSED", "SUCCESS", "Evidence", "judge", "judge_interruption", "judge_rehearsal", "signal_name"]
