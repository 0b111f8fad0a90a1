"""Watches the loss of a run for the one thing it can tell: a sudden change after a steady stretch (G5.4).

What sd-scripts shows is a mean over the batches of the last epoch (TU:6668), so its height says nothing about a
picture and its noise depends on how many there are. Numbers here are ours: the guide gives none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev

BLOCKS = 50  # a run is looked at in so many stretches
STEADY = 10  # of them have to lie behind a jump
LASTING = 3  # and its height has to last so long
LARGE = 0.5  # of the steady mean
UNUSUAL = 4  # times the usual spread


@dataclass(frozen=True, slots=True)
class Jump:
    """The loss went from a steady ``before`` to a lasting ``after``, around optimizer step ``step``."""

    step: int
    before: float
    after: float


@dataclass(slots=True)
class LossWatch:
    """Fed with every step's loss, it keeps one number for each fiftieth of the run."""

    kept: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])
    _block: int = 0

    def see(self, step: int, total: int, loss: float | None) -> None:
        if loss is None or not math.isfinite(loss):
            return
        block = step * BLOCKS // max(total, BLOCKS)
        if self.kept and block == self._block:
            self.kept[-1] = (step, loss)
        else:
            self.kept.append((step, loss))
            self._block = block

    def jump(self) -> Jump | None:
        """The first jump of the run, None when there was none."""
        return first_jump(self.kept)


def first_jump(losses: Sequence[tuple[int, float]]) -> Jump | None:
    """The first lasting change that is large, and unusual for how the losses before it spread."""
    values = [loss for _, loss in losses]
    for at in range(STEADY, len(values) - LASTING + 1):
        before, after = values[at - STEADY : at], values[at : at + LASTING]
        mean, bound = fmean(before), max(UNUSUAL * pstdev(before), LARGE * fmean(before))
        if all(loss - mean > bound for loss in after) or all(mean - loss > bound for loss in after):
            return Jump(losses[at][0], mean, fmean(after))
    return None


__all__ = ["Jump", "LossWatch", "first_jump"]
