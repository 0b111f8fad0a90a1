"""Learning rates, and what the GPUs measure, as events now and then."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake_schemas.events import NO_METRICS, Metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.util.gpu_sensors import GpuSensors

REPORT_S = 10.0  # the shortest time between two events
RATE, EFFECTIVE_RATE, TEXT_ENCODER = "lr/", "lr/d*lr", "textencoder"
MAX_RATES = 12  # with a rate for each block there are 75


@dataclass(slots=True)
class MetricsReporter:
    """``sensors`` are those of the GPUs that the run trains on."""

    sensors: GpuSensors
    _due: float = 0.0
    _reported: Metrics = NO_METRICS

    def look(self, now: float, logged: Mapping[str, float]) -> list[Metrics]:
        """What is to be reported at this time (seconds). ``logged`` are the rates of the last step by their tags."""
        if now < self._due:
            return []
        rates = read_learning_rates(logged)
        found = Metrics(rates, find_d(logged), self.sensors.readings)
        if found == self._reported:
            return []
        self._due, self._reported = now + REPORT_S, found
        return [found]


def read_learning_rates(logged: Mapping[str, float]) -> tuple[tuple[str, float], ...]:
    """By part, at most ``MAX_RATES``. sd-scripts logs most rates twice (TN:91-126): by name, and then the first one as
    "textencoder" and the others as "group" and a number. So without groups there is one rate, which may be the UNet's.
    """
    rates = {
        name.removeprefix(RATE): rate
        for name, rate in logged.items()
        if name.startswith(RATE) and not name.startswith(EFFECTIVE_RATE) and math.isfinite(rate)
    }
    groups = {name for name in rates if name.startswith("group")}
    if rates.keys() - groups - {TEXT_ENCODER}:
        for name in groups or {TEXT_ENCODER}:
            rates.pop(name, None)
    return tuple(rates.items())[:MAX_RATES]


def find_d(logged: Mapping[str, float]) -> float | None:
    """Prodigy's d: sd-scripts logs d times the rate next to the rate (TN:104-126); None if a rate is 0, or not logged.

    Of ProdigyPlusScheduleFree it is logged without a name for the first rate.
    """
    found: list[float] = []
    for name, effective in logged.items():
        if name.startswith(EFFECTIVE_RATE):
            part = name.removeprefix(EFFECTIVE_RATE).removeprefix("/")
            rate = logged.get(RATE + part) if part else next(iter(logged.values()))
            found += [effective / rate] if rate and math.isfinite(effective / rate) else []
    return float(f"{max(found):.6g}") if found else None  # they are divided single precisions
