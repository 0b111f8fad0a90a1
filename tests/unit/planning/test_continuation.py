"""Every way of going on ends with as many steps as an uninterrupted training, by the loop that sd-scripts has."""

from __future__ import annotations

from itertools import product

import pytest

from fake_sd_scripts import loop
from lorabake.planning.resume_steps import (
    ResumeSteps,
    TrainingSchedule,
    list_divisors,
    nearest_divisor,
    plan_resume_steps,
)


def course(batches: int, steps: int, accumulation: int = 1, every: int | None = None) -> TrainingSchedule:
    per_epoch = -(-batches // accumulation)
    return TrainingSchedule(batches, accumulation, -(-steps // per_epoch), steps, every)


def trained(course: TrainingSchedule, how: ResumeSteps) -> tuple[int, list[int]]:
    """How many steps sd-scripts trains, until lorabake stops it, and its own numbers of them."""
    own: list[int] = []
    for what, _, number in loop(course.batches, course.accumulation, course.steps, how.step, skip=how.skip):
        if what == "step":
            own.append(number)
            if number == how.stop_at:
                break
    return len(own), own


CASES = [
    (batches, accumulation, steps, step)
    for batches, accumulation, steps in product(range(1, 7), range(1, 4), range(2, 20))
    for step in range(1, steps)
]


def test_the_steps_are_those_of_an_uninterrupted_training() -> None:
    went_on = 0
    for batches, accumulation, steps, step in CASES:
        way = course(batches, steps, accumulation)
        how = plan_resume_steps(way, step)
        if isinstance(how, str):
            assert accumulation > 1
            assert step % way.steps_per_epoch
            continue
        went_on += 1
        number, own = trained(way, how)
        assert number == steps - step, (batches, accumulation, steps, step)
        assert [each + how.offset for each in own] == list(range(step + 1, steps + 1))
    assert went_on > 1500


def test_a_last_step_that_sd_scripts_would_pass_is_one_at_which_it_saves() -> None:
    passing = 0
    for (batches, accumulation, steps, step), every in product(CASES, (None, 1, 2, 5, 100)):
        how = plan_resume_steps(course(batches, steps, accumulation, every), step)
        if isinstance(how, ResumeSteps) and how.stop_at is not None:
            passing += 1
            saves = how.save_every_n_steps or every
            assert saves is not None
            assert how.stop_at % saves == 0
            assert how.stop_at + how.offset == steps
            assert (how.save_every_n_steps is None) == (every is not None and how.stop_at % every == 0)
    assert passing > 1000


def test_without_being_stopped_it_would_pass_the_last_step() -> None:
    """13 steps of 5 an epoch: resumed after 10, sd-scripts continues to 15."""
    assert [number for what, _, number in loop(5, 1, 13, 10) if what == "step"] == [1, 2, 3, 4, 5]
    how = plan_resume_steps(course(5, 13), 10)
    assert isinstance(how, ResumeSteps)
    assert (how.stop_at, how.offset, how.save_every_n_steps) == (3, 10, 3)


def test_inside_an_epoch_with_gradient_accumulation_is_refused() -> None:
    """What sd-scripts would do (upstream issue 2407): of the 5 steps that are left it would train 3."""
    assert sum(what == "step" for what, _, _ in loop(5, 2, 9, 4, skip=True)) != 5
    why = plan_resume_steps(course(5, 9, 2), 4)
    assert not isinstance(why, ResumeSteps)
    assert "epoch 2" in why
    assert "gradient_accumulation_steps = 2" in why


def test_an_epochs_end_with_gradient_accumulation_is_gone_on_from() -> None:
    assert plan_resume_steps(course(5, 9, 2), 3) == ResumeSteps(3, 3, skip=False)


@pytest.mark.parametrize("step", [15, 16])
def test_nothing_is_left_after_the_last_step(step: int) -> None:
    assert plan_resume_steps(course(5, 15), step) == "it is from the last step; nothing is left to train"


def test_flags() -> None:
    assert ResumeSteps(10, 10, skip=False).flags == ("--initial_step", "10")
    assert ResumeSteps(12, 10, skip=True).flags == ("--initial_step", "12", "--skip_until_initial_step")
    assert ResumeSteps(10, 10, skip=False, stop_at=3, save_every_n_steps=3).flags[-2:] == ("--save_every_n_steps", "3")


@pytest.mark.parametrize(
    ("last", "wanted", "every"),
    [(600, 100, 100), (607, 100, 607), (3, None, 3), (90, 25, 30), (60, 25, 30), (4, 2, 2), (36, 5, 6), (9, 27, 9)],
)
def test_the_saving_that_is_most_like_what_was_wanted(last: int, wanted: int | None, every: int) -> None:
    assert nearest_divisor(last, wanted) == every


def test_divisors() -> None:
    assert list_divisors(12) == [1, 2, 3, 4, 6, 12]
    assert list_divisors(1) == [1]


def test_the_end_of_an_epoch_that_is_cut_short() -> None:
    assert [course(5, 13).last_step_of_epoch(epoch) for epoch in (1, 2, 3)] == [5, 10, 13]
