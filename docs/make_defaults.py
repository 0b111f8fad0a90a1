"""Writes schemas/lorabake_schemas/guide/book/defaults.json: what lorabake writes for a setting when a recipe does not.

Several hundred small recipes are resolved, one for each family and kind, alone and with each optimizer, network and so
on; `lorabake explain` and docs/recipe.md read the table. ``--check`` fails when it is out of date.
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple, get_args

from lorabake.analysis.check import ATTENTION_NOT_PROBED
from lorabake.analysis.explain import list_network_args
from lorabake.planning.resolve import resolve_plan
from lorabake_schemas.dataset import CaptionFacts, DatasetFacts, FolderFacts, ImageFacts
from lorabake_schemas.families.registry import get_family
from lorabake_schemas.guide.default_values import (
    DEFAULTS_FILE,
    FAMILIES,
    KINDS,
    NETWORK_TYPES,
    Axis,
    DefaultValue,
    RecipeGroup,
)
from lorabake_schemas.machine import BaseFacts, Family, Gpu, MachineFacts
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Recipe, RecipeKind, TagStyle
from lorabake_schemas.sd_scripts import OPTIMIZERS

FILE = Path(__file__).resolve().parents[1] / "schemas/lorabake_schemas/guide/book" / DEFAULTS_FILE
IMAGES = 30  # of a concept: as many as the guide recommends (G1.2)
MACHINE = MachineFacts(system="Linux", cpus=8, memory_bytes=32 << 30, gpus=(Gpu(name="a GPU", memory_mib=12288),))
EXAMPLE_ONLY = ("output_name",)  # its value is the example's own
REGULARIZATION, CONCEPTS = "[[regularization]]", "several [[concept]]"
VARIANTS = (
    *(f'train.optimizer = "{name}"' for name in OPTIMIZERS),
    *(f'network.type = "{name}"' for name in NETWORK_TYPES),
    *(f'base.tags = "{name}"' for name in get_args(TagStyle)),
    "base.v_prediction = true",
    REGULARIZATION,
    CONCEPTS,
)
AXES: Mapping[Axis, Sequence[str]] = {
    "optimizer": OPTIMIZERS,
    "network": NETWORK_TYPES,
    "kind": KINDS,
    "family": FAMILIES,
}


class Example(NamedTuple):
    """A recipe with nothing but what it needs, and one line more (``also``)."""

    family: Family
    kind: RecipeKind
    also: str = ""


def main() -> None:
    """Write, or with --check compare."""
    text = format_table()
    if "--check" not in sys.argv:
        FILE.write_text(text, encoding="utf-8", newline="\n")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        sys.exit(f"out of date: {FILE.name} (make docs)")


def format_table() -> str:
    """The complete file, one line for each option."""
    examples = [*list_examples(), *(each for also in VARIANTS for each in list_examples(also))]
    options = sorted({name for each in examples for name in all_settings(each)} - set(EXAMPLE_ONLY))
    table: dict[str, dict[str, object]] = {"option": {name: dump(list_defaults(name)) for name in options}}
    for axis, names in AXES.items():
        table[axis] = {name: list_effects(axis, name) for name in names}
    parts = [f"{json.dumps(part)}: {{\n{join_lines(inner)}\n}}" for part, inner in table.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def join_lines(inner: Mapping[str, object]) -> str:
    return ",\n".join(f"{json.dumps(name)}: {json.dumps(each, ensure_ascii=False)}" for name, each in inner.items())


def dump(defaults: Iterable[DefaultValue]) -> list[object]:
    return [each.model_dump(mode="json", exclude_defaults=True) for each in defaults]


def list_examples(also: str = "") -> list[Example]:
    return [Example(family, kind, also) for family in FAMILIES for kind in KINDS]


@cache
def plan_example(example: Example) -> Plan:
    """On a GPU of 12 GB, with 30 square images of each concept."""
    recipe = build_recipe(example)
    side = get_family(example.family).guide.resolution.value
    images = tuple(ImageFacts(f"{n}.png", side, side, mode="RGB", caption=CaptionFacts("a")) for n in range(IMAGES))
    facts = DatasetFacts(
        tuple(FolderFacts(each.images, images) for each in recipe.concept),
        tuple(FolderFacts(each.images, images) for each in recipe.regularization),
    )
    base = BaseFacts(kind="file", family=example.family)
    return resolve_plan(recipe, base, facts, MACHINE, ATTENTION_NOT_PROBED)


def build_recipe(example: Example) -> Recipe:
    base: dict[str, object] = {"model": "model.safetensors", "family": example.family}
    concept = {"token": "token", "class": "class", "images": "token"}
    if example.kind == "outfits":
        concept["outfit"] = "outfit"
    raw: dict[str, object] = {"name": "example", "kind": example.kind, "base": base, "concept": [concept]}
    if example.also == REGULARIZATION:
        raw["regularization"] = [{"class": "class", "images": "regularization"}]
    elif example.also == CONCEPTS:
        raw["concept"] = [concept, {**concept, "token": "other", "images": "other"}]
    else:
        given = tomllib.loads(example.also)
        raw |= {table: {**base, **keys} if table == "base" else keys for table, keys in given.items()}
    return Recipe.model_validate(raw)


@cache
def plan_settings(example: Example) -> Mapping[str, Setting]:
    plan = plan_example(example)
    return {each.option: each for each in (*plan.train, *plan.datasets[0].settings, *plan.subsets[0].settings)}


@cache
def all_settings(example: Example) -> Mapping[str, Setting]:
    """Every setting of a plan by its option, and the network's arguments, each by its name."""
    return {**list_network_args(plan_example(example)), **plan_settings(example)}


def group(examples: Sequence[Example], option: str) -> Iterator[tuple[Setting | None, list[Example]]]:
    """The examples of one value and one rule together, in the order of their first; without the values that they set
    themselves.
    """
    groups: dict[object, tuple[Setting | None, list[Example]]] = {}
    for each in examples:
        found = all_settings(each).get(option)
        key = (repr(found.value), found.source.rule) if found else None
        groups.setdefault(key, (found, []))[1].append(each)
    return ((found, same) for found, same in groups.values() if not found or found.source.origin is not Origin.RECIPE)


def list_defaults(option: str) -> list[DefaultValue]:
    """What an option gets by family and kind, then what an optimizer, a network or anything else changes."""
    found = list(group(list_examples(), option))
    for also in VARIANTS:
        changed = [each for each in list_examples(also) if value(each, option) != value(each._replace(also=""), option)]
        found += group(changed, option)
    return [make_default(*each) for each in merge(found)] if any(setting for setting, _ in found) else []


def merge(found: Iterable[tuple[Setting | None, list[Example]]]) -> Iterable[tuple[Setting | None, list[Example]]]:
    """What several networks or optimizers do to the same recipes with the same value is one thing to know."""
    groups: dict[object, tuple[Setting | None, list[Example]]] = {}
    for setting, examples in found:
        cells = frozenset((each.family, each.kind) for each in examples)
        what = (repr(setting.value), setting.source.rule) if setting else None
        groups.setdefault((what, cells, not examples[0].also), (setting, []))[1].extend(examples)
    return groups.values()


def make_default(setting: Setting | None, examples: Sequence[Example]) -> DefaultValue:
    kinds: dict[str, tuple[RecipeKind, ...]] = {
        family: tuple(kind for kind in KINDS if any(each[:2] == (family, kind) for each in examples))
        for family in FAMILIES
    }
    distinct = dict.fromkeys(mine for mine in kinds.values() if mine)
    groups = tuple(
        RecipeGroup(families=tuple(f for f in FAMILIES if kinds[f] == mine), kinds=mine) for mine in distinct
    )
    also = tuple(dict.fromkeys(each.also for each in examples if each.also))
    if setting is None:
        return DefaultValue(recipes=groups, also=also)
    return DefaultValue(value=setting.value, source=setting.source, recipes=groups, also=also)


def value(example: Example, option: str) -> str:
    found = all_settings(example).get(option)
    return repr(found.value) if found else ""


def list_effects(axis: Axis, name: str) -> dict[str, list[object]]:
    """What an optimizer, a network, a kind or a family decides: every option that another one of its axis would give
    another value, with the values that this one gives."""
    mine = examples_along(axis, name)
    others = [examples_along(axis, other) for other in AXES[axis] if other != name]
    options = dict.fromkeys(option for each in (*mine, *chain(*others)) for option in plan_settings(each))
    differing = [
        option
        for option in options
        if any([value(each, option) for each in mine] != [value(each, option) for each in other] for other in others)
    ]
    effects = {option: dump(make_default(*each) for each in group(mine, option)) for option in differing}
    return {option: found for option, found in effects.items() if found}


def examples_along(axis: Axis, name: str) -> list[Example]:
    """An object for optimizers and networks: kinds have their own page."""
    match axis:
        case "optimizer" | "network":
            also = f'train.optimizer = "{name}"' if axis == "optimizer" else f'network.type = "{name}"'
            return [Example(family, "object", also) for family in FAMILIES]
        case "kind":
            return [each for each in list_examples() if each.kind == name]
        case _:
            return [each for each in list_examples() if each.family == name]


if __name__ == "__main__":
    main()
