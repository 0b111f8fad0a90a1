"""sd-scripts' own files: --config_file and --dataset_config, read as sd-scripts reads them (TU:4740, CU:684)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any, cast

from lorabake.errors import RecipeError
from lorabake.exchange.convert import fit_option, is_secret
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.exchange.reading import parse_json_table, parse_toml_table
from lorabake.util import resources
from lorabake.util.files import TOML_LIMIT, is_file, read_bytes, reason
from lorabake_schemas.base import OptionValue
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import Option
from lorabake_schemas.values import format_value

Raw = Mapping[str, Any]
_CONFIG, _DATASET = msg("sd-scripts"), msg("sd-scripts' dataset configuration")
_NOT_A_VALUE = msg("not a value that sd-scripts accepts")
_CONVERTED = msg("written as another type than sd-scripts expects")


def read_config_file(source: Source) -> ForeignConfig:
    """A --config_file, flat or in sections, together with its dataset file where that is found or named."""
    raw = parse_content(source.content, source.path)
    options, keys = read_option_table(dict(flatten_sections(raw)))
    config = ForeignConfig(
        format="sd-scripts-config", program=_CONFIG, options=options, keys=tuple(keys), name=source.path.stem
    )
    return with_dataset_file(config, source)


def flatten_sections(raw: Raw) -> Iterator[tuple[str, object]]:
    """Every key without its section, whose name sd-scripts ignores; a later one replaces an earlier one."""
    for name, value in raw.items():
        if isinstance(value, dict):
            yield from cast("Raw", value).items()
        else:
            yield name, value


def read_option_table(raw: Raw) -> tuple[dict[str, Given], list[ImportedKey]]:
    """Options of the training script by their own names, and a line for each that is none."""
    known = {option.name: option for option in resources.load_snapshot().merge_scripts()}
    options, keys = dict[str, Given](), list[ImportedKey]()
    for name, value in raw.items():
        option = known.get(name)
        if option is None:
            options[name] = Given(value=_to_plain(value), keys=(name,))
            continue
        given = read_option(option, value, name)
        if isinstance(given, Given):
            options[name] = given
        else:
            keys.append(given)
    return options, keys


def read_option(option: Option, value: object, key: str, *, from_text: bool = False) -> Given | ImportedKey:
    """A value for an option, or the line that says that it has none. ``from_text``: of a command line, where every
    value is text."""
    given = _join_sides(value) if option.name == "resolution" else value
    found = fit_option(option, given)
    shown = "" if is_secret(option.name) else value if isinstance(value, str) else format_value(value)
    if found is None:
        empty = given in ("", [], None)
        why = msg("empty, as if it were not there") if empty else _NOT_A_VALUE
        return ImportedKey(key=key, value=shown, fate="default" if empty else "dropped", why=why)
    plain = _to_plain(given)
    if from_text or found == plain or (option.nargs == 0 and bool(given) == found):
        return Given(value=found, keys=(key,))
    listed = plain if isinstance(plain, tuple) else (plain,)
    if isinstance(found, tuple) and (listed == found or tuple(map(str, listed)) == found) and option.type != "str":
        return Given(value=found, keys=(key,))
    if isinstance(found, tuple) and isinstance(plain, tuple):
        return Given(value=found, keys=(key,))
    return Given(value=found, keys=(key,), written=shown, repair=_CONVERTED)


def _join_sides(value: object) -> object:
    """[512, 768] as the text that sd-scripts takes."""
    return ",".join(map(str, cast("list[object]", value))) if isinstance(value, list) else value


def _to_plain(value: object) -> OptionValue:
    if isinstance(value, list):
        return tuple(cast("list[str]", value))
    return value if isinstance(value, bool | int | float | str) else str(value)


def with_dataset_file(config: ForeignConfig, source: Source) -> ForeignConfig:
    """With the datasets of the file that the user or the configuration names, if it is here."""
    named = config.options.get("dataset_config")
    path = source.dataset
    if path is None and named is not None and isinstance(named.value, str):
        name = PureWindowsPath(named.value).name
        places = (source.path.parent / named.value, source.path.parent / name)
        path = next((place for place in places if is_file(place)), None)
        if path is None:
            why = msg("not found: name the file with --dataset; its images and their settings are missing here")
            line = ImportedKey(key="dataset_config", value=named.value, fate="dropped", why=why)
            return replace(config, keys=(*config.keys, line), missing=(*config.missing, line))
    return config if path is None else replace(config, **_read_datasets(path, config))


def _read_datasets(path: Path, config: ForeignConfig) -> dict[str, Any]:
    try:
        content = read_bytes(path, TOML_LIMIT)
    except OSError as error:
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=reason(error))) from error
    datasets, keys = read_dataset_tables(parse_content(content, path))
    return {"datasets": datasets, "keys": (*config.keys, *keys)}


def read_dataset_config(source: Source) -> ForeignConfig:
    """A --dataset_config alone: the images and their settings, and nothing about the training."""
    datasets, keys = read_dataset_tables(parse_content(source.content, source.path))
    return ForeignConfig(
        format="sd-scripts-dataset",
        program=_DATASET,
        datasets=datasets,
        keys=tuple(keys),
        name=source.path.stem,
        complete=False,
    )


def parse_content(content: bytes, path: Path) -> Raw:
    """TOML, or JSON, which sd-scripts takes for datasets. Raises RecipeError."""
    source = Source(path=path, content=content)
    parse = parse_json_table if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else parse_toml_table
    return parse(source)[1]


def read_dataset_tables(raw: Raw) -> tuple[tuple[ForeignDataset, ...], list[ImportedKey]]:
    """[general] and [[datasets]] with their subsets. An option of [general] holds for all of them."""
    keys = list[ImportedKey]()
    general = _read_level(raw.get("general", {}), "general", keys)
    datasets = list[ForeignDataset]()
    for block_number, block in enumerate(_tables(raw.get("datasets"))):
        where = f"datasets[{block_number}]"
        own = _read_level({name: value for name, value in block.items() if name != "subsets"}, where, keys)
        subsets = list[ForeignSubset]()
        for number, part in enumerate(_tables(block.get("subsets"))):
            options = _read_level(part, f"{where}.subsets[{number}]", keys)
            is_reg = "is_reg" in options and options["is_reg"].value is True
            subsets.append(ForeignSubset(options=options, is_reg=is_reg))
        datasets.append(ForeignDataset(options={**general, **own}, subsets=tuple(subsets)))
    for name in raw.keys() - {"general", "datasets"}:
        keys.append(ImportedKey(key=name, fate="unknown", why=msg("not a table of a dataset configuration")))
    return tuple(datasets), keys


def _tables(value: object) -> list[Raw]:
    entries = cast("Sequence[object]", value) if isinstance(value, list) else ()
    return [cast("Raw", each) for each in entries if isinstance(each, dict)]


def _read_level(raw: object, where: str, keys: list[ImportedKey]) -> dict[str, Given]:
    """The options of a table; sd-scripts checks them itself, so their types are as they are."""
    found = dict[str, Given]()
    for name, value in cast("Raw", raw).items() if isinstance(raw, dict) else ():
        key = f"{where}.{name}"
        if isinstance(value, dict):
            shown = ", ".join(map(str, cast("Raw", value)))
            keys.append(ImportedKey(key=key, value=shown, fate="dropped", why=_NO_TABLES))
        else:
            found[name] = Given(value=_to_plain(value), keys=(key,))
    return found


_NO_TABLES: Message = msg("a recipe has no key for it")
