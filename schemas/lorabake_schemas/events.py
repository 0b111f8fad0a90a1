"""The events of a training, as read from the trainer's log, and their summary."""

from __future__ import annotations

from dataclasses import dataclass


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
    the rate of the progress bar.
    """

    number: int
    total: int
    loss_average: float | None = None
    printed_s_per_step: float | None = None
    loss_current: float | None = None


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
class LogLine:
    """Any line that is not a progress bar, without colors: for people who want the trainer's own output."""

    text: str


@dataclass(frozen=True, slots=True)
class Stopping:
    """A signal asked to stop the trainer, which may take a while. Only shown, not written down."""

    signal: str


ProgressEvent = (
    Started | ModelLoaded | RunTotals | Epoch | Step | BadLoss | Saving | Saved | EmptyDataset | LogLine | Stopping
)


@dataclass(frozen=True, slots=True)
class LogSummary:
    """Everything that was read from a trainer's log.

    ``exception`` is the last line of the innermost traceback. ``killed_by`` is the signal that ended the training
    process, by the launcher's log. ``last_words`` are the last lines that are not progress bars. ``lost_state``: it
    failed while loading the state that it was to resume from.
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
