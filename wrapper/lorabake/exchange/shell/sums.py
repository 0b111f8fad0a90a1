"""Answers of conditions and calculations, as shells have them. None is what only a shell knows."""

from __future__ import annotations

import ast
import re


def compute(text: str) -> int | None:
    """A calculation with whole numbers, as shells have it; None for anything else."""
    if len(text) > 100 or re.fullmatch(r"[\d\s+*/%()<>=!-]+", text) is None:
        return None
    try:
        return _compute(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        return None


def _compute(node: ast.expr) -> int | None:
    found: int | None = None
    match node:
        case ast.Constant(value=int() as value):
            found = value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            inner = _compute(operand)
            found = None if inner is None else -inner
        case ast.BinOp(left=left, op=operator, right=right):
            one, two = _compute(left), _compute(right)
            found = None if one is None or two is None else _calculate(one, operator, two)
        case ast.Compare(left=left, ops=[order], comparators=[right]):
            one, two = _compute(left), _compute(right)
            if one is not None and two is not None:
                found = int((one > two) - (one < two) in _ORDERS.get(type(order), ()))
        case _:
            pass
    return found if found is not None and abs(found) < 1 << 53 else None


def _calculate(one: int, operator: ast.operator, two: int) -> int | None:
    match operator:
        case ast.Add():
            return one + two
        case ast.Sub():
            return one - two
        case ast.Mult():
            return one * two
        case ast.Div():
            return abs(one) // abs(two) * (1 if (one < 0) == (two < 0) else -1)
        case ast.Mod():
            return abs(one) % abs(two) * (-1 if one < 0 else 1)
        case _:
            return None


_ORDERS: dict[type[ast.cmpop], tuple[int, ...]] = {
    ast.Eq: (0,), ast.NotEq: (-1, 1), ast.Lt: (-1,), ast.LtE: (-1, 0), ast.Gt: (1,), ast.GtE: (0, 1),
}  # fmt: skip


def join_both(one: bool | None, two: bool | None) -> bool | None:
    """And, where None is unknown."""
    return False if one is False or two is False else None if one is None or two is None else True


def join_either(one: bool | None, two: bool | None) -> bool | None:
    """Or, where None is unknown."""
    return True if one is True or two is True else None if one is None or two is None else False


def negate(holds: bool | None) -> bool | None:
    return None if holds is None else not holds
