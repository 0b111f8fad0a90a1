"""Events have the time of the trainer's line, also if the reader was stopped meanwhile."""

from __future__ import annotations

from itertools import pairwise

import pytest

from lorabake.runs.event_clock import EventClock, Look
from lorabake_schemas.events import Epoch, Phase, ProgressEvent, Saving, Step, TrainerError, TrainerWarning

NOON = 1_800_000_000.0


def look(now: float, written: float | None = None) -> Look:
    return Look(NOON + now, NOON + (now if written is None else written))


def step(number: int, elapsed: float) -> Step:
    return Step(number, 100, elapsed_s=int(elapsed))


def times(clock: EventClock, events: list[ProgressEvent], at: Look) -> list[float]:
    """Of each event, in seconds since noon."""
    return [round(time - NOON, 3) for time, group in clock.stamp(events, at) for _ in group]


def followed(until: int, pace: float = 10.0, start: float = 5.3) -> EventClock:
    """A clock that saw the bar's first steps, looking five times a second."""
    clock = EventClock()
    for tick in range(until * 5):
        now = tick / 5
        done = [n for n in range(1, 100) if now - 0.2 < start + n * pace <= now]
        clock.stamp([step(n, n * pace) for n in done], look(now))
    return clock


def test_an_event_that_is_read_at_once_has_the_time_of_the_look() -> None:
    clock = EventClock()
    clock.stamp([], look(0))
    assert times(clock, [Epoch(1, 2), step(1, 7)], look(0.2)) == [0.2, 0.2]


def test_a_step_that_was_held_back_has_the_time_at_which_it_was_shown() -> None:
    clock = EventClock()
    clock.stamp([], look(12.3))
    for tick in range(63, 100):
        clock.stamp([], look(tick / 5, 12.5)._replace(held=Step(1, 4)))
    assert times(clock, [Step(1, 4), Step(2, 4)], look(20.0)) == [12.5, 20.0]


def test_twelve_steps_that_are_read_at_once_have_twelve_times() -> None:
    clock = followed(until=30)
    found = times(clock, [step(n, n * 10) for n in range(3, 15)], look(150.0, 145.3))
    assert found == pytest.approx([5.3 + n * 10 for n in range(3, 15)], abs=1.2)


def test_quick_steps_are_spread_over_their_second() -> None:
    clock = followed(until=30)
    found = times(clock, [step(n, 20 + n / 4) for n in range(20, 480)], look(150.0, 145.3))
    assert all(before < after for before, after in pairwise(found))
    assert found == pytest.approx([25.3 + n / 4 for n in range(20, 480)], abs=1.2)


@pytest.mark.parametrize("pace", [0.7, 3.0, 10.0, 45.0])
@pytest.mark.parametrize("warning", [False, True])
def test_without_tensorboard_the_last_step_that_was_shown_is_held_back(pace: float, warning: bool) -> None:
    """The ones before it are not moved to the time at which it was shown; it has that time later."""
    clock, last = followed(until=30, pace=pace), int(30 // pace) + 5
    first = next(number for number in range(1, 99) if 5.3 + number * pace > 29.8)
    told: list[ProgressEvent] = [step(number, number * pace) for number in range(first, last)]
    if warning:
        told.append(TrainerWarning("slow"))
    shown = 5.3 + last * pace
    at = look(max(shown + 0.3, 32.0), shown)._replace(held=step(last, last * pace))
    found = times(clock, told, at)
    steps = [time for time, event in zip(found, told, strict=True) if isinstance(event, Step)]
    assert steps == pytest.approx([5.3 + number * pace for number in range(first, last)], abs=1.2)
    later = times(clock, [step(last, last * pace), step(last + 1, (last + 1) * pace)], look(at.now - NOON + 0.2))
    assert later[0] == pytest.approx(shown, abs=1.2)


def test_slow_steps_are_not_moved_to_what_was_logged_long_after_them() -> None:
    clock = followed(until=30)
    events: list[ProgressEvent] = [step(3, 30), step(4, 40), TrainerError("OSError: cut off")]
    assert times(clock, events, look(150.0, 140.0)) == pytest.approx([35.3, 45.3, 140.0], abs=1.2)


def test_a_pause_that_ended_before_the_reader_was_stopped() -> None:
    """sd-scripts has moved the start of the bar meanwhile."""
    clock = followed(until=30)
    for tick in range(150, 900):
        clock.stamp([], look(tick / 5))
    found = times(clock, [step(3, 30), step(4, 40), step(5, 50)], look(230.0, 225.3))
    assert found == pytest.approx([205.3, 215.3, 225.3], abs=1.2)


def test_events_of_lorabake_happen_now() -> None:
    clock = EventClock()
    clock.stamp([], look(0))
    assert clock.stamp_own([], NOON + 9.0) == []
    assert clock.stamp_own([TrainerError("x")], NOON + 5.0) == [(NOON + 5.0, [TrainerError("x")])]
    assert times(clock, [step(1, 4)], look(5.4)) == [5.0]


def test_a_bar_that_leaves_out_quick_steps_is_stretched_to_the_last_byte_of_the_log() -> None:
    clock = followed(until=30)
    found = times(clock, [step(n, 20 + n / 1000) for n in range(3, 1000)], look(150.0, 145.0))
    assert (found[0], found[-1]) == pytest.approx((29.8, 145.0), abs=0.3)
    assert max(after - before for before, after in pairwise(found)) < 1


def test_the_time_of_samples_is_added_after_them() -> None:
    clock = followed(until=30)
    events: list[ProgressEvent] = [step(3, 30), Phase("sampling"), Phase("training"), step(4, 40)]
    assert times(clock, events, look(150.0, 135.3)) == pytest.approx([35.3, 35.3, 125.3, 135.3], abs=10.5)
    assert times(followed(until=30), events, look(150.0, 135.3))[-1] == pytest.approx(135.3, abs=1.2)


def test_a_bar_that_nobody_saw_starting_started_after_the_last_event() -> None:
    clock = EventClock()
    clock.stamp([], look(10.0))
    events = [Phase("caching", done, 60, "latents", elapsed_s=done) for done in range(1, 60)]
    assert times(clock, list(events), look(100.0, 69.5)) == pytest.approx([10 + n for n in range(1, 60)], abs=1.2)


def test_an_error_in_the_log_of_a_trainer_that_hangs_has_the_time_of_the_last_byte() -> None:
    clock = followed(until=30)
    assert times(clock, [TrainerError("OSError: x")], look(150.0, 31.0)) == [31.0]


@pytest.mark.parametrize("written", [-1e6, 0.0, 60.0, 1e6])
def test_times_never_decrease_and_are_never_in_the_future(written: float) -> None:
    """Not with a file system whose clock is wrong, either, and not when this machine's clock is set back."""
    clock = followed(until=30)
    found = times(clock, [step(3, 30), Saving("x"), step(4, 4000), step(5, 50)], look(60.0, written))
    assert found == sorted(found)
    assert max(found) <= 60.0
    assert times(clock, [step(6, 60)], look(50.0)) == [50.0]


def test_after_a_pause_the_bar_is_followed_again() -> None:
    """sd-scripts moves the start of its bar by the time that it sampled."""
    clock = followed(until=30)
    clock.stamp([step(3, 25)], look(29.9))
    for tick in range(150, 950):
        clock.stamp([step(4, 30)] if tick == 940 else [], look(tick / 5))
    found = times(clock, [step(5, 40), step(6, 50)], look(230.0, 208.4))
    assert found == pytest.approx([198.4, 208.4], abs=1.2)
