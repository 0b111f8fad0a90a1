"""A plan at another commit of sd-scripts than the pin: what that commit does not know is found before it trains.

sd-scripts pours its TOML into a namespace and passes over what it does not know (S1). What is planned for the pin
is therefore held against the other commit's own options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.rules.extra_options import RECIPE_TABLES, find_recipe_key
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.options import DatasetLevel, OptionSnapshot
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Recipe

# Given on the command line of every run.
COMMAND_FLAGS = ("config_file", "dataset_config", "training_comment")
# Keys of a concept that have another name than their option.
KEY_BY_OPTION = {"image_dir": "images", "class_tokens": "class"}
KeyPath = tuple[str | int, ...]


def fit_plan_to_commit(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan as ``snapshot``'s commit can carry it out, and what is to be said of it.

    What only labels the finished file, and lorabake would add by itself, is left out with a warning; anything else
    that the commit does not know is an error.
    """
    known = {option.name for option in snapshot.of(plan.script)}
    labels = [setting for setting in plan.train if setting.option not in known and _is_metadata_only(setting)]
    fitting = plan.model_copy(update={"train": tuple(setting for setting in plan.train if setting not in labels)})
    found = (
        *(_dropped_option_finding(setting, plan, snapshot) for setting in labels),
        *_check_flags(plan, snapshot),
        *_check_train_options(fitting, recipe, snapshot),
        *_check_dataset_options(fitting, recipe, snapshot),
    )
    return fitting, found


def _is_metadata_only(setting: Setting) -> bool:
    return setting.option.startswith("metadata_") and setting.source.origin is not Origin.RECIPE


def _dropped_option_finding(setting: Setting, plan: Plan, snapshot: OptionSnapshot) -> Finding:
    said = msg(
        "{problem}, so it will be missing from the LoRA's metadata",
        problem=_missing_option_message(setting.option, plan.script, snapshot),
    )
    fix = msg("ignore this, or use the pinned commit, which supports it")
    return Finding(rule="S1", severity=Severity.WARNING, where=_key_path(setting.option, None), message=said, fix=fix)


def _missing_option_message(option: str, place: str, snapshot: OptionSnapshot) -> Message:
    return msg(
        "{place} in sd-scripts {commit} has no option {option}",
        place=place,
        commit=_short_commit(snapshot.commit),
        option=option,
    )


def _short_commit(commit: str) -> str:
    """As git abbreviates it; what is no plain commit stays whole."""
    return commit[:12] if re.fullmatch("[0-9a-f]{40}", commit) else commit


def _check_flags(plan: Plan, snapshot: OptionSnapshot) -> Iterator[Finding]:
    known = {option.name for option in snapshot.of(plan.script)}
    for name in COMMAND_FLAGS:
        if name not in known:
            said = msg(
                "{problem}, and lorabake cannot start the training without it",
                problem=_missing_option_message(name, plan.script, snapshot),
            )
            yield Finding(rule="S1", severity=Severity.ERROR, message=said, fix=msg("use the pinned commit"))


def _check_train_options(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> Iterator[Finding]:
    known = {option.name: option for option in snapshot.of(plan.script)}
    for setting in plan.train:
        where = _key_path(setting.option, recipe)
        if setting.option not in known:
            yield _unknown_option_finding(
                setting, where, _missing_option_message(setting.option, plan.script, snapshot)
            )
        elif problem := known[setting.option].problem(setting.value):
            yield _invalid_value_finding(setting, where, literal(plan.script), snapshot, *problem)


def _check_dataset_options(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> Iterator[Finding]:
    parts: list[tuple[DatasetLevel, KeyPath, tuple[Setting, ...]]] = [("datasets", (), plan.dataset)]
    for number, part in enumerate(plan.subsets):
        owner: KeyPath = ("concept", number)
        if part.is_reg:
            owner = ("regularization", number - len(recipe.concept))
        parts.append(("subsets", owner, part.settings))
    place = msg("the dataset file")
    for level, owner, settings in parts:
        known = snapshot.dataset.at(level)
        for setting in settings:
            where, option = _key_path(setting.option, recipe, owner), known.get(setting.option)
            if option is None:
                yield _unknown_option_finding(setting, where, _missing_option_message(setting.option, place, snapshot))
            elif option.problem(setting.value):
                given = msg("{option} is set to {value}", option=setting.option, value=str(setting.value))
                shapes = msg("use {shapes}", shapes=", ".join(option.accepts))
                yield _invalid_value_finding(setting, where, place, snapshot, given, shapes)


def _unknown_option_finding(setting: Setting, where: KeyPath, problem: Message) -> Finding:
    """An option that the commit lacks; who wrote it decides what can be done about it."""
    out = msg("use the pinned commit, which supports it")
    if setting.source.origin is Origin.RECIPE:
        fix = msg("remove {key}, or {other}", key=_format_key(where) or setting.option, other=out)
    elif setting.value is True and _is_switch(where):
        fix = msg("write {key} = false, or {other}", key=_format_key(where), other=out)
    else:
        fix = out
    said = msg("{problem}, but this recipe uses it", problem=problem)
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=fix)


def _invalid_value_finding(
    setting: Setting, where: KeyPath, place: Message, snapshot: OptionSnapshot, problem: Message, fix: Message
) -> Finding:
    """A value that the commit takes in another form."""
    said = msg(
        "{place} of sd-scripts {commit} does not accept this value for {option}: {problem}",
        place=place,
        commit=_short_commit(snapshot.commit),
        option=setting.option,
        problem=problem,
    )
    named = msg("for {key}, {fix}", fix=fix, key=_format_key(where)) if where else fix
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=named)


def _is_switch(where: KeyPath) -> bool:
    """Whether the recipe can say false there."""
    table = RECIPE_TABLES.get(str(where[0])) if len(where) == 2 else None
    field = table.model_fields.get(str(where[1])) if table else None
    return field is not None and field.annotation == (bool | None)


def _key_path(option: str, recipe: Recipe | None, owner: KeyPath = ()) -> KeyPath:
    """Where a recipe has this option, also when this one leaves it out; ``owner`` is the set of pictures."""
    if recipe is not None and option in recipe.kohya:
        return "kohya", option
    name = KEY_BY_OPTION.get(option, option)
    if owner and recipe is not None:
        part = recipe.concept[int(owner[1])] if owner[0] == "concept" else recipe.regularization[int(owner[1])]
        if getattr(part, f"{name}_" if name == "class" else name, None) is not None:
            return (*owner, name)
    key = find_recipe_key(option)
    return tuple(key.split(".")) if key else owner


def _format_key(where: KeyPath) -> Message:
    """The key as a person writes it: ``train.seed``, ``concept.flip_aug``."""
    return join_list([literal(part) for part in where if isinstance(part, str)], ".")
