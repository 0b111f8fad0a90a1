"""Sample prompts from a file, in the three forms that sd-scripts reads (TU:6329): lines, TOML and JSON."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from lorabake.util.files import UnreadableError, parse_json, read_text, reason
from lorabake_schemas.messages import Message, msg

PROMPT_FILE_LIMIT = 1 << 18  # bytes: it becomes a part of the run's recipe
_LINE_END = re.compile(r"\r\n|\r|\n")  # those of Python's text mode; str.splitlines knows more
# The flag of a line for each key of a table (TU:6505-6513).
FLAG_BY_KEY = {
    "negative_prompt": "n", "width": "w", "height": "h", "seed": "d", "sample_steps": "s", "scale": "l",
    "guidance_scale": "g", "sample_sampler": "ss", "controlnet_image": "cn", "cfg_trunc_ratio": "ctr",
    "renorm_cfg": "rcfg", "flow_shift": "fs",
}  # fmt: skip


class PromptFileError(UnreadableError):
    """The file cannot be read, or has no prompts in a form that sd-scripts knows."""


def read_prompt_file(path: Path) -> list[str]:
    """Its prompts as lines with flags. Raises PromptFileError."""
    try:
        text = read_text(path, PROMPT_FILE_LIMIT)
    except FileNotFoundError as error:
        raise _make_error(msg("{file} does not exist", file=path)) from error
    except OSError as error:
        raise _make_error(msg("cannot read {file}: {why}", file=path, why=reason(error))) from error
    except ValueError as error:
        raise _make_error(msg("{file} is not UTF-8", file=path)) from error
    match path.suffix.lower():
        case ".txt":
            found = [line.strip() for line in _LINE_END.split(text) if line.strip() and not line.startswith("#")]
        case ".toml":
            found = [_to_line(table) for table in _read_toml(text, path)]
        case ".json":
            found = [each if isinstance(each, str) else _to_line(each) for each in _read_json(text, path)]
        case _:
            raise _make_error(msg("{file} is not a .txt, .toml or .json file", file=path))
    if not found:
        raise _make_error(msg("{file} contains no prompts", file=path))
    return found


def _make_error(why: Message) -> PromptFileError:
    return PromptFileError(why, "")


def _read_toml(text: str, path: Path) -> list[object]:
    """[prompt] with what is common, [[prompt.subset]] with the rest."""
    try:
        prompt = tomllib.loads(text)["prompt"]
        return [{key: value for key, value in (prompt | each).items() if key != "subset"} for each in prompt["subset"]]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _make_error(msg("{file} needs [prompt] and [[prompt.subset]]", file=path)) from error


def _read_json(text: str, path: Path) -> list[object]:
    try:
        found = parse_json(text)
    except ValueError as error:
        raise _make_error(msg("{file} is not JSON", file=path)) from error
    if not isinstance(found, list):
        raise _make_error(msg("{file} is not a list of prompts", file=path))
    return cast("list[object]", found)


def _to_line(table: object) -> str:
    values: Mapping[str, object] = cast("Mapping[str, object]", table) if isinstance(table, Mapping) else {}
    unknown = [key for key in values if key not in FLAG_BY_KEY and key != "prompt"]
    if not values or unknown:
        known = ", ".join(("prompt", *FLAG_BY_KEY))
        raise _make_error(msg("a prompt has the keys {known}, not {keys}", known=known, keys=", ".join(unknown) or "-"))
    given = {key: value for key, value in values.items() if value is not None}  # null is as if it were not there
    flags = [f" --{FLAG_BY_KEY[key]} {value}" for key, value in given.items() if key != "prompt"]
    return str(given.get("prompt", "")) + "".join(flags)
