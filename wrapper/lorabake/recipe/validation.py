"""pydantic's errors about a recipe's shape, as plain findings with the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel

from lorabake.util.resources import load_snapshot
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import (
    TABLE_ARRAYS,
    find_key,
    find_missing_feature,
    list_recipe_keys,
    suggest_key,
    suggest_network_argument,
    unwrap_model,
)
from lorabake_schemas.values import MAX_SHOWN_LENGTH, shorten_value

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Raw = dict[str, Any]
Where = tuple[str | int, ...]


def findings_from_errors(details: Iterable[ErrorDetails], raw: Raw) -> list[Finding]:
    """One finding per faulty key of ``raw``: a union reports each of its members, and only the first counts, of a list
    the first that takes one."""
    first: dict[Where, Finding] = {}
    for detail in sorted(details, key=lambda each: each["type"] == "int_type" and isinstance(each["input"], list)):
        finding = _make_finding(detail, raw)
        if finding is not None:
            first.setdefault(finding.where, finding)
    return list(first.values())


def _make_finding(detail: ErrorDetails, raw: Raw) -> Finding | None:
    """One pydantic error as a plain finding; None for pydantic's echo of an error further down."""
    where = _strip_location(detail["loc"], raw)
    kind, context = detail["type"], detail.get("ctx") or {}
    if kind == "too_short" and len(detail["input"]) >= context.get("min_length", 0):
        return None
    if kind == "missing" and isinstance(detail["loc"][-1], int):  # a pair that is too short: already reported
        return None
    if kind == "missing":
        key = tuple(detail["loc"])
        said = msg("required key is missing")
        return Finding(rule="missing-key", severity=Severity.ERROR, where=key, message=said, fix=_missing_key_fix(key))
    rule, message, fix = _describe_error(kind, detail, where, raw)
    if where[:1] == ("concept",) and where[-1] == "token" and not str(detail["input"]).strip():
        fix = msg("write a trigger word, or remove token to train from the captions' tags alone")
    return Finding(rule=rule, severity=Severity.ERROR, where=where, message=message, fix=fix)


def _describe_error(kind: str, detail: ErrorDetails, where: Where, raw: Raw) -> tuple[str, Message, Message]:
    """Rule, message and fix. pydantic's own text is never shown: it is in English only."""
    context = detail.get("ctx") or {}
    if kind == "extra_forbidden":
        return "unknown-key", *_describe_unknown_key(where, detail["input"], raw)
    if kind in {"literal_error", "bad-choice"}:
        return "bad-choice", *_describe_bad_choice(detail, where)
    if "write" in context:
        return kind, context["said"], msg("write {what}", what=context["write"])
    if any(part in FREE_TABLES for part in detail["loc"][:-1]):
        return "wrong-type", msg("not a value that sd-scripts accepts"), ANY_VALUE_FIX
    sized = where[-1:] == ("resolution",) or where[:-1] == ("train", "resolutions")
    if sized and isinstance(detail["input"], list | str):
        return "wrong-type", *_describe_wrong_size(detail)
    return _describe_wrong_value(detail)


def _describe_wrong_size(detail: ErrorDetails) -> tuple[Message, Message]:
    given = cast("object", detail["input"])
    if isinstance(given, list) and len(cast("list[object]", given)) > 2:
        several = ", ".join(map(shorten_value, cast("list[object]", given)[:8]))
        return msg("not a valid size"), msg(
            "write 768, or [width, height]; for several resolutions, write resolutions = [{sides}] under [train]",
            sides=several,
        )
    return msg("not a valid size"), msg("write 768, or [width, height] such as [640, 768]")


def _strip_location(loc: Where, raw: Raw) -> Where:
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


def _describe_unknown_key(where: Where, value: object, raw: Raw) -> tuple[Message, Message]:
    name, table = str(where[-1]), ".".join(part for part in where[:-1] if isinstance(part, str))
    if said := find_missing_feature(name) or _describe_dotted_key(name, table, value):
        return said
    unknown, misplaced = msg("unknown key"), msg("wrong table for this key")
    meant = ".".join(guess_key(where))
    if meant.startswith(f"{NETWORK_ARGS}."):
        types = load_snapshot().signatures.list_types_with(name)
        return misplaced, suggest_network_argument(name, _get_network_type(raw), types)
    if find_key(name):
        return unknown, suggest_key(meant, table)
    if meant.rpartition(".")[2] == name:
        return misplaced, suggest_key(meant, table)
    if meant:
        first, _, key = meant.rpartition(".")
        return unknown, msg("did you mean `{key}`?", key=key if first == table else meant)
    own = ", ".join(list_keys(where[:-1]))
    return unknown, msg("known keys here: {keys}; other sd-scripts options go under [kohya]", keys=own)


def _describe_dotted_key(name: str, table: str, value: object) -> tuple[Message, Message] | None:
    """``train.seed = 1`` below the header [train], or below another one: TOML adds the header's own name to it."""
    given = cast("Raw", value) if isinstance(value, dict) else {}
    keys = ", ".join(key for key in given if key in list_keys((name,)))
    if not table or not keys:
        return None
    if name == table:
        return msg("[{table}] already contains this key", table=table), msg("write only {keys}", keys=keys)
    return msg("wrong table for this key"), msg("write {keys} under [{table}]", keys=keys, table=name)


def _get_network_type(raw: Raw) -> str:
    """The network.type of a recipe that has mistakes, sd-scripts' own LoRA by default."""
    table: object = raw.get("network")
    given = cast("Raw", table).get("type") if isinstance(table, dict) else None
    return given if isinstance(given, str) else "lora"


def guess_key(where: Where) -> tuple[str, ...]:
    """The key that was probably meant by an unknown one, without indices; empty when it is like none.

    First a key of the same table by its name or its words, then what people call any key, then similar spellings.
    """
    name, table = str(where[-1]), tuple(part for part in where[:-1] if isinstance(part, str))
    named = {key: (first, key) if first else (key,) for first, key in reversed(list_all_keys())}
    if name in named:
        return named[name]
    own = {key: (*table, key) for key in list_keys(where[:-1])}
    other = find_key(name)
    if table and (other is None or other.rpartition(".")[0] != table[-1]):
        compound = f"{table[-1]}_{name}"
        words = [key for key in own if f"_{name}_" in f"_{key}_"]
        other = next(filter(None, (compound if compound in own else find_key(compound), *words, other)), None)
    if other:
        return (named | own).get(other) or tuple(other.split("."))
    signatures = load_snapshot().signatures
    for argument_table, known in (
        (NETWORK_ARGS, bool(signatures.list_types_with(name))),
        (OPTIMIZER_ARGS, signatures.is_optimizer_argument(name)),
    ):
        if known:
            return (*argument_table.split("."), name)
    near = difflib.get_close_matches(name, own, 1, 0.6)
    far = near or difflib.get_close_matches(name, [key for _, key in list_all_keys()], 1, 0.7)
    return (named | own)[far[0]] if far else ()


def _describe_bad_choice(detail: ErrorDetails, where: Where) -> tuple[Message, Message]:
    context = detail.get("ctx") or {}
    choices = context.get("choices") or tuple(
        word.strip("' ") for word in context.get("expected", "").replace(" or ", ", ").split(",")
    )
    given = _shorten_text(detail["input"]) if isinstance(detail["input"], str) else shorten_value(detail["input"])
    near = difflib.get_close_matches(given.lower(), [str(choice).lower() for choice in choices], 1, 0.6)
    best = next((choice for choice in choices if near and str(choice).lower() == near[0]), None)
    message = context.get("said") or msg('unknown value "{given}" for {key}', given=given, key=where[-1])
    listed = ", ".join(str(choice) for choice in choices)
    if best is None:
        return message, msg("write one of: {choices}", choices=listed)
    if len(choices) > 6:
        return message, msg('did you mean "{name}"?', name=str(best))
    return message, msg('write one of: {choices} (did you mean "{name}"?)', choices=listed, name=str(best))


def _missing_key_fix(where: Where) -> Message:
    """A table is added as a header, any other key as a line, with its choices where they are few."""
    key = where[-1]
    if _find_table_model(Recipe, str(key)) is not None:
        return msg("add [[{key}]]", key=key) if key in TABLE_ARRAYS else msg("add [{key}]", key=key)
    choices = ", ".join(_list_choices(where))
    return (
        msg("add `{key} = ...`, one of: {choices}", key=key, choices=choices)
        if choices
        else msg("add `{key} = ...`", key=key)
    )


def _list_choices(where: Sequence[str | int]) -> tuple[str, ...]:
    """The choices of the key at ``where``, empty if it has none."""
    model = _find_model(where[:-1])
    fields = {} if model is None else {field.alias or name: field for name, field in model.model_fields.items()}
    annotation = fields[str(where[-1])].annotation if where[-1] in fields else None
    return tuple(map(str, get_args(annotation))) if get_origin(annotation) is Literal else ()


def is_text_key(where: Sequence[str | int]) -> bool:
    """Whether the key at ``where`` takes text and nothing else, under [kohya] by sd-scripts' own type."""
    *table, name = where
    if table == ["kohya"]:
        return any(each.name == name and each.takes_text for each in load_snapshot().merge_scripts())
    model = _find_model(table)
    fields = {} if model is None else {field.alias or key: field for key, field in model.model_fields.items()}
    return name in fields and _is_text(fields[str(name)].annotation)


def _is_text(annotation: object) -> bool:
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return all(each is NoneType or _is_text(each) for each in get_args(annotation))
    if get_origin(annotation) is Literal:
        return all(isinstance(each, str) for each in get_args(annotation))
    return annotation is str


FREE_TABLES = ("kohya", "optimizer_args", "args")  # their keys are not lorabake's
NETWORK_ARGS, OPTIMIZER_ARGS = "network.args", "train.optimizer_args"
TABLE_WORDS = (msg("a table"), msg("a table: name = value lines under a [header]"))
ANY_VALUE_FIX = msg("write a number, text in quotes, true, false, or a list of these")
TYPE_WORDS = {
    "int_type": (msg("a whole number"), msg("a whole number without quotes or decimals, such as 16")),
    "int_from_float": (msg("a whole number"), msg("a whole number without decimals, such as 16")),
    "float_type": (msg("a number"), msg("a number without quotes, such as 0.0001")),
    "bool_type": (msg("true or false"), msg("true or false, without quotes")),
    "string_type": (msg("text"), msg('text in quotes, "like this"')),
    "tuple_type": (msg("a list"), msg("a list in square brackets")),
    "dict_type": TABLE_WORDS,
    "model_type": TABLE_WORDS,
}
TOML_WORDS: dict[type, Message] = {
    str: msg("text"),
    bool: msg("true/false"),
    int: msg("a whole number"),
    float: msg("a number"),
    list: msg("a list"),
    dict: msg("a table"),
}


def _describe_wrong_value(detail: ErrorDetails) -> tuple[str, Message, Message]:
    kind = detail["type"]
    given: object = detail["input"]
    if kind == "tuple_type" and isinstance(given, dict):
        said = msg("can appear several times, so its header needs two brackets")
        header = f"[[{detail['loc'][-1]}]]"
        return "wrong-type", said, msg("write {what}", what=header)
    if kind == "too_short":
        return "out-of-range", msg("is empty"), msg("write at least one")
    if kind in {"string_too_short", "string_too_long"}:
        return "out-of-range", *_describe_wrong_length(given, detail.get("ctx") or {})
    if kind in TYPE_WORDS:
        wanted, fix = TYPE_WORDS[kind]
        return "wrong-type", _describe_wrong_type(given, wanted), msg("write {what}", what=fix)
    return (
        "out-of-range",
        _describe_out_of_range(shorten_value(given), kind, detail.get("ctx") or {}),
        _range_fix(detail),
    )


def _describe_wrong_length(given: object, context: Raw) -> tuple[Message, Message]:
    at_least, at_most = context.get("min_length"), context.get("max_length")
    message = msg("is empty") if not given else msg("is too short") if at_least else msg("is too long")
    if at_least is None:
        return message, msg("write at most {n} characters", n=at_most or 0)
    return message, msg("write some text") if at_least == 1 else msg("write at least {n} characters", n=at_least)


def _describe_wrong_type(given: object, wanted: Message) -> Message:
    found = TOML_WORDS.get(type(given), msg("another type"))
    if isinstance(given, dict | list):
        return msg("must be {wanted}, not {found}", wanted=wanted, found=found)
    shown = f'"{_shorten_text(given)}"' if isinstance(given, str) else shorten_value(given)
    if isinstance(given, bool):
        shown = shown.lower()
    return msg("must be {wanted}, not {found} ({value})", wanted=wanted, found=found, value=shown)


def _shorten_text(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_LENGTH else text[:MAX_SHOWN_LENGTH] + "..."


def _describe_out_of_range(given: str, kind: str, context: Raw) -> Message:
    if context.keys() & {"ge", "gt"}:
        return msg("{value} is too small", value=given)
    if context.keys() & {"le", "lt"}:
        return msg("{value} is too large", value=given)
    if kind == "finite_number":
        return msg("{value} must be a finite number", value=given)
    return msg("{value} is not allowed here", value=given)


def _range_fix(detail: ErrorDetails) -> Message:
    context = detail.get("ctx") or {}
    bounds = {
        "ge": msg("a number of at least {bound}", bound=_format_bound(context.get("ge", 0))),
        "gt": msg("a number greater than {bound}", bound=_format_bound(context.get("gt", 0))),
        "le": msg("a number of at most {bound}", bound=_format_bound(context.get("le", 0))),
        "lt": msg("a number less than {bound}", bound=_format_bound(context.get("lt", 0))),
    }
    said = next((words for name, words in bounds.items() if name in context), msg("a valid value"))
    return msg("write {what}", what=said)


def _format_bound(bound: float) -> str:
    """4294967296 as a person writes it, and 1.0 as 1."""
    return str(int(bound)) if bound == int(bound) else str(bound)


def list_keys(where: Sequence[str | int]) -> tuple[str, ...]:
    """The keys allowed in the table at ``where``, in the schema's order."""
    model = _find_model(where)
    if model is None:
        return ()
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _find_model(where: Sequence[str | int]) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Recipe
    for part in where:
        if isinstance(part, str):
            model = _find_table_model(model, part)
    return model


def list_all_keys() -> tuple[tuple[str, str], ...]:
    """Every (table, key) of a recipe; the table of a top-level key is empty."""
    pairs = [(table, key) for table, _, key in (name.rpartition(".") for name in list_recipe_keys())]
    return tuple(sorted(pairs, key=lambda pair: pair[0] != ""))


def _find_table_model(model: type[BaseModel] | None, key: str) -> type[BaseModel] | None:
    if model is None:
        return None
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    return unwrap_model(fields[key].annotation) if key in fields else None


def find_field(where: Sequence[str | int], raw: Raw) -> Where:
    """The key whose value has to go when something at ``where`` is wrong: one of a table's own, or of a free table's
    (kohya, optimizer_args, network.args)."""
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
        model = _find_table_model(model, part)
        free = model is None and part in FREE_TABLES
        if not isinstance(value, dict | list) or (model is None and not free):
            break
    return tuple(path[:-1] if path and isinstance(path[-1], int) else path)


EXAMPLE_VALUES: Raw = {
    "name": "x", "kind": "object", "base": {}, "concept": [{}], "model": "x", "token": "x", "class": "x", "images": "x",
    "prompts": ["x"], "rule": "x", "reason": "none",
}  # fmt: skip


def fill_required_keys(raw: Raw, model: type[BaseModel] = Recipe) -> Raw:
    """The table with an example for each key that it cannot do without."""
    filled = dict(raw)
    for name, field in model.model_fields.items():
        key = field.alias or name
        if field.is_required() and key not in filled:
            filled[key] = EXAMPLE_VALUES[key]
        inner, value = unwrap_model(field.annotation), filled.get(key)
        if inner is not None and isinstance(value, dict):
            filled[key] = fill_required_keys(cast("Raw", value), inner)
        elif inner is not None and isinstance(value, list):
            entries = cast("list[object]", value)
            filled[key] = [
                fill_required_keys(cast("Raw", each), inner) if isinstance(each, dict) else each for each in entries
            ]
    return filled
