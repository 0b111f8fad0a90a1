"""The only module that knows where shipped data lives: the pin, locks, snapshots, presets, recipes, scripts."""

from __future__ import annotations

import gzip
import tomllib
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from lorabake_schemas.options import DatasetOptions, Option, Snapshot
from lorabake_schemas.pin import Pin

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lorabake_schemas.plan import Script

DATASET_OPTIONS = "options-dataset.json"
_OPTIONS = TypeAdapter(tuple[Option, ...])


def _data(package: str, name: str) -> Traversable:
    return files(package) / name


@cache
def pin() -> Pin:
    """The pin this lorabake was made and tested with."""
    return Pin.model_validate(tomllib.loads(vendor_text("sd-scripts.toml")))


PIN_FILES = "sd-scripts-files.txt"  # every file of the pin with git's hash of it


def vendor_text(name: str) -> str:
    """A file of vendor/, as text with its own line ends. Raises FileNotFoundError for a name that is not shipped."""
    return _data("lorabake._vendor", name).read_bytes().decode("utf-8")


@cache
def clip_merges() -> str:
    """The byte-pair merges of CLIP's tokenizer in the order of their rank, one a line (make_clip_merges.py)."""
    return gzip.decompress(_data("lorabake._vendor", "clip-merges.txt.gz").read_bytes()).decode("utf-8")


@cache
def option_snapshot(script: Script) -> tuple[Option, ...]:
    """Every option of one training script's parser, in the parser's order."""
    return _OPTIONS.validate_json(vendor_text(options_file(script)))


@cache
def dataset_options() -> DatasetOptions:
    """What each level of a dataset file may hold."""
    return DatasetOptions.model_validate_json(vendor_text(DATASET_OPTIONS))


@cache
def snapshot() -> Snapshot:
    """What the pin understands."""
    return read_snapshot(pin().commit, vendor_text)


def read_snapshot(commit: str, read: Callable[[str], str]) -> Snapshot:
    """What a commit understands, from the three files that dump_options.py writes; ``read`` gives one by its name.

    Raises ValueError for files that hold something else.
    """
    return Snapshot(
        commit=commit,
        train_network=_OPTIONS.validate_json(read(options_file("train_network.py"))),
        sdxl_train_network=_OPTIONS.validate_json(read(options_file("sdxl_train_network.py"))),
        dataset=DatasetOptions.model_validate_json(read(DATASET_OPTIONS)),
    )


def options_file(script: Script) -> str:
    """Where dump_options.py writes a script's options."""
    return f"options-{script.removesuffix('.py')}.json"


def catalogue(language: str) -> bytes:
    """The translations into one of speech.LANGUAGES, as gettext reads them (.mo)."""
    return (files("lorabake") / "locale" / language / "LC_MESSAGES" / "lorabake.mo").read_bytes()


def recipe_names() -> tuple[str, ...]:
    """The shipped recipes, sorted, without their ``.toml``."""
    found = (entry.name for entry in files("lorabake._recipes").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def recipe_text(name: str) -> str:
    """A shipped recipe by its name without ``.toml``. Raises KeyError for a name that is not shipped."""
    if name not in recipe_names():
        raise KeyError(name)
    return _data("lorabake._recipes", f"{name}.toml").read_bytes().decode("utf-8")


def trainer_side_text(name: str) -> str:
    """The same script, to be written somewhere."""
    return _data("lorabake.trainer_side", name).read_bytes().decode("utf-8")


@contextmanager
def trainer_side(name: str) -> Generator[Path, None, None]:
    """A script for the trainer's own Python, as a file; it may be gone after the block."""
    with as_file(_data("lorabake.trainer_side", name)) as path:
        yield path


__all__ = [
    "DATASET_OPTIONS",
    "catalogue",
    "clip_merges",
    "dataset_options",
    "option_snapshot",
    "options_file",
    "pin",
    "read_snapshot",
    "recipe_names",
    "recipe_text",
    "snapshot",
    "trainer_side",
    "trainer_side_text",
    "vendor_text",
]
