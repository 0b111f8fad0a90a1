"""``--set key=a,b,c``: several values of a key, and every combination of several keys."""

from __future__ import annotations

import math
import re
from itertools import product
from typing import TYPE_CHECKING

from lorabake.errors import RecipeError
from lorabake.recipe.overrides import Override, make_override, parse_override
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLOSING = {"[": "]", "{": "}", "(": ")"}
NAME_KEY = ("name",)
MAX_VARIANTS = 1000


def split_values(override: Override) -> tuple[Override, ...]:
    """The override for each of its values. They are separated by commas without blanks, outside of quotes and brackets:
    ``masterpiece, best quality`` is one text, ``[512,768]`` one list."""
    parts = _split_commas(override.text.partition("=")[2])
    if len(parts) < 2 or any(not part or part != part.strip() for part in parts):
        return (override,)
    found = [parse_override(f"{override.name}={part}") for part in parts]
    return tuple({each.value: each for each in found if each is not None}.values())


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
    Raises RecipeError for too many.
    """
    choices = [
        (each,) if _is_pair_of_numbers(each) and is_one_value(each) else split_values(each) for each in overrides
    ]
    count = math.prod(map(len, choices))
    if count > MAX_VARIANTS:
        raise RecipeError(
            msg(
                "--set gives {n} combinations, but at most {most} are trained by one command",
                n=count,
                most=MAX_VARIANTS,
            ),
            hint=msg("a value with a comma is written in quotes"),
        )
    return list(product(*choices))


def _is_pair_of_numbers(override: Override) -> bool:
    return re.fullmatch(r"\d+,\d+", override.text.partition("=")[2].strip()) is not None


def name_variants(name: str, variants: Sequence[tuple[Override, ...]]) -> list[tuple[Override, ...]]:
    """The combinations with names of their own: the recipe's, and the values that differ; a number where those look
    the same in a file's name."""
    varying = [at for at, values in enumerate(zip(*variants, strict=True)) if len({each.value for each in values}) > 1]
    taken: dict[str, int] = {}
    named: list[tuple[Override, ...]] = []
    for one in variants:
        values = [one[at].text.partition("=")[2].strip().strip("\"'") for at in varying]
        safe = [re.sub(r"[^A-Za-z0-9._]+", "_", value).strip("_.") for value in values]
        chosen = "-".join([name, *(value for value in safe if value)])
        taken[chosen] = taken.get(chosen, 0) + 1
        number = f"-{taken[chosen]}" if taken[chosen] > 1 else ""
        named.append((*one, make_override(NAME_KEY, chosen + number)))
    return named
