"""From which step sd-scripts can resume correctly, with which flags, and how its own numbers are then off. Pure.

TN is train_network.py of the pin. `tests/real/test_resumed.py` compares it with the real one.

- A state at an epoch's end: without --skip_until_initial_step it starts at the next epoch and trains it and all after
  it completely (TN:1264-1270), whatever the gradient accumulation; its step numbers start at 0 again.
- A state inside an epoch: with --skip_until_initial_step it continues inside that epoch, its step numbers too small by
  the epochs before (TN:1340-1345). With gradient accumulation it multiplies the step but not the epoch's length
  (TN:1258-1262), and trains too little or nothing.
- Since its numbers are too small, it does not notice max_train_steps unless that is the end of an epoch (TN:1632): it
  continues to the end of the last one. lorabake makes it save at the last step, and stops it there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lorabake_schemas.messages import Message, msg
from lorabake_schemas.saved_names import SavedKind


@dataclass(frozen=True, slots=True)
class TrainingSchedule:
    """The steps of a complete training, as sd-scripts counted them at its start; ``batches`` are those of an epoch
    and a process.
    """

    batches: int
    accumulation: int
    epochs: int
    steps: int
    save_every_n_steps: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        return max(1, math.ceil(self.batches / self.accumulation))

    def last_step_of_epoch(self, epoch: int) -> int:
        """The step after which an epoch, counted from 1, is over; the last one may be cut short."""
        return min(epoch * self.steps_per_epoch, self.steps)

    def step_of(self, kind: SavedKind, number: int, offset: int) -> int:
        """The run's step of a file or state by its name; ``offset`` is added to the step numbers."""
        if kind == "step":
            return number + offset
        return self.last_step_of_epoch(number) if kind == "epoch" else self.steps


@dataclass(frozen=True, slots=True)
class ResumeSteps:
    """How sd-scripts continues after ``step``.

    ``offset`` is added to its own step numbers. ``stop_at`` is its own number of the last step, if it would not end
    there by itself; ``save_every_n_steps`` has to be set so that it saves there.
    """

    step: int
    offset: int
    skip: bool
    stop_at: int | None = None
    save_every_n_steps: int | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """For the command line, where they override the compiled file (TU:4760-4761).

        --initial_step has the number that a state's train_state.json lacks: a state saved in a resumed part has a
        number that is too small.
        """
        every = self.save_every_n_steps
        return (
            *("--initial_step", str(self.step)),
            *(("--skip_until_initial_step",) if self.skip else ()),
            *(("--save_every_n_steps", str(every)) if every is not None else ()),
        )


def plan_resume_steps(course: TrainingSchedule, step: int) -> ResumeSteps | Message:
    """How to continue from a state of that step, or why that is not possible."""
    if step >= course.steps:
        return msg("it is from the last step; nothing is left to train")
    epochs, inside = divmod(step, course.steps_per_epoch)
    if inside and course.accumulation > 1:
        return msg(
            "it was saved within epoch {epoch}; with gradient_accumulation_steps = {n}, sd-scripts can "
            "only resume from the end of an epoch",
            epoch=epochs + 1,
            n=course.accumulation,
        )
    offset = epochs * course.steps_per_epoch
    if not offset or course.steps % course.steps_per_epoch == 0:
        return ResumeSteps(step, offset, skip=bool(inside))
    last = course.steps - offset
    every = course.save_every_n_steps
    fits = every is not None and last % every == 0
    return ResumeSteps(step, offset, bool(inside), last, None if fits else nearest_divisor(last, every))


def nearest_divisor(last: int, wanted: int | None) -> int:
    """The divisor of ``last`` that is most like what was wanted, so that a file falls on the last step; the larger of
    two that are as near."""
    if wanted is None:
        return last
    return min(list_divisors(last), key=lambda each: (abs(math.log(each / wanted)), -each))


def list_divisors(number: int) -> list[int]:
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})
