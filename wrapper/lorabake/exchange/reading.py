"""Files of other programs as tables of values, with clear errors for whatever is damaged or of another kind."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from lorabake.errors import RecipeError
from lorabake.recipe.foreign import LOST, decode_text
from lorabake.recipe.positions import find_key_positions
from lorabake.recipe.syntax import toml_error_finding
from lorabake.util import files
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

Table = Mapping[str, Any]
MAX_DEPTH = 24
MAX_KEYS = 20_000


def parse_toml_table(source: Source) -> tuple[str, dict[str, Any]]:
    """The text of a TOML file and what is in it. Raises RecipeError with the line."""
    text = decode_text(source.content)
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        refuse_lost_text(source, text)
        wrong = toml_error_finding(error, text)
        raise RecipeError(msg("cannot import {path}: {why}", path=source.path, why=wrong.message), [wrong]) from error
    except (RecursionError, ValueError) as error:
        raise make_error(source, msg("a list or a number in it is too long")) from error
    refuse_lost_text(source, repr(found))
    return text, found


def parse_json_table(source: Source) -> tuple[str, dict[str, Any]]:
    """The text of a JSON file and the object in it. Raises RecipeError with the line."""
    text = decode_text(source.content)
    refuse_lost_text(source, text)  # JSON has no comments
    try:
        found = files.parse_json(text)
        if "\\ud" in text.lower():  # half a character is no text that a recipe can have
            json.dumps(found, ensure_ascii=False).encode()
    except ValueError as error:
        line = getattr(error, "lineno", None)
        why = msg("it is not valid JSON")
        if line is not None:
            why = msg("it is damaged JSON, or cut off (line {line})", line=line)
        raise make_error(source, why, line, msg("export the file again, or fix the JSON on that line")) from error
    if not isinstance(found, dict):
        raise make_error(source, msg("its JSON is not an object with keys"), 1)
    return text, cast("dict[str, Any]", found)


def refuse_lost_text(source: Source, found: str) -> None:
    """Raises RecipeError if something in ``found``, which is from a file or its repr, is in an unknown encoding."""
    if LOST not in found and ascii(LOST)[1:-1] not in found:
        return
    lines = [each for each in enumerate(decode_text(source.content).split("\n"), 1) if LOST in each[1]]
    line = next((number for number, text in lines if not _COMMENT.match(text)), None)
    why = msg("a file that it reads is not UTF-8 text")
    if line is not None:
        why = msg("line {line} is not UTF-8 text", line=line)
    raise make_error(source, why, line, msg("save the file as UTF-8 (in Notepad: Save as, Encoding: UTF-8)"))


_COMMENT = re.compile(r"\s*(?:#|::|@?rem\b)", re.IGNORECASE)


def make_error(source: Source, why: Message, line: int | None = None, fix: Message | None = None) -> RecipeError:
    """A file that cannot be imported."""
    fix = fix or msg("check that it is the file you mean; `lorabake import --help` lists what can be imported")
    said = msg("cannot import {path}: {why}", path=source.path, why=why)
    found = Finding(rule="foreign-file", severity=Severity.ERROR, line=line, message=said, fix=fix)
    return RecipeError(said, [found], fix)


def find_toml_line(text: str, key: str) -> int | None:
    """The line of a top-level key of a TOML file."""
    position = find_key_positions(text).get((key,))
    return position[0] if position else None


def find_json_line(text: str, key: str) -> int | None:
    """The line where a key of a JSON file is first named."""
    before, found, _ = text.partition(f'"{key}"')
    return before.count("\n") + 1 if found else None


def flatten(source: Source, table: Table) -> dict[str, object]:
    """Every value of nested tables under its full name, such as ``network.linear`` and ``datasets[0].resolution``.

    A list without tables stays one value. Raises RecipeError for nesting without end.
    """
    found: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [("", table, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        parts = _list_parts(name, value)
        if parts is None:
            found[name] = value
        else:
            waiting += [(*part, depth + 1) for part in reversed(parts)]
        if depth > MAX_DEPTH or len(found) + len(waiting) > MAX_KEYS:
            raise make_error(source, msg("it has too many keys, or is nested too deeply"))
    return found


def _list_parts(name: str, value: object) -> list[tuple[str, object]] | None:
    """The parts of a table or of a list of tables; None for a value."""
    if isinstance(value, dict) and (value or not name):
        dot = "." if name else ""
        return [(f"{name}{dot}{key}", part) for key, part in cast("dict[object, object]", value).items()]
    if isinstance(value, list):
        items = cast("list[object]", value)
        if any(isinstance(item, dict | list) for item in items):
            return [(f"{name}[{index}]", item) for index, item in enumerate(items)]
    return None
