"""Reading a file of another program with the reader of its format."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path, PureWindowsPath
from types import MappingProxyType
from typing import TYPE_CHECKING, NoReturn

from lorabake.errors import RecipeError
from lorabake.exchange.ai_toolkit.reader import read_ai_toolkit
from lorabake.exchange.easy import read_easy
from lorabake.exchange.kohya_gui.reader import read_kohya_gui
from lorabake.exchange.lora_file.reader import read_lora_file
from lorabake.exchange.lora_scripts import read_lora_scripts
from lorabake.exchange.one_trainer.reader import read_one_trainer
from lorabake.exchange.reading import make_error, parse_json_table, refuse_lost_text
from lorabake.exchange.repeated_keys import list_repeated_keys
from lorabake.exchange.sd_toml import read_config_file, read_dataset_config
from lorabake.exchange.shell.reader import read_shell
from lorabake.recipe.foreign import START_SIZE, ForeignKind, recognize, recognize_bytes
from lorabake.recipe.paths import find_windows_path
from lorabake.util import files
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.exchange.foreign import ForeignConfig, Reader, Source

MAX_BYTES = 16 << 20  # of a configuration
_MIN_BYTES = 8  # of anything that can be imported


def _read_damaged_json(source: Source) -> NoReturn:
    """Raises RecipeError with the line."""
    parse_json_table(source)
    raise make_error(source, msg("it is not valid JSON"))


# By the name of the format (recipe/foreign.py).
READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "kohya-gui": read_kohya_gui,
        "sd-scripts-config": read_config_file,
        "sd-scripts-dataset": read_dataset_config,
        "shell": read_shell,
        "easy-training-scripts": read_easy,
        "lora-scripts": read_lora_scripts,
        "one-trainer": read_one_trainer,
        "ai-toolkit": read_ai_toolkit,
        "lora": read_lora_file,
        "json": _read_damaged_json,
    }
)


def read_foreign_file(source: Source) -> ForeignConfig:
    """A file of another program, whose ``content`` is read here.

    Raises RecipeError for one that cannot be read, is a recipe, or is of no format that is known.
    """
    kind, content = _recognize_file(source.path)
    reader = READERS.get(kind.name) if kind else None
    if kind is not None and reader is not None:
        found = replace(source, content=content)
        config = reader(found)
        refuse_lost_text(found, repr([config.options, config.launch, config.datasets, config.prompts]))
        return replace(config, keys=(*config.keys, *list_repeated_keys(found, kind.name)))
    formats = msg(
        "import reads kohya_ss presets, sd-scripts files and commands, and LoRAs; see `lorabake import --help`"
    )
    if kind is None:
        said = msg("{path} is not a file of another program that lorabake knows", path=source.path)
        raise RecipeError(said, hint=formats)
    raise RecipeError(msg("{path} is {what}", path=source.path, what=kind.label), hint=kind.fix or formats)


def _recognize_file(path: Path) -> tuple[ForeignKind | None, bytes]:
    """What it is, and its bytes if it is text."""
    try:
        with files.open_file(path) as file:
            start = file.read(START_SIZE)
        if len(start.strip()) < _MIN_BYTES:
            said = msg("{path} is empty or cut off ({n} bytes)", path=path, n=len(start))
            raise RecipeError(said, hint=msg("export, download or copy the file again"))
        if (kind := recognize_bytes(start)) is not None:
            return kind, b""
        content = files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise _make_access_error(path, error) from error
    except ValueError as error:  # characters that no file name has
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=str(error))) from error
    return recognize(content), content


def _make_access_error(path: Path, error: OSError) -> RecipeError:
    """Why there is no such file, and what was probably meant."""
    if files.is_folder(path):
        hint = msg("pass a file in it; `{command}` writes a recipe for a folder of images",
                   command=shlex.join(["lorabake", "init", str(path)]))  # fmt: skip
        return RecipeError(msg("{path} is a folder, not a file to import", path=path), hint=hint)
    return RecipeError(msg("cannot read {path}: {why}", path=path, why=files.reason(error)), hint=_suggest_file(path))


def _suggest_file(path: Path) -> Message | None:
    """A file with a similar name, or the place of a Windows path here."""
    if here := find_windows_path(str(path), Path()):
        return msg("did you mean {names}?", names=here)
    if PureWindowsPath(path).drive and not Path(path).drive:
        return msg("write a path of this machine (in WSL, D:\\train is /mnt/d/train)")
    try:
        near = get_close_matches(path.name, [each.name for each in path.parent.iterdir()], 3, 0.6)
    except OSError:
        return None
    return msg("did you mean {names}?", names=", ".join(str(path.with_name(name)) for name in near)) if near else None
