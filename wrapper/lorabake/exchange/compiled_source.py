"""What is exported: the compiled files of a recipe or of a run, with paths that can be moved to another folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lorabake.errors import MachineError
from lorabake.exchange.draft import clean_name
from lorabake.inputs.base_model import looks_like_hub_id
from lorabake.planning.compile import DATASET_FILE, PATH_OPTIONS, PROMPTS_FILE, TRAIN_FILE
from lorabake.util.files import exists, os_errors_as_messages, read_bytes, read_text, read_toml
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import LaunchPlan, Plan, Script

Table = Mapping[str, Any]
_MAYBE_HUB_IDS = ("pretrained_model_name_or_path", "vae")
_PRESET = "preset="


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledSource:
    """sd-scripts' two files as tables, with absolute paths, and what belongs to them.

    ``others`` are files that the network reads, by the name that network_args has.
    """

    name: str
    script: Script
    launch: LaunchPlan
    train: Table
    datasets: Sequence[Table]
    prompts: Sequence[str]
    others: Mapping[str, bytes]


def take_compiled(files: Mapping[str, bytes], plan: Plan, root: Path) -> CompiledSource:
    """``files`` are those of a run folder ``root``, which need not exist; paths in them are relative to it."""
    import tomllib

    tables = {name: tomllib.loads(files[name].decode()) for name in (TRAIN_FILE, DATASET_FILE)}
    train = dict(_make_absolute(tables[TRAIN_FILE], root))
    name = clean_name(str(train.get("output_name", plan.name)))  # a run may be a stranger's
    if "output_name" in train:
        train["output_name"] = name
    return CompiledSource(
        name=name,
        script=plan.script,
        launch=plan.launch,
        train=train,
        datasets=[_absolute_dataset(table, root) for table in tables[DATASET_FILE]["datasets"]],
        prompts=files.get(PROMPTS_FILE, b"").decode().splitlines(),
        others={name: files[name] for name in _find_presets(train) if name in files},
    )


def read_run(root: Path) -> CompiledSource:
    """The compiled files of a run folder. Raises MachineError for what cannot be read."""
    with os_errors_as_messages():
        try:
            plan = Plan.model_validate_json(read_bytes(root / "plan.json", within=root))
            names = [TRAIN_FILE, DATASET_FILE]
            if exists(root / PROMPTS_FILE):
                names.append(PROMPTS_FILE)
            names += _find_presets(read_toml(root / TRAIN_FILE, within=root))
            files = {name: read_text(root / name, within=root).encode() for name in names if exists(root / name)}
            return take_compiled(files, plan, root)
        except (ValueError, KeyError) as error:
            raise MachineError(msg("{run} is not a complete run folder: {why}", run=root, why=str(error))) from error


def _absolute_dataset(table: Table, root: Path) -> Table:
    subsets = [dict(_make_absolute(subset, root)) for subset in table.get("subsets", [])]
    return {**dict(_make_absolute(table, root)), "subsets": subsets}


def _make_absolute(table: Table, root: Path) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if key not in PATH_OPTIONS or not value:
            yield key, value
        elif isinstance(value, list):
            yield key, [_absolute_path(str(each), root) for each in cast("list[object]", value)]
        elif key in _MAYBE_HUB_IDS and looks_like_hub_id(str(value)) and not exists(root / str(value)):
            yield key, value
        else:
            yield key, _absolute_path(str(value), root)


def _absolute_path(path: str, root: Path) -> str:
    return path if Path(path).is_absolute() else Path(os.path.normpath(root.absolute() / path)).as_posix()


def relative_path(path: str, folder: Path) -> str:
    """``path`` as it is seen from ``folder``, with forward slashes; a hub id and another drive's path as they are."""
    if not Path(path).is_absolute():
        return path
    try:
        return Path(os.path.relpath(path, folder.absolute())).as_posix()
    except ValueError:
        return path


def _find_presets(train: Table) -> list[str]:
    """The files next to train.toml that network_args names."""
    arguments = [str(each) for each in train.get("network_args", [])]
    named = [each.removeprefix(_PRESET) for each in arguments if each.startswith(_PRESET)]
    return [name for name in named if name.endswith(".toml") and "/" not in name and "\\" not in name]


def move_presets(arguments: Sequence[str], names: Mapping[str, str]) -> list[str]:
    """network_args with the preset files under other paths."""
    return [
        f"{_PRESET}{names[each.removeprefix(_PRESET)]}"
        if each.startswith(_PRESET) and each.removeprefix(_PRESET) in names
        else each
        for each in arguments
    ]
