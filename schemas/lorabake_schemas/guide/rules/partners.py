"""Rules about options that have no effect: what they need is missing, or another option takes their place."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel

from lorabake_schemas.base import OptionValue
from lorabake_schemas.guide.defaults import find_schedule_override, has_own_rate
from lorabake_schemas.guide.partners import (
    CYCLES_RULE,
    FACTS,
    GENERIC_RULE,
    NEVER_READ,
    OPTION_PARTNERS,
    SAMPLES_RULE,
    SCHEDULE_RULE,
    TABLE_RULES,
    WITHOUT_PARTNERS,
    Condition,
    Partner,
)
from lorabake_schemas.guide.registry import HINT, WARNING, RuleContext, RuleHit, rule
from lorabake_schemas.guide.rules.extra_options import RESERVED_OPTIONS
from lorabake_schemas.messages import Message, join_list, literal, msg
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Captions, Concept
from lorabake_schemas.recipe_keys import KeyPath, find_option_key, list_recipe_keys, locate_option

Scope = Mapping[str, OptionValue | None]


@rule(
    GENERIC_RULE, WARNING, "An option without what it needs changes nothing, and sd-scripts is silent.", needs_plan=True
)
def option_without_effect(situation: RuleContext) -> Iterator[RuleHit]:
    yield from _find_idle_options(situation, GENERIC_RULE)
    yield from _find_unused_keys(situation)


@rule(
    SCHEDULE_RULE,
    WARNING,
    "Each scheduler reads only its own options; some optimizers have no scheduler.",
    needs_plan=True,
)
def ignored_schedule(situation: RuleContext) -> Iterator[RuleHit]:
    yield from _find_idle_options(situation, SCHEDULE_RULE)


@rule(CYCLES_RULE, WARNING, "Most schedulers silently ignore lr_scheduler_num_cycles.", needs_plan=True)
def ignored_cycles(situation: RuleContext) -> Iterator[RuleHit]:
    yield from _find_idle_options(situation, CYCLES_RULE)


@rule(
    SAMPLES_RULE, WARNING, "Sampling by epochs makes sd-scripts ignore sample_every_n_steps (TU:6386).", needs_plan=True
)
def conflicting_sample_intervals(situation: RuleContext) -> Iterator[RuleHit]:
    yield from _find_idle_options(situation, SAMPLES_RULE)


def _find_idle_options(situation: RuleContext, identity: str) -> Iterator[RuleHit]:
    for where, option, found in find_idle_options(situation):
        if found is None and identity == GENERIC_RULE:
            said = msg("sd-scripts accepts {option}, but does not use it for a LoRA", option=option)
            yield RuleHit(where, said, msg("remove it"))
        elif found is not None and found[0].rule == identity:
            said, fix = _describe_partner(where, option, *found, situation.optimizer)
            yield RuleHit(where, said, fix, severity=HINT if _is_default(option, situation) else None)


def _is_default(option: str, situation: RuleContext) -> bool:
    """Whether it is written as sd-scripts has it anyway: programs write such lines, but people may mean them."""
    plan, default = situation.plan, next((each.default for each in situation.options if each.name == option), None)
    if plan is None or default is None:
        return False
    settings = [*plan.train, *(setting for block in plan.datasets for setting in block.settings)]
    settings += [setting for part in plan.subsets for setting in part.settings]
    return all(setting.value == default for setting in settings if setting.option == option)


def _find_unused_keys(situation: RuleContext) -> Iterator[RuleHit]:
    """Keys of captions that no folder takes over: each has its own, or its captions are in a metadata file."""
    recipe, parts = situation.recipe, situation.plan.subsets if situation.plan else ()
    used = {
        locate_option(setting.option, recipe, (part.table, part.index))
        for part in parts
        for setting in part.settings
        if setting.source.origin is Origin.RECIPE
    }
    tables: list[tuple[KeyPath, BaseModel]] = [(("captions",), recipe.captions)]
    tables += [(("concept", index), concept) for index, concept in enumerate(recipe.concept)]
    for where, table in tables:
        for name in sorted(Captions.model_fields.keys() & Concept.model_fields.keys()):
            if getattr(table, name) is not None and (*where, name) not in used:
                said = msg("{option} has no effect, because no folder of images uses it", option=name)
                yield RuleHit((*where, name), said, msg("remove it"))


# A partner that is missing (None) or in the way (the condition that is met).
Unmet = tuple[Partner, Condition | None]


def find_idle_options(
    situation: RuleContext, origins: Iterable[Origin] = (Origin.RECIPE,)
) -> Iterator[tuple[KeyPath, str, Unmet | None]]:
    """Options of the plan that have no effect, where the recipe has them, and why (None: sd-scripts never reads them).

    One that is written once for several concepts has an effect if it has one for any of them.
    """
    plan = situation.plan
    if plan is None:
        return
    wanted, scopes = frozenset(origins), _build_scopes(situation, plan)
    places: dict[tuple[KeyPath, str], list[Unmet | None]] = {}
    for setting, owner, within in _list_settings(plan, scopes):
        option, value = setting.option, setting.value
        if option in WITHOUT_PARTNERS or setting.source.origin not in wanted:
            continue
        if value and value != "no":
            where = locate_option(option, situation.recipe, owner)
            places.setdefault((where, option), []).extend(_find_unmet(option, scope, plan) for scope in within)
    for (where, option), verdicts in places.items():
        if option in NEVER_READ:
            yield where, option, None
        elif verdicts and None not in verdicts:
            yield where, option, verdicts[0]


def _list_settings(plan: Plan, scopes: Sequence[Scope]) -> Iterator[tuple[Setting, KeyPath, Sequence[Scope]]]:
    """Each setting with the concept or regularization set that it is for, and with the scopes in which it applies."""
    for setting in plan.train:
        yield setting, (), scopes
    done = 0
    for block in plan.datasets:
        within = scopes[done : done + len(block.subsets)]
        done += len(block.subsets)
        for setting in block.settings:
            yield setting, (), within
        for part, scope in zip(block.subsets, within, strict=True):
            for setting in part.settings:
                yield setting, (part.table, part.index), [scope]


def _build_scopes(situation: RuleContext, plan: Plan) -> tuple[Scope, ...]:
    """What sd-scripts finds for each subset: its own value, else the dataset's, the train file's, the default."""
    common: dict[str, OptionValue | None] = {option.name: option.default for option in situation.options}
    common |= {setting.option: setting.value for setting in plan.train}
    facts = _collect_facts(situation, plan)
    return tuple(
        ChainMap(
            {setting.option: setting.value for setting in part.settings},
            facts,
            {setting.option: setting.value for setting in block.settings},
            common,
        )
        for block in plan.datasets
        for part in block.subsets
    )


def _collect_facts(situation: RuleContext, plan: Plan) -> dict[str, OptionValue | None]:
    """The facts of FACTS that are true for this plan."""
    main, unet, text = (plan.value(name) for name in ("learning_rate", "unet_lr", "text_encoder_lr"))
    unet_has_own = unet is not None or bool(plan.value("network_train_text_encoder_only"))
    text_has_own = text is not None or bool(plan.value("network_train_unet_only"))
    own = find_schedule_override(situation.recipe) == situation.optimizer
    return {
        "several_gpus": plan.launch.num_processes > 1,
        "own_rate": has_own_rate(situation.recipe.train),
        "own_schedule": own and plan.value("lr_scheduler") != "adafactor",
        "separate_rates": unet_has_own and text_has_own and main not in (unet, text),
        "safetensors_model": situation.recipe.base.model.endswith(".safetensors"),
    }


def _find_unmet(option: str, scope: Scope, plan: Plan) -> Unmet | None:
    """The first partner that is missing or in the way.

    What depends on this machine (mixed precision on a CPU) may be there on another one.
    """
    for partner in OPTION_PARTNERS.get(option, ()):
        if partner.rule not in TABLE_RULES or any(_is_by_machine(each.option, plan) for each in partner.needs):
            continue
        if partner.needs and not any(each.is_met(scope.get(each.option)) for each in partner.needs):
            return partner, None
        for each in partner.blocked:
            if each.is_met(scope.get(each.option)):
                return partner, each
    return None


def _is_by_machine(option: str, plan: Plan) -> bool:
    return any(each.option == option and each.source.origin is Origin.MACHINE for each in plan.train)


def _describe_partner(
    where: KeyPath, option: str, partner: Partner, cause: Condition | None, optimizer: str
) -> tuple[Message, Message]:
    if cause is not None:
        own = cause.option in {"own_schedule", "own_rate"}
        name = literal(optimizer) if own else _name_condition(cause)
        return msg("{option} has no effect with {partner}", option=option, partner=name), _suggest_removal(cause)
    names, fix = [_name_condition(each) for each in partner.needs], _suggest_partner(partner.needs[0], where)
    if len(names) == 1 and len(partner.needs[0].values) < 2:
        return msg("{option} has no effect without {partner}", option=option, partner=names[0]), fix
    listed = join_list(names)
    return msg("{option} has no effect without one of these: {partners}", option=option, partners=listed), fix


def _name_condition(condition: Condition) -> Message:
    """By the recipe's own key: masks, not conditioning_data_dir."""
    option = condition.option
    if option in FACTS:
        return FACTS[option][0]
    of_folders = (key.name for key in list_recipe_keys().values() if key.option == option and "." in key.name)
    name = (find_option_key(option) or next(of_folders, option)).rpartition(".")[2]
    values = ", ".join(map(format_toml_value, condition.values))
    return literal(f"{name} = {values}" if values else name)


def _suggest_partner(condition: Condition, where: KeyPath) -> Message:
    if condition.option in FACTS:
        return FACTS[condition.option][1]
    if condition.option in RESERVED_OPTIONS and find_option_key(condition.option) is None:
        return msg("remove it")
    table, name = _find_table(condition.option)
    line = f"{name} = {format_toml_value(condition.write)}"
    if where[0] == "concept" and name in Concept.model_fields:
        return msg("write {setting}, or remove it", setting=line)
    return msg("write {setting} under [{table}], or remove it", setting=line, table=table)


def _suggest_removal(condition: Condition) -> Message:
    if condition.option in FACTS:
        return FACTS[condition.option][1]
    if condition.write is not True:
        return msg("keep one of the two")
    table, name = _find_table(condition.option)
    setting = f"{name} = false"
    return msg("remove it, or write {setting} under [{table}]", setting=setting, table=table)


def _find_table(option: str) -> tuple[str, str]:
    table, _, name = (find_option_key(option) or f"kohya.{option}").rpartition(".")
    return table, name


def format_toml_value(value: OptionValue) -> str:
    """As a person writes it in a recipe."""
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
