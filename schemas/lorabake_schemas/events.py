"""What can happen in a training, as read from the trainer's log, and the sum of what was seen of one."""

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
    this step alone, which only TensorBoard's file has. Both may be NaN; each is None where it is not known.
    ``printed_s_per_step`` is the bar's own rate.
    """

    number: int
    total: int
    loss_average: float | None = None
    printed_s_per_step: float | None = None
    loss_current: float | None = None


@dataclass(frozen=True, slots=True)
class BadLoss:
    """The loss is NaN, infinite or below zero from step ``number`` on; said once for each stretch of such steps."""

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
    """Any line that is not a bar, without colours: for people who want the trainer's own words."""

    text: str


ProgressEvent = Started | ModelLoaded | RunTotals | Epoch | Step | BadLoss | Saving | Saved | EmptyDataset | LogLine


@dataclass(frozen=True, slots=True)
class LogSummary:
    """What a trainer was seen doing in its whole life.

    ``exception`` is the last line of the innermost traceback; ``killed_by`` a signal that the launcher says the
    training process died of; ``last_words`` the last lines that are not bars. ``lost_state``: it failed while it was
    loading the state that it was to resume from.
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
