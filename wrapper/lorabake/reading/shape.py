"""pydantic's errors about a recipe's shape, as findings in a user's words with the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.vocabulary import OTHER_WORDS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Raw = dict[str, Any]


def shape_findings(details: Iterable[ErrorDetails], raw: Raw) -> list[Finding]:
    """One finding per faulty key of ``raw``: a union reports each of its members, and only the first counts."""
    first: dict[tuple[str | int, ...], Finding] = {}
    for detail in details:
        finding = _finding(detail, raw)
        if finding is not None:
            first.setdefault(finding.where, finding)
    return list(first.values())


def _finding(detail: ErrorDetails, raw: Raw) -> Finding | None:
    """One pydantic error in a user's words; None for pydantic's echo of an error further down."""
    where = _written(detail["loc"], raw)
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "too_short" and len(detail["input"]) >= context.get("min_length", 0):
        return None
    if kind == "missing" and isinstance(detail["loc"][-1], int):  # a pair that is too short: already told as a whole
        return None
    if kind == "extra_forbidden":
        rule, message, fix = "unknown-key", *_unknown_key(where)
    elif kind == "missing":
        where = tuple(detail["loc"])
        rule, message, fix = "missing-key", "is needed and not there", _missing_fix(where)
    elif kind in {"literal_error", "bad-choice"}:
        rule, message, fix = "bad-choice", *_bad_choice(detail, where)
    elif where[:1] == ("kohya",) or (where[1:2] == ("optimizer_args",) and len(where) > 2):
        rule, message, fix = "wrong-type", "is nothing that sd-scripts takes", ANY_FIX
    elif "write" in context:
        rule, message, fix = kind, detail["msg"], f"write {context['write']}"
    elif where == ("train", "resolution") and isinstance(detail["input"], list | str):
        rule, message, fix = "wrong-type", "is not a size", "write 768, or [width, height] such as [640, 768]"
    else:
        rule, message, fix = _wrong_value(detail)
    return Finding(rule=rule, severity=Severity.ERROR, where=where, message=message, fix=fix)


def _written(loc: tuple[str | int, ...], raw: Raw) -> tuple[str | int, ...]:
    """``loc`` without the names pydantic adds for union members and validators."""
    value: Any = raw
    path: list[str | int] = []
    for part in loc:
        try:
            value = value[part]
        except (TypeError, KeyError, IndexError):
            break
        path.append(part)
    return tuple(path)


def _unknown_key(where: tuple[str | int, ...]) -> tuple[str, str]:
    name = str(where[-1])
    own = known_keys(where[:-1])
    if name in OTHER_WORDS:
        return "is not a key of a recipe", f"lorabake's word for it is `{OTHER_WORDS[name]}`"
    elsewhere = [f"{table}.{key}" if table else key for table, key in all_keys() if key == name]
    if elsewhere:
        return "does not belong here", f"it is `{elsewhere[0]}`"
    near = difflib.get_close_matches(name, own, 1, 0.6)
    if near:
        return "is not a key of a recipe", f"did you mean `{near[0]}`?"
    far = difflib.get_close_matches(name, [key for _, key in all_keys()], 1, 0.7)
    if far:
        table = next(table for table, key in all_keys() if key == far[0])
        return "is not a key of a recipe", f"did you mean `{table + '.' if table else ''}{far[0]}`?"
    return "is not a key of a recipe", f"known here: {', '.join(own)}; other sd-scripts options go into [kohya]"


def _bad_choice(detail: ErrorDetails, where: tuple[str | int, ...]) -> tuple[str, str]:
    context = detail.get("ctx") or {}
    choices = context.get("choices") or tuple(
        word.strip("' ") for word in context.get("expected", "").replace(" or ", ", ").split(",")
    )
    given = detail["input"]
    near = difflib.get_close_matches(str(given).lower(), [str(choice).lower() for choice in choices], 1, 0.6)
    best = next((choice for choice in choices if near and str(choice).lower() == near[0]), None)
    said = detail["msg"] if detail["type"] == "bad-choice" else f"not a {where[-1]} that lorabake knows"
    listed = f"one of: {', '.join(str(choice) for choice in choices)}"
    fix = (
        listed
        if best is None
        else f'did you mean "{best}"?'
        if len(choices) > 6
        else f'did you mean "{best}"? {listed}'
    )
    return f'"{given}" is {said}', fix


def _missing_fix(where: tuple[str | int, ...]) -> str:
    """A table is added as a header, any other key as a line, with its choices where they are few."""
    if _table_model(Recipe, str(where[-1])) is None:
        choices = _choices(where)
        return f"add `{where[-1]} = ...`" + (f", one of: {', '.join(choices)}" if choices else "")
    return f"add [[{where[-1]}]]" if where[-1] in LISTS else f"add [{where[-1]}]"


def _choices(where: Sequence[str | int]) -> tuple[str, ...]:
    """The words that the key at ``where`` takes, none when it is not a choice."""
    model = _model_at(where[:-1])
    fields = {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}
    annotation = fields[str(where[-1])].annotation if where[-1] in fields else None
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


LISTS = ("concept", "regularisation", "waive")  # tables that may be there several times
ANY_FIX = "write a number, text in quotes, true, false, or a list of one of these"
TYPE_WORDS = {
    "int_type": ("a whole number", "a whole number without quotes or decimals, such as 16"),
    "int_from_float": ("a whole number", "a whole number without decimals, such as 16"),
    "float_type": ("a number", "a number without quotes, such as 0.0001"),
    "bool_type": ("true or false", "true or false, without quotes"),
    "string_type": ("text", 'text in quotes, "like this"'),
    "tuple_type": ("a list", "a list in square brackets"),
    "dict_type": ("a table", "a table: name = value lines under a [header]"),
    "model_type": ("a table", "a table: name = value lines under a [header]"),
}
TOML_WORDS: dict[type, str] = {
    str: "text",
    bool: "true/false",
    int: "a whole number",
    float: "a number",
    list: "a list",
    dict: "a table",
}


def _wrong_value(detail: ErrorDetails) -> tuple[str, str, str]:
    kind = detail["type"]
    given: object = detail["input"]
    if kind == "tuple_type" and isinstance(given, dict):
        name = detail["loc"][-1]
        return "wrong-type", "may be there several times, so its header has two brackets", f"write [[{name}]]"
    if kind == "too_short":
        return "out-of-range", "is empty", "write at least one"
    if kind in {"string_too_short", "string_too_long"}:
        context = detail.get("ctx") or {}
        at_least, at_most = context.get("min_length"), context.get("max_length")
        fix = "write some text" if at_least == 1 else f"write at least {at_least} characters"
        message = "is empty" if not given else "is too short" if at_least else "is too long"
        return "out-of-range", message, fix if at_least else f"write at most {at_most} characters"
    if kind in TYPE_WORDS:
        wanted, fix = TYPE_WORDS[kind]
        shown = f'"{given}"' if isinstance(given, str) else str(given).lower() if isinstance(given, bool) else given
        found = TOML_WORDS.get(type(given), "something else")
        value = "" if isinstance(given, (dict, list)) else f" ({shown})"
        return "wrong-type", f"must be {wanted}, but is {found}{value}", f"write {fix}"
    return "out-of-range", f"{given!r} {_limits(detail)}", _range_fix(detail)


def _limits(detail: ErrorDetails) -> str:
    context = detail.get("ctx") or {}
    if context.keys() & {"ge", "gt"}:
        return "is too small"
    if context.keys() & {"le", "lt"}:
        return "is too large"
    return detail["msg"].removeprefix("Value error, ").replace("Input should be", "must be")


def _range_fix(detail: ErrorDetails) -> str:
    context = detail.get("ctx") or {}
    bounds = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    said = " and ".join(f"{word} {_plainly(context[name])}" for name, word in bounds.items() if name in context)
    return f"write a number of {said}" if said else "write a value that fits"


def _plainly(bound: float) -> str:
    """4294967296 as a person writes it, and 1.0 as 1."""
    return str(int(bound)) if bound == int(bound) else str(bound)


def known_keys(where: Sequence[str | int]) -> tuple[str, ...]:
    """The keys a recipe may hold in the table at ``where``, in the schema's order."""
    model = _model_at(where)
    if model is None:
        return ()
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _model_at(where: Sequence[str | int]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Recipe
    for part in where:
        if isinstance(part, str):
            model = _table_model(model, part)
    return model


def all_keys() -> tuple[tuple[str, str], ...]:
    """Every (table, key) of a recipe; the table of a top-level key is empty."""
    pairs = [("", key) for key in known_keys(())]
    for table in known_keys(()):
        if _table_model(Recipe, table):
            pairs += [(table, key) for key in known_keys((table,))]
    return tuple(pairs)


def _table_model(model: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    if model is None:
        return None
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return _first_model(fields[key].annotation) if key in fields else None


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _first_model(part))), None)


__all__ = ["all_keys", "known_keys", "shape_findings"]
