"""YAML files with bounds: plain values only, no tag that makes an object, no alias that unfolds without end."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

from lorabake.exchange.reading import MAX_DEPTH, MAX_KEYS, make_error, refuse_lost_text
from lorabake.recipe.foreign import decode_text
from lorabake_schemas.messages import literal, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import Source

MAX_YAML_BYTES = 256 << 10
MAX_ALIASES = 16


def parse_yaml_table(source: Source) -> tuple[str, dict[str, Any]]:
    """The text of a YAML file and the mapping in it. Raises RecipeError with the line."""
    if len(source.content) > MAX_YAML_BYTES:
        raise make_error(source, msg("it is too large for a file of this kind"))
    text = decode_text(source.content)
    yaml: Any = importlib.import_module("yaml")  # by no other file, and not by --help
    try:
        _check_events(source, yaml, text)
        found = yaml.load(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        refuse_lost_text(source, text)
        mark = error.problem_mark or error.context_mark
        why = msg("it is not valid YAML: {why}", why=literal(str(error.problem or error.context or "")))
        raise make_error(source, why, mark.line + 1 if mark else None, msg("fix the YAML on that line")) from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as error:
        raise make_error(source, msg("it is not valid YAML"), None, msg("save it as plain YAML text")) from error
    refuse_lost_text(source, repr(found))
    if not isinstance(found, dict):
        raise make_error(source, msg("its YAML is not a mapping of keys"), 1)
    return text, cast("dict[str, Any]", found)


def compose_yaml(text: str) -> Any:
    """The nodes of a text that ``parse_yaml_table`` could read, with every key, also one that is there twice."""
    yaml: Any = importlib.import_module("yaml")
    return yaml.compose(text, Loader=yaml.SafeLoader)


def _check_events(source: Source, yaml: Any, text: str) -> None:
    """Refuses what would grow while it is read, before anything of it is made."""
    depth = aliases = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        aliases += isinstance(event, yaml.AliasEvent)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH or count > 4 * MAX_KEYS or aliases > MAX_ALIASES:
            line = event.start_mark.line + 1
            raise make_error(source, msg("it has too many keys or aliases, or is nested too deeply"), line)
