"""Notices that the disk will be full before the next save. Pure: the free space is passed in."""

from __future__ import annotations

from dataclasses import dataclass

from lorabake.planning.disk_needs import estimate_save
from lorabake_schemas.events import DiskLow
from lorabake_schemas.plan import Plan, PlannedSave

LOOK_INTERVAL_S = 20.0


@dataclass(slots=True)
class DiskMonitor:
    """Compares the free space with what the plan says of the next save; each save is reported once."""

    plan: Plan | None
    step: int = 0  # the last one that is done
    _since_look_s: float = LOOK_INTERVAL_S
    _reported: int = 0  # the step of the save that was reported

    def is_due(self, seconds: float) -> bool:
        """Whether to look at the disk again after so many more seconds."""
        self._since_look_s += seconds
        if self.plan is None or self.plan.forecast.file_size is None or self._since_look_s < LOOK_INTERVAL_S:
            return False
        self._since_look_s = 0.0
        return True

    def check(self, free: int) -> DiskLow | None:
        """``free`` bytes on the disk of the run folder."""
        if self.plan is None or (save := self.find_next_save()) is None:
            return None
        needed = estimate_save(self.plan, save)
        if free >= needed or save.step == self._reported:
            return None
        self._reported = save.step
        return DiskLow(save.file, save.step, free, needed)

    def find_next_save(self) -> PlannedSave | None:
        saves = self.plan.forecast.saves if self.plan is not None else ()
        return min((save for save in saves if save.step > self.step), key=lambda save: save.step, default=None)
