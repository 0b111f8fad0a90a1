"""The events of a training, as read from the trainer's log, and their summary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

PhaseName = Literal["loading", "caching", "training", "validating", "sampling", "saving"]
# What the processes of a stalled trainer show: disk (they wait for a disk), stopped (by a signal), network (detail: the
# address), proxy (the same, and the address is that of a proxy), shared-memory (/dev/shm is full), failed (detail: an
# exception that the log has), dead (a process has ended and nobody noticed), busy (detail: CPU cores in use), idle.
StallKind = Literal["disk", "stopped", "network", "proxy", "shared-memory", "failed", "dead", "busy", "idle"]


@dataclass(frozen=True, slots=True)
class Started:
    """The trainer runs on ``device`` (TU:5503 prints it unconditionally)."""

    device: str


@dataclass(frozen=True, slots=True)
class ModelLoaded:
    """The base model is in memory and its latents are cached: the network is made next (TN:643)."""


@dataclass(frozen=True, slots=True)
class RunTotals:
    """sd-scripts' own counts (TN:987-1000); samples count repeats."""

    train_samples: int = 0
    reg_samples: int = 0
    batches_per_epoch: int = 0
    epochs: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """Epoch ``number`` of ``total`` begins; counted from 1 (TN:1402)."""

    number: int
    total: int


@dataclass(frozen=True, slots=True)
class Step:
    """Optimizer step ``number`` of ``total`` is done.

    ``loss_average`` is sd-scripts' moving average over the last epoch's batches (TU:6668), ``loss_current`` the loss of
    this step alone, which only TensorBoard's file has. Both may be NaN, or None if unknown. ``printed_s_per_step`` is
    the rate of the progress bar, ``elapsed_s`` the seconds it shows as elapsed.
    """

    number: int
    total: int
    loss_average: float | None = None
    printed_s_per_step: float | None = None
    loss_current: float | None = None
    elapsed_s: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class BadLoss:
    """The loss is NaN, infinite or below zero from step ``number`` on; reported once for each stretch of such steps."""

    number: int
    loss: float


@dataclass(frozen=True, slots=True)
class Saving:
    """A file is about to be written (TN:1300); the path as the trainer gave it."""

    path: str


@dataclass(frozen=True, slots=True)
class Saved:
    """ "model saved.", the last word of a complete run (TN:1729)."""


@dataclass(frozen=True, slots=True)
class EmptyDataset:
    """No image was found; the trainer ends with exit code 0 (TN:575-579)."""


@dataclass(frozen=True, slots=True)
class Phase:
    """What the trainer does from now on; ``done`` of ``total`` where its bar shows that.

    Caching has ``of``: "latents" or "text encoder outputs". A bar gives at most one event a second and 200 in all;
    ``elapsed_s`` are the seconds it shows as elapsed.
    """

    name: PhaseName
    done: int | None = None
    total: int | None = None
    of: str | None = None
    elapsed_s: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class TrainerWarning:
    """The trainer's own WARNING. ``count`` is how often this text was logged up to now; the last event of a text has
    the highest."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class TrainerError:
    """The trainer's own ERROR, or the last line of a traceback; the trainer may be running on. ``count`` as above."""

    text: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class StallSign:
    """Something that the processes of a stalled trainer show; ``detail`` as in StallKind."""

    kind: StallKind
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Stalled:
    """Nothing has moved for ``seconds``, far longer than the ``usual`` time (seconds, None before there is one).

    Reported again when the stall has doubled. ``phase`` is where it is, ``last_line`` what the log last had.
    """

    phase: PhaseName
    seconds: float
    usual: float | None = None
    signs: tuple[StallSign, ...] = ()
    last_line: str | None = None


@dataclass(frozen=True, slots=True)
class StallEnded:
    """The trainer moves again, after ``seconds`` of standstill."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LossJump:
    """The average loss went from a steady ``before`` to a lasting ``after`` around step ``number`` (G5.4)."""

    number: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class DiskLow:
    """The disk will be full before ``file`` is saved at step ``number``: ``free`` of the ``needed`` bytes."""

    file: str
    number: int
    free: int
    needed: int


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What the driver measures of a GPU: the memory in MiB that all programs use on it, and its temperature in degrees
    Celsius; None if that is not reported, as for a part of a GPU (MIG)."""

    uuid: str
    name: str
    used_mib: int
    total_mib: int
    temperature: int | None = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is measured now and then: at most every ten seconds, and only if something changed.

    ``learning_rates`` are those of the last step by sd-scripts' names for TensorBoard, such as "unet" and
    "textencoder" (TN:84-126). ``d`` is the factor that Prodigy and D-Adaptation find, the largest of several.
    """

    learning_rates: tuple[tuple[str, float], ...] = ()
    d: float | None = None
    gpus: tuple[GpuReading, ...] = ()


NO_METRICS = Metrics()


@dataclass(frozen=True, slots=True)
class LogLine:
    """Any line that is not a progress bar, without colors: for people who want the trainer's own output."""

    text: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """The trainer is being stopped, which may take a while: by a signal, or for a reason of lorabake ("nan-loss")."""

    signal: str


ProgressEvent = (
    Started
    | ModelLoaded
    | RunTotals
    | Epoch
    | Step
    | BadLoss
    | Saving
    | Saved
    | EmptyDataset
    | Phase
    | TrainerWarning
    | TrainerError
    | Stalled
    | StallEnded
    | LossJump
    | DiskLow
    | Metrics
    | LogLine
    | Stopping
)


@dataclass(frozen=True, slots=True)
class LogSummary:
    """Everything that was read from a trainer's log.

    ``exception`` is the last line of the innermost traceback. ``killed_by`` is the signal that ended the training
    process, by the launcher's log. ``last_words`` are the last lines that are not progress bars. ``lost_state``: it
    failed while loading the state that it was to resume from. ``phase`` is where it was last, ``errors`` are the last
    ERROR lines of the trainer.
    """

    device: str | None = None
    model_loaded: bool = False
    totals: RunTotals | None = None
    step: Step | None = None
    saves: tuple[str, ...] = ()
    saved: bool = False
    no_data: bool = False
    exception: str | None = None
    killed_by: str | None = None
    last_words: tuple[str, ...] = ()
    lost_state: bool = False
    phase: PhaseName | None = None
    errors: tuple[str, ...] = ()
