"""When each event was said: by the reader's clock, or by the trainer's own bars if the reader is late.

A reader that was stopped for two minutes finds twelve steps at once. tqdm shows in each bar how many seconds passed
since its start, so the times of these steps are known to a second. sd-scripts moves that start: it leaves out the time
of samples, saves and validations (``unpause``, TN:1494, 1603, 1682, 1708) and, when steps are quicker than tqdm's 0.1
seconds, much of the time of the steps. What is missing until the log's last byte is therefore added where the trainer
did something other than training, or to all steps alike.
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
Moment = float  # seconds since 1970
STEPS_BAR = "steps"


class Look(NamedTuple):
    """A look at the log: when, and when its last byte was written."""

    now: Moment
    written: Moment

    @property
    def end(self) -> Moment:
        return min(self.now, self.written)


@dataclass(slots=True)
class EventClock:
    """Fed with the events of each look at the log. Times never decrease, and are never in the future."""

    _starts: dict[str, Moment] = field(default_factory=dict[str, Moment])  # of each bar, by its phase
    _looked: Moment | None = None
    _last: Moment = 0.0

    def stamp(self, events: Sequence[ProgressEvent], look: Look) -> list[tuple[Moment, list[ProgressEvent]]]:
        """The events with their time, those of one time together."""
        looked, self._looked = self._looked, look.now
        if looked is not None and look.now - looked > LATE_S:
            times = self._read_times(events, looked, look.end)
        else:
            times = [_read_said_at(event) or look.now for event in events]
        self._follow_bars(events, times)
        stamped: list[tuple[Moment, ProgressEvent]] = []
        for event, time in zip(events, times, strict=True):
            self._last = min(max(time, self._last), look.now)
            stamped.append((self._last, event))
        return [(time, [event for _, event in group]) for time, group in groupby(stamped, key=lambda pair: pair[0])]

    def _follow_bars(self, events: Sequence[ProgressEvent], times: Sequence[Moment]) -> None:
        """Learn when each bar started: at most a second before what its seconds say, as it shows whole ones."""
        for event, time in zip(events, times, strict=True):
            if (bar := _read_bar(event)) is not None:
                latest = time - bar[1]
                known = self._starts.get(bar[0], latest)
                self._starts[bar[0]] = known if latest - ROUNDING_S < known <= latest else latest

    def _read_times(self, events: Sequence[ProgressEvent], begin: Moment, end: Moment) -> list[Moment]:
        """By the bars: what a bar shows after its start, several steps of one second evenly in it."""
        bars = [_read_bar(event) for event in events]
        totals, seen = Counter(bars), Counter[tuple[str, int] | None]()
        times, time = list[Moment](), begin
        for event, bar in zip(events, bars, strict=True):
            if (said := _read_said_at(event)) is not None:
                time = said
            elif bar is not None:
                seen[bar] += 1
                start = self._starts.setdefault(bar[0], time)
                time = max(time, start + bar[1] + (seen[bar] - 0.5) / totals[bar])
            times.append(time)
        return add_missing_time(events, times, begin, end)


def add_missing_time(events: Sequence[ProgressEvent], times: list[Moment], begin: Moment, end: Moment) -> list[Moment]:
    """Times that reach to ``end``: bars leave out the time of pauses."""
    missing = end - times[-1] if times else 0.0
    if missing <= ROUNDING_S:
        return times
    pauses = (at for at, event in enumerate(events[:-1]) if isinstance(event, Phase) and event.name != "training")
    if (pause := next(pauses, None)) is not None:
        return [time + missing if at > pause else time for at, time in enumerate(times)]
    if times[-1] <= begin:
        return [end] * len(times)
    return [begin + (time - begin) * (end - begin) / (times[-1] - begin) for time in times]


def _read_bar(event: ProgressEvent) -> tuple[str, int] | None:
    """The bar that an event was read from, and the seconds that it shows."""
    if isinstance(event, Step) and event.elapsed_s is not None:
        return STEPS_BAR, event.elapsed_s
    if isinstance(event, Phase) and event.elapsed_s is not None:
        return f"{event.name} {event.of}", event.elapsed_s
    return None


def _read_said_at(event: ProgressEvent) -> Moment | None:
    return event.said_at if isinstance(event, Step) else None
