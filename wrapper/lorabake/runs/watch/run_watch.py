"""Watches a run while it goes on: its loss, its movement, its disk. Pure but for what is passed in.

Everything is only reported. The one thing that stops a run is a loss that stays NaN, after as many steps as the recipe
says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from lorabake.runs.watch.disk_monitor import DiskMonitor
from lorabake.runs.watch.loss_monitor import LossMonitor
from lorabake.runs.watch.stall_monitor import Examine, StallMonitor
from lorabake_schemas.events import LossJump, ProgressEvent, Step
from lorabake_schemas.plan import Plan, WatchPlan


@dataclass(slots=True)
class RunWatch:
    """Fed with every event in the run's own numbers, and with the time at every look at the log."""

    settings: WatchPlan
    stalls: StallMonitor
    disk: DiskMonitor
    losses: LossMonitor = field(default_factory=LossMonitor)
    _step: int = 0
    _looked: float | None = None
    _jump: LossJump | None = None

    @classmethod
    def of_plan(cls, plan: Plan | None) -> RunWatch:
        settings = plan.watch if plan is not None else WatchPlan()
        return cls(settings, StallMonitor(settings.stall_seconds), DiskMonitor(plan if settings.disk_space else None))

    @property
    def has_diverged(self) -> bool:
        """Whether the loss was NaN or infinite for as many steps in a row as the recipe allows."""
        since, allowed = self.losses.facts.not_finite_since, self.settings.nan_steps
        return bool(allowed) and since is not None and self._step - since + 1 >= allowed

    def add_remarks(self, events: Iterable[ProgressEvent]) -> Iterator[ProgressEvent]:
        """The trainer's events, each followed by what it shows."""
        for event in events:
            yield event
            if isinstance(event, Step):
                yield from self._take_step(event)
            if (ended := self.stalls.take(event)) is not None:
                yield ended

    def _take_step(self, step: Step) -> Iterator[ProgressEvent]:
        self._step = self.disk.step = step.number
        if (bad := self.losses.add_step(step)) is not None:
            yield bad
        if self.settings.loss_jump and self._jump is None and self.losses.starts_block:
            jump = self.losses.jump_so_far()
            if jump is not None:
                self._jump = LossJump(jump.step, jump.before, jump.after)
                yield self._jump

    def look(self, now: float, examine: Examine, free_space: Callable[[], int]) -> list[ProgressEvent]:
        """What is to be reported at this time (seconds); ``free_space`` is in bytes, and may raise OSError."""
        seconds, self._looked = now - (self._looked if self._looked is not None else now), now
        found: list[ProgressEvent | None] = [self.stalls.tick(seconds, examine)]
        if self.disk.is_due(seconds):
            with suppress(OSError):  # the run folder was moved or deleted, which others notice
                found.append(self.disk.check(free_space()))
        return [event for event in found if event is not None]
