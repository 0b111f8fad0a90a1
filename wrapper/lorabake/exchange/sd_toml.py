"""sd-scripts' own files: --config_file and --dataset_config, read as sd-scripts reads them (TU:4740, CU:684)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath
from typing import Any, cast

from lorabake.errors import RecipeError
from lorabake.exchange.convert import fit_dataset_key, fit_option, list_dataset_keys
from lorabake.exchange.foreign import ForeignConfig, ForeignDataset, ForeignSubset, Given, Source
from lorabake.exchange.reading import flatten, parse_json_table, parse_toml_table
from lorabake.exchange.repeated_keys import list_repeated_keys
from lorabake.recipe.foreign import decode_text
from lorabake.util import resources
from lorabake.util.files import TOML_LIMIT, is_file, read_bytes, reason
from lorabake_schemas.base import OptionValue
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.options import Option
from lorabake_schemas.secrets import is_secret
from lorabake_schemas.values import format_value

Raw = Mapping[str, Any]
_CONFIG, _DATASET = msg("sd-scripts"), msg("sd-scripts' dataset configuration")
_NOT_A_VALUE = msg("not a value that sd-scripts accepts")
_CONVERTED = msg("written as another type than sd-scripts expects")


def read_config_file(source: Source) -> ForeignConfig:
    """A --config_file, flat or in sections, together with its dataset file where that is found or named."""
    options, keys = read_sections(parse_content(source))
    config = ForeignConfig(
        format="sd-scripts-config", program=_CONFIG, options=options, keys=tuple(keys), name=source.path.stem
    )
    return with_dataset_file(config, source)


def read_sections(raw: Raw) -> tuple[dict[str, Given], list[ImportedKey]]:
    """As ``read_option_table``, of every key without its section, whose name sd-scripts ignores: a later one replaces
    an earlier one."""
    found: dict[str, list[tuple[str, object]]] = {}  # by name: each full key with its value
    for name, value in raw.items():
        parts = cast("Raw", value) if isinstance(value, dict) else {"": value}
        for part, inner in parts.items():
            full = f"{name}.{part}" if isinstance(value, dict) else name
            found.setdefault(part if isinstance(value, dict) else name, []).append((full, inner))
    options, keys = read_option_table({name: each[-1][1] for name, each in found.items()})
    for name, each in found.items():
        winner = each[-1][0]
        for full, value in each[:-1]:
            why = msg("{key} comes later in the file and replaces it", key=winner)
            keys.append(ImportedKey(key=full, value=_show(name, value), fate="dropped", why=why))
        if len(each) > 1 and name in options:
            options[name] = replace(options[name], keys=(winner,))
    return options, keys


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
    if from_text and value == []:  # --network_args without any takes the place of a file's
        return Given(value=(), keys=(key,))
    given = _join_sides(value) if option.name == "resolution" else value
    found = fit_option(option, given)
    shown = _show(option.name, value)
    if found is None:
        empty = given in ("", [], None) or (given is False and option.type == "str")
        return ImportedKey(
            key=key, value=shown, fate="off" if empty else "dropped", why=None if empty else _NOT_A_VALUE
        )
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


def _show(name: str, value: object) -> str:
    """A value for the report."""
    return "" if is_secret(name) else value if isinstance(value, str) else format_value(value)


def _to_plain(value: object) -> OptionValue:
    """Plain values, and lists of them; anything deeper as text."""
    if isinstance(value, list):
        items = cast("list[object]", value)
        return tuple(item if isinstance(item, bool | int | float | str) else str(item) for item in items)  # type: ignore[return-value]
    return value if isinstance(value, bool | int | float | str) else str(value)


def find_named_file(name: str, source: Source) -> Path | None:
    """A file that the source names, next to it or below it: no text of a stranger opens any other."""
    folder = source.path.parent
    root = Path(os.path.abspath(folder))  # noqa: PTH100 - links stay links
    for place in (root / name, root / PureWindowsPath(name).name):
        found = Path(os.path.abspath(place))  # noqa: PTH100
        if found.is_relative_to(root) and is_file(found):
            return folder / found.relative_to(root)
    return None


def read_if_found(name: str, source: Source) -> Source | None:
    """A file that the source names or writes itself; None if it is not here."""
    written = {_normalize(each): text for each, text in source.written.items()}
    same = [each for each in written if PureWindowsPath(each).name == PureWindowsPath(name).name]
    found = _normalize(name) if _normalize(name) in written else same[0] if len(same) == 1 else None
    if found is not None:
        return Source(path=Path(name), content=written[found].encode())
    path = find_named_file(name, source)
    return None if path is None else read_named_file(path, source.path.parent)


def _normalize(path: str) -> str:
    return os.path.normpath(path.replace("\\", "/"))


def read_named_file(path: Path, within: Path | None) -> Source:
    """A file that another names, or the user. Raises RecipeError."""
    try:
        return Source(path=path, content=read_bytes(path, TOML_LIMIT, within=within))
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=why)) from error


def with_dataset_file(config: ForeignConfig, source: Source, *, separate: bool = True) -> ForeignConfig:
    """With the datasets of the file that the user or the configuration names, if it is here. ``separate``: a
    configuration that names no images is used with such a file."""
    named = config.options.get("dataset_config")
    found = None if source.dataset is None else read_named_file(source.dataset, None)
    if found is None and named is not None and isinstance(named.value, str):
        found = read_if_found(named.value, source)
        if found is None:
            why = msg("not found: name the file with --dataset; its images and their settings are missing here")
            line = ImportedKey(key="dataset_config", value=named.value, fate="dropped", why=why)
            others = {name: given for name, given in config.options.items() if name != "dataset_config"}
            lines, missing = (*config.keys, line), (*config.missing, line)
            return replace(config, options=others, keys=lines, missing=missing, knows_images=False)
    if found is None:
        return replace(config, knows_images=not separate or bool(_IMAGES & config.options.keys()))
    datasets, keys = read_dataset_tables(parse_content(found))
    repeated = list_repeated_keys(found, "sd-scripts-dataset")
    return replace(config, datasets=datasets, keys=(*config.keys, *keys, *repeated))


def read_dataset_config(source: Source) -> ForeignConfig:
    """A --dataset_config alone: the images and their settings, and nothing about the training."""
    datasets, keys = read_dataset_tables(parse_content(source))
    return ForeignConfig(
        format="sd-scripts-dataset",
        program=_DATASET,
        datasets=datasets,
        keys=tuple(keys),
        name=source.path.stem,
        complete=False,
    )


def parse_content(source: Source) -> Raw:
    """TOML, or JSON, which sd-scripts takes for datasets. Raises RecipeError."""
    parse = parse_json_table if decode_text(source.content).lstrip().startswith("{") else parse_toml_table
    table = parse(source)[1]
    flatten(source, table)  # which has bounds
    return table


def read_dataset_tables(raw: Raw) -> tuple[tuple[ForeignDataset, ...], list[ImportedKey]]:
    """[general] and [[datasets]] with their subsets. An option of [general] holds for all of them."""
    keys = list[ImportedKey]()
    general = _read_level(raw.get("general", {}), "general", keys)
    datasets = list[ForeignDataset]()
    for where, block in _list_tables(raw.get("datasets"), "datasets", keys):
        own = _read_level({name: value for name, value in block.items() if name != "subsets"}, where, keys)
        subsets = list[ForeignSubset]()
        for place, part in _list_tables(block.get("subsets"), f"{where}.subsets", keys):
            options = _read_level(part, place, keys)
            is_reg = "is_reg" in options and options["is_reg"].value is True
            subsets.append(ForeignSubset(options=options, is_reg=is_reg))
        datasets.append(ForeignDataset(options={**general, **own}, subsets=tuple(subsets)))
    if general and not datasets:
        datasets.append(ForeignDataset(options=general))
    for name in raw.keys() - {"general", "datasets"}:
        keys.append(ImportedKey(key=name, fate="unknown", why=msg("not a table of a dataset configuration")))
    return tuple(datasets), keys


def _list_tables(value: object, where: str, keys: list[ImportedKey]) -> Iterator[tuple[str, Raw]]:
    """The tables of a list, each with its place; a line for whatever else is there."""
    entries = cast("Sequence[object]", value) if isinstance(value, list) else () if value is None else (value,)
    listed = isinstance(value, list)
    for number, entry in enumerate(entries):
        place = f"{where}[{number}]" if listed else where
        if listed and isinstance(entry, dict):
            yield place, cast("Raw", entry)
        else:
            keys.append(ImportedKey(key=place, value=format_value(entry), fate="dropped", why=_NOT_TABLES))


def _read_level(raw: object, where: str, keys: list[ImportedKey]) -> dict[str, Given]:
    """The options of a table."""
    if not isinstance(raw, dict):
        keys.append(ImportedKey(key=where, value=format_value(raw), fate="dropped", why=_NOT_TABLES))
        return {}
    found = dict[str, Given]()
    for name, value in cast("Raw", raw).items():
        key = f"{where}.{name}"
        given = _read_dataset_option(name, value, key)
        if isinstance(given, Given):
            found[name] = given
        else:
            keys.append(given)
    return found


def _read_dataset_option(name: str, value: object, key: str) -> Given | ImportedKey:
    """Of the type that sd-scripts expects, or the line that says that it has none."""
    if isinstance(value, dict):
        shown = ", ".join(map(str, cast("Raw", value)))
        return ImportedKey(key=key, value=shown, fate="dropped", why=_NO_TABLES)
    option, plain = list_dataset_keys().get(name), _to_plain(value)
    if option is None or (option.problem(plain) is None and plain != ()):
        return Given(value=plain, keys=(key,))
    fitted = fit_dataset_key(option, value)
    if fitted is None or option.problem(fitted) is not None:
        return ImportedKey(key=key, value=format_value(value), fate="dropped", why=_NOT_A_VALUE)
    return Given(value=fitted, keys=(key,), written=format_value(value), repair=_CONVERTED)


_IMAGES = frozenset({"train_data_dir", "in_json"})
_NO_TABLES: Message = msg("a recipe has no key for it")
_NOT_TABLES: Message = msg("not a table, as sd-scripts expects it")
