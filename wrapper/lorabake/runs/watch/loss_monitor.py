"""Watches the loss of a run: impossible values, and a sudden change after a steady stretch (G5.4).

sd-scripts shows a mean over the batches of the last epoch (TU:6668). Its height therefore does not describe a single
image, and its noise depends on how many there are. The thresholds here are lorabake's: the guide gives none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, pstdev

from lorabake_schemas.events import BadLoss, Step

BLOCK_COUNT = 50  # a run is looked at in so many stretches
STEADY_BLOCKS = 10  # of them have to follow a jump
LASTING_BLOCKS = 3  # and its height has to last so long
LARGE_CHANGE = 0.5  # of the steady mean
UNUSUAL_SPREADS = 4  # times the usual spread


@dataclass(frozen=True, slots=True)
class LossSpike:
    """The loss went from a steady ``before`` to a lasting ``after``, around optimizer step ``step``."""

    step: int
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class LossFacts:
    """Steps whose loss was NaN, infinite or below zero.

    ``bad`` is how many there were, ``first`` the first of them; ``since`` the one from which on all were bad to the
    end, None where the last one was good; ``not_finite_since`` the same of NaN and infinity alone; ``negative`` the
    first one below zero.
    """

    bad: int = 0
    first: int | None = None
    since: int | None = None
    negative: int | None = None
    not_finite_since: int | None = None


@dataclass(slots=True)
class LossMonitor:
    """Fed with every step, it keeps one average for each fiftieth of the run, and the impossible losses.

    Once a loss is NaN, sd-scripts' average stays NaN to the end (it is a sum from which old losses are subtracted,
    TU:6671-6684): only the loss of each step shows whether that passed.
    """

    kept: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    facts: LossFacts = LossFacts()
    starts_block: bool = False  # whether the last step was the first one of its fiftieth of the run
    _block: int = 0
    _average_is_bad: bool = False

    def add_step(self, step: Step) -> BadLoss | None:
        """Add a step; returns a report at the start of a stretch of bad losses."""
        self.starts_block = False
        if step.loss_average is not None and math.isfinite(step.loss_average):
            self._add_average(step.number, step.total, step.loss_average)
        value = self._effective_loss(step)
        if value is None:
            return None
        facts = self.facts
        not_finite = None if math.isfinite(value) else facts.not_finite_since or step.number
        if not _is_bad(value):
            self.facts = replace(facts, since=None, not_finite_since=None)
            return None
        self.facts = LossFacts(
            facts.bad + 1,
            facts.first or step.number,
            facts.since or step.number,
            facts.negative or (step.number if value < 0 else None),
            not_finite,
        )
        return BadLoss(step.number, value) if facts.since is None else None

    def _effective_loss(self, step: Step) -> float | None:
        """The loss of this step; the average if that is unknown, or if the average breaks at this very step."""
        breaks = step.loss_average is not None and _is_bad(step.loss_average) and not self._average_is_bad
        self._average_is_bad = self._average_is_bad or breaks
        return step.loss_average if step.loss_current is None or breaks else step.loss_current

    def _add_average(self, step: int, total: int, loss: float) -> None:
        block = step * BLOCK_COUNT // max(total, BLOCK_COUNT)
        if self.kept and block == self._block:
            self.kept[-1] = (step, loss)
        else:
            self.kept.append((step, loss))
            self._block, self.starts_block = block, True

    def jump(self) -> LossSpike | None:
        """The first jump of the run, None when there was none."""
        return find_first_spike(self.kept)

    def jump_so_far(self) -> LossSpike | None:
        """The same of the stretches that are complete."""
        return find_first_spike(self.kept[:-1])


def _is_bad(loss: float) -> bool:
    return not math.isfinite(loss) or loss < 0


def find_first_spike(losses: Sequence[tuple[int, float]]) -> LossSpike | None:
    """The first lasting change that is large, and unusual for how the losses before it spread."""
    values = [loss for _, loss in losses]
    for at in range(STEADY_BLOCKS, len(values) - LASTING_BLOCKS + 1):
        before, after = values[at - STEADY_BLOCKS : at], values[at : at + LASTING_BLOCKS]
        mean, bound = fmean(before), max(UNUSUAL_SPREADS * pstdev(before), LARGE_CHANGE * fmean(before))
        if all(loss - mean > bound for loss in after) or all(mean - loss > bound for loss in after):
            return LossSpike(losses[at][0], mean, fmean(after))
    return None
