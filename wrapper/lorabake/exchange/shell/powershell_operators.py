"""Values of PowerShell and its operators. Of what only PowerShell knows, the text is how it is written."""

from __future__ import annotations

import math
from fnmatch import fnmatchcase

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.budget import MAX_STEPS, check_size, refuse_size
from lorabake.exchange.shell.script import Value

_ORDERS = {"eq": (0,), "ne": (-1, 1), "gt": (1,), "lt": (-1,), "ge": (0, 1), "le": (-1, 0)}


class Plain(str):
    """A number or a boolean, which differs from the same text in conditions and sums."""

    __slots__ = ()


class Unknown(str):
    """What only PowerShell knows, as it is written."""

    __slots__ = ()


def holds(value: Value) -> bool | None:
    if isinstance(value, list):
        answers = [holds(item) for item in value]
        return None if None in answers else len(value) > 1 or any(answers)
    if isinstance(value, Plain):
        number = to_number(value)
        return value != "False" if number is None else number != 0
    return None if isinstance(value, Unknown) else bool(value)


def to_plain(holds: bool | None, written: str) -> str:
    return Unknown(written) if holds is None else Plain(holds)


def show_number(number: float) -> str:
    return Plain(int(number) if abs(number) < 1 << 53 and float(number).is_integer() else number)


def calculate(one: Value, operator: str, two: Value) -> Value:  # noqa: PLR0911 - one for each operator
    """A sum with numbers; a text or a list is repeated."""
    unknown = Unknown("?")
    if isinstance(one, Unknown) or isinstance(two, Unknown | list):
        return unknown
    right = to_number(two) if two.strip() else 0
    if operator == "*" and not isinstance(one, Plain) and isinstance(right, int):
        check_size(len(one) * max(right, 0))
        return one * right
    left = None if isinstance(one, list) else to_number(one) if one.strip() else 0
    if left is None or right is None:
        return unknown
    match operator:
        case "+":
            return show_number(left + right)
        case "-":
            return show_number(left - right)
        case "*":
            return show_number(left * right)
        case _ if not right:
            return unknown
        case "/":
            return show_number(left / right)
        case _:
            return show_number(math.fmod(left, right))


def count_up(one: Value, two: Value, written: str) -> Value:
    ends = [to_number(each) if isinstance(each, str) else None for each in (one, two)]
    if not isinstance(ends[0], int) or not isinstance(ends[1], int):
        return Unknown(written)
    if abs(ends[0] - ends[1]) > MAX_STEPS:
        refuse_size()
    step = 1 if ends[0] <= ends[1] else -1
    return [Plain(number) for number in range(ends[0], ends[1] + step, step)]


def cast(kind: str, value: Value) -> Value:
    if kind == "void":
        return []
    number = to_number(value) if isinstance(value, str) else None
    if isinstance(value, Unknown):
        return value
    if kind in {"int", "long", "float", "double"} and number is not None:
        return show_number(round(number) if kind in {"int", "long"} else number)
    if kind == "string":
        return " ".join(value) if isinstance(value, list) else str(value)
    if kind in {"bool", "switch"}:
        return Plain(bool(holds(value)))
    return [value] if kind.endswith(("[]", "array")) and isinstance(value, str) else value


def compare(one: Value, operator: str, two: Value) -> Value:  # noqa: PLR0911 - one for each operator
    """An operator between two values that has a name."""
    unknown = Unknown("?")
    if any(
        isinstance(item, Unknown) for value in (one, two) for item in (value if isinstance(value, list) else [value])
    ):
        return unknown
    base = operator[1:] if operator[0] in "ci" and operator not in {"contains", "in"} else operator
    if base in {"contains", "notcontains", "in", "notin"}:
        items, wanted = (one, two) if "contains" in base else (two, one)
        items = items if isinstance(items, list) else [items]
        return Plain((str(wanted).lower() in [each.lower() for each in items]) != base.startswith("not"))
    if base == "join":
        text = (two if isinstance(two, str) else "").join(one)
        check_size(len(text))
        return text
    if isinstance(one, list) or isinstance(two, list):
        return unknown
    left, right = (one, two) if operator == f"c{base}" else (one.lower(), two.lower())
    if base in {"like", "notlike"}:
        return Plain(fnmatchcase(left, right) != (base == "notlike"))
    if base not in _ORDERS:
        return unknown
    numbers = to_number(one), to_number(two)
    if isinstance(one, Plain) and numbers[0] is not None and numbers[1] is not None:
        order = (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    else:
        order = (left > right) - (left < right)
    return Plain(order in _ORDERS[base])
