"""Values of other programs, which often have numbers and switches as text, as options of sd-scripts take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, cast

from lorabake.util.resources import load_dataset_options, load_script_options
from lorabake_schemas.families import registry
from lorabake_schemas.secrets import hide_secrets

if TYPE_CHECKING:
    from lorabake_schemas.base import OptionValue
    from lorabake_schemas.options import DatasetOption, Option

_MAX_SHOWN = 200  # characters of a value in the report


@cache
def list_script_options() -> dict[str, Option]:
    """The options of every training script by name."""
    scripts = registry.list_scripts()
    return {option.name: option for script in scripts for option in load_script_options(script)}


@cache
def list_dataset_keys() -> dict[str, DatasetOption]:
    """The keys of the dataset file by name, of all its levels."""
    levels = load_dataset_options()
    found = (levels.general, levels.datasets, levels.subsets, levels.masked_subsets, levels.metadata_subsets)
    return {option.name: option for level in found for option in level}


def fit_option(option: Option, value: object) -> OptionValue | None:
    """A value as the option takes it; None if it cannot be one."""
    if option.action == "StoreTrueAction":
        return to_switch(value)
    if option.nargs == "*":
        if option.type == "float":
            return to_numbers(value)
        items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else [value]
        texts = [to_text(item) for item in items]
        found = tuple(text for text in texts if text is not None)
        return found or None
    match option.type:
        case "int":
            return to_whole(value)
        case "float" | "int_or_float":
            return to_number(value)
        case _:
            return to_text(value)


def fit_dataset_key(option: DatasetOption, value: object) -> OptionValue | None:
    """A value as the key of the dataset file takes it; None if it cannot be one."""
    for shape in option.accepts:
        fitted = _fit_shape(shape, value)
        if fitted is not None:
            return fitted
    return None


def _fit_shape(shape: str, value: object) -> OptionValue | None:
    match shape:
        case "bool":
            return to_switch(value)
        case "int":
            return to_whole(value)
        case "float":
            return to_number(value)
        case "str":
            return to_text(value)
        case "int-pair" | "float-pair":
            pair = to_numbers(value)
            return pair if pair is not None and len(pair) == 2 else None
        case _:
            return None


def to_number(value: object) -> int | float | None:
    """A finite number, also where it is written as text ("1e-4"); None for anything else."""
    if isinstance(value, str):
        value = _parse_number(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else None
    return value if math.isfinite(value) else None


def _parse_number(text: str) -> int | float | None:
    if len(text) > 40 or "_" in text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def to_whole(value: object) -> int | None:
    """A whole number, also as 10.0 or "10"."""
    number = to_number(value)
    return int(number) if number is not None and number == int(number) else None


def to_switch(value: object) -> bool | None:
    """A switch, also where it is written as text or as 0 and 1."""
    if isinstance(value, str):
        return {"true": True, "false": False, "yes": True, "no": False}.get(value.strip().lower())
    return bool(value) if isinstance(value, bool) or value in (0, 1) else None


def to_text(value: object) -> str | None:
    """Text, also of a number; None for nothing, a list, a table."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return str(value)


def to_numbers(value: object) -> tuple[int | float, ...] | None:
    """Numbers, from a list or from text such as "1,0.5"; None if one of them is not a number."""
    items: Sequence[object]
    if isinstance(value, str):
        items = [item for item in value.replace(";", ",").split(",") if item.strip()]
    elif isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
    else:
        items = [value]
    numbers = [to_number(item) for item in items]
    found = tuple(number for number in numbers if number is not None)
    return found if found and len(found) == len(numbers) else None


def to_argument(value: object) -> str:
    """A value as sd-scripts reads the right side of an argument "key=value": a Python literal or bare text."""
    if isinstance(value, list | tuple):
        return "[" + ",".join(to_argument(item) for item in cast("Sequence[object]", value)) + "]"
    if isinstance(value, str):
        return {"true": "True", "false": "False"}.get(value.strip().lower(), value.strip())
    return str(value)


def show_value(value: object) -> str:
    """A value for the report, on one line and not too long."""
    text = value if isinstance(value, str) else "" if value is None else str(value).replace("'", '"')
    if isinstance(value, bool):
        text = "true" if value else "false"
    text = hide_secrets(text)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."
