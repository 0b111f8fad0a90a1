"""What lorabake writes into typical recipes: the values that `explain` shows are resolved, never listed by hand."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from types import MappingProxyType
from typing import Literal, get_args

from lorabake.analysis.check import ATTENTION_NOT_PROBED
from lorabake.errors import RecipeError
from lorabake.planning.resolve import resolve_plan
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import CaptionFacts, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.machine import BaseFacts, Family, Gpu, MachineFacts
from lorabake_schemas.plan import Origin, Plan, Setting, Source
from lorabake_schemas.recipe import NetworkType, Recipe, RecipeKind, TagStyle
from lorabake_schemas.sd_scripts import OPTIMIZERS

TomlTable = Mapping[str, object]
KINDS: tuple[RecipeKind, ...] = get_args(RecipeKind)
FAMILIES: tuple[Family, ...] = get_args(Family)
NETWORK_TYPES: tuple[NetworkType, ...] = get_args(NetworkType)
TAG_STYLES: tuple[TagStyle, ...] = get_args(TagStyle)
EXAMPLE_IMAGES = 30  # as many as the guide recommends (G1.2)
EXAMPLE_MACHINE = MachineFacts(
    system="Linux", cpus=8, memory_bytes=32 << 30, gpus=(Gpu(name="a GPU", memory_mib=12288),)
)
# Recipe keys whose option has another name.
OPTION_BY_KEY: Mapping[str, str] = MappingProxyType(
    {
        "optimizer": "optimizer_type",
        "train_batch_size": "batch_size",
        "type": "network_module",
        "class": "class_tokens",
        "token": "class_tokens",
        "images": "image_dir",
        "model": "pretrained_model_name_or_path",
        "name": "output_name",
        "attention": "xformers",
    }
)


@dataclass(frozen=True, slots=True)
class ExampleRecipe:
    """One typical recipe. ``also`` is what it says beyond family and kind: TOML on one line, or a key of SHORTENED."""

    family: Family
    kind: RecipeKind
    also: str = ""


@dataclass(frozen=True, slots=True)
class DefaultValue:
    """A value, where it comes from, and the recipes that get it. ``value`` None: the option is not written."""

    value: OptionValue | None
    source: Source | None
    cases: tuple[ExampleRecipe, ...]


def _build_concept(token: str, outfit: str | None = None) -> TomlTable:
    return {"token": token, "class": "class", "images": token} | ({"outfit": outfit} if outfit else {})


# What a recipe says beyond family and kind, as it says it, or shortened where that takes several lines.
ABBREVIATED_TABLES: Mapping[str, TomlTable] = MappingProxyType(
    {
        "[[regularization]]": {"regularization": [{"class": "class", "images": "regularization"}]},
        "several [[concept]]": {"concept": [_build_concept("token"), _build_concept("other")]},
    }
)
RECIPE_VARIANTS = (
    *(f'train.optimizer = "{name}"' for name in OPTIMIZERS),
    *(f'network.type = "{name}"' for name in NETWORK_TYPES),
    *(f'base.tags = "{name}"' for name in TAG_STYLES),
    "base.v_prediction = true",
    *ABBREVIATED_TABLES,
)


def build_example_recipe(case: ExampleRecipe) -> Recipe:
    """A small recipe of this case."""
    raw: dict[str, object] = {
        "name": "typical",
        "kind": case.kind,
        "base": {"model": "model.safetensors", "family": case.family},
        "concept": [_build_concept("token", "outfit" if case.kind == "outfits" else None)],
    }
    also = ABBREVIATED_TABLES[case.also] if case.also in ABBREVIATED_TABLES else tomllib.loads(case.also)
    for key, value in also.items():
        before = raw.get(key)
        raw[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
    return Recipe.model_validate(raw)


@cache
def plan_example(case: ExampleRecipe) -> Plan | None:
    """The plan of a typical recipe on a GPU of 12 GB with 30 square pictures a concept, None where it has none."""
    recipe = build_example_recipe(case)
    side = 1024 if case.family == "sdxl" else 768
    images = tuple(
        ImageFacts(f"{n}.png", side, side, mode="RGB", caption=CaptionFacts("a")) for n in range(EXAMPLE_IMAGES)
    )
    facts = DatasetFacts(
        tuple(FolderFacts(part.images, images) for part in recipe.concept),
        tuple(FolderFacts(part.images, images) for part in recipe.regularization),
    )
    try:
        return resolve_plan(
            recipe, BaseFacts(kind="file", family=case.family), facts, EXAMPLE_MACHINE, ATTENTION_NOT_PROBED
        )
    except RecipeError:
        return None


def option_for_key(name: str) -> str:
    """The sd-scripts option of a recipe key or an option: ``train.optimizer`` is ``optimizer_type``."""
    last = name.rpartition(".")[2]
    return OPTION_BY_KEY.get(last, last)


def find_setting(plan: Plan, option: str) -> Setting | None:
    """An option wherever the plan has it: a concept's block, the dataset, the train file, or among network_args."""
    places = (*(subset.settings for subset in plan.subsets[:1]), plan.dataset, plan.train)
    found = next((each for place in places for each in place if each.option == option), None)
    return found or _find_network_arg(plan, option)


def _find_network_arg(plan: Plan, option: str) -> Setting | None:
    given = next((each for each in plan.train if each.option == "network_args"), None)
    if given is None or not isinstance(given.value, tuple):
        return None
    for item in given.value:
        name, _, value = str(item).partition("=")
        if name == option:  # the sources of all arguments are told together: which rule is this one's is not known
            return Setting(option=option, value=value, source=given.source.model_copy(update={"rule": "", "why": ""}))
    return None


def list_default_values(option: str) -> tuple[DefaultValue, ...]:
    """The values that an option gets, per family and kind, then what another optimizer, network or dataset changes.

    Empty when no typical recipe gets it.
    """
    plain = {(case.family, case.kind): _value_and_source(case, option) for case in _list_examples()}
    told = [*_group_by_value(_list_examples(), option)]
    for also in RECIPE_VARIANTS:
        changed = [
            case
            for case in _list_examples(also)
            if _value_and_source(case, option)[0] != plain[case.family, case.kind][0]
        ]
        told += _group_by_value(changed, option)
    return _merge_values(told) if any(each.value is not None for each in told) else ()


def _merge_values(typical: Sequence[DefaultValue]) -> tuple[DefaultValue, ...]:
    """What several networks or optimizers do to the same recipes with the same value is one thing to know."""
    groups: dict[object, list[DefaultValue]] = {}
    for each in typical:
        spots = frozenset((case.family, case.kind) for case in each.cases)
        rule = each.source.rule if each.source else ""
        plain = all(not case.also for case in each.cases)
        groups.setdefault((repr(each.value), rule, spots, plain), []).append(each)
    return tuple(
        DefaultValue(same[0].value, same[0].source, sum((e.cases for e in same), ())) for same in groups.values()
    )


Axis = Literal["optimizer", "network", "kind", "family"]


def list_effects(axis: Axis, name: str) -> Mapping[str, tuple[DefaultValue, ...]]:
    """What an optimizer, a network, a kind or a family decides: every option that another one of its axis would give
    another value, with the values that this one gives."""
    mine = _examples_along(axis, name)
    others = [_examples_along(axis, other) for other in _axis_names(axis) if other != name]
    options = dict.fromkeys(each.option for case in (*mine, *chain(*others)) for each in _iter_settings(case))
    differing = [
        option for option in options if any(_option_values(mine, option) != _option_values(o, option) for o in others)
    ]
    return {option: found for option in differing if (found := tuple(_group_by_value(mine, option)))}


def _axis_names(axis: Axis) -> Sequence[str]:
    return {"optimizer": OPTIMIZERS, "network": NETWORK_TYPES, "kind": KINDS, "family": FAMILIES}[axis]


def _examples_along(axis: Axis, name: str) -> list[ExampleRecipe]:
    """An object for optimizers and networks: kinds have their own page."""
    match axis:
        case "optimizer":
            return [ExampleRecipe(family, "object", f'train.optimizer = "{name}"') for family in FAMILIES]
        case "network":
            return [ExampleRecipe(family, "object", f'network.type = "{name}"') for family in FAMILIES]
        case "kind":
            return [case for case in _list_examples() if case.kind == name]
        case "family":
            return [case for case in _list_examples() if case.family == name]


def _option_values(cases: Sequence[ExampleRecipe], option: str) -> list[str]:
    return [repr(_value_and_source(case, option)[0]) for case in cases]


def _iter_settings(case: ExampleRecipe) -> Iterator[Setting]:
    plan = plan_example(case)
    if plan:
        yield from (*plan.train, *plan.dataset, *plan.subsets[0].settings)


def _list_examples(also: str = "") -> list[ExampleRecipe]:
    return [ExampleRecipe(family, kind, also) for family in FAMILIES for kind in KINDS]


def _value_and_source(case: ExampleRecipe, option: str) -> tuple[OptionValue | None, Source | None]:
    plan = plan_example(case)
    found = find_setting(plan, option) if plan else None
    return (found.value, found.source) if found else (None, None)


def _group_by_value(cases: Sequence[ExampleRecipe], option: str) -> Iterator[DefaultValue]:
    """The cases of one value and one source together, in the order of their first."""
    groups: dict[str, tuple[OptionValue | None, Source | None, list[ExampleRecipe]]] = {}
    for case in cases:
        value, source = _value_and_source(case, option)
        rule = source.rule if source else ""
        groups.setdefault(f"{value!r} {rule}", (value, source, []))[2].append(case)
    for value, source, found in groups.values():
        if source is None or source.origin is not Origin.RECIPE:  # what the recipe itself says is not worth saying
            yield DefaultValue(value, source, tuple(found))
