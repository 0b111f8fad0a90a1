"""What the pinned sd-scripts understands: the shape of the option snapshots under vendor/."""

from __future__ import annotations

from typing import Literal

from lorabake_schemas.base import Many, StrictModel

# The shapes a value in the dataset file can have; a pair is an array of two.
ValueShape = Literal["bool", "int", "float", "str", "table", "int-pair", "float-pair"]


class Option(StrictModel):
    """One option of a training script's parser.

    ``type`` is the name of the converter (str, int, float, int_or_float, Path), None for a switch; ``action`` is
    argparse's (StoreAction, StoreTrueAction); ``nargs`` is None for one value, "*" for any number, 0 for a switch.
    """

    name: str
    type: str | None
    default: bool | int | float | str | None
    choices: Many[int | str | None] | None
    nargs: int | str | None
    action: str


class DatasetOption(StrictModel):
    """One key of a level of the dataset file, with the shapes sd-scripts accepts for it."""

    name: str
    accepts: Many[ValueShape]
    required: bool


class DatasetOptions(StrictModel):
    """The keys of each level, for folders of pictures: ``[general]``, ``[[datasets]]``, ``[[datasets.subsets]]``."""

    general: Many[DatasetOption]
    datasets: Many[DatasetOption]
    subsets: Many[DatasetOption]


__all__ = ["DatasetOption", "DatasetOptions", "Option", "ValueShape"]
