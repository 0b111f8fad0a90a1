"""What one commit of sd-scripts understands, held beside what another does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.options import DatasetLevel, Option, OptionSnapshot
from lorabake_schemas.plan import Script
from lorabake_schemas.versions import (
    CommitDifference,
    DatasetOptionChange,
    LevelDifference,
    OptionChange,
    OptionTrait,
    ScriptDifference,
    TraitChange,
)

OPTION_TRAITS: tuple[OptionTrait, ...] = get_args(OptionTrait)


def diff_options(here: OptionSnapshot, there: OptionSnapshot) -> CommitDifference:
    """From ``here`` to ``there``."""
    levels: tuple[DatasetLevel, ...] = get_args(DatasetLevel)
    return CommitDifference(
        commit=here.commit,
        against=there.commit,
        scripts=tuple(_diff_script(script, here.of(script), there.of(script)) for script in list_scripts()),
        dataset=tuple(_diff_level(level, here, there) for level in levels),
    )


def _diff_script(script: Script, here: Sequence[Option], there: Sequence[Option]) -> ScriptDifference:
    before, after = {option.name: option for option in here}, {option.name: option for option in there}
    return ScriptDifference(
        script=script,
        added=tuple(option for option in there if option.name not in before),
        removed=tuple(option for option in here if option.name not in after),
        changed=tuple(
            OptionChange(name=name, changes=changes)
            for name, option in before.items()
            if name in after and (changes := _diff_option(option, after[name]))
        ),
    )


def _diff_option(before: Option, after: Option) -> tuple[TraitChange, ...]:
    """By their form as well as their value: 1, 1.0 and true are different defaults."""
    every = (
        TraitChange(trait=trait, before=getattr(before, trait), after=getattr(after, trait)) for trait in OPTION_TRAITS
    )
    return tuple(change for change in every if repr(change.before) != repr(change.after))


def _diff_level(level: DatasetLevel, here: OptionSnapshot, there: OptionSnapshot) -> LevelDifference:
    before, after = here.dataset.at(level), there.dataset.at(level)
    return LevelDifference(
        level=level,
        added=tuple(option for name, option in after.items() if name not in before),
        removed=tuple(option for name, option in before.items() if name not in after),
        changed=tuple(
            DatasetOptionChange(name=name, before=option, after=after[name])
            for name, option in before.items()
            if name in after and option != after[name]
        ),
    )
