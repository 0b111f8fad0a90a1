"""What one commit of sd-scripts understands, held beside what another does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from lorabake_schemas.commits import (
    CommitDifference,
    LevelDifference,
    OptionChange,
    ScriptDifference,
    ShapeChange,
    Trait,
    TraitChange,
)
from lorabake_schemas.options import Level, Option, Snapshot
from lorabake_schemas.plan import Script

TRAITS: tuple[Trait, ...] = get_args(Trait)


def option_difference(here: Snapshot, there: Snapshot) -> CommitDifference:
    """From ``here`` to ``there``."""
    scripts: tuple[Script, ...] = get_args(Script)
    levels: tuple[Level, ...] = get_args(Level)
    return CommitDifference(
        commit=here.commit,
        against=there.commit,
        scripts=tuple(_script(script, here.of(script), there.of(script)) for script in scripts),
        dataset=tuple(_level(level, here, there) for level in levels),
    )


def _script(script: Script, here: Sequence[Option], there: Sequence[Option]) -> ScriptDifference:
    before, after = {option.name: option for option in here}, {option.name: option for option in there}
    return ScriptDifference(
        script=script,
        added=tuple(option for option in there if option.name not in before),
        removed=tuple(option for option in here if option.name not in after),
        changed=tuple(
            OptionChange(name=name, changes=changes)
            for name, option in before.items()
            if name in after and (changes := _changes(option, after[name]))
        ),
    )


def _changes(before: Option, after: Option) -> tuple[TraitChange, ...]:
    """By their form as well as their value: 1, 1.0 and true are different defaults."""
    every = (TraitChange(trait=trait, before=getattr(before, trait), after=getattr(after, trait)) for trait in TRAITS)
    return tuple(change for change in every if repr(change.before) != repr(change.after))


def _level(level: Level, here: Snapshot, there: Snapshot) -> LevelDifference:
    before, after = here.dataset.at(level), there.dataset.at(level)
    return LevelDifference(
        level=level,
        added=tuple(option for name, option in after.items() if name not in before),
        removed=tuple(option for name, option in before.items() if name not in after),
        changed=tuple(
            ShapeChange(name=name, before=option, after=after[name])
            for name, option in before.items()
            if name in after and option != after[name]
        ),
    )


__all__ = ["option_difference"]
