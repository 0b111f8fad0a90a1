"""What the events of a run show of its course: phase, step, losses, pace, saves, and what was reported.

Events may come from a stranger's folder or from a later lorabake: whatever is not as expected is ignored.
"""

from __future__ import annotations

import math
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, cast, get_args

from lorabake.runs.events import MAX_LINE_BYTES, encode_loss, iter_events
from lorabake.util.files import open_file, parse_json
from lorabake_schemas.run_status import NoticeKind, PhaseProgress, RunNotice, RunPhase, SavedFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lorabake.runs.events import EventFields
    from lorabake.runs.folder import RunPaths

TAIL_BYTES = 12_000  # bytes of an events file that show where a run is, and its pace: some 100 steps
END_BYTES = 3_000  # of one that is over
STEP_MARK = b'"event": "step"'
MAX_NOTICES = 50  # the newest ones
MAX_TEXT = 2_000  # characters of one
STEPS_KEPT = 2_000  # for the pace
PACE_SECONDS = 60.0
PAUSE_FACTOR, PAUSE_SECONDS = 5.0, 2.0  # a gap that long is a save, a sample or a suspended machine, and no pace
NUMBERS_OF_NOTICES = ("step", "loss", "seconds")
MAX_COUNT = 1 << 53
STOPS_AT_ONCE = frozenset({"", "now"})
PHASES: frozenset[str] = frozenset(get_args(RunPhase))
NOTICES: frozenset[str] = frozenset(get_args(NoticeKind))
PHASE_OF_EVENT: dict[str, RunPhase] = {
    "started": "loading", "resumed": "loading", "device": "loading", "model_loaded": "loading", "totals": "training",
    "epoch": "training", "step": "training", "saved": "saving",
}  # fmt: skip


@dataclass(slots=True)
class RunActivity:
    """Filled from the events in their order. ``stop_after`` is None if no stop was requested, and empty if it waits for
    nothing. ``steps`` are the times (seconds) and numbers of the last ones."""

    phase: PhaseProgress | None = None
    step: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    loss_average: float | str | None = None
    loss: float | str | None = None
    learning_rate: float | None = None
    last_time: str | None = None
    last_save: SavedFile | None = None
    stop_after: str | None = None
    notices: deque[RunNotice] = field(default_factory=lambda: deque(maxlen=MAX_NOTICES))
    steps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))

    def take(self, event: EventFields) -> None:
        kind, time = event.get("event"), event.get("time")
        if not isinstance(kind, str) or not isinstance(time, str) or (moment := _parse_time(time)) is None:
            return
        self.last_time = time
        if kind == "phase":
            self._take_phase(event)
        elif (phase := PHASE_OF_EVENT.get(kind)) is not None and (self.phase is None or self.phase.name != phase):
            self.phase = PhaseProgress(name=phase)
        if kind == "step":
            self._take_step(event, moment)
        elif kind == "epoch":
            self.epoch, self.epochs = _read_count(event, "epoch"), _read_count(event, "total")
        elif kind == "saved" and (file := _read_text(event, "file")) is not None:
            self.last_save = SavedFile(file=file, time=time, step=self.step or 0)
        elif kind == "stop_requested":
            self.stop_after = _read_text(event, "after") or ""
        elif kind in {"started", "resumed"}:
            self.stop_after = None
            self.steps.clear()
            self.notices.clear()
            self.step = _read_count(event, "from_step") or 0
        elif kind in NOTICES:
            self._take_notice(kind, event, time)

    def _take_phase(self, event: EventFields) -> None:
        name = event.get("phase")
        if isinstance(name, str) and name in PHASES:
            done, total = (_read_count(event, key) for key in ("done", "total"))
            self.phase = PhaseProgress.model_validate({"name": name, "done": done, "total": total})

    def _take_step(self, event: EventFields, moment: float) -> None:
        number = _read_count(event, "step")
        if number is None:
            return
        self.step = number
        self.loss_average, self.loss = (_read_loss(event, key) for key in ("loss_average", "loss_current"))
        rate = event.get("learning_rate")
        if isinstance(rate, float) and math.isfinite(rate):
            self.learning_rate = rate
        self.steps.append((moment, number))

    def _take_notice(self, kind: str, event: EventFields, time: str) -> None:
        text = _read_text(event, "text")
        if text is None:
            numbers = (
                f"{key} {value}" for key in NUMBERS_OF_NOTICES if isinstance(value := event.get(key), int | float)
            )
            text = ", ".join(numbers)[:MAX_TEXT]
        notice = RunNotice.model_validate({"kind": kind, "time": time, "text": text})
        if notice.text not in {each.text for each in self.notices if each.kind == kind}:  # sd-scripts repeats itself
            self.notices.append(notice)

    @property
    def is_stopping(self) -> bool:
        """Whether a stop was requested that waits for nothing."""
        return self.stop_after is not None and self.stop_after in STOPS_AT_ONCE

    @property
    def seconds_per_step(self) -> float | None:
        return measure_pace(self.steps)


def measure_pace(steps: Sequence[tuple[float, int]]) -> float | None:
    """Seconds per step over the last minute of training; None if the steps (time in seconds, number) do not show it.

    Pauses are left out: with a step a second, a sample of two minutes is none of the next thousand steps' time.
    """
    gaps = [
        (after - before, step - last)
        for (before, last), (after, step) in pairwise(steps)
        if step > last and after >= before
    ]
    if not gaps:
        return None
    typical = median(seconds / count for seconds, count in gaps)
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
    """The same with every save and every report since the last start: all lines but those of steps are parsed."""
    found = _collect(_iter_notable(paths))
    recent = read_recent_activity(paths)
    recent.notices, recent.stop_after = found.notices, found.stop_after
    recent.last_save = recent.last_save or found.last_save
    recent.epoch, recent.epochs = recent.epoch or found.epoch, recent.epochs or found.epochs
    recent.phase, recent.last_time = recent.phase or found.phase, recent.last_time or found.last_time
    recent.step = recent.step if recent.step is not None else found.step
    return recent


def _collect(events: Iterable[EventFields]) -> RunActivity:
    found = RunActivity()
    with suppress(OSError):
        for event in events:
            found.take(event)
    return found


def _iter_notable(paths: RunPaths) -> Iterator[EventFields]:
    """Every event but the steps, and the step before each of them. Raises OSError."""
    before = b""
    with open_file(paths.events, within=paths.root) as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                return  # lorabake writes no such line
            if STEP_MARK in line:
                before = line
                continue
            yield from (_parse_line(each) for each in (before, line) if each)
            before = b""


def _parse_line(line: bytes) -> EventFields:
    with suppress(ValueError):
        found = parse_json(line)
        return cast("EventFields", found) if isinstance(found, dict) else {}
    return {}


def _parse_time(time: str) -> float | None:
    with suppress(ValueError, OverflowError):
        return datetime.fromisoformat(time).timestamp()
    return None


def _read_count(event: EventFields, key: str) -> int | None:
    value = event.get(key)
    return value if type(value) is int and 0 <= value < MAX_COUNT else None


def _read_text(event: EventFields, key: str) -> str | None:
    value = event.get(key)
    return value[:MAX_TEXT] if isinstance(value, str) else None


def _read_loss(event: EventFields, key: str) -> float | str | None:
    """A number, or one of the strings that stand for NaN and infinity."""
    value = event.get(key)
    if isinstance(value, str):
        return value if value in {"nan", "inf", "-inf"} else None
    if type(value) is int and abs(value) < MAX_COUNT:
        return float(value)
    return encode_loss(value) if isinstance(value, float) else None
