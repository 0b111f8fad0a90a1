"""The rows of the table and the trials behind them: in order, while there is time, whatever becomes of the others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lorabake_schemas.machine import Family

HEAD = ("trial", "seconds", "s/step", "steps/s", "peak memory", "verdict")
NOT_TRIED = "not tried: time"
FAILED = "FAILED"
FIRST_GUESS_S: Mapping[Family, float] = {"sd15": 40.0, "sdxl": 70.0}  # one training, before one was measured


class TrialError(Exception):
    """A trial failed; the message is the verdict."""


@dataclass(frozen=True)
class Row:
    """One line of the table. ``per_step`` is in seconds, ``memory`` in MiB of the GPU; None where not measured."""

    trial: str
    verdict: str
    seconds: float | None = None
    per_step: float | None = None
    memory: int | None = None

    def cells(self) -> tuple[str, ...]:
        per_second = 1 / self.per_step if self.per_step else None
        memory = None if self.memory is None else f"{self.memory:,} MiB"
        numbers = (shown(self.seconds, 0), shown(self.per_step, 3), shown(per_second, 2), memory or "-")
        return (self.trial, *numbers, " ".join(self.verdict.replace("|", "/").split()))


def shown(number: float | None, digits: int) -> str:
    return "-" if number is None else f"{number:.{digits}f}"


def table(title: str, rows: Sequence[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [HEAD, ("---", "--:", "--:", "--:", "--:", "---"), *(row.cells() for row in rows)]
    return "\n".join([title, "", *(f"| {' | '.join(line)} |" for line in lines)]) + "\n"


@dataclass
class Budget:
    """The time for everything; ``now`` is a clock in seconds."""

    seconds: float
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def left(self) -> float:
        return self.began + self.seconds - self.now()


@dataclass(frozen=True)
class Trial:
    """What one row tries; ``trainings`` of ``family`` is how it is known whether the time suffices."""

    name: str
    family: Family
    trainings: int
    go: Callable[[], Row]


def tried(trials: Sequence[Trial], budget: Budget, show: Callable[[Row], None]) -> list[Row]:
    """Every trial in its order, whatever becomes of the others; without those for which no time is left."""
    training_s, rows = dict(FIRST_GUESS_S), list[Row]()
    for trial in trials:
        began = budget.now()
        if budget.left() < training_s[trial.family] * trial.trainings:
            row = Row(trial.name, NOT_TRIED)
        else:
            row = survived(trial)
            took = budget.now() - began
            training_s[trial.family] = took / trial.trainings
            row = replace(row, trial=trial.name, seconds=took)
        rows.append(row)
        show(row)
    return rows


def survived(trial: Trial) -> Row:
    """The row of a trial, also when it fails in a way that nobody foresaw."""
    try:
        return trial.go()
    except TrialError as error:
        return Row(trial.name, f"{FAILED}: {error}")
    except Exception as error:  # noqa: BLE001 - the other rows are still wanted
        return Row(trial.name, f"{FAILED}: {type(error).__name__}: {error}")
