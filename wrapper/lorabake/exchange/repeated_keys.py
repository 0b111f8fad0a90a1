"""Keys that a JSON or YAML file has twice: the last value counts, and each earlier one has a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.convert import show_value
from lorabake.exchange.reading import decode_text
from lorabake.exchange.yaml_reading import compose_yaml
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg
from lorabake_schemas.secrets import hide_all_secrets, is_secret

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

Pair = tuple[str, object]
_MERGE = "<<"  # of YAML, which may be there twice


class _Pairs(list[Pair]):
    """A table with all its keys in their order."""


def list_repeated_keys(source: Source, *, is_yaml: bool) -> Iterator[ImportedKey]:
    """Of a file that its reader could read."""
    text = decode_text(source)
    if text.lstrip().startswith("{"):
        waiting: list[Pair] = [("", json.loads(text, object_pairs_hook=_Pairs))]
    elif is_yaml:
        waiting = [("", _read_node(compose_yaml(text), set()))]
    else:
        return
    why = msg("the file has this key twice; the last value counts")
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, _Pairs):
            dot = "." if name else ""
            last = {key: at for at, (key, _) in enumerate(value)}
            for at, (key, part) in enumerate(value):
                full = f"{name}{dot}{key}"
                if at == last[key] or key == _MERGE:
                    waiting.append((full, part))
                else:
                    shown = None if is_secret(full) else hide_all_secrets(_to_plain(part))
                    yield ImportedKey(key=full, value=show_value(shown), fate="dropped", why=why)
        elif isinstance(value, list):
            waiting += [(f"{name}[{at}]", part) for at, part in enumerate(cast("list[object]", value))]


def _to_plain(value: object) -> object:
    if isinstance(value, _Pairs):
        return {key: _to_plain(part) for key, part in value}
    if isinstance(value, list):
        return [_to_plain(part) for part in cast("list[object]", value)]
    return value


def _read_node(node: Any, seen: set[int]) -> object:
    """A node of YAML; what an alias repeats is read once."""
    if isinstance(node.value, str):
        return node.value
    if id(node) in seen:
        return ""
    seen.add(id(node))
    if node.id == "mapping":
        return _Pairs((str(key.value), _read_node(part, seen)) for key, part in node.value)
    return [_read_node(part, seen) for part in node.value]
