"""What earlier runs on this machine measured, read elsewhere and passed in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from lorabake_schemas.machine import Family, MachineFacts


class StepTiming(NamedTuple):
    """Optimizer steps in a row that nothing interrupted, and the seconds they took."""

    steps: int
    seconds: float


class PastRun(NamedTuple):
    """One training by its run folder's name. ``options`` are those of its compiled files, sd-scripts' names and
    values, the dataset's among them (lists as tuples)."""

    name: str
    family: Family
    machine: MachineFacts
    processes: int
    options: Mapping[str, object]
    stretches: tuple[StepTiming, ...]
