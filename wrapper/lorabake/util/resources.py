"""The only module that knows where shipped data lives: pin, locks, snapshots, presets, recipes, images, scripts."""

from __future__ import annotations

import gzip
import tomllib
from contextlib import contextmanager
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, BinaryIO

from pydantic import TypeAdapter

from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.options import DatasetOptions, Option, OptionSnapshot
from lorabake_schemas.pin import Pin
from lorabake_schemas.signatures import Signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from importlib.resources.abc import Traversable
    from pathlib import Path

    from lorabake_schemas.plan import Script

DATASET_OPTIONS_FILE = "options-dataset.json"
SIGNATURES_FILE = "signatures.json"
_OPTIONS_ADAPTER = TypeAdapter(tuple[Option, ...])


def _locate_data(package: str, name: str) -> Traversable:
    return files(package) / name


@cache
def load_pin() -> Pin:
    """The pin this lorabake was made and tested with."""
    return Pin.model_validate(tomllib.loads(read_vendor_text("sd-scripts.toml")))


PIN_FILE_LIST = "sd-scripts-files.txt"  # every file of the pin with git's hash of it


def read_vendor_text(name: str) -> str:
    """A file of vendor/, as text with its own line ends. Raises FileNotFoundError for a name that is not shipped."""
    return _locate_data("lorabake._vendor", name).read_bytes().decode("utf-8")


@cache
def read_clip_merges() -> str:
    """The byte-pair merges of CLIP's tokenizer in the order of their rank, one a line (make_clip_merges.py)."""
    return gzip.decompress(_locate_data("lorabake._vendor", "clip-merges.txt.gz").read_bytes()).decode("utf-8")


@cache
def load_script_options(script: Script) -> tuple[Option, ...]:
    """Every option of one training script's parser, in the parser's order."""
    return _OPTIONS_ADAPTER.validate_json(read_vendor_text(options_file_name(script)))


@cache
def load_dataset_options() -> DatasetOptions:
    """The keys at each level of a dataset file."""
    return DatasetOptions.model_validate_json(read_vendor_text(DATASET_OPTIONS_FILE))


@cache
def load_snapshot() -> OptionSnapshot:
    """What the pin understands."""
    return read_snapshot(load_pin().commit, read_vendor_text)


def read_snapshot(commit: str, read: Callable[[str], str]) -> OptionSnapshot:
    """What a commit understands, from the files that dump_options.py and dump_signatures.py write; ``read`` returns
    one by its name.

    Raises ValueError for files with any other content.
    """
    return OptionSnapshot(
        commit=commit,
        scripts={script: _OPTIONS_ADAPTER.validate_json(read(options_file_name(script))) for script in list_scripts()},
        dataset=DatasetOptions.model_validate_json(read(DATASET_OPTIONS_FILE)),
        signatures=Signatures.model_validate_json(read(SIGNATURES_FILE)),
    )


def options_file_name(script: Script) -> str:
    """Where dump_options.py writes a script's options."""
    return f"options-{script.removesuffix('.py')}.json"


def list_recipe_names() -> tuple[str, ...]:
    """The shipped recipes, sorted, without their ``.toml``."""
    found = (entry.name for entry in files("lorabake._recipes").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def read_recipe_text(name: str) -> str:
    """A shipped recipe by its name without ``.toml``. Raises KeyError for a name that is not shipped."""
    if name not in list_recipe_names():
        raise KeyError(name)
    return _locate_data("lorabake._recipes", f"{name}.toml").read_bytes().decode("utf-8")


def read_recipe_summary(text: str) -> str:
    """The first comment of a shipped recipe, which says what it is for."""
    return text.partition("\n# ")[2].partition("\n")[0]


def extract_recipe_summary(
    file: BinaryIO, *_unused: object, **_options: object
) -> Generator[tuple[int, None, str, list[str]]]:
    """A shipped recipe's summary as a message of the catalogue: a method of pybabel, named in pyproject.toml."""
    yield 2, None, read_recipe_summary(file.read().decode()), []


def read_sample_images() -> dict[str, bytes]:
    """The quickstart's images and their captions, by file name."""
    found = sorted(_locate_data("lorabake.jobs", "sample_images").iterdir(), key=lambda file: file.name)
    return {file.name: file.read_bytes() for file in found}


def read_sheet_asset(name: str) -> str:
    """The style or the script of the sheet of `lorabake tags`."""
    return _locate_data("lorabake.commands.output", name).read_bytes().decode("utf-8")


def trainer_script_text(name: str) -> str:
    """The same script, to be written somewhere."""
    return _locate_data("lorabake.trainer.scripts", name).read_bytes().decode("utf-8")


@contextmanager
def trainer_script(name: str) -> Generator[Path, None, None]:
    """A script for the trainer's own Python, as a file; it may be deleted after the block."""
    with as_file(_locate_data("lorabake.trainer.scripts", name)) as path:
        yield path
