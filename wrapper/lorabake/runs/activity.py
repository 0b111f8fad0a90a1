"""What the events of a run show of its course: phase, step, losses, pace, saves, and what was reported.

Events may come from a stranger's folder or from a later lorabake: whatever is not as expected is ignored.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, cast

from lorabake.runs.events import MAX_LINE_BYTES, decode_event, iter_events
from lorabake.util.files import open_file, parse_json
from lorabake_schemas.events import (
    NO_METRICS,
    BadLoss,
    DiskLow,
    Epoch,
    LossJump,
    Metrics,
    Phase,
    Saving,
    Stalled,
    StallEnded,
    Step,
    Stopping,
    TrainerError,
    TrainerWarning,
)
from lorabake_schemas.saved_names import read_saved_step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lorabake.runs.events import EventFields
    from lorabake.runs.folder import RunPaths

Notice = TrainerWarning | TrainerError | Stalled | BadLoss | LossJump | DiskLow
TAIL_BYTES = 12_000  # bytes of an events file that show where a run is, and its pace: some 100 steps
END_BYTES = 3_000  # of one that is over
STEP_MARK, METRICS_MARK = b'"event": "step"', b'"event": "metrics"'
MAX_NOTICES = 50  # the newest ones
STEPS_KEPT = 2_000  # for the pace
PACE_SECONDS = 60.0
TYPICAL_GAPS = 11
PAUSE_FACTOR, PAUSE_SECONDS = 5.0, 2.0  # a gap that long is a save, a sample or a suspended machine, and no pace
LOADING = Phase("loading")
TRAINING = Phase("training")


class TimedNotice(NamedTuple):
    """What was reported, and when."""

    time: str
    event: Notice


class TimedSave(NamedTuple):
    """A file by its path in the run folder, when it was saved, and the step that it is of."""

    time: str
    file: str
    step: int


@dataclass(slots=True)
class RunActivity:
    """Filled from the events in their order. ``steps`` are the times (seconds) and numbers of the last ones."""

    phase: Phase | None = None
    step: Step | None = None
    first_step: int = 0
    epoch: Epoch | None = None
    last_time: str | None = None
    last_save: TimedSave | None = None
    metrics: Metrics = NO_METRICS
    is_stopping: bool = False
    is_stalled: bool = False
    notices: deque[TimedNotice] = field(default_factory=lambda: deque[TimedNotice](maxlen=MAX_NOTICES))
    steps: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=STEPS_KEPT))

    def take(self, fields: EventFields) -> None:
        time = fields.get("time")
        if isinstance(time, str) and (moment := read_event_time(fields)) is not None:
            self.last_time = time
            self._take_at(fields, time, moment)

    def _take_at(self, fields: EventFields, time: str, moment: float) -> None:
        match decode_event(fields):
            case None:
                if fields.get("event") in {"started", "resumed"}:
                    self._begin(fields)
            case Step() as step:
                self.step, self.is_stalled = step, False
                self.phase = self.phase or TRAINING
                self.steps.append((moment, step.number))
            case Phase() as phase:
                self.phase = phase
            case Epoch() as epoch:
                self.epoch = epoch
            case Metrics() as metrics:
                self.metrics = metrics
            case Saving(path):
                self.last_save = TimedSave(time, path, read_saved_step(path, self.last_step))
            case StallEnded() | Stopping() as event:
                self.is_stalled = self.is_stalled and not isinstance(event, StallEnded)
                self.is_stopping = self.is_stopping or isinstance(event, Stopping)
            case TrainerWarning() | TrainerError() | Stalled() | BadLoss() | LossJump() | DiskLow() as event:
                self._note(TimedNotice(time, event))
            case _:
                pass  # device, totals and others

    @property
    def last_step(self) -> int:
        return self.step.number if self.step is not None else self.first_step

    def _begin(self, fields: EventFields) -> None:
        """A start of the trainer, the first one or a resumed part."""
        first = fields.get("from_step")
        self.first_step = first if type(first) is int and 0 <= first < 1 << 53 else 0
        self.phase, self.step, self.metrics = LOADING, None, NO_METRICS
        self.is_stopping = self.is_stalled = False
        self.steps.clear()
        self.notices.clear()

    def _note(self, notice: TimedNotice) -> None:
        """The trainer repeats itself: the last of a text has the count."""
        self.is_stalled = self.is_stalled or isinstance(notice.event, Stalled)
        text = getattr(notice.event, "text", None)
        kept = (each for each in self.notices if text is None or getattr(each.event, "text", None) != text)
        self.notices = deque((*kept, notice), maxlen=MAX_NOTICES)

    @property
    def seconds_per_step(self) -> float | None:
        return measure_pace(self.steps)


def measure_pace(steps: Sequence[tuple[float, int]]) -> float | None:
    """Seconds per step over the last minute of training; None if the steps (time in seconds, number) do not show it.

    Pauses are left out: with a step a second, a sample of two minutes is none of the next thousand steps' time. What a
    pause is follows from the last few steps, so a training that becomes slower for good has no pauses.
    """
    gaps = [
        (after - before, step - last)
        for (before, last), (after, step) in pairwise(steps)
        if step > last and after >= before
    ]
    if not gaps:
        return None
    typical = median(seconds / count for seconds, count in gaps[-TYPICAL_GAPS:])
    spent, done = 0.0, 0
    for seconds, count in reversed(gaps):
        if seconds <= PAUSE_FACTOR * typical * count + PAUSE_SECONDS or len(gaps) == 1:
            spent, done = spent + seconds, done + count
        if spent >= PACE_SECONDS:
            break
    return spent / done if done and spent > 0 else None


def read_recent_activity(paths: RunPaths, tail: int = TAIL_BYTES) -> RunActivity:
    """Where a run is, by the end of its events; quick enough for a list of many. Never raises."""
    return _collect(iter_events(paths.events, paths.root, last=tail))


def read_activity(paths: RunPaths) -> RunActivity:
    """The same with every save and every report since the last start: of steps and metrics few lines are parsed."""
    found, recent = _collect(_iter_notable(paths)), read_recent_activity(paths)
    found.step, found.steps, found.last_time = recent.step or found.step, recent.steps, recent.last_time
    return found


def _collect(events: Iterable[EventFields]) -> RunActivity:
    found = RunActivity()
    with suppress(OSError):
        for event in events:
            found.take(event)
    return found


def _iter_notable(paths: RunPaths) -> Iterator[EventFields]:
    """Every event but steps and metrics, and of those the ones before another event. Raises OSError."""
    before = metrics = b""
    with open_file(paths.events, within=paths.root) as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                return  # lorabake writes no such line
            if STEP_MARK in line:
                before = line
                continue
            if METRICS_MARK in line:
                metrics = line
                continue
            yield from (_parse_line(each) for each in (before, metrics, line) if each)
            before = metrics = b""
        yield from map(_parse_line, (before, metrics))


def _parse_line(line: bytes) -> EventFields:
    with suppress(ValueError):
        found = parse_json(line)
        return cast("EventFields", found) if isinstance(found, dict) else {}
    return {}


def read_event_time(fields: EventFields) -> float | None:
    """When an event happened, in seconds since 1970; None if it has no time."""
    time = fields.get("time")
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    return None
