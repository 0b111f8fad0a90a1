"""A terminal and a clock for what is shown while something runs."""

from __future__ import annotations

import io


class Clock:
    """Advances by ``tick`` seconds with each event."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
