"""Notices that a trainer has not moved for far longer than usual. Pure: time and signs of its processes are passed in.

What counts as movement depends on the phase. While it trains, only steps and other phases do. While it loads or caches,
every line and bar does. Sampling, validating and saving are measured by how long they took before, once one of them is
complete. Thresholds are lorabake's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from lorabake_schemas.events import (
    LogLine,
    Phase,
    PhaseName,
    ProgressEvent,
    Stalled,
    StallEnded,
    StallSign,
    Step,
    TrainerError,
)

MAX_TICK_S = 1.0  # of a pause of the supervisor itself only so much counts, such as when the machine slept
UNKNOWN_FACTOR = 10  # times the setting, as long as nothing is usual yet
USUAL_FACTOR = 10  # times the usual time between two movements
CLEAR_FACTOR = 3  # the same, if the processes show why; and times the longest complete phase
GAPS_KEPT, GAPS_NEEDED = 20, 2
TIMED_PHASES: frozenset[PhaseName] = frozenset({"sampling", "validating", "saving"})
CLEAR_SIGNS = frozenset({"stopped", "network", "proxy", "shared-memory", "failed", "dead"})
REPEAT_FACTOR = 2  # a stall is reported again when it is so many times as long

Examine = Callable[[Phase, float], tuple[StallSign, ...]]  # of a phase, silent for so many seconds


@dataclass(slots=True)
class StallMonitor:
    """``setting`` is the shortest silence in seconds that is reported; 0 for never. Each stall is reported when it is
    noticed, when it has doubled, and when it ends."""

    setting: float
    phase: Phase = Phase("loading")  # noqa: RUF009 - frozen
    last_line: str | None = None
    _silent_s: float = 0.0
    _error: str | None = None  # logged since the last movement
    _gaps: dict[PhaseName, deque[float]] = field(default_factory=dict[PhaseName, deque[float]])
    _longest: dict[PhaseName, float] = field(default_factory=dict[PhaseName, float])
    _phase_s: float = 0.0
    _next_look_s: float = 0.0
    _next_report_s: float | None = None  # None before the first report of a stall

    def take(self, event: ProgressEvent) -> StallEnded | None:
        """An event of the trainer; returns the end of a stall."""
        if isinstance(event, LogLine):
            self.last_line = event.text
        if isinstance(event, TrainerError):
            self._error = event.text
        if isinstance(event, Phase):
            if (event.name, event.of) != (self.phase.name, self.phase.of):
                return self._enter(event)
            self.phase = event
        is_movement = isinstance(event, Step) or self.phase.name not in {"training", *self._longest}
        return self._move() if is_movement else None

    def tick(self, seconds: float, examine: Examine) -> Stalled | None:
        """Time has passed; returns a stall that is due to be reported."""
        seconds = min(seconds, MAX_TICK_S)
        self._silent_s += seconds
        self._phase_s += seconds
        if not self.setting or self._silent_s < (self._next_look_s or self.setting / 2):
            return None
        self._next_look_s = self._silent_s + self.setting / 2
        signs = examine(self.phase, self._silent_s)
        if self._error is not None:
            signs = (StallSign("failed", self._error), *signs)
        if self._silent_s < (self._next_report_s or self._limit(signs)):
            return None
        self._next_report_s = REPEAT_FACTOR * self._silent_s
        return Stalled(self.phase.name, round(self._silent_s, 1), self.usual_s, signs, self.last_line)

    @property
    def usual_s(self) -> float | None:
        """Seconds from one movement to the next, or of a complete phase; None before there is one."""
        if self.phase.name in self._longest:
            return self._longest[self.phase.name]
        gaps = self._gaps.get(self.phase.name, ())
        return median(gaps) if len(gaps) >= GAPS_NEEDED else None

    def _limit(self, signs: tuple[StallSign, ...]) -> float:
        """The silence in seconds from which on it is a stall."""
        is_clear, usual = any(sign.kind in CLEAR_SIGNS for sign in signs), self.usual_s
        least = self.setting / 2 if self._error is not None else self.setting
        if usual is None:
            return least if is_clear else UNKNOWN_FACTOR * self.setting
        is_short = is_clear or self.phase.name in self._longest
        return max(least, (CLEAR_FACTOR if is_short else USUAL_FACTOR) * usual)

    def _enter(self, phase: Phase) -> StallEnded | None:
        name = self.phase.name
        if name in TIMED_PHASES:
            self._longest[name] = max(self._longest.get(name, 0.0), self._phase_s)
            ended = self._end_stall()
        else:
            ended = self._move()
        self.phase, self._phase_s = phase, 0.0
        return ended

    def _move(self) -> StallEnded | None:
        if self._silent_s:
            gaps = self._gaps.setdefault(self.phase.name, deque(maxlen=GAPS_KEPT))
            gaps.append(self._silent_s)
        return self._end_stall()

    def _end_stall(self) -> StallEnded | None:
        seconds, was_reported = self._silent_s, self._next_report_s is not None
        self._silent_s, self._next_look_s, self._next_report_s, self._error = 0.0, 0.0, None, None
        return StallEnded(round(seconds, 1)) if was_reported else None
