"""A plan to the bytes of sd-scripts' two TOML files. Pure: same plan and paths, same bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import tomli_w

from lorabake.errors import RecipeError
from lorabake_schemas.base import OptionValue
from lorabake_schemas.compiled import DatasetBlock, DatasetConfig, TrainConfig
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import msg
from lorabake_schemas.options import DatasetOptions, Option
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe_keys import find_option_key
from lorabake_schemas.values import shorten_value

# Options whose value is a path that the recipe gives relative to itself.
PATH_OPTIONS = frozenset(
    {
        "base_weights",
        "conditioning_data_dir",
        "image_dir",
        "log_tracker_config",
        "metadata_file",
        "network_weights",
        "pretrained_model_name_or_path",
        "tokenizer_cache_dir",
        "vae",
    }
)
UNREADABLE_TEXT_FIX = msg("write it without quotes, backslashes or control characters")
FILE_HEADER = "# Compiled by lorabake from a recipe, which is what to edit. Paths are relative to this folder.\n"


TRAIN_FILE, DATASET_FILE, PROMPTS_FILE = "train.toml", "dataset.toml", "prompts.txt"


class CompiledPlan(NamedTuple):
    """sd-scripts' two TOML files as tables, and the prompts. The recipe's paths in them are placeholders: how each
    is written depends on the place of the run folder, and the run's digest contains none of them.
    """

    train: Mapping[str, OptionValue]
    datasets: tuple[DatasetBlock, ...]
    prompts: bytes

    def fill(self, paths: Mapping[str, str]) -> dict[str, bytes]:
        """The files by name, each path of the recipe written as in ``paths``; a path that is missing there is not
        changed.

        Raises RecipeError if sd-scripts' own reader would damage a value.
        """
        blocks = [
            {**_fill_table(block.values, paths), "subsets": [_fill_table(part, paths) for part in block.subsets]}
            for block in self.datasets
        ]
        files = {TRAIN_FILE: to_toml(_fill_table(self.train, paths)), DATASET_FILE: to_toml({"datasets": blocks})}
        return files | ({PROMPTS_FILE: self.prompts} if self.prompts else {})


def compile_plan(plan: Plan, options: Sequence[Option], dataset_options: DatasetOptions) -> CompiledPlan:
    """Raises UnknownOptionError if the plan contains what the pin does not know, which is a bug in lorabake."""
    return CompiledPlan(
        train=TrainConfig.of(plan.train, options).values,
        datasets=DatasetConfig.of(plan, dataset_options).datasets,
        prompts="".join(f"{line}\n" for line in plan.prompts).encode(),
    )


def to_toml(table: Mapping[str, Any], header: str = FILE_HEADER) -> bytes:
    """UTF-8 TOML that toml 0.10.2, sd-scripts' reader, reads back as exactly ``table``.

    Raises RecipeError if it does not: that reader loses a few strings, such as one that starts with two quotes.
    """
    text = header + tomli_w.dumps(table)
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
    for part in plan.subsets:
        keys = {"image_dir": "images", "class_tokens": "class" if part.is_reg else "token"}
        for setting in part.settings:
            key = keys.get(setting.option)
            settings.append(
                (("captions", setting.option) if key is None else (part.table, part.index, key), setting.value)
            )
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
    if name == "network_args":
        return ("network",)
    return tuple((find_option_key(name) or f"kohya.{name}").split("."))


def _round_trips(text: str, table: Mapping[str, Any]) -> bool:
    import toml

    try:
        back = toml.loads(text)
    except (ValueError, IndexError, TypeError):  # its own error is a ValueError
        return False
    return repr(_sort_keys(back)) == repr(_sort_keys(table))  # repr distinguishes 1 from 1.0 and from true


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


def _fill_table(values: Mapping[str, OptionValue], paths: Mapping[str, str]) -> dict[str, Any]:
    table = _to_toml_values(values)
    for name in PATH_OPTIONS & table.keys():
        value = table[name]
        if isinstance(value, str):
            table[name] = paths.get(value, value)
        elif isinstance(value, list):
            table[name] = [paths.get(str(item), str(item)) for item in cast("list[object]", value)]
    return table


def _to_toml_values(values: Mapping[str, OptionValue]) -> dict[str, Any]:
    """Tuples as lists; toml 0.10.2 requires the elements of an array to have the same type."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
