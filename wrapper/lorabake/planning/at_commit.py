"""A plan at another commit of sd-scripts than the pin: what that commit does not know is found before it trains.

sd-scripts pours its TOML into a namespace and passes over what it does not know (S1). What is planned for the pin
is therefore held against the other commit's own options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.kohya import TABLES, recipe_key
from lorabake_schemas.options import Level, Snapshot
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.words import Said, joined, quoted, say

# Given on the command line of every run.
FLAGS = ("config_file", "dataset_config", "training_comment")
# Keys of a concept that have another name than their option.
OTHER_NAMES = {"image_dir": "images", "class_tokens": "class"}
Where = tuple[str | int, ...]


def at_commit(plan: Plan, recipe: Recipe, snapshot: Snapshot) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan as ``snapshot``'s commit can carry it out, and what is to be said of it.

    What only labels the finished file, and lorabake would add by itself, is left out with a warning; anything else
    that the commit does not know is an error.
    """
    known = {option.name for option in snapshot.of(plan.script)}
    labels = [setting for setting in plan.train if setting.option not in known and _only_labels(setting)]
    fitting = plan.model_copy(update={"train": tuple(setting for setting in plan.train if setting not in labels)})
    found = (
        *(_left_out(setting, plan, snapshot) for setting in labels),
        *_about_flags(plan, snapshot),
        *_about_training(fitting, recipe, snapshot),
        *_about_dataset(fitting, recipe, snapshot),
    )
    return fitting, found


def _only_labels(setting: Setting) -> bool:
    return setting.option.startswith("metadata_") and setting.source.origin is not Origin.RECIPE


def _left_out(setting: Setting, plan: Plan, snapshot: Snapshot) -> Finding:
    said = say(
        "{problem}, so the LoRA's metadata goes without it",
        problem=_no_option(setting.option, plan.script, snapshot),
    )
    fix = say("leave it so, or train with the pin, which has it")
    return Finding(rule="S1", severity=Severity.WARNING, where=_where(setting.option, None), message=said, fix=fix)


def _no_option(option: str, place: str, snapshot: Snapshot) -> Said:
    return say(
        "{place} of sd-scripts {commit} has no option {option}",
        place=place,
        commit=_short(snapshot.commit),
        option=option,
    )


def _short(commit: str) -> str:
    """As git abbreviates it; what is no plain commit stays whole."""
    return commit[:12] if re.fullmatch("[0-9a-f]{40}", commit) else commit


def _about_flags(plan: Plan, snapshot: Snapshot) -> Iterator[Finding]:
    known = {option.name for option in snapshot.of(plan.script)}
    for name in FLAGS:
        if name not in known:
            said = say(
                "{problem}, without which lorabake cannot start it", problem=_no_option(name, plan.script, snapshot)
            )
            yield Finding(rule="S1", severity=Severity.ERROR, message=said, fix=say("train with the pin"))


def _about_training(plan: Plan, recipe: Recipe, snapshot: Snapshot) -> Iterator[Finding]:
    known = {option.name: option for option in snapshot.of(plan.script)}
    for setting in plan.train:
        where = _where(setting.option, recipe)
        if setting.option not in known:
            yield _unknown(setting, where, _no_option(setting.option, plan.script, snapshot))
        elif problem := known[setting.option].problem(setting.value):
            yield _misfit(setting, where, quoted(plan.script), snapshot, *problem)


def _about_dataset(plan: Plan, recipe: Recipe, snapshot: Snapshot) -> Iterator[Finding]:
    parts: list[tuple[Level, Where, tuple[Setting, ...]]] = [("datasets", (), plan.dataset)]
    for number, part in enumerate(plan.subsets):
        owner: Where = ("concept", number)
        if part.is_reg:
            owner = ("regularisation", number - len(recipe.concept))
        parts.append(("subsets", owner, part.settings))
    place = say("the dataset file")
    for level, owner, settings in parts:
        known = snapshot.dataset.at(level)
        for setting in settings:
            where, option = _where(setting.option, recipe, owner), known.get(setting.option)
            if option is None:
                yield _unknown(setting, where, _no_option(setting.option, place, snapshot))
            elif option.problem(setting.value):
                given = say("{option} is written as {value}", option=setting.option, value=str(setting.value))
                shapes = say("it takes {shapes}", shapes=", ".join(option.accepts))
                yield _misfit(setting, where, place, snapshot, given, shapes)


def _unknown(setting: Setting, where: Where, problem: Said) -> Finding:
    """An option that the commit lacks; who wrote it decides what can be done about it."""
    out = say("train with the pin, which has it")
    if setting.source.origin is Origin.RECIPE:
        fix = say("take {key} out, or {other}", key=_key(where) or setting.option, other=out)
    elif setting.value is True and _is_switch(where):
        fix = say("write {key} = false, or {other}", key=_key(where), other=out)
    else:
        fix = out
    said = say("{problem}, which this recipe leads to", problem=problem)
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=fix)


def _misfit(setting: Setting, where: Where, place: Said, snapshot: Snapshot, problem: Said, fix: Said) -> Finding:
    """A value that the commit takes in another form."""
    said = say(
        "{place} of sd-scripts {commit} takes no such {option}: {problem}",
        place=place,
        commit=_short(snapshot.commit),
        option=setting.option,
        problem=problem,
    )
    named = say("{fix}, as {key}", fix=fix, key=_key(where)) if where else fix
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=named)


def _is_switch(where: Where) -> bool:
    """Whether the recipe can say false there."""
    table = TABLES.get(str(where[0])) if len(where) == 2 else None
    field = table.model_fields.get(str(where[1])) if table else None
    return field is not None and field.annotation == (bool | None)


def _where(option: str, recipe: Recipe | None, owner: Where = ()) -> Where:
    """Where a recipe has this option, also when this one leaves it out; ``owner`` is the set of pictures."""
    if recipe is not None and option in recipe.kohya:
        return "kohya", option
    name = OTHER_NAMES.get(option, option)
    if owner and recipe is not None:
        part = recipe.concept[int(owner[1])] if owner[0] == "concept" else recipe.regularisation[int(owner[1])]
        if getattr(part, f"{name}_" if name == "class" else name, None) is not None:
            return (*owner, name)
    key = recipe_key(option)
    return tuple(key.split(".")) if key else owner


def _key(where: Where) -> Said:
    """The key as a person writes it: ``train.seed``, ``concept.flip_aug``."""
    return joined([quoted(part) for part in where if isinstance(part, str)], ".")


__all__ = ["FLAGS", "at_commit"]
