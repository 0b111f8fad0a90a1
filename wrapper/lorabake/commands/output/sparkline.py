"""A curve in one line of text, of block characters."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

BLOCKS = "▁▂▃▄▅▆▇█"
WIDTH = 16  # characters


@dataclass(slots=True)
class Sparkline:
    """All values from the first to the last in at most WIDTH characters, each the mean of as many values.

    The lowest and the highest mean are the lowest and the highest block. NaN and infinite values are left out. Memory
    does not grow with the values: whenever twice the width is full, pairs of them become one.
    """

    _means: list[float] = field(default_factory=list[float])
    _size: int = 1  # values in each mean
    _sum: float = 0.0
    _count: int = 0

    def add(self, value: float) -> None:
        if not isfinite(value):
            return
        self._sum, self._count = self._sum + value, self._count + 1
        if self._count == self._size:
            self._means.append(self._sum / self._size)
            self._sum, self._count = 0.0, 0
        if len(self._means) == 2 * WIDTH:
            self._means = [(one + other) / 2 for one, other in zip(self._means[::2], self._means[1::2], strict=True)]
            self._size *= 2

    def __str__(self) -> str:
        """Empty before there are two values."""
        means = self._means[-2 * WIDTH :]
        if len(means) > WIDTH:
            means = [sum(pair) / len(pair) for pair in (means[at : at + 2] for at in range(0, len(means), 2))]
        if len(means) < 2:
            return ""
        low, span = min(means), max(means) - min(means)
        top = len(BLOCKS) - 1
        return "".join(BLOCKS[round((mean - low) / span * top) if span else 0] for mean in means)
