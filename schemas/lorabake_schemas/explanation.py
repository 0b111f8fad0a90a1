"""What explain prints with ``--json``, as published under schemas/.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import MessageText, OptionValue, StrictModel, TupleOf
from lorabake_schemas.guide.book import BookEntry
from lorabake_schemas.machine import Family
from lorabake_schemas.plan import Source
from lorabake_schemas.recipe import RecipeKind


class ExplainedCase(StrictModel):
    """A typical recipe that gets a value; ``also`` is what it sets beyond family and kind."""

    family: Family
    kind: RecipeKind
    also: str = ""


class ExplainedValue(StrictModel):
    """A value of an option, null where it is not written, and the typical recipes that get it."""

    option: str
    value: OptionValue | None
    source: Source | None
    cases: TupleOf[ExplainedCase]


class ExplainedKey(StrictModel):
    """A key of a recipe (``kohya.X`` for an option without one), the option it becomes, what it means, and its choices
    if there are only a few.
    """

    key: str
    option: str
    description: MessageText
    choices: TupleOf[str] = ()


class PlannedValue(StrictModel):
    """What a recipe leads to for an option; ``where`` is a concept's title when concepts differ."""

    option: str
    value: OptionValue
    source: Source
    where: str = ""


class ExplainReport(StrictModel):
    """The output of ``lorabake explain TOPIC --json``: defaults first, then the entries of the book.

    ``text`` explains the id of a finding about the recipe as a file (unknown-key ...), which is not in the book.
    ``recipe`` has the values of the given recipe.
    """

    version: Literal[1] = 1
    topic: str
    text: MessageText | None = None
    keys: TupleOf[ExplainedKey] = ()
    recipe: TupleOf[PlannedValue] = ()
    values: TupleOf[ExplainedValue]
    entries: TupleOf[BookEntry]
