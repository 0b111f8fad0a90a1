"""When each event was said: by the reader's clock, or by the trainer's own bars if the reader is late.

A reader that was stopped for two minutes finds twelve steps at once. tqdm shows in each bar how many seconds passed
since its start, so the times of these steps are known to a second. sd-scripts moves that start: it leaves out the time
of samples, saves and validations (``unpause``, TN:1494, 1603, 1682, 1708) and, when steps are quicker than tqdm's 0.1
seconds, much of the time of the steps. What is missing until the log's last byte is therefore added where the trainer
did something other than training, or to quick steps alike.

Without TensorBoard's file a step is known only when the next one is shown (runs/log/parser.py); when its bar was drawn
is kept until then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from lorabake_schemas.events import Phase, ProgressEvent, Step

LATE_S = 1.0  # seconds between two looks at the log; a reader that takes longer is late
ROUNDING_S = 1.0  # seconds; tqdm shows whole ones
QUICK_S = 0.2  # seconds from one bar to the next; tqdm draws no more than ten a second
Moment = float  # seconds since 1970
STEPS_BAR = "steps"


class Look(NamedTuple):
    """A look at the log: when, when its last byte was written, and the step that was shown and is held back."""

    now: Moment
    written: Moment
    held: Step | None = None

    @property
    def end(self) -> Moment:
        return min(self.now, self.written)


class ShownStep(NamedTuple):
    """A step that is held back, by the trainer's own number, and when its bar was drawn."""

    number: int
    time: Moment


@dataclass(slots=True)
class EventClock:
    """Fed with the events of each look at the log. Times never decrease, and are never in the future."""

    _starts: dict[str, Moment] = field(default_factory=dict[str, Moment])  # of each bar, by its phase
    _looked: Moment | None = None
    _last: Moment = 0.0
    _shown: ShownStep | None = None

    def stamp(self, events: Sequence[ProgressEvent], look: Look) -> list[tuple[Moment, list[ProgressEvent]]]:
        """The events with their time, those of one time together."""
        looked, self._looked = self._looked, look.now
        held, shown = look.held, self._shown
        is_new = held is not None and (shown is None or shown.number != held.number)
        drawn = [*events, held] if held is not None and is_new else events
        if looked is not None and look.now - looked > LATE_S:
            times = self._read_times(drawn, looked, look.end)
        else:
            times = [look.now] * len(events) + [look.end] * (len(drawn) - len(events))
        first = next((at for at, event in enumerate(events) if isinstance(event, Step)), None)
        if shown is not None and first is not None:
            times[first] = shown.time
        self._follow_bars(drawn, times)
        if held is None or is_new:
            self._shown = None if held is None else ShownStep(held.number, times[-1])
        stamped: list[tuple[Moment, ProgressEvent]] = []
        for event, time in zip(events, times, strict=False):
            self._last = min(max(time, self._last), look.now)
            stamped.append((self._last, event))
        return [(time, [event for _, event in group]) for time, group in groupby(stamped, key=lambda pair: pair[0])]

    def stamp_own(self, events: Sequence[ProgressEvent], now: Moment) -> list[tuple[Moment, Sequence[ProgressEvent]]]:
        """Events that the log does not have: they happen now."""
        if not events:
            return []
        self._last = max(self._last, now)
        return [(self._last, events)]

    def _follow_bars(self, events: Sequence[ProgressEvent], times: Sequence[Moment]) -> None:
        """Learn when each bar started: at most a second before what its seconds say, as it shows whole ones."""
        for event, time in zip(events, times, strict=True):
            if (bar := _read_bar(event)) is not None:
                latest = time - bar[1]
                known = self._starts.get(bar[0], latest)
                self._starts[bar[0]] = known if latest - ROUNDING_S < known <= latest else latest

    def _read_times(self, events: Sequence[ProgressEvent], begin: Moment, end: Moment) -> list[Moment]:
        """By the bars: what a bar shows after its start, several steps of one second evenly in it. A bar that nobody
        saw starting did so after the last event, or earlier if it shows more."""
        bars = [_read_bar(event) for event in events]
        totals, seen = Counter(bars), Counter[tuple[str, int] | None]()
        longest = {bar[0]: bar[1] for bar in bars if bar is not None}
        times, time = list[Moment](), begin
        for bar in bars:
            if bar is not None:
                seen[bar] += 1
                start = self._starts.setdefault(bar[0], min(time, end - longest[bar[0]]))
                time = start + bar[1] + (seen[bar] - 0.5) / totals[bar]
            times.append(time)
        return [max(time, begin) for time in add_missing_time(events, times, begin, end)]


def add_missing_time(events: Sequence[ProgressEvent], times: list[Moment], begin: Moment, end: Moment) -> list[Moment]:
    """Times that reach to ``end``, the last byte of the log: bars leave out the time of pauses, and of quick steps."""
    missing = end - times[-1] if times else 0.0
    if missing <= ROUNDING_S:
        return times
    pauses = (at for at, event in enumerate(events[:-1]) if isinstance(event, Phase) and event.name != "training")
    if (pause := next(pauses, None)) is not None:
        return [time + missing if at > pause else time for at, time in enumerate(times)]
    bars = [at for at, event in enumerate(events) if _read_bar(event) is not None]
    if bars and (end - begin) / len(bars) < QUICK_S:
        return [begin + (end - begin) * (at + 1) / len(times) for at in range(len(times))]
    if bars and bars[-1] == len(events) - 1:
        return [time + missing for time in times]  # it was drawn last, after a pause before this look
    return [time if bars and at <= bars[-1] else end for at, time in enumerate(times)]


def _read_bar(event: ProgressEvent) -> tuple[str, int] | None:
    """The bar that an event was read from, and the seconds that it shows."""
    if isinstance(event, Step) and event.elapsed_s is not None:
        return STEPS_BAR, event.elapsed_s
    if isinstance(event, Phase) and event.elapsed_s is not None:
        return f"{event.name} {event.of}", event.elapsed_s
    return None
