"""What check, plan and explain print with ``--json``, as published under schemas/.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import Many, OptionValue, StrictModel, Words
from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.book import Entry
from lorabake_schemas.machine import Family
from lorabake_schemas.plan import Forecast, Plan, Source
from lorabake_schemas.recipe import Kind


class WaivedFinding(Finding):
    """A finding that the recipe waives, with its reason."""

    reason: str


class CheckReport(StrictModel):
    """Everything that was found in a recipe and its dataset.

    ``findings`` are in the order in which a person should read them. ``forecast`` is null when an error stands in the
    way of a plan.
    """

    version: Literal[1] = 1
    recipe: str
    findings: Many[Finding]
    waived: Many[WaivedFinding]
    forecast: Forecast | None


class FindingCounts(StrictModel):
    """How many findings of each kind."""

    errors: int
    warnings: int
    hints: int
    waived: int


class PlanReport(Plan):
    """The whole plan with every setting's source, and how many findings there are beside it."""

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


class PlanDifference(StrictModel):
    """Two recipes' plans, what differs only: ``here`` is the recipe asked about, ``there`` the one it is held to."""

    version: Literal[1] = 1
    here: str
    there: str
    settings: Many[SettingDifference]
    forecast: Many[CountDifference]

    @property
    def same(self) -> bool:
        return not self.settings and not self.forecast


class ExplainedCase(StrictModel):
    """A typical recipe that gets a value; ``also`` is what it says beyond family and kind."""

    family: Family
    kind: Kind
    also: str = ""


class ExplainedValue(StrictModel):
    """A value of an option, null where it is not written, and the typical recipes that get it."""

    option: str
    value: OptionValue | None
    source: Source | None
    cases: Many[ExplainedCase]


class ExplainReport(StrictModel):
    """What ``lorabake explain TOPIC --json`` prints: values first, then the entries of the book.

    ``text`` explains the word for a fault of the recipe as a file (unknown-key ...), which is in no book.
    """

    version: Literal[1] = 1
    topic: str
    text: Words | None = None
    values: Many[ExplainedValue]
    entries: Many[Entry]


__all__ = [
    "CheckReport",
    "CountDifference",
    "ExplainReport",
    "ExplainedCase",
    "ExplainedValue",
    "FindingCounts",
    "PlanDifference",
    "PlanReport",
    "SettingDifference",
    "SideValue",
    "WaivedFinding",
]
