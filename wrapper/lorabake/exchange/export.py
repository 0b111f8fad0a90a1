"""A recipe or a run for those who train with sd-scripts alone, or with the kohya_ss GUI."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, cast

from lorabake.errors import MachineError
from lorabake.exchange.compiled_source import CompiledSource, relative_path
from lorabake.exchange.kohya_gui.writer import build_gui_preset
from lorabake.planning.compile import DATASET_FILE, PATH_OPTIONS, PROMPTS_FILE, TRAIN_FILE, to_toml
from lorabake.util import resources
from lorabake.util.files import create_bytes, disk_error, reason
from lorabake_schemas.export_report import ExportedKey, ExportFormat, ExportReport
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Origin, Plan
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.secrets import copy_without_secrets, has_secret, is_secret
from lorabake_schemas.values import format_value

HEADER = "# Exported by lorabake.\n"
START_FILE = "train.sh"
_NOT_SAID = msg("only lorabake has it")
_SECRET = msg("a secret is not copied")
# Keys of a recipe that no option of sd-scripts is made of. Each decides defaults, or what is checked.
_OWN_KEYS = frozenset(
    {
        "kind", "base.tags", "base.native_resolution", "concept.asymmetric", "concept.tags", "captions.tagging",
        "launch.deterministic", "save.runs", "train.exposures",
    }
)  # fmt: skip
_OWN_TABLES = frozenset({"watch", "ignore"})


def write_export(
    source: CompiledSource,
    to: ExportFormat,
    folder: Path,
    origin: str,
    own: Sequence[ExportedKey] = (),
    chosen: Sequence[ExportedKey] = (),
) -> ExportReport:
    """Write the files into a new or empty folder. ``own`` are keys that only lorabake has, ``chosen`` options that this
    machine decided.

    Raises MachineError if something is in the folder, or if it cannot be written; then nothing of ours stays.
    """
    carried: tuple[ExportedKey, ...] = ()
    source, secrets = _remove_secrets(source)
    lost = [*own, *secrets]
    if to == "kohya_ss":
        preset = build_gui_preset(source, folder, DATASET_FILE)
        carried, lost = preset.carried, [*lost, *preset.lost]
        text = json.dumps(preset.fields, indent=2, ensure_ascii=False) + "\n"
        files = {f"{source.name}.json": text.encode(), DATASET_FILE: to_toml({"datasets": source.datasets}, HEADER)}
        command: tuple[str, ...] = ()
    else:
        command = _build_command(source)
        files = _build_sd_scripts_files(source, folder, command)
    _add_presets(files, source.others)
    if source.launch.deterministic and not any(each.key == "launch.deterministic" for each in lost):
        lost.append(ExportedKey(key="launch.deterministic", value="true", why=_NOT_SAID))
    _write_files(files, folder)
    return ExportReport(
        source=origin,
        format=to,
        folder=str(folder),
        files=tuple(files),
        command=command,
        carried=carried,
        chosen=tuple(chosen),
        lost=tuple(lost),
    )


def _remove_secrets(source: CompiledSource) -> tuple[CompiledSource, list[ExportedKey]]:
    """Without keys and values that are secrets, since a run may be a stranger's; and a line for each key."""
    found: dict[str, None] = {}

    def remove(table: Mapping[str, Any]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, value in table.items():
            copied = None if is_secret(name) else copy_without_secrets(value)
            if copied is None or has_secret(value):
                found[name] = None
            if copied is not None:
                kept[name] = copied
        return kept

    train = remove(source.train)
    datasets = [
        {**remove({**each, "subsets": []}), "subsets": [*map(remove, each["subsets"])]} for each in source.datasets
    ]
    prompts = remove({"sample_prompts": list(source.prompts)}).get("sample_prompts", [])
    lines = [ExportedKey(key=name, why=_SECRET) for name in found]
    return replace(source, train=train, datasets=datasets, prompts=prompts), lines


def _add_presets(files: dict[str, bytes], presets: Mapping[str, bytes]) -> None:
    """Raises MachineError for one that would replace another file, on a disk that ignores case, too."""
    own = {name.casefold() for name in files}
    for name, content in presets.items():
        if name.casefold() in own:
            said = msg("the preset {name} in network_args has the name of a file that export writes", name=name)
            raise MachineError(said, msg("give the preset another name"))
        files[name] = content


def list_chosen(plan: Plan) -> tuple[ExportedKey, ...]:
    """The options that depend on this machine; another one may train."""
    return tuple(
        ExportedKey(key=each.option, value=format_value(each.value), why=each.source.why)
        for each in plan.train
        if each.source.origin is Origin.MACHINE
    )


def list_own_keys(recipe: Recipe) -> tuple[ExportedKey, ...]:
    """What the recipe sets that no option of sd-scripts is made of."""
    written = recipe.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return tuple(dict.fromkeys(_iter_own_keys(written)))


def _iter_own_keys(written: Mapping[str, Any]) -> Iterable[ExportedKey]:
    for name, value in written.items():
        if name in _OWN_KEYS:
            yield ExportedKey(key=name, value=format_value(value), why=_NOT_SAID)
            continue
        tables: list[object] = cast("list[object]", value) if isinstance(value, list) else [value]
        for table in tables:
            if not isinstance(table, dict):
                continue
            for key, inner in cast("dict[str, Any]", table).items():
                if name in _OWN_TABLES or f"{name}.{key}" in _OWN_KEYS:
                    yield ExportedKey(key=f"{name}.{key}", value=format_value(inner), why=_NOT_SAID)


def _build_sd_scripts_files(source: CompiledSource, folder: Path, command: Sequence[str]) -> dict[str, bytes]:
    train = {**_make_relative(source.train, folder), "dataset_config": DATASET_FILE}
    if source.prompts:
        train["sample_prompts"] = PROMPTS_FILE
    datasets = [
        {**_make_relative(table, folder), "subsets": [_make_relative(part, folder) for part in table["subsets"]]}
        for table in source.datasets
    ]
    header = f"{HEADER}# Paths are relative to this folder: start the training in it, as {START_FILE} does.\n"
    files = {TRAIN_FILE: to_toml(train, header), DATASET_FILE: to_toml({"datasets": datasets}, header)}
    if source.prompts:
        files[PROMPTS_FILE] = "".join(f"{line}\n" for line in source.prompts).encode()
    return files | {START_FILE: _write_start_script(command)}


def _make_relative(table: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The table with paths as they are seen from ``folder``."""
    made = dict(table)
    for name in PATH_OPTIONS & made.keys():
        value = made[name]
        listed = isinstance(value, list)
        paths = [relative_path(str(each), folder) for each in (cast("list[object]", value) if listed else [value])]
        made[name] = paths if listed else paths[0]
    return made


def _build_command(source: CompiledSource) -> tuple[str, ...]:
    launch = source.launch
    several = launch.num_processes > 1
    return (
        "accelerate", "launch",
        "--num_processes", str(launch.num_processes),
        "--num_machines", "1",
        "--mixed_precision", "no",  # without effect: train.toml decides
        "--dynamo_backend", "no",
        "--num_cpu_threads_per_process", str(launch.num_cpu_threads_per_process),
        *(("--multi_gpu",) if several else ()),
        *(("--gpu_ids", launch.gpu_ids) if launch.gpu_ids else ()),
        *(("--main_process_port", str(launch.main_process_port)) if launch.main_process_port else ()),
        source.script, "--config_file", TRAIN_FILE,
    )  # fmt: skip


def _write_start_script(command: Sequence[str]) -> bytes:
    """The command with the script in $SD_SCRIPTS."""
    at = next(index for index, word in enumerate(command) if word.endswith(".py"))
    before, after = shlex.join(command[:at]), shlex.join(command[at + 1 :])
    commit = resources.load_pin().commit
    return (
        "#!/bin/sh\n"
        f"# {HEADER.strip('# ')}"
        f"# SD_SCRIPTS is the folder of sd-scripts (commit {commit}), whose environment has to be active.\n"
        'cd "$(dirname "$0")" || exit 1\n'
        f'{before} "$SD_SCRIPTS/{command[at]}" {after}\n'
    ).encode()


def _write_files(files: Mapping[str, bytes], folder: Path) -> None:
    there = folder.is_dir()
    written: list[Path] = []
    try:
        if folder.exists() and not (there and not any(folder.iterdir())):
            raise MachineError(msg("{path} already exists", path=folder), msg("choose a new or empty folder"))
        outside = next((name for name in files if not _is_file_name(name)), None)
        if outside is not None:
            said = msg("{name} is not a name that a file in {folder} can have", name=outside, folder=folder)
            raise MachineError(said, msg("choose another name for it"))
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            create_bytes(folder / name, content)
            written.append(folder / name)
        if START_FILE in files:
            (folder / START_FILE).chmod(0o755)
    except OSError as error:
        _remove_written(written, None if there else folder)
        said = msg("cannot write to {folder}: {why}", folder=folder, why=reason(error))
        raise disk_error(error, said, msg("choose another folder")) from error


def _is_file_name(name: str) -> bool:
    """Whether a file of this name is in the folder that it is written to."""
    return PureWindowsPath(name).name == name and PurePosixPath(name).name == name and name != ".."


def _remove_written(files: Collection[Path], folder: Path | None) -> None:
    with suppress(OSError):
        for path in files:
            path.unlink(missing_ok=True)
        if folder is not None:
            folder.rmdir()


def default_folder(name: str, to: ExportFormat) -> Path:
    """Where it is written if no folder is named: next to where the command was started."""
    return Path(f"{name}-{to}")
