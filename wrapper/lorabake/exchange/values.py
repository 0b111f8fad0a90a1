"""Values of other programs as sd-scripts' options take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

from lorabake_schemas.base import OptionValue
from lorabake_schemas.options import Option

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "", "none")


def convert_value(option: Option, value: object) -> OptionValue | None:
    """``value`` in the type that the option has; None for one that means nothing there, such as an empty text."""
    if option.nargs == 0:
        return _convert_switch(value)
    if option.nargs == "*":
        items = cast("Sequence[object]", value) if isinstance(value, list | tuple) else (value,)
        parts = [_convert_one(option, item) for item in items if item not in (None, "")]
        kept = [part for part in parts if part is not None]
        return tuple(kept) if kept else None  # type: ignore[return-value]
    if isinstance(value, list | tuple):
        if option.type != "str":
            return None
        return ",".join(str(item) for item in cast("Sequence[object]", value))
    return _convert_one(option, value)


def _convert_switch(value: object) -> bool | None:
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else None
    return bool(value) if isinstance(value, bool | int | float) or value is None else None


def _convert_one(option: Option, value: object) -> bool | int | float | str | None:
    if isinstance(value, bool) or value is None:
        return str(value) if isinstance(value, bool) and option.type in {"str", "Path"} else None
    if option.type in {"str", "Path", None}:
        return str(value) if value != "" and isinstance(value, str | int | float) else None
    return convert_number(value, whole=option.type == "int")


def convert_number(value: object, *, whole: bool = False) -> int | float | None:
    """A number or the text of one; a whole one where it has to be, or where it is written so."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = int(text)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if whole:
        return int(value) if value == int(value) else None
    return value
