"""A plan at a commit of sd-scripts other than the pin: options that it does not know are found before it trains.

sd-scripts copies its TOML into a namespace and ignores unknown keys (S1). What is planned for the pin is therefore
compared with the other commit's own options.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.rules.partners import format_toml_value
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.options import DatasetOption, Option, OptionSnapshot
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import KeyPath, locate_option

# Given on the command line of every run.
COMMAND_FLAGS = ("config_file", "dataset_config", "training_comment")


def fit_plan_to_commit(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> tuple[Plan, tuple[Finding, ...]]:
    """The plan as ``snapshot``'s commit can run it, and the findings about it.

    An option that lorabake adds and that only labels the finished file is left out with a warning. Any other option
    that the commit does not know is an error.
    """
    known = {option.name for option in snapshot.of(plan.script)}
    labels = [setting for setting in plan.train if setting.option not in known and _is_metadata_only(setting)]
    fitting = plan.model_copy(update={"train": tuple(setting for setting in plan.train if setting not in labels)})
    found = (
        *(_dropped_option_finding(setting, plan, snapshot) for setting in labels),
        *(_missing_flag_finding(name, plan, snapshot) for name in COMMAND_FLAGS if name not in known),
        *_check_settings(fitting, recipe, snapshot),
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
    return Finding(
        rule="S1", severity=Severity.WARNING, where=locate_option(setting.option, None), message=said, fix=fix
    )


def _missing_option_message(option: str, place: str, snapshot: OptionSnapshot) -> Message:
    commit = _short_commit(snapshot.commit)
    return msg("{place} in sd-scripts {commit} has no option {option}", place=place, commit=commit, option=option)


def _short_commit(commit: str) -> str:
    """As git abbreviates it; anything but a plain commit is not shortened."""
    return commit[:12] if re.fullmatch("[0-9a-f]{40}", commit) else commit


def _missing_flag_finding(name: str, plan: Plan, snapshot: OptionSnapshot) -> Finding:
    said = msg(
        "{problem}, and lorabake cannot start the training without it",
        problem=_missing_option_message(name, plan.script, snapshot),
    )
    return Finding(rule="S1", severity=Severity.ERROR, message=said, fix=msg("use the pinned commit"))


def _check_settings(plan: Plan, recipe: Recipe, snapshot: OptionSnapshot) -> Iterator[Finding]:
    """Each setting where sd-scripts would read it, and what its key in the recipe is."""
    for place, owner, settings, known in _list_places(plan, snapshot):
        for setting in settings:
            where, option = locate_option(setting.option, recipe, owner), known.get(setting.option)
            if option is None:
                yield _unknown_option_finding(setting, where, _missing_option_message(setting.option, place, snapshot))
            elif problem := option.problem(setting.value):
                yield _invalid_value_finding(setting, where, place, snapshot, problem[1])


def _list_places(
    plan: Plan, snapshot: OptionSnapshot
) -> Iterator[tuple[Message, KeyPath, tuple[Setting, ...], Mapping[str, Option | DatasetOption]]]:
    """The files that sd-scripts reads, the part of the recipe that each part of them is for, and what it may have."""
    dataset = msg("the dataset file")
    yield literal(plan.script), (), plan.train, {option.name: option for option in snapshot.of(plan.script)}
    shown = set[tuple[str, int]]()  # the blocks of several resolutions have the same options
    yield dataset, (), plan.datasets[0].settings, snapshot.dataset.at("datasets")
    for part in plan.subsets:
        if (part.table, part.index) not in shown:
            shown.add((part.table, part.index))
            yield dataset, (part.table, part.index), part.settings, snapshot.dataset.at(part.level)


def _unknown_option_finding(setting: Setting, where: KeyPath, problem: Message) -> Finding:
    """An option that the commit does not have; the fix depends on who set it."""
    fix = msg("use the pinned commit, which supports it")
    if setting.source.origin is Origin.RECIPE:
        fix = msg("remove {key}, or {other}", key=_format_key(where) or setting.option, other=fix)
    elif setting.value is True and where[-1:] == (setting.option,):  # a switch of the recipe
        fix = msg("write {key} = false, or {other}", key=_format_key(where), other=fix)
    said = msg("{problem}, but this recipe uses it", problem=problem)
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=fix)


def _invalid_value_finding(
    setting: Setting, where: KeyPath, place: Message, snapshot: OptionSnapshot, fix: Message
) -> Finding:
    """A value that the commit takes in another form."""
    written = f"{setting.option} = {format_toml_value(setting.value)}"
    said = msg(
        "{place} in sd-scripts {commit} does not accept {setting}",
        place=place,
        commit=_short_commit(snapshot.commit),
        setting=written,
    )
    return Finding(rule="S1", severity=Severity.ERROR, where=where, message=said, fix=fix)


def _format_key(where: KeyPath) -> Message:
    """The key as a person writes it: ``train.seed``, ``concept.flip_aug``."""
    return join_list([literal(part) for part in where if isinstance(part, str)], ".")
