"""What check, plan and diff print with ``--json``, as published under schemas/.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import EscapedText, OptionValue, StrictModel, TupleOf
from lorabake_schemas.findings import Finding
from lorabake_schemas.plan import Forecast, Plan, Source
from lorabake_schemas.record import InputRole

DURATION_NAME = "took"  # the seconds of a run, which are never the same twice


class IgnoredFinding(Finding):
    """A finding that the recipe ignores, with its reason."""

    reason: str


class CheckReport(StrictModel):
    """Everything that was found in a recipe and its dataset.

    ``findings`` are in the order in which a person should read them. ``forecast`` is null if an error prevents a plan.
    """

    version: Literal[1] = 1
    recipe: str
    findings: TupleOf[Finding]
    ignored: TupleOf[IgnoredFinding]
    forecast: Forecast | None


class FindingCounts(StrictModel):
    """How many findings of each kind."""

    errors: int
    warnings: int
    hints: int
    ignored: int


class PlanReport(Plan):
    """The complete plan with every setting's source, and the number of findings."""

    version: Literal[1] = 1
    recipe: str
    counts: FindingCounts


class SideValue(StrictModel):
    """A setting's value in one plan, and where it comes from."""

    value: OptionValue
    source: Source


class SettingDifference(StrictModel):
    """One setting that two plans do not share. ``table``: train, dataset, or a subset's title.

    A side that does not have the setting is null.
    """

    table: str
    option: str
    here: SideValue | None
    there: SideValue | None


class CountDifference(StrictModel):
    """One number of the forecast that differs; ``subject`` is a concept or a bucket where it is about one."""

    name: str
    subject: str = ""
    here: float | None
    there: float | None


class DataDifference(StrictModel):
    """An image, a caption or a model that differs; ``index`` counts concepts and others, from 0.

    ``where`` is the folder, or the model's name in the recipe, on the side that has it (``here`` first). ``name`` is
    the file's name, ``name_there`` its name on the other side if it is different. ``here`` and ``there`` are SHA-256s,
    null on a side that does not have the file.
    """

    what: InputRole
    index: int = 0
    where: EscapedText
    name: EscapedText
    name_there: EscapedText | None = None
    here: str | None
    there: str | None


class ValueDifference(StrictModel):
    """One thing of a trainer, a machine or an outcome; a side that does not have it is null."""

    name: EscapedText
    here: EscapedText | None
    there: EscapedText | None


class PlanDifference(StrictModel):
    """The differences of two recipes or runs: ``here`` is the one asked about, ``there`` the one it is compared with.

    A part that was not compared is null: ``plan --diff`` compares settings and forecast, and recipes have no
    ``outcome``. ``digests`` are those of two runs. If they are equal, everything that determines the result is equal.
    """

    version: Literal[1] = 1
    here: str
    there: str
    settings: TupleOf[SettingDifference]
    forecast: TupleOf[CountDifference]
    data: TupleOf[DataDifference] | None = None
    trainer: TupleOf[ValueDifference] | None = None
    machine: TupleOf[ValueDifference] | None = None
    outcome: TupleOf[ValueDifference] | None = None
    digests: tuple[str, str] | None = None

    @property
    def same(self) -> bool:
        """Whether nothing differs but how long it took."""
        measured = [each for each in self.outcome or () if each.name != DURATION_NAME]
        return not (self.settings or self.forecast or self.data or self.trainer or self.machine or measured)
