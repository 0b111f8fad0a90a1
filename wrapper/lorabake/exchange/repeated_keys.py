"""Keys that a JSON or YAML file has more than once: the last value counts, and each earlier one is reported."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.convert import show_value
from lorabake.exchange.reading import MAX_DEPTH, MAX_KEYS, make_error
from lorabake.exchange.yaml_reading import compose_yaml
from lorabake.recipe.foreign import decode_text
from lorabake.util.safetensors import METADATA_KEY, read_header_text
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

Pair = tuple[str, object]
_MERGE = "<<"  # of YAML, which may be there more than once
_WHY = msg("the file has this key more than once; the last value counts")


class _Pairs(list[Pair]):
    """A table with all its keys in their order."""


def list_repeated_keys(source: Source, kind: str, name: str = "") -> tuple[ImportedKey, ...]:
    """Of a file of this format, which its reader could read; ``name`` is what its content is called. A table that is
    replaced has a line for each value."""
    lines: dict[str, list[str]] = {}
    count = 0
    waiting: list[tuple[str, object, bool, int]] = [(name, _read_pairs(source, kind), False, 0)]
    while waiting:
        each = waiting.pop()
        name, value, replaced, depth = each
        if isinstance(value, _Pairs) and (value or not replaced):
            dot = "." if name else ""
            last = {key: at for at, (key, _) in enumerate(value)}
            for at, (key, part) in enumerate(value):
                gone = replaced or not (at == last[key] or key == _MERGE)
                waiting.append((f"{name}{dot}{key}", part, gone, depth + 1))
        elif isinstance(value, list) and any(isinstance(item, list) for item in cast("list[object]", value)):
            parts = enumerate(cast("list[object]", value))
            waiting += [(f"{name}[{at}]", part, replaced, depth + 1) for at, part in parts]
        elif replaced:
            count += 1
            lines.setdefault(name, []).append(show_value(each[1]))
        if count > MAX_KEYS or depth > MAX_DEPTH:
            raise make_error(source, msg("it has too many keys, or is nested too deeply"))
    return tuple(
        ImportedKey(key=name, value=show_value(", ".join(reversed(values))), fate="dropped", why=_WHY)
        for name, values in reversed(lines.items())
    )


def _read_pairs(source: Source, kind: str) -> object:
    """TOML refuses repeated keys, and a script has no tables."""
    if kind == "lora":
        tables = cast("_Pairs", json.loads(read_header_text(source.path), object_pairs_hook=_Pairs))
        return _Pairs(("", table) for key, table in tables if key == METADATA_KEY)  # without the tensors
    if kind in {"shell", "easy-training-scripts", "lora-scripts"}:
        return None
    text = decode_text(source.content)
    if text.lstrip().startswith("{") or kind == "one-trainer":
        return json.loads(text, object_pairs_hook=_Pairs)
    return _read_node(compose_yaml(text), set()) if kind == "ai-toolkit" else None


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
