"""In what the options of two commits of sd-scripts differ: what `trainer status --against` prints with ``--json``.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.options import DatasetLevel, DatasetOption, Option
from lorabake_schemas.plan import Script

OptionTrait = Literal["type", "default", "choices", "nargs", "action"]


class TraitChange(StrictModel):
    """One trait of an option that is not the same in both commits, such as its default."""

    trait: OptionTrait
    before: TupleOf[int | str | None] | bool | int | float | str | None
    after: TupleOf[int | str | None] | bool | int | float | str | None


class OptionChange(StrictModel):
    """An option that both commits have, and what is different about it."""

    name: str
    changes: TupleOf[TraitChange]


class ScriptDifference(StrictModel):
    """One training script: ``added`` are the options that only the later-named commit has, ``removed`` those that only
    the first has, in the parsers' order."""

    script: Script
    added: TupleOf[Option]
    removed: TupleOf[Option]
    changed: TupleOf[OptionChange]


class DatasetOptionChange(StrictModel):
    """A key of the dataset file that both have: which shapes of value it takes, and whether it has to be there."""

    name: str
    before: DatasetOption
    after: DatasetOption


class LevelDifference(StrictModel):
    """One level of the dataset file."""

    level: DatasetLevel
    added: TupleOf[DatasetOption]
    removed: TupleOf[DatasetOption]
    changed: TupleOf[DatasetOptionChange]


class CommitDifference(StrictModel):
    """From ``commit`` to ``against``; every script and level stands there, also where nothing differs."""

    version: Literal[1] = 1
    commit: str
    against: str
    scripts: TupleOf[ScriptDifference]
    dataset: TupleOf[LevelDifference]

    @property
    def same(self) -> bool:
        scripts = any(part.added or part.removed or part.changed for part in self.scripts)
        return not scripts and not any(part.added or part.removed or part.changed for part in self.dataset)
