"""The position of a key in a TOML text: line and column for a key path.

tomllib and pydantic do not keep positions, so the text is parsed a second time with tree-sitter, and only if there is
something to point at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tree_sitter import Node

KeyPath = tuple[str | int, ...]
Position = tuple[int, int]


def find_key_positions(text: str) -> dict[KeyPath, Position]:
    """Every key path of ``text`` with its line and column, both from 1. Broken TOML gives what could be read."""
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    content = text.encode()
    root = Parser(Language(tree_sitter_toml.language())).parse(content).root_node
    found: dict[KeyPath, Position] = {}
    tables_seen: dict[KeyPath, int] = {}
    for node in root.named_children:
        if node.type == "pair":
            _note_pair(node, (), found)
        elif node.type in {"table", "table_array_element"}:
            prefix = parse_table_path(node, tables_seen)
            for end in range(1, len(prefix) + 1):
                found.setdefault(prefix[:end], _node_position(node))
            for pair in node.named_children:
                if pair.type == "pair":
                    _note_pair(pair, prefix, found)
    lines = content.split(b"\n")
    return {path: _to_characters(position, lines) for path, position in found.items()}


def _to_characters(position: Position, lines: Sequence[bytes]) -> Position:
    """tree-sitter counts columns in bytes, people in characters."""
    line, column = position
    return line, len(lines[line - 1][: column - 1].decode("utf-8", "replace")) + 1


def find_position(positions: dict[KeyPath, Position], where: Sequence[str | int]) -> Position | None:
    """The position of ``where``, or of its nearest parent that is written in the file."""
    path = tuple(where)
    while path:
        if path in positions:
            return positions[path]
        path = path[:-1]
    return None


def parse_table_path(node: Node, tables_seen: dict[KeyPath, int]) -> KeyPath:
    """The key path of a table header; elements of arrays of tables are counted, sub-tables follow the last one."""
    path: KeyPath = ()
    names = split_key(node.named_children[0])
    for depth, name in enumerate(names):
        path = (*path, name)
        last = depth == len(names) - 1
        if last and node.type == "table_array_element":
            tables_seen[path] = tables_seen.get(path, -1) + 1
        if path in tables_seen:
            path = (*path, tables_seen[path])
    return path


def _note_pair(pair: Node, prefix: KeyPath, found: dict[KeyPath, Position]) -> None:
    key, value = pair.named_children[0], pair.named_children[-1]
    parts = split_key(key)
    for end in range(1, len(parts) + 1):
        found.setdefault((*prefix, *parts[:end]), _node_position(key))
    _note_value(value, (*prefix, *parts), found)


def _note_value(value: Node, path: KeyPath, found: dict[KeyPath, Position]) -> None:
    if value.type == "inline_table":
        for pair in value.named_children:
            if pair.type == "pair":
                _note_pair(pair, path, found)
    elif value.type == "array":
        items = (item for item in value.named_children if item.type != "comment")
        for index, item in enumerate(items):
            found[(*path, index)] = _node_position(item)
            _note_value(item, (*path, index), found)


def split_key(key: Node) -> tuple[str, ...]:
    return tuple(_unquote(leaf) for leaf in _iter_leaves(key))


def _iter_leaves(key: Node) -> Iterator[Node]:
    if key.type == "dotted_key":
        for child in key.named_children:
            yield from _iter_leaves(child)
    else:
        yield key


def _unquote(leaf: Node) -> str:
    text = (leaf.text or b"").decode()
    return text[1:-1] if leaf.type == "quoted_key" else text


def _node_position(node: Node) -> Position:
    return node.start_point[0] + 1, node.start_point[1] + 1
