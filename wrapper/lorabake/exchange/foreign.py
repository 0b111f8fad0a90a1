"""What a file of another program says, in sd-scripts' words: between each reader and the one writer of recipes.

A reader knows one format and no recipe. It turns what the file says into options of sd-scripts under their own names,
with the values that its program would have given to sd-scripts. ``exchange/to_recipe.py`` knows recipes and no format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from lorabake_schemas.base import OptionValue
    from lorabake_schemas.import_report import ImportedKey
    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """A value and the keys of the source that it comes from, none for a default of the program that made the source.

    ``written`` is the value as the source has it, if that looks different; of several keys that of each. ``repair`` is
    why it is not simply the source's value; ``trained`` is what the program would really have trained with, if that
    differs from ``value``: what --faithful takes. UNSET leaves the option out.
    """

    value: OptionValue | Unset
    keys: tuple[str, ...]
    written: str | Mapping[str, str] | None = None
    repair: Message | None = None
    trained: OptionValue | Unset | None = None


class Unset:
    """sd-scripts' own default, since the other program does not pass the option on."""


UNSET = Unset()
Options = Mapping[str, Given]


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedImages:
    """What a trainer counted in a folder: its name, its images, how often each was repeated, up to ``spare`` more that
    were kept for validation, and the tags of the captions in lower case; None where these are not known, or are those
    of other folders, too."""

    name: str
    images: int
    repeats: int = 1
    spare: int = 0
    tags: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSubset:
    """A folder of images. ``options`` are those of sd-scripts' subsets (image_dir, num_repeats, class_tokens ...)."""

    options: Options
    is_reg: bool = False
    counted: CountedImages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignDataset:
    """One of sd-scripts' [[datasets]]; [general] is already in ``options``."""

    options: Options
    subsets: tuple[ForeignSubset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignConfig:
    """A whole file. ``options`` are those of the training script, network_args and optimizer_args as lists of
    "key=value"; ``launch`` those of accelerate launch. A source without [[datasets]] has train_data_dir and
    reg_data_dir among its options. ``keys`` are the lines of the report for all that became no option, ``missing`` what
    the source cannot know. Not ``complete``: an option that it lacks is unknown, else sd-scripts' own default; of
    images without ``knows_images``.
    """

    format: str
    program: Message
    script: Script | None = None
    name: str | None = None
    options: Options = field(default_factory=dict[str, Given])
    launch: Options = field(default_factory=dict[str, Given])
    datasets: tuple[ForeignDataset, ...] = ()
    prompts: tuple[str, ...] = ()
    keys: tuple[ImportedKey, ...] = ()
    missing: tuple[ImportedKey, ...] = ()
    complete: bool = True
    knows_images: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file to import. ``content`` are its bytes, of a safetensors file none: its reader opens ``path``.

    ``images``, ``model`` and ``dataset`` are what the user names in place of what the file has: a folder, a checkpoint,
    sd-scripts' dataset configuration; ``command`` is the number of the command in a script with several. ``written``
    are the files that a script writes before it trains, by their names. ``runs`` is lorabake's home, in which the runs
    of this machine are listed.
    """

    path: Path
    content: bytes
    home: str | None = None
    images: Path | None = None
    model: Path | None = None
    dataset: Path | None = None
    command: int | None = None
    runs: Path | None = None
    written: Mapping[str, str] = field(default_factory=dict[str, str])


class Reader(Protocol):
    """Raises RecipeError with line and key for a file that is damaged or of another kind than it looked."""

    def __call__(self, source: Source, /) -> ForeignConfig: ...
