"""pydantic's errors about a recipe's shape, as findings in a user's words with the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_origin

from pydantic import BaseModel

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.values import SHOWN, shortened
from lorabake_schemas.vocabulary import OTHER_WORDS
from lorabake_schemas.words import Said, joined, say

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Raw = dict[str, Any]
Where = tuple[str | int, ...]


def shape_findings(details: Iterable[ErrorDetails], raw: Raw) -> list[Finding]:
    """One finding per faulty key of ``raw``: a union reports each of its members, and only the first counts."""
    first: dict[Where, Finding] = {}
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
    if kind == "missing":
        key = tuple(detail["loc"])
        said = say("is needed and not there")
        return Finding(rule="missing-key", severity=Severity.ERROR, where=key, message=said, fix=_missing_fix(key))
    rule, message, fix = _judged(kind, detail, where)
    return Finding(rule=rule, severity=Severity.ERROR, where=where, message=message, fix=fix)


def _judged(kind: str, detail: ErrorDetails, where: Where) -> tuple[str, Said, Said]:
    """Rule, message and fix. pydantic's own words are never shown: they are in English only."""
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return "unknown-key", *_unknown_key(where)
    if kind in {"literal_error", "bad-choice"}:
        return "bad-choice", *_bad_choice(detail, where)
    if "write" in context:
        return kind, context["said"], say("write {what}", what=context["write"])
    if where[:1] == ("kohya",) or (where[1:2] == ("optimizer_args",) and len(where) > 2):
        return "wrong-type", say("is nothing that sd-scripts takes"), ANY_FIX
    if where == ("train", "resolution") and isinstance(detail["input"], list | str):
        return "wrong-type", say("is not a size"), say("write 768, or [width, height] such as [640, 768]")
    return _wrong_value(detail)


def _written(loc: Where, raw: Raw) -> Where:
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


def _unknown_key(where: Where) -> tuple[Said, Said]:
    name, meant = str(where[-1]), meant_key(where)
    unknown = say("is not a key of a recipe")
    if name in OTHER_WORDS:
        return unknown, say("lorabake's word for it is `{key}`", key=OTHER_WORDS[name])
    if meant and meant[-1] == name:
        return say("does not belong here"), say("it is `{key}`", key=".".join(meant))
    if meant:
        shown = meant[-1] if meant[:-1] == tuple(part for part in where[:-1] if isinstance(part, str)) else None
        return unknown, say("did you mean `{key}`?", key=shown or ".".join(meant))
    own = ", ".join(known_keys(where[:-1]))
    return unknown, say("known here: {keys}; other sd-scripts options go into [kohya]", keys=own)


def meant_key(where: Where) -> tuple[str, ...]:
    """The key that was probably meant by an unknown one, without indices; empty when it is like none."""
    name, table = str(where[-1]), tuple(part for part in where[:-1] if isinstance(part, str))
    if name in OTHER_WORDS:
        meant = tuple(OTHER_WORDS[name].split("."))
        return meant if len(meant) > 1 else (*table, *meant)
    named = {key: (first, key) if first else (key,) for first, key in reversed(all_keys())}
    if name in named:
        return named[name]
    near = difflib.get_close_matches(name, known_keys(where[:-1]), 1, 0.6)
    if near:
        return (*table, near[0])
    far = difflib.get_close_matches(name, [key for _, key in all_keys()], 1, 0.7)
    return named[far[0]] if far else ()


def _bad_choice(detail: ErrorDetails, where: Where) -> tuple[Said, Said]:
    context = detail.get("ctx") or {}
    choices = context.get("choices") or tuple(
        word.strip("' ") for word in context.get("expected", "").replace(" or ", ", ").split(",")
    )
    given = _short(detail["input"]) if isinstance(detail["input"], str) else shortened(detail["input"])
    near = difflib.get_close_matches(given.lower(), [str(choice).lower() for choice in choices], 1, 0.6)
    best = next((choice for choice in choices if near and str(choice).lower() == near[0]), None)
    message = context.get("said") or say('"{given}" is not a {key} that lorabake knows', given=given, key=where[-1])
    listed = say("one of: {choices}", choices=", ".join(str(choice) for choice in choices))
    if best is None:
        return message, listed
    meant = say('did you mean "{name}"?', name=str(best))
    return message, meant if len(choices) > 6 else joined([meant, listed], " ")


def _missing_fix(where: Where) -> Said:
    """A table is added as a header, any other key as a line, with its choices where they are few."""
    key = where[-1]
    if _table_model(Recipe, str(key)) is not None:
        return say("add [[{key}]]", key=key) if key in LISTS else say("add [{key}]", key=key)
    choices = ", ".join(_choices(where))
    return (
        say("add `{key} = ...`, one of: {choices}", key=key, choices=choices)
        if choices
        else say("add `{key} = ...`", key=key)
    )


def _choices(where: Sequence[str | int]) -> tuple[str, ...]:
    """The words that the key at ``where`` takes, none when it is not a choice."""
    model = _model_at(where[:-1])
    fields = {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}
    annotation = fields[str(where[-1])].annotation if where[-1] in fields else None
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


LISTS = ("concept", "regularisation", "waive")  # tables that may be there several times
A_TABLE = (say("a table"), say("a table: name = value lines under a [header]"))
ANY_FIX = say("write a number, text in quotes, true, false, or a list of one of these")
TYPE_WORDS = {
    "int_type": (say("a whole number"), say("a whole number without quotes or decimals, such as 16")),
    "int_from_float": (say("a whole number"), say("a whole number without decimals, such as 16")),
    "float_type": (say("a number"), say("a number without quotes, such as 0.0001")),
    "bool_type": (say("true or false"), say("true or false, without quotes")),
    "string_type": (say("text"), say('text in quotes, "like this"')),
    "tuple_type": (say("a list"), say("a list in square brackets")),
    "dict_type": A_TABLE,
    "model_type": A_TABLE,
}
TOML_WORDS: dict[type, Said] = {
    str: say("text"),
    bool: say("true/false"),
    int: say("a whole number"),
    float: say("a number"),
    list: say("a list"),
    dict: say("a table"),
}


def _wrong_value(detail: ErrorDetails) -> tuple[str, Said, Said]:
    kind = detail["type"]
    given: object = detail["input"]
    if kind == "tuple_type" and isinstance(given, dict):
        said = say("may be there several times, so its header has two brackets")
        return "wrong-type", said, say("write {what}", what=f"[[{detail['loc'][-1]}]]")
    if kind == "too_short":
        return "out-of-range", say("is empty"), say("write at least one")
    if kind in {"string_too_short", "string_too_long"}:
        return "out-of-range", *_wrong_length(given, detail.get("ctx") or {})
    if kind in TYPE_WORDS:
        wanted, fix = TYPE_WORDS[kind]
        return "wrong-type", _of_another_type(given, wanted), say("write {what}", what=fix)
    return "out-of-range", _out_of_range(shortened(given), kind, detail.get("ctx") or {}), _range_fix(detail)


def _wrong_length(given: object, context: Raw) -> tuple[Said, Said]:
    at_least, at_most = context.get("min_length"), context.get("max_length")
    message = say("is empty") if not given else say("is too short") if at_least else say("is too long")
    if at_least is None:
        return message, say("write at most {n} characters", n=at_most or 0)
    return message, say("write some text") if at_least == 1 else say("write at least {n} characters", n=at_least)


def _of_another_type(given: object, wanted: Said) -> Said:
    found = TOML_WORDS.get(type(given), say("something else"))
    if isinstance(given, dict | list):
        return say("must be {wanted}, but is {found}", wanted=wanted, found=found)
    shown = f'"{_short(given)}"' if isinstance(given, str) else shortened(given)
    if isinstance(given, bool):
        shown = shown.lower()
    return say("must be {wanted}, but is {found} ({value})", wanted=wanted, found=found, value=shown)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."


def _out_of_range(given: str, kind: str, context: Raw) -> Said:
    if context.keys() & {"ge", "gt"}:
        return say("{value} is too small", value=given)
    if context.keys() & {"le", "lt"}:
        return say("{value} is too large", value=given)
    if kind == "finite_number":
        return say("{value} must be a finite number", value=given)
    return say("{value} is not allowed here", value=given)


def _range_fix(detail: ErrorDetails) -> Said:
    context = detail.get("ctx") or {}
    bounds = {
        "ge": say("a number of at least {bound}", bound=_plainly(context.get("ge", 0))),
        "gt": say("a number of more than {bound}", bound=_plainly(context.get("gt", 0))),
        "le": say("a number of at most {bound}", bound=_plainly(context.get("le", 0))),
        "lt": say("a number of less than {bound}", bound=_plainly(context.get("lt", 0))),
    }
    said = next((words for name, words in bounds.items() if name in context), say("a value that fits"))
    return say("write {what}", what=said)


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


def field_at(where: Sequence[str | int], raw: Raw) -> Where:
    """The key whose value has to go when something at ``where`` is wrong: one of a table's own, or of a free table's
    (kohya, optimizer_args)."""
    model: type[BaseModel] | None = Recipe
    value: Any = raw
    path: list[str | int] = []
    for part in where:
        if isinstance(value, dict):
            value = cast("dict[object, object]", value).get(part)
        else:
            value = cast("list[Any]", value)[part] if isinstance(part, int) else None
        if isinstance(part, int):
            if not isinstance(value, dict):
                break
            path.append(part)
            continue
        path.append(part)
        model = _table_model(model, part)
        free = model is None and part in {"kohya", "optimizer_args"}
        if not isinstance(value, dict | list) or (model is None and not free):
            break
    return tuple(path[:-1] if path and isinstance(path[-1], int) else path)


EXAMPLES: Raw = {
    "name": "x", "kind": "object", "base": {}, "concept": [{}], "model": "x", "token": "x", "class": "x", "images": "x",
    "prompts": ["x"], "rule": "x", "reason": "none",
}  # fmt: skip


def with_required(raw: Raw, model: type[BaseModel] = Recipe) -> Raw:
    """The table with an example for each key that it cannot do without."""
    filled = dict(raw)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if field.is_required() and key not in filled:
            filled[key] = EXAMPLES[key]
        inner, value = _first_model(field.annotation), filled.get(key)
        if inner is not None and isinstance(value, dict):
            filled[key] = with_required(cast("Raw", value), inner)
        elif inner is not None and isinstance(value, list):
            entries = cast("list[object]", value)
            filled[key] = [
                with_required(cast("Raw", each), inner) if isinstance(each, dict) else each for each in entries
            ]
    return filled


__all__ = ["all_keys", "field_at", "known_keys", "meant_key", "shape_findings", "with_required"]
