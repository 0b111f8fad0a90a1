"""Answers of conditions and calculations, as shells have them. None is what only a shell knows."""

from __future__ import annotations

import re
from collections.abc import Callable

_TOKEN = re.compile(
    r"\s*(?:(0[xX][\da-fA-F]+|\d+)|([A-Za-z_]\w*)|(\*\*|\+\+|--|<<=|>>=|<<|>>|&&|\|\||[-+*/%&|^<>=!]=|[-+*/%&|^<>=!~?:,()]))"
)
_LEVELS = [
    ("||",), ("&&",), ("|",), ("^",), ("&",), ("==", "!="), ("<", "<=", ">", ">="), ("<<", ">>"), ("+", "-"),
    ("*", "/", "%"), ("**",),
]  # fmt: skip
_ASSIGNING = ("=", "+=", "-=", "*=", "/=", "%=", "<<=", ">>=", "&=", "|=", "^=")
_MAX_TEXT = 200  # characters
_MAX_NUMBER = 1 << 53
Get = Callable[[str], int | None]
Set = Callable[[str, int | None], None]


def compute(text: str, get: Get = lambda _: None, store: Set = lambda _, __: None) -> int | None:
    """A calculation with whole numbers, as shells have it, with the values of variables."""
    if len(text) > _MAX_TEXT:
        return None
    try:
        return _Sum(text, get, store).read()
    except (_NoSumError, RecursionError):
        return None


class _NoSumError(Exception):
    pass


class _Sum:
    """Reads from left to right. What is not reached, as after && with nothing, is ``skipped``: it sets nothing."""

    def __init__(self, text: str, get: Get, store: Set) -> None:
        self.tokens = list[str]()
        at = 0
        while at < len(text.rstrip()):
            if (found := _TOKEN.match(text, at)) is None:
                raise _NoSumError
            self.tokens.append(found[1] or found[2] or found[3])
            at = found.end()
        self.get, self.store, self.skipped = get, store, 0

    def read(self) -> int | None:
        value = self._read_list()
        if self.tokens:
            raise _NoSumError
        return value

    def _take(self, *wanted: str) -> str:
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in wanted else ""

    def _read_list(self) -> int | None:
        value = self._read_choice()
        while self._take(","):
            value = self._read_choice()
        return value

    def _read_choice(self) -> int | None:
        if len(self.tokens) > 1 and self.tokens[0][0].isidentifier() and self.tokens[1] in _ASSIGNING:
            name, operator = self.tokens.pop(0), self.tokens.pop(0)
            value = self._read_choice()
            if operator != "=":
                value = _calculate(self.get(name), operator[:-1], value)
            return self._set(name, value)
        holds = self._read_level(0)
        if not self._take("?"):
            return holds
        one = self._read_if(self._read_choice, unread=not holds)
        if not self._take(":"):
            raise _NoSumError
        two = self._read_if(self._read_choice, unread=bool(holds))
        return None if holds is None else one if holds else two

    def _read_if(self, read: Callable[[], int | None], *, unread: bool) -> int | None:
        self.skipped += unread
        value = read()
        self.skipped -= unread
        return value

    def _read_level(self, level: int) -> int | None:
        if level == len(_LEVELS):
            return self._read_unary()
        value = self._read_level(level + 1)
        while operator := self._take(*_LEVELS[level]):
            unread = (operator == "&&" and value == 0) or (operator == "||" and bool(value))
            other = self._read_if(lambda: self._read_level(level + (operator != "**")), unread=unread)
            if operator in {"&&", "||"}:
                both = join_both if operator == "&&" else join_either
                holds = both(*(None if each is None else bool(each) for each in (value, other)))
                value = None if holds is None else int(holds)
            else:
                value = _calculate(value, operator, other)
        return value

    def _read_unary(self) -> int | None:
        sign = self._take("-", "+", "!", "~", "++", "--")
        if sign in {"++", "--"}:
            name = self._read_name()
            return self._set(name, _calculate(self.get(name), sign[0], 1))
        if sign:
            value = self._read_unary()
            return None if value is None else {"-": -value, "+": value, "!": int(not value), "~": ~value}[sign]
        if self._take("("):
            value = self._read_list()
            if not self._take(")"):
                raise _NoSumError
            return value
        if self.tokens and self.tokens[0][0].isdigit():
            return _read_digits(self.tokens.pop(0))
        name = self._read_name()
        value = self.get(name)
        if change := self._take("++", "--"):
            self._set(name, _calculate(value, change[0], 1))
        return value

    def _read_name(self) -> str:
        if not self.tokens or not self.tokens[0].isidentifier():
            raise _NoSumError
        return self.tokens.pop(0)

    def _set(self, name: str, value: int | None) -> int | None:
        if not self.skipped:
            self.store(name, value)
        return value


def _read_digits(digits: str) -> int:
    """0x starts a hexadecimal number, 0 an octal one."""
    base = 16 if digits.lower().startswith("0x") else 8 if digits.startswith("0") else 10
    try:
        return int(digits, base)
    except ValueError as error:
        raise _NoSumError from error


def _calculate(one: int | None, operator: str, two: int | None) -> int | None:  # noqa: C901, PLR0912 - one for each operator
    if one is None or two is None or (operator in {"**", "<<", ">>"} and not 0 <= two < 64):
        return None
    if operator in {"/", "%"} and not two:
        return None
    found = 0
    match operator:
        case "+":
            found = one + two
        case "-":
            found = one - two
        case "*":
            found = one * two
        case "**":
            found = one**two
        case "/":
            found = abs(one) // abs(two) * (1 if (one < 0) == (two < 0) else -1)
        case "%":
            found = abs(one) % abs(two) * (-1 if one < 0 else 1)
        case "<<":
            found = one << two
        case ">>":
            found = one >> two
        case "&":
            found = one & two
        case "|":
            found = one | two
        case "^":
            found = one ^ two
        case _:
            found = int((one > two) - (one < two) in _ORDERS[operator])
    return found if abs(found) < _MAX_NUMBER else None


_ORDERS = {"==": (0,), "!=": (-1, 1), "<": (-1,), "<=": (-1, 0), ">": (1,), ">=": (0, 1)}


def join_both(one: bool | None, two: bool | None) -> bool | None:
    """And, where None is unknown."""
    return False if one is False or two is False else None if one is None or two is None else True


def join_either(one: bool | None, two: bool | None) -> bool | None:
    """Or, where None is unknown."""
    return True if one is True or two is True else None if one is None or two is None else False


def negate(holds: bool | None) -> bool | None:
    return None if holds is None else not holds
