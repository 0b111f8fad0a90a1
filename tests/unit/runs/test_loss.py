"""A loss that jumps out of a steady range is noticed, and noise is not."""

from __future__ import annotations

import random

import pytest

from lorabake.runs.watch.loss_monitor import LossFacts, LossMonitor
from lorabake_schemas.events import BadLoss, Step


def watched(losses: list[float]) -> LossMonitor:
    watch = LossMonitor()
    for step, loss in enumerate(losses, 1):
        watch.add_step(Step(step, len(losses), loss))
    return watch


def noisy(count: int, mean: float, spread: float, seed: int = 1) -> list[float]:
    chance = random.Random(seed)  # noqa: S311 - noise, no secret
    return [max(0.001, chance.gauss(mean, spread)) for _ in range(count)]


@pytest.mark.parametrize("after", [0.25, 0.02])
@pytest.mark.parametrize("steps", [100, 1000, 3000])
def test_a_jump_up_or_down_is_placed(steps: int, after: float) -> None:
    half = steps // 2
    found = watched(noisy(half, 0.1, 0.005) + noisy(steps - half, after, 0.005)).jump()
    assert found is not None
    assert abs(found.step - half) <= steps // 50
    assert (round(found.before, 2), round(found.after, 2)) == (0.1, after)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.05])
def test_noise_is_no_jump(spread: float, seed: int) -> None:
    assert watched(noisy(2000, 0.1, spread, seed)).jump() is None


def test_a_slow_change_is_no_jump() -> None:
    assert watched([0.2 - 0.1 * step / 2000 for step in range(2000)]).jump() is None


def test_a_single_spike_is_no_jump() -> None:
    assert watched([*[0.1] * 1000, *[9.0] * 20, *[0.1] * 980]).jump() is None


def test_a_change_at_the_very_beginning_is_none() -> None:
    assert watched([*[0.9] * 100, *[0.1] * 1900]).jump() is None


@pytest.mark.parametrize("losses", [[], [0.1], [0.1] * 12, [float("nan")] * 100])
def test_too_little_to_tell(losses: list[float]) -> None:
    assert watched(losses).jump() is None


def test_steps_without_a_loss_are_passed_over() -> None:
    watch = LossMonitor()
    for step in range(1, 201):
        watch.add_step(Step(step, 200, None if step % 2 else 0.1 if step < 100 else 0.4))
    found = watch.jump()
    assert found is not None
    assert 96 <= found.step <= 104


def test_only_fifty_numbers_are_kept_of_a_long_run() -> None:
    watch = watched([0.1] * 100_000)
    assert len(watch.kept) <= 51


NAN, INF = float("nan"), float("inf")


def seen(*losses: tuple[float | None, float | None]) -> tuple[LossFacts, list[BadLoss]]:
    """What a watch makes of averages and losses, step by step."""
    watch = LossMonitor()
    said = [watch.add_step(Step(n, 9, average, loss_current=current)) for n, (average, current) in enumerate(losses, 1)]
    return watch.facts, [each for each in said if each is not None]


def test_good_losses_are_no_matter() -> None:
    assert seen((0.1, 0.2), (None, None), (0.1, 0.0), (0.1, None)) == (LossFacts(), [])


@pytest.mark.parametrize("bad", [NAN, INF, -INF, -0.1])
def test_a_loss_that_cannot_be_is_told_once_and_lasts_to_the_end(bad: float) -> None:
    facts, said = seen((0.1, 0.1), (bad, bad), (bad, bad), (bad, bad))
    assert (facts.bad, facts.first, facts.since, facts.negative) == (3, 2, 2, 2 if bad < 0 else None)
    assert [each.number for each in said] == [2]


def test_a_nan_that_passes_is_known_by_the_loss_of_each_step() -> None:
    """sd-scripts' average is NaN from then on."""
    facts, said = seen((0.1, 0.1), (NAN, NAN), (NAN, 0.1), (NAN, NAN), (NAN, 0.1))
    assert facts == LossFacts(bad=2, first=2)
    assert [each.number for each in said] == [2, 4]


def test_where_only_the_average_is_known_it_counts() -> None:
    assert seen((0.1, None), (NAN, None), (NAN, None))[0] == LossFacts(bad=2, first=2, since=2, not_finite_since=2)


def test_a_nan_among_accumulated_micro_batches_shows_in_the_average() -> None:
    assert seen((0.1, 0.1), (NAN, 0.1), (NAN, 0.1))[0] == LossFacts(bad=1, first=2)
