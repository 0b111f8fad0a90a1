"""What `lorabake diff A B C ... --json` prints: the settings in which several runs differ, and how they ended."""

from typing import Literal

from lorabake_schemas.base import EscapedText, OptionValue, StrictModel, TupleOf
from lorabake_schemas.record import RunStatus


class RunColumn(StrictModel):
    """A run or a recipe. ``status``, ``loss`` (the average at the end) and ``seconds`` are null for a recipe, whose
    ``steps`` are planned; "nan", "inf" and "-inf" are strings.
    """

    name: EscapedText
    status: RunStatus | None
    steps: int | None
    loss: float | str | None
    seconds: float | None
    digest: str | None


class TableRow(StrictModel):
    """A setting that differs, with its value in each run; null in one that does not have it. ``table`` is train,
    dataset, launch, samples, or a subset's title.
    """

    table: EscapedText
    option: str
    values: TupleOf[OptionValue | None]


class RunTable(StrictModel):
    """One column for each run, one row for each setting that is not the same in all of them."""

    version: Literal[1] = 1
    runs: TupleOf[RunColumn]
    rows: TupleOf[TableRow]
