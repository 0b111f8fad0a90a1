"""``--set key=value``: a value that takes the place of a recipe's own, written into its text so that comments stay."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import tomli_w

from lorabake.errors import RecipeError
from lorabake.recipe.validation import is_text_key
from lorabake_schemas.messages import msg, nmsg

if TYPE_CHECKING:
    from tree_sitter import Node

KeyPath = tuple[str | int, ...]
Raw = dict[str, Any]
_PART_PATTERN = re.compile(r"([^#\[\]]*[^#\[\]\d\s][^#\[\]]*)((?:#[1-9][0-9]{0,5})*)")  # a name, and which entry of it
_BARE_KEY_PATTERN = re.compile(r"[A-Za-z0-9_-]+")


class Override(NamedTuple):
    """``text`` as typed; ``key`` with its tables and numbers; ``value`` as TOML."""

    text: str
    key: KeyPath
    value: str

    @property
    def name(self) -> str:
        """``text`` without the value, which may be a secret."""
        return self.text.partition("=")[0].strip()

    def covers(self, where: Sequence[str | int]) -> bool:
        """Whether the key at ``where`` in the recipe was set by this override."""
        return tuple(where[: len(self.key)]) == self.key


def parse_override(text: str) -> Override | None:
    """``train.seed=7`` or, as findings name the second concept, ``concept#2.num_repeats=3``.

    A value that is not TOML is text, and so is a bare one of a key that takes text. None without a key or without "=",
    for an entry that is named in another way, and for bytes that are not UTF-8, which no TOML has.
    """
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        return None
    name, separator, value = text.partition("=")
    parts = [_PART_PATTERN.fullmatch(part.strip()) for part in name.split(".")]
    if not separator:
        return None
    key: list[str | int] = []
    for part in parts:
        if part is None:
            return None
        key += [part[1].strip(), *(int(number) - 1 for number in part[2].split("#")[1:])]
    return Override(text, tuple(key), _to_toml_value(value.strip(), wants_text=is_text_key(key)))


def make_override(key: KeyPath, value: object) -> Override:
    """The same for a value of lorabake's own."""
    text = tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")
    return Override(f"{'.'.join(map(str, key))}={text}", key, text)


def _to_toml_value(value: str, *, wants_text: bool) -> str:
    try:
        read = tomllib.loads(f"x = {value}")
        if read.keys() == {"x"} and (isinstance(read["x"], str) or not wants_text):
            return value
    except (ValueError, RecursionError):
        pass
    return tomli_w.dumps({"x": value}).removeprefix("x = ").rstrip("\n")


def resolve_override(override: Override, raw: Raw) -> Override:
    """With the entry of a table array that has only one, which findings do not number: ``concept.num_repeats=3``."""
    table, rest = override.key[0], override.key[1:]
    entries = raw.get(str(table))
    if rest and isinstance(rest[0], str) and isinstance(entries, list) and len(cast("list[object]", entries)) == 1:
        return override._replace(key=(table, 0, *rest))
    return override


def apply_overrides(text: str, raw: Raw, overrides: Sequence[Override]) -> tuple[str, Raw]:
    """The recipe's text and its content with the values that were set.

    Raises RecipeError for a key in a table that a recipe cannot have: a missing entry, or a value's own key.
    """
    for override in overrides:
        raw = _set_value(raw, override.key, tomllib.loads(f"x = {override.value}")["x"], override)
        text = _write_value(text, override.key, override.value)
        if not _has_content(text, raw):  # written in a way that the editing does not know: the comments are lost
            text = tomli_w.dumps(raw)
    return text, raw


def _has_content(text: str, raw: Raw) -> bool:
    try:
        return repr(tomllib.loads(text)) == repr(raw) or tomllib.loads(text) == raw
    except (ValueError, RecursionError):
        return False


def _set_value(holder: Any, key: KeyPath, value: object, override: Override) -> Any:
    """A copy of ``holder`` in which ``key`` is ``value``."""
    if not key:
        return value
    head, rest = key[0], key[1:]
    if isinstance(holder, list) and isinstance(head, int):
        entries = cast("list[object]", holder)
        if head >= len(entries):
            said = nmsg(
                len(entries),
                "--set {given}: there is only {n} entry",
                "--set {given}: there are only {n} entries",
                given=override.name,
            )
            raise RecipeError(said, hint=msg("write it in the recipe"))
        return [_set_value(each, rest, value, override) if at == head else each for at, each in enumerate(entries)]
    if isinstance(holder, dict) and isinstance(head, str):
        table = cast("Raw", holder)
        return table | {head: _set_value(table.get(head, {} if rest else None), rest, value, override)}
    if isinstance(holder, list):
        said = msg("--set {given}: the number of the entry is missing", given=override.name)
        raise RecipeError(said, hint=msg("write it as in concept#2.num_repeats=3, for the second [[concept]]"))
    said = msg("--set {given}: {key} is not in a table", given=override.name, key=str(head))
    raise RecipeError(said, hint=msg("write the table and the key, as in train.seed=7"))


class _Places(NamedTuple):
    """Where things are in a text: ``values`` and their lines' ends, ``headers`` of tables, ``inline`` tables."""

    values: dict[KeyPath, Node]
    pairs: dict[KeyPath, Node]
    headers: dict[KeyPath, Node]
    inline: dict[KeyPath, Node]


def _find_places(content: bytes) -> tuple[Node, _Places]:
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    from lorabake.recipe.positions import parse_table_path

    root = Parser(Language(tree_sitter_toml.language())).parse(content).root_node
    places = _Places({}, {}, {}, {})
    seen: dict[KeyPath, int] = {}
    for node in root.named_children:
        if node.type == "pair":
            _note_pair(node, (), places)
        elif node.type in {"table", "table_array_element"}:
            path = parse_table_path(node, seen)
            places.headers[path] = node
            for pair in node.named_children:
                if pair.type == "pair":
                    _note_pair(pair, path, places)
    return root, places


def _note_pair(pair: Node, prefix: KeyPath, places: _Places) -> None:
    from lorabake.recipe.positions import split_key

    path = (*prefix, *split_key(pair.named_children[0]))
    places.pairs[path] = pair
    _note_value(_value_of(pair), path, places)


def _value_of(pair: Node) -> Node:
    return [node for node in pair.named_children if node.type != "comment"][-1]


def _note_value(value: Node, path: KeyPath, places: _Places) -> None:
    places.values[path] = value
    if value.type == "inline_table":
        places.inline[path] = value
        for pair in value.named_children:
            if pair.type == "pair":
                _note_pair(pair, path, places)
    elif value.type == "array":
        for at, item in enumerate(each for each in value.named_children if each.type != "comment"):
            _note_value(item, (*path, at), places)


def _write_value(text: str, key: KeyPath, value: str) -> str:
    """The text with the value at its place: that of the old one, else below its table's last line."""
    content = text.encode()
    root, places = _find_places(content)
    if key in places.values:
        old = places.values[key]
        return _splice(content, old.start_byte, old.end_byte, value)
    parent, line = key[:-1], f"{_quote_key(str(key[-1]))} = {value}"
    if parent in places.inline:
        table = places.inline[parent]
        inside = content[: table.end_byte - 1].rstrip()
        return _splice(content, len(inside), table.end_byte - 1, f"{', ' if table.named_children else ' '}{line} ")
    if parent in places.headers:
        return _insert_line(content, places.headers[parent], line)
    if parent:
        return _write_table(text, parent, line, places)
    pairs = [node for node in root.named_children if node.type == "pair"]
    return _insert_line(content, pairs[-1], line) if pairs else f"{line}\n{text}"


def remove_keys(text: str, keys: Sequence[KeyPath]) -> str | None:
    """The text without these keys or entries of tables, and their lines; None where one cannot be removed so that all
    else stays."""
    for key in keys:
        content = text.encode()
        places = _find_places(content)[1]
        node = places.pairs.get(key) or places.headers.get(key)
        if node is None:
            return None
        start = content.rfind(b"\n", 0, node.start_byte) + 1
        inner = [each for each in node.named_children if each.type != "comment"]  # one behind them is of what follows
        end = content.find(b"\n", inner[-1].end_byte) + 1 or len(content)
        expected = _remove_value(tomllib.loads(text), key)
        text = _splice(content, start, end, "")
        if not _has_content(text, expected):  # several keys on one line
            return None
    return text


def _remove_value(raw: Raw, key: KeyPath) -> Raw:
    holder: Any = raw
    for part in key[:-1]:
        holder = holder[part]
    del holder[key[-1]]
    if holder == [] and key[:-1]:
        _remove_value(raw, key[:-1])
    return raw


def _write_table(text: str, table: KeyPath, line: str, places: _Places) -> str:
    """The text with a table that it does not have: at its end, or as a value of the table that it belongs to."""
    if len(table) != 1 or any(path[:1] == table for path in (*places.pairs, *places.headers)):
        return _write_value(text, table, f"{{ {line} }}")
    end = "" if not text or text.endswith("\n") else "\n"
    return f"{text}{end}\n[{_quote_key(str(table[0]))}]\n{line}\n"


def _insert_line(content: bytes, after: Node, line: str) -> str:
    """Below the last line of a table, or of a pair."""
    parts = [node for node in after.named_children if node.type != "comment"]
    last = parts[-1] if after.type in {"table", "table_array_element"} else after
    end = content.find(b"\n", (_value_of(last) if last.type == "pair" else last).end_byte)
    end = len(content) if end < 0 else end
    start = content.rfind(b"\n", 0, last.start_byte) + 1
    indent = content[start : last.start_byte].decode() if last.type == "pair" else ""
    return _splice(content, end, end, f"\n{indent if not indent.strip() else ''}{line}")


def _splice(content: bytes, start: int, end: int, new: str) -> str:
    return (content[:start] + new.encode() + content[end:]).decode()


def _quote_key(name: str) -> str:
    return name if _BARE_KEY_PATTERN.fullmatch(name) else tomli_w.dumps({name: 0}).removesuffix(" = 0\n")
