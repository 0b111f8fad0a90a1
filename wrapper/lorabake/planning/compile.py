"""A plan to the bytes of sd-scripts' two TOML files. Pure: same plan and spelling, same bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import tomli_w

from lorabake.errors import RecipeError
from lorabake_schemas.base import OptionValue
from lorabake_schemas.compiled import DatasetConfig, TrainConfig
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.guide.rules.extra_options import find_recipe_key
from lorabake_schemas.messages import msg
from lorabake_schemas.options import DatasetOptions, Option
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.values import shorten_value

# Options whose value is a path that the recipe gives relative to itself.
PATH_OPTIONS = frozenset(
    {
        "base_weights",
        "image_dir",
        "log_tracker_config",
        "network_weights",
        "pretrained_model_name_or_path",
        "tokenizer_cache_dir",
        "vae",
    }
)
UNREADABLE_TEXT_FIX = msg("write it without quotes, backslashes or control characters")
FILE_HEADER = "# Compiled by lorabake from a recipe, which is what to edit. Paths are relative to this folder.\n"


@dataclass(frozen=True, slots=True)
class CompiledFiles:
    """``train`` and ``dataset`` are TOML; ``prompts`` one prompt a line, empty when there is no sampling."""

    train: bytes
    dataset: bytes
    prompts: bytes


def compile_plan(
    plan: Plan, options: Sequence[Option], dataset_options: DatasetOptions, spelling: Mapping[str, str]
) -> CompiledFiles:
    """The files of a run.

    ``spelling`` gives every path of the recipe as it is written from the run folder; a path without an entry (a
    hub id) stays as it is. Raises UnknownOptionError when the plan holds what the pin does not know, which is our
    bug, and RecipeError when sd-scripts' own reader would damage a value.
    """
    train = TrainConfig.of([_with_spelled_path(setting, spelling) for setting in plan.train], options)
    dataset = DatasetConfig.of(_with_spelled_folders(plan, spelling), dataset_options)
    blocks = [
        {**_to_toml_values(block.values), "subsets": [_to_toml_values(part) for part in block.subsets]}
        for block in dataset.datasets
    ]
    return CompiledFiles(
        train=to_toml(_to_toml_values(train.values)),
        dataset=to_toml({"datasets": blocks}),
        prompts="".join(f"{line}\n" for line in plan.prompts).encode(),
    )


def to_toml(table: dict[str, Any]) -> bytes:
    """UTF-8 TOML that toml 0.10.2, sd-scripts' reader, reads back as exactly ``table``.

    Raises RecipeError when it does not: that reader loses a few strings, such as one that begins with two quotes.
    """
    text = FILE_HEADER + tomli_w.dumps(table)
    if not _round_trips(text, table):
        alone = ({"a": value} for value in _iter_strings(table))
        lost = next((one["a"] for one in alone if not _round_trips(tomli_w.dumps(one), one)), "")
        raise RecipeError(
            msg("sd-scripts' TOML parser cannot read {value}", value=repr(lost)),
            hint=UNREADABLE_TEXT_FIX,
        )
    return text.encode()


# What cannot go wrong: every other text is tried. It takes 20 ms to import that reader.
SAFE_TEXT = re.compile(r"""[^"'\\,\x00-\x1f\x7f-\x9f][^"\\\x00-\x1f\x7f-\x9f]*""")


def iter_unreadable_texts(plan: Plan) -> Iterator[Finding]:
    """The texts of a recipe that sd-scripts' reader would lose or damage, each at its key."""
    settings: list[tuple[tuple[str | int, ...], OptionValue]] = []
    settings += [(_recipe_location(setting), setting.value) for setting in plan.train]
    seen = Counter[str]()
    for part in plan.subsets:
        table = "regularization" if part.is_reg else "concept"
        keys = {"image_dir": "images", "class_tokens": "class" if part.is_reg else "token"}
        for setting in part.settings:
            key = keys.get(setting.option)
            settings.append((("captions", setting.option) if key is None else (table, seen[table], key), setting.value))
        seen[table] += 1
    for where, value in dict.fromkeys(settings):
        plain = _to_toml_values({"a": value})
        if all(map(SAFE_TEXT.fullmatch, _iter_strings(plain))) or _round_trips(tomli_w.dumps(plain), plain):
            continue
        said = msg("sd-scripts' TOML parser cannot read {value}", value=shorten_value(plain["a"]))
        yield Finding(rule="S3.text", severity=Severity.ERROR, where=where, message=said, fix=UNREADABLE_TEXT_FIX)


def _recipe_location(setting: Setting) -> tuple[str | int, ...]:
    """Where in a recipe this value comes from."""
    name = setting.option
    if name == "metadata_trigger_phrase" and setting.source.origin is not Origin.RECIPE:
        return ("concept", 0, "token")
    if name in {"network_args", "output_name"}:
        return ("network",) if name == "network_args" else ("name",)
    if name == "pretrained_model_name_or_path":
        return ("base", "model")
    return tuple((find_recipe_key(name) or f"kohya.{name}").split("."))


def _round_trips(text: str, table: dict[str, Any]) -> bool:
    import toml

    try:
        back = toml.loads(text)
    except (ValueError, IndexError, TypeError):  # its own error is a ValueError
        return False
    return repr(_sort_keys(back)) == repr(_sort_keys(table))  # repr tells 1 from 1.0 and from true


def _iter_strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        table = cast("dict[str, object] | list[object]", value)
        for item in table.values() if isinstance(table, dict) else table:
            yield from _iter_strings(item)


def _sort_keys(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sort_keys(item) for key, item in sorted(cast("dict[str, object]", value).items())}
    if isinstance(value, list):
        return [_sort_keys(item) for item in cast("list[object]", value)]
    return value


def _with_spelled_path(setting: Setting, spelling: Mapping[str, str]) -> Setting:
    value = setting.value
    if setting.option in PATH_OPTIONS and isinstance(value, str):
        return setting.model_copy(update={"value": spelling.get(value, value)})
    if setting.option in PATH_OPTIONS and isinstance(value, tuple):
        return setting.model_copy(update={"value": tuple(spelling.get(str(item), str(item)) for item in value)})
    return setting


def _with_spelled_folders(plan: Plan, spelling: Mapping[str, str]) -> Plan:
    parts = tuple(
        part.model_copy(update={"settings": tuple(_with_spelled_path(setting, spelling) for setting in part.settings)})
        for part in plan.subsets
    )
    return plan.model_copy(update={"subsets": parts})


def _to_toml_values(values: Mapping[str, OptionValue]) -> dict[str, Any]:
    """Tuples as lists; toml 0.10.2 wants the elements of one array all of one type."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
