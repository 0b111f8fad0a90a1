"""In what the options of two commits of sd-scripts differ: what `trainer status --against` prints with ``--json``.

``version`` grows when a field goes or changes its meaning; new fields may come at any time.
"""

from typing import Literal

from lorabake_schemas.base import Many, StrictModel
from lorabake_schemas.options import DatasetOption, Level, Option
from lorabake_schemas.plan import Script

Trait = Literal["type", "default", "choices", "nargs", "action"]


class TraitChange(StrictModel):
    """One trait of an option that is not the same in both commits, such as its default."""

    trait: Trait
    before: Many[int | str | None] | bool | int | float | str | None
    after: Many[int | str | None] | bool | int | float | str | None


class OptionChange(StrictModel):
    """An option that both commits have, and what is different about it."""

    name: str
    changes: Many[TraitChange]


class ScriptDifference(StrictModel):
    """One training script: ``added`` are the options that only the later-named commit has, ``removed`` those that only
    the first has, in the parsers' order."""

    script: Script
    added: Many[Option]
    removed: Many[Option]
    changed: Many[OptionChange]


class ShapeChange(StrictModel):
    """A key of the dataset file that both have: which shapes of value it takes, and whether it has to be there."""

    name: str
    before: DatasetOption
    after: DatasetOption


class LevelDifference(StrictModel):
    """One level of the dataset file."""

    level: Level
    added: Many[DatasetOption]
    removed: Many[DatasetOption]
    changed: Many[ShapeChange]


class CommitDifference(StrictModel):
    """From ``commit`` to ``against``; every script and level stands there, also where nothing differs."""

    version: Literal[1] = 1
    commit: str
    against: str
    scripts: Many[ScriptDifference]
    dataset: Many[LevelDifference]

    @property
    def same(self) -> bool:
        scripts = any(part.added or part.removed or part.changed for part in self.scripts)
        return not scripts and not any(part.added or part.removed or part.changed for part in self.dataset)


__all__ = [
    "CommitDifference", "LevelDifference", "OptionChange", "ScriptDifference", "ShapeChange", "Trait", "TraitChange",
]  # fmt: skip
