"""What one commit of sd-scripts understands: the shape of the option snapshots under vendor/, and checks against it."""

import difflib
from collections.abc import Sequence
from typing import Literal

from lorabake_schemas.base import OptionValue, StrictModel, TupleOf
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import Script, SubsetLevel
from lorabake_schemas.signatures import Signatures

# The shapes a value in the dataset file can have; a pair is an array of two.
ValueShape = Literal["bool", "int", "float", "str", "table", "int-pair", "float-pair"]
DatasetLevel = Literal["general", "datasets", SubsetLevel]
DATASET_LEVELS: tuple[DatasetLevel, ...] = ("general", "datasets", "subsets", "masked_subsets", "metadata_subsets")


class Option(StrictModel):
    """One option of a training script's parser.

    ``type`` is the name of the converter (str, int, float, int_or_float, Path), None for a switch. ``action`` is
    argparse's (StoreAction, StoreTrueAction). ``nargs`` is None for one value, "*" for any number, 0 for a switch.
    """

    name: str
    type: str | None
    default: bool | int | float | str | None
    choices: TupleOf[int | str | None] | None
    nargs: int | str | None
    action: str

    def problem(self, value: OptionValue) -> tuple[Message, Message] | None:
        """What is wrong with ``value`` and what to write instead; sd-scripts itself would accept anything (S1)."""
        wanted = self._find_expected_kind(value)
        if wanted:
            return _describe_value(self.name, value), msg("write {what}", what=wanted)
        if self.choices is not None and value not in self.choices:
            listed = [str(choice) for choice in self.choices if choice is not None]
            near = difflib.get_close_matches(str(value), listed, 1, 0.6)
            fix = msg("write one of: {choices}", choices=", ".join(listed))
            if near:
                fix = msg('write one of: {choices} (did you mean "{name}"?)', choices=", ".join(listed), name=near[0])
            return msg('unknown value "{given}" for {option}', given=str(value), option=self.name), fix
        return None

    @property
    def takes_text(self) -> bool:
        """Whether its value is one text, not a number, a switch or a list."""
        return self._find_expected_kind("") is None

    def _find_expected_kind(self, value: OptionValue) -> Message | None:
        """The kind of value this option takes, when ``value`` is of another kind."""
        if self.action == "StoreTrueAction":
            return None if isinstance(value, bool) else msg("true or false, without quotes")
        if self.nargs == "*":
            return self._find_expected_list(value)
        number = (float, msg("a number"))
        kinds: dict[str, tuple[type, Message]] = {
            "int": (int, msg("a whole number")),
            "float": number,
            "int_or_float": number,
        }
        kind, words = kinds.get(self.type or "", (str, msg("text in quotes")))
        return None if _has_type(value, kind) else words

    def _find_expected_list(self, value: OptionValue) -> Message | None:
        """A list; one bare number does for a list of numbers, as text_encoder_lr shows (TN:733-741)."""
        if self.type == "float":
            items = value if isinstance(value, tuple) else (value,)
            return None if all(_has_type(item, float) for item in items) else msg("a list of numbers")
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        return None if fits else msg('a list such as ["key=value"]')


class DatasetOption(StrictModel):
    """One key of a level of the dataset file, with the shapes sd-scripts accepts for it."""

    name: str
    accepts: TupleOf[ValueShape]
    required: bool

    def problem(self, value: OptionValue) -> tuple[Message, Message] | None:
        """What is wrong with ``value`` and what to use: voluptuous does not accept an int for a float or 1 for true
        (S7).
        """
        if _get_shape(value) in self.accepts:
            return None
        given = msg("{option} is set to {value}", option=self.name, value=str(value))
        return given, msg("use {shapes}", shapes=", ".join(self.accepts))


class DatasetOptions(StrictModel):
    """The keys of each level: ``[general]``, ``[[datasets]]``, and ``[[datasets.subsets]]`` of each kind."""

    general: TupleOf[DatasetOption]
    datasets: TupleOf[DatasetOption]
    subsets: TupleOf[DatasetOption]
    masked_subsets: TupleOf[DatasetOption] = ()
    metadata_subsets: TupleOf[DatasetOption] = ()

    def at(self, level: DatasetLevel) -> dict[str, DatasetOption]:
        """The keys of one level by name."""
        options: tuple[DatasetOption, ...] = getattr(self, level)
        return {option.name: option for option in options}


class OptionSnapshot(StrictModel):
    """Everything that one commit of sd-scripts understands: the options of each training script in the parser's order,
    the keys at each level of a dataset file, and the arguments of its networks, optimizers and schedulers.
    """

    commit: str
    scripts: dict[Script, TupleOf[Option]]
    dataset: DatasetOptions
    signatures: Signatures = Signatures.model_construct()

    def of(self, script: Script) -> tuple[Option, ...]:
        return self.scripts[script]

    def merge_scripts(self) -> tuple[Option, ...]:
        """Where it is not known yet which of the scripts it will be."""
        scripts = reversed(self.scripts.values())
        return tuple({option.name: option for options in scripts for option in options}.values())


def find_nearest_option(name: str, options: Sequence[Option]) -> str | None:
    """The option most like ``name``, None when nothing is like it."""
    found = difflib.get_close_matches(name.replace("-", "_"), [option.name for option in options], 1, 0.75)
    return found[0] if found else None


def _has_type(value: object, kind: type) -> bool:
    kinds = (int, float) if kind is float else kind
    return isinstance(value, kinds) and not isinstance(value, bool)


def _get_shape(value: OptionValue) -> str:
    if isinstance(value, tuple):
        return f"{type(value[0]).__name__}-pair" if len(value) == 2 else "list"
    return type(value).__name__


def _describe_value(option: str, value: OptionValue) -> Message:
    if isinstance(value, str):
        return msg('{option} is set to "{value}", which is text', option=option, value=value)
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return msg("{option} is set to {value}", option=option, value=shown)
