"""Small arithmetic of the guide: repeats that balance concepts, epochs for a number of exposures, saves. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def balance_repeats(counts: Sequence[int], base: int = 10) -> tuple[int, ...]:
    """Repeats per folder so that every folder gives about as many samples as the largest (F3; T1-T3).

    ``counts`` are numbers of images, all at least 1 (or ValueError); ``base`` is the repeats of the largest folder.
    Rounded half up, where Python's round would go to even, then divided by the common divisor.
    """
    if not counts:
        return ()
    if min(counts) < 1 or base < 1:
        raise ValueError(f"every folder needs an image and the base a repeat: {tuple(counts)}, base {base}")
    most = max(counts)
    repeats = [max(1, (2 * most * base + count) // (2 * count)) for count in counts]
    common = math.gcd(*repeats)
    return tuple(each // common for each in repeats)


def epochs_for_exposures(exposures: int, looks: int | Fraction) -> int:
    """Epochs until an image that comes ``looks`` times in each was seen ``exposures`` times (F4), at least 1."""
    return max(1, math.ceil(Fraction(exposures) / looks))


def save_interval(epochs: int) -> int:
    """Epochs between saves (F8): each of the first ten, else about ten in all.

    Bumped until it does not divide the total, since the last epoch is saved anyway.
    """
    if epochs <= 10:
        return 1
    interval = math.ceil(epochs / 10)
    while epochs % interval == 0:
        interval += 1
    return interval
