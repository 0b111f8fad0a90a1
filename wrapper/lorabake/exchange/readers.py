"""Reading a file of another program with the reader of its format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.errors import RecipeError
from lorabake.exchange.ai_toolkit.reader import read_ai_toolkit
from lorabake.exchange.easy import read_easy
from lorabake.exchange.kohya_gui.reader import read_kohya_gui
from lorabake.exchange.lora_file.reader import read_lora_file
from lorabake.exchange.lora_scripts import read_lora_scripts
from lorabake.exchange.one_trainer.reader import read_one_trainer
from lorabake.exchange.sd_toml import read_config_file, read_dataset_config
from lorabake.exchange.shell.reader import read_shell
from lorabake.recipe.foreign import START_SIZE, ForeignKind, recognize, recognize_bytes
from lorabake.util import files
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.exchange.foreign import ForeignConfig, Reader, Source

MAX_BYTES = 16 << 20  # of a configuration
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
    }
)


def read_foreign_file(source: Source) -> ForeignConfig:
    """A file of another program, whose ``content`` is read here.

    Raises RecipeError for one that cannot be read, is a recipe, or is of no format that is known.
    """
    kind, content = _recognize_file(source.path)
    reader = READERS.get(kind.name) if kind else None
    if reader is not None:
        return reader(replace(source, content=content))
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
        if (kind := recognize_bytes(start)) is not None:
            return kind, b""
        content = files.read_bytes(path, MAX_BYTES)
    except OSError as error:
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=files.reason(error))) from error
    except ValueError as error:  # characters that no file name has
        raise RecipeError(msg("cannot read {path}: {why}", path=path, why=str(error))) from error
    return recognize(content), content
