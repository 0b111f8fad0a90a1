"""In which phase a trainer is, by the lines and bars of its log. Pure.

TN is train_network.py, TU library/train_util.py. A bar's name is what tqdm shows before its percentage; most of
sd-scripts' bars have none and belong to the line before them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import NamedTuple

from lorabake_schemas.events import Phase

CACHING_LATENTS = Phase("caching", of="latents")
CACHING_TEXT = Phase("caching", of="text encoder outputs")
PHASE_LINES = (
    ("caching latents", CACHING_LATENTS),  # TU:1120, 1170, 1224, 1293
    ("caching Text Encoder outputs", CACHING_TEXT),  # TU:1306, 1348
    ("caching text encoder outputs", CACHING_TEXT),  # TU:1394, 1450
    ("import network module:", Phase("loading")),  # TN:643
    ("generating sample images", Phase("sampling")),  # TU:6394
    ("saving checkpoint:", Phase("saving")),  # TN:1300
    ("saving state", Phase("saving")),  # TU:5942, 5964
    ("saving last state", Phase("saving")),  # TU:5990
)
EPOCH_LINE = re.compile(r"^epoch (\d+)/(\d+)$")  # TN:1402
BARLESS_PHASES = frozenset({"training", "saving"})  # another bar than that of the steps says nothing about them
BAR_EVENTS = 200  # of one bar


class Bar(NamedTuple):
    """A progress bar of tqdm: its name, done of total, and the seconds that it shows as elapsed."""

    name: str
    done: int
    total: int
    elapsed: int


@dataclass(slots=True)
class PhaseTracker:
    """Fed with every line and bar, it returns the phase when there is news of it."""

    current: Phase | None = None
    _shown: tuple[int, int] = (0, 0)  # share and second of the bar that was reported last
    _step: tuple[int, bytes] = (-1, b"")  # the step that is shown, and what is shown with it

    def read_line(self, message: str) -> Phase | None:
        """``message`` is a line without time and level."""
        for start, phase in PHASE_LINES:
            if message.startswith(start):
                return self._enter(phase)
        if EPOCH_LINE.match(message):
            return self._enter(Phase("training"))
        return self._enter(Phase("loading")) if self.current is None else None

    def read_bar(self, bar: Bar) -> Phase | None:
        """A bar that does not count steps of the training; at most one event a second, and 200 a bar."""
        phase = Phase("validating") if bar.name.endswith("validation steps") else self.current
        if phase is None or phase.name in BARLESS_PHASES:
            return None
        entered = self._enter(phase)
        if bar.done == 0:
            self._shown = (0, 0)
            return entered
        shown = (BAR_EVENTS * bar.done // max(bar.total, 1), bar.elapsed)
        if shown[1] == self._shown[1] or shown[0] == self._shown[0]:
            return entered
        self._shown = shown
        self.current = replace(phase, done=bar.done, total=bar.total, elapsed_s=bar.elapsed)
        return self.current

    def read_step(self, number: int, postfix: bytes) -> Phase | None:
        """The bar of steps. Without news it does not end a phase: tqdm may show it again while samples are made."""
        before, self._step = self._step, (number, postfix)
        if before == self._step or self._is_in(Phase("training")):
            return None
        return self._enter(Phase("training"))

    def _is_in(self, phase: Phase) -> bool:
        return self.current is not None and (self.current.name, self.current.of) == (phase.name, phase.of)

    def _enter(self, phase: Phase) -> Phase | None:
        if self._is_in(phase):
            return None
        self.current, self._shown = phase, (0, 0)
        return phase
