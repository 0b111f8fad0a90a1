"""A standstill is reported once, again when it has doubled, and never while the trainer does what takes long."""

from __future__ import annotations

import pytest

from lorabake.runs.watch.stall_monitor import StallMonitor
from lorabake_schemas.events import (
    Epoch,
    LogLine,
    Phase,
    PhaseName,
    ProgressEvent,
    Stalled,
    StallEnded,
    StallSign,
    Step,
    TrainerError,
    TrainerWarning,
)

TICK = 0.5
BUSY = (StallSign("busy", "1.0"),)
STOPPED = (StallSign("stopped", "7"),)


class Watched:
    """A monitor with a clock; ``said`` is what it reported, with the seconds since the start."""

    def __init__(self, setting: float = 60.0, signs: tuple[StallSign, ...] = BUSY) -> None:
        self.monitor, self.now, self.signs = StallMonitor(setting), 0.0, signs
        self.looks = list[float]()
        self.said = list[tuple[float, Stalled | StallEnded]]()

    def examine(self, _phase: Phase, silent_s: float) -> tuple[StallSign, ...]:
        self.looks.append(silent_s)
        return self.signs

    def wait(self, seconds: float) -> Watched:
        for _ in range(int(seconds / TICK)):
            self.now += TICK
            if (stalled := self.monitor.tick(TICK, self.examine)) is not None:
                self.said.append((self.now, stalled))
        return self

    def take(self, *events: ProgressEvent) -> Watched:
        for event in events:
            if (ended := self.monitor.take(event)) is not None:
                self.said.append((self.now, ended))
        return self

    def train(self, steps: int, pace: float, first: int = 1) -> Watched:
        self.take(Phase("training"))
        for number in range(first, first + steps):
            self.wait(pace).take(Step(number, 1000))
        return self

    def stay(self, phase: PhaseName, seconds: float) -> Watched:
        return self.take(Phase(phase)).wait(seconds)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.said]

    @property
    def stalls(self) -> list[Stalled]:
        return [event for _, event in self.said if isinstance(event, Stalled)]


def test_a_standstill_is_reported_when_it_is_noticed_when_it_has_doubled_and_when_it_ends() -> None:
    watched = Watched(signs=STOPPED).train(10, 2.0).wait(300).take(Step(11, 1000)).wait(20)
    assert watched.times == [80.0, 140.0, 260.0, 320.0]
    first, *_, end = (event for _, event in watched.said)
    assert first == Stalled("training", 60.0, 2.0, STOPPED, None)
    assert end == StallEnded(300.0)


def test_steps_that_take_long_are_no_standstill_before_they_take_far_longer_than_usual() -> None:
    assert not Watched(signs=()).train(5, 40.0).wait(390).said
    assert Watched(signs=()).train(5, 40.0).wait(420).times == [pytest.approx(200 + 400, abs=30)]
    assert Watched(signs=STOPPED).train(5, 40.0).wait(150).times == [pytest.approx(200 + 120, abs=30)]


def test_a_first_step_may_take_minutes_if_nothing_speaks_against_it() -> None:
    assert not Watched().take(Phase("training"), Epoch(1, 1), LogLine("x")).wait(590).said
    assert Watched().take(Phase("training")).wait(600).stalls
    assert Watched(signs=(StallSign("shared-memory"),)).take(Phase("training")).wait(60).times == [60.0]


def test_an_error_in_the_log_makes_it_earlier() -> None:
    watched = Watched().take(Phase("training"), TrainerError("RuntimeError: no space"), LogLine("x")).wait(40)
    assert watched.times == [30.0]
    assert watched.stalls[0].signs == (StallSign("failed", "RuntimeError: no space"), *BUSY)
    assert watched.stalls[0].last_line == "x"
    assert not Watched().take(Phase("training"), TrainerError("x"), Step(1, 9)).wait(40).said


def test_lines_of_the_log_are_no_steps_while_it_trains_and_movement_while_it_loads() -> None:
    training, loading = Watched(signs=STOPPED).train(5, 1.0), Watched(signs=STOPPED)
    for _ in range(10):
        training.wait(10).take(LogLine("noise"), TrainerWarning("noise"))
        loading.wait(50).take(LogLine("loading"))
    assert training.times == [65.0]
    assert not loading.said


def test_sampling_of_150_seconds_is_no_standstill_and_longer_than_before_is() -> None:
    watched = Watched(signs=(StallSign("idle"),)).train(5, 2.0)
    for number in range(3):
        watched.stay("sampling", 150).train(5, 2.0, first=6 + 5 * number)
    assert not watched.said
    watched.stay("sampling", 440)
    assert not watched.said
    watched.take(Phase("sampling", 3, 30)).wait(40)  # its bar moves: it takes longer all the same
    assert [(stall.phase, stall.usual) for stall in watched.stalls] == [("sampling", 150.0)]
    assert watched.stalls[0].seconds == pytest.approx(450, abs=30)
    assert isinstance(watched.train(1, 1.0).said[-1][1], StallEnded)


def test_the_first_samples_may_take_as_long_as_their_bar_moves() -> None:
    watched = Watched().train(5, 2.0).take(Phase("sampling"))
    for done in range(20):
        watched.wait(52).take(Phase("sampling", done, 20))
    assert not watched.said


def test_caching_that_moves_is_no_standstill_and_one_that_does_not_is() -> None:
    watched = Watched(signs=()).take(Phase("caching", of="latents"))
    for done in range(100):
        watched.wait(8).take(Phase("caching", done, 1000, "latents"))
    assert not watched.said
    assert watched.wait(120).stalls[0].usual == 8.0


def test_a_supervisor_that_slept_has_seen_no_standstill() -> None:
    watched = Watched(signs=STOPPED).train(5, 1.0)
    assert watched.monitor.tick(7200.0, watched.examine) is None
    assert not watched.looks


def test_zero_is_never() -> None:
    assert not Watched(setting=0.0, signs=STOPPED).train(5, 1.0).wait(10_000).said


def test_processes_are_looked_at_only_when_nothing_moves() -> None:
    watched = Watched().train(100, 2.0)
    assert not watched.looks
    assert watched.wait(600).looks == [30.0 * n for n in range(1, 21)]


def test_nothing_grows_with_the_run() -> None:
    watched = Watched().train(3000, 0.5)
    assert sum(map(len, watched.monitor._gaps.values())) <= 20  # pyright: ignore[reportPrivateUsage]
