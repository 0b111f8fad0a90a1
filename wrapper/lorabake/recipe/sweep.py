"""``--set key=a,b,c``: several values of a key, and every combination of several keys."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

from lorabake.recipe.overrides import Override, make_override, parse_override

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLOSING = {"[": "]", "{": "}", "(": ")"}
NAME_KEY = ("name",)


def split_values(override: Override) -> tuple[Override, ...]:
    """The override for each of its values. They are separated by commas without blanks, outside of quotes and brackets:
    ``masterpiece, best quality`` is one text, ``[512,768]`` one list."""
    parts = _split_commas(override.text.partition("=")[2])
    if len(parts) < 2 or any(not part or part != part.strip() for part in parts):
        return (override,)
    found = [parse_override(f"{override.name}={part}") for part in parts]
    return tuple(each for each in found if each is not None)


def _split_commas(text: str) -> list[str]:
    parts, open_brackets, quote = [""], list[str](), ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign in CLOSING:
            open_brackets.append(CLOSING[sign])
        elif open_brackets and sign == open_brackets[-1]:
            open_brackets.pop()
        if sign == "," and not quote and not open_brackets:
            parts.append("")
        else:
            parts[-1] += sign
    return parts


def combine_overrides(
    overrides: Sequence[Override], is_one_value: Callable[[Override], bool]
) -> list[tuple[Override, ...]]:
    """Every combination of the values, the first key varying slowest; one without several values.

    ``is_one_value`` tells of numbers with a comma whether a recipe takes them as they are: ``resolution=512,768``.
    """
    choices = [
        (each,) if _is_pair_of_numbers(each) and is_one_value(each) else split_values(each) for each in overrides
    ]
    return list(product(*choices))


def _is_pair_of_numbers(override: Override) -> bool:
    return re.fullmatch(r"\d+,\d+", override.text.partition("=")[2].strip()) is not None


def name_variant(name: str, all_of: Sequence[tuple[Override, ...]], one: tuple[Override, ...]) -> Override:
    """The name of one of several combinations: the recipe's, and the values that differ."""
    varying = [at for at in range(len(one)) if len({each[at] for each in all_of}) > 1]
    values = [one[at].text.partition("=")[2].strip().strip("\"'") for at in varying]
    safe = [re.sub(r"[^A-Za-z0-9._]+", "_", value).strip("_.") for value in values]
    return make_override(NAME_KEY, "-".join([name, *(value for value in safe if value)]))
