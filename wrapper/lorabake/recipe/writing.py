"""The one writer of a recipe's text: values and comments, in a fixed order of tables and keys."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import tomli_w
from pydantic import BaseModel

from lorabake.errors import MachineError
from lorabake.recipe.editor_schema import SCHEMA_LINE, write_recipe_schema
from lorabake.util.files import create_bytes, disk_error, is_folder
from lorabake_schemas.messages import INVISIBLE_CHARACTERS, Message, escape_invisible, literal, msg
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.recipe_keys import TABLE_ARRAYS, unwrap_model

KeyPath = tuple[str | int, ...]
Raw = Mapping[str, Any]
NO_COMMENTS: Mapping[KeyPath, str] = MappingProxyType({})
MAX_WIDTH = 100  # of a line with its comment, and of a list in one line
MAX_COMMENT = 118  # of a line of comment
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_INVISIBLE = re.compile(f"[{INVISIBLE_CHARACTERS}]")
_LITERAL_TEXT = re.compile(r"[^'\x00-\x1f\x7f]*\\[^'\x00-\x1f\x7f]*")  # a Windows path needs no doubled backslashes


def write_recipe(content: Raw, head: Sequence[str] = (), comments: Mapping[KeyPath, str] = NO_COMMENTS) -> str:
    """The text of a recipe with this ``content``, which is as tomllib reads it (``class``, not ``class_``).

    ``head`` are the lines of the comment at the top. ``comments`` belong to a key, ("train", "seed") or
    ("concept", 0, "token"), and follow its value; that of a table, ("concept", 0), is above its header. Keys without a
    value (None) and empty tables are left out. The same arguments give the same text.
    """
    lines = [SCHEMA_LINE, *_write_comment("\n".join(head)), ""]
    plain = {key: value for key, value in content.items() if not _is_table(key, value)}
    lines += _write_pairs(_sort_keys(plain, Recipe), (), comments)
    models = {field.alias or name: unwrap_model(field.annotation) for name, field in Recipe.model_fields.items()}
    for key, value in _sort_keys({key: value for key, value in content.items() if key not in plain}, Recipe).items():
        entries = list(enumerate(cast("Sequence[Raw]", value))) if key in TABLE_ARRAYS else [(None, value)]
        for at, table in entries:
            path = (key,) if at is None else (key, at)
            lines += _write_table(_sort_keys(table, models.get(key)), path, comments)
    return "\n".join(lines).rstrip("\n") + "\n"


def create_recipe_file(path: Path, text: str, other: Message | None = None) -> None:
    """Write a recipe to a new file, and the schema for editors next to it. ``other`` is how to choose another file.

    Raises MachineError when the file exists or cannot be written.
    """
    create_new_file(path, text.encode(), other)
    write_recipe_schema(path.parent)


def create_new_file(path: Path, data: bytes, other: Message | None = None) -> None:
    """Raises MachineError when the file exists or cannot be written, with ``other`` as how to choose another."""
    try:
        create_bytes(path, data)
    except FileExistsError as error:
        if is_folder(path):
            raise MachineError(
                msg("{path} is a folder", path=path),
                msg("name a file in it, such as {file}", file=path / "recipe.toml"),
            ) from error
        hint = other or msg("choose another file")
        raise MachineError(msg("{path} already exists and was not changed", path=str(path)), hint) from error
    except FileNotFoundError as error:
        said = msg("cannot write {path}: the folder {folder} does not exist", path=path, folder=path.parent)
        raise MachineError(said, msg("create the folder, or choose another one")) from error
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=str(path), why=literal(error.strerror or str(error)))
        raise disk_error(error, said, msg("choose a folder you can write to")) from error


def _is_table(key: str, value: object) -> bool:
    return key in TABLE_ARRAYS or isinstance(value, Mapping)


def _sort_keys(table: Raw, model: type[BaseModel] | None) -> Raw:
    """In the schema's order; keys that it does not have, such as those of [kohya], by name."""
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    own = [key for key in known if key in table]
    return {key: table[key] for key in (*own, *sorted(table.keys() - set(own)))}


def _write_table(table: Raw, path: KeyPath, comments: Mapping[KeyPath, str]) -> Iterator[str]:
    """The table with its header; [network.args] is the only one within another that is not in one line."""
    inner = {key: value for key, value in table.items() if (*path, key) == ("network", "args")}
    pairs = list(_write_pairs({key: value for key, value in table.items() if key not in inner}, path, comments))
    name = _quote_key(str(path[0]))
    if pairs:
        yield ""
        yield from _write_comment(comments.get(path, ""))
        yield f"[[{name}]]" if len(path) > 1 else f"[{name}]"
        yield from pairs
    for key, value in inner.items():
        if not value:
            continue
        yield from ("", f"[{name}.{_quote_key(key)}]")
        yield from _write_pairs(_sort_keys(value, None), (*path, key), comments)


def _write_pairs(table: Raw, path: KeyPath, comments: Mapping[KeyPath, str]) -> Iterator[str]:
    """A line for each key. Comments that fit there follow in one column, others are above."""
    lines = {key: f"{_quote_key(key)} = {format_toml(value)}" for key, value in table.items() if value is not None}
    said = {key: comments[*path, key] for key in lines if comments.get((*path, key))}
    short = {key for key, text in said.items() if len(lines[key]) < MAX_WIDTH // 2 and "\n" not in lines[key] + text}
    column = max((len(lines[key]) for key in short), default=0)
    for key, line in lines.items():
        if key in short and column + len(said[key]) + 5 <= MAX_WIDTH + 20:
            yield f"{line.ljust(column)}  # {escape_invisible(said[key])}"
        else:
            yield from _write_comment(said.get(key, ""))
            yield line


def _write_comment(text: str) -> Iterator[str]:
    for line in text.split("\n") if text else ():
        said = f"# {escape_invisible(line)}".rstrip()
        if len(said) <= MAX_COMMENT:
            yield said
        else:
            yield from textwrap.wrap(
                said, MAX_COMMENT, subsequent_indent="#     ", break_long_words=False, break_on_hyphens=False
            )


def format_toml(value: object) -> str:
    """A value as TOML in one line, or a long list in several."""
    if isinstance(value, Mapping):
        pairs = (f"{_quote_key(key)} = {format_toml(item)}" for key, item in cast("Raw", value).items())
        inside = ", ".join(pairs)
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list | tuple):
        items = [format_toml(item) for item in cast("Sequence[object]", value)]
        line = f"[{', '.join(items)}]"
        return line if len(line) <= MAX_WIDTH else "\n".join(("[", *(f"    {item}," for item in items), "]"))
    if isinstance(value, str) and _LITERAL_TEXT.fullmatch(value) and not _INVISIBLE.search(value):
        return f"'{value}'"
    return _escape(tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n"))


def _quote_key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _escape(tomli_w.dumps({name: 0}).removesuffix(" = 0\n"))


def _escape(text: str) -> str:
    """A TOML string with what nobody would see as TOML's escapes; it has none for half of a surrogate pair."""
    return _INVISIBLE.sub(_escape_character, text)


def _escape_character(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return "\N{REPLACEMENT CHARACTER}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
