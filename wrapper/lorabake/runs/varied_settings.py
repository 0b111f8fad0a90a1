"""The recipe's settings in which several runs of one recipe differ: what a sweep varied, or what was edited between two
runs. By the copies of the recipe in the records.
"""

from __future__ import annotations

import json
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lorabake.inputs.manifest import resolve_from_run
from lorabake.runs.event_kinds import encode_number
from lorabake_schemas.messages import escape_undecodable
from lorabake_schemas.recipe import lift_keys

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lorabake_schemas.record import Record

MAX_DEPTH = 4  # of lists in lists
NAME_KEY = "name"  # that of each variant of a sweep is its own


def find_varied_settings(records: Mapping[Path, Record]) -> dict[Path, dict[str, JsonValue]]:
    """By run folder: the settings that are not the same in all runs of its recipe's file, with the value of this run;
    None where its recipe does not have it. Keys are those of --set, in the order of the recipe.
    """
    recipes: dict[tuple[str, bool], list[Path]] = defaultdict(list)
    for root, record in records.items():
        recipes[resolve_from_run(root, record.recipe_place), record.rehearsal].append(root)
    varied: dict[Path, dict[str, JsonValue]] = {}
    for roots in recipes.values():
        texts = {root: records[root].recipe_text for root in roots}
        if len(set(texts.values())) > 1:
            varied |= _compare_settings({root: _read_settings(text) for root, text in texts.items()})
    return varied


def _compare_settings(settings: Mapping[Path, Mapping[str, JsonValue]]) -> dict[Path, dict[str, JsonValue]]:
    keys = dict.fromkeys(key for each in settings.values() for key in each)
    differing = [key for key in keys if len({json.dumps(each.get(key)) for each in settings.values()}) > 1]
    return {root: {key: each.get(key) for key in differing} for root, each in settings.items()}


def _read_settings(recipe: str) -> dict[str, JsonValue]:
    """Every value of a recipe by its key; none of one that cannot be read."""
    try:
        raw = lift_keys(tomllib.loads(recipe))
        return {key: value for key, value in _iter_settings("", raw) if key != NAME_KEY}
    except (ValueError, RecursionError):
        return {}


def _iter_settings(name: str, value: object) -> Iterator[tuple[str, JsonValue]]:
    """Tables in a list are numbered from the second on: ``concept.num_repeats``, ``concept#2.num_repeats``."""
    entries = _list_entries(value)
    if isinstance(value, dict):
        for key, each in cast("dict[str, object]", value).items():
            yield from _iter_settings(f"{name}.{key}" if name else key, each)
    elif any(isinstance(each, dict) for each in entries):
        for number, each in enumerate(entries, 1):
            yield from _iter_settings(name if number == 1 else f"{name}#{number}", each)
    else:
        yield escape_undecodable(name), _to_json(value)


def _list_entries(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _to_json(value: object, depth: int = 0) -> JsonValue:
    """TOML's dates as text, its NaN and infinity as in events, and texts that can be written as UTF-8. Numbers beyond
    64 bits and lists that are nested more deeply than any setting are text, too.
    """
    if isinstance(value, list) and depth < MAX_DEPTH:
        return [_to_json(each, depth + 1) for each in cast("list[object]", value)]
    if isinstance(value, float):
        return encode_number(value)
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else hex(value)
    return escape_undecodable("[...]" if isinstance(value, list) else str(value))
