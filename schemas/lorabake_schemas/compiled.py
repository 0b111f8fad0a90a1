"""The two files sd-scripts is started with. They contain only keys that the pin knows.

sd-scripts copies its train TOML into an argparse namespace: unknown keys, wrong types and invalid choices all pass
silently (S1, TU:4748-4761). These models are the only check.
"""

from collections.abc import Sequence
from typing import Self

from lorabake_schemas.base import OptionValue, StrictModel, TupleOf
from lorabake_schemas.options import DatasetLevel, DatasetOptions, Option
from lorabake_schemas.plan import Plan, Setting

OptionValues = dict[str, OptionValue]


class UnknownOptionError(ValueError):
    """A compiled key or value that the pin does not take: our own bug, never the user's."""


class TrainConfig(StrictModel):
    """The train TOML: one flat table in the plan's order."""

    values: OptionValues

    @classmethod
    def of(cls, settings: Sequence[Setting], options: Sequence[Option]) -> Self:
        """Raises UnknownOptionError for a name, type or choice the parser does not have, or a name twice (S2)."""
        known = {option.name: option for option in options}
        values: OptionValues = {}
        for setting in settings:
            if setting.option not in known or setting.option in values:
                raise UnknownOptionError(f"{setting.option}: not an option of the pin, or written twice")
            problem = known[setting.option].problem(setting.value)
            if problem:
                raise UnknownOptionError(f"{setting.option}: {problem[0]}")
            values[setting.option] = setting.value
        return cls(values=values)


class DatasetBlock(StrictModel):
    """One ``[[datasets]]`` with its ``[[datasets.subsets]]``."""

    values: OptionValues
    subsets: TupleOf[OptionValues]


class DatasetConfig(StrictModel):
    """The dataset TOML: a block for each resolution."""

    datasets: TupleOf[DatasetBlock]

    @classmethod
    def of(cls, plan: Plan, options: DatasetOptions) -> Self:
        """Raises UnknownOptionError for a key or type that the dataset schema does not take at its level."""
        return cls(
            datasets=tuple(
                DatasetBlock(
                    values=_check_settings(block.settings, "datasets", options),
                    subsets=tuple(_check_settings(part.settings, part.level, options) for part in block.subsets),
                )
                for block in plan.datasets
            )
        )


def _check_settings(settings: Sequence[Setting], level: DatasetLevel, options: DatasetOptions) -> OptionValues:
    known = options.at(level)
    for setting in settings:
        if setting.option not in known:
            raise UnknownOptionError(f"{setting.option} does not belong into {level}")
        problem = known[setting.option].problem(setting.value)
        if problem:
            raise UnknownOptionError(f"{level}: {problem[0]}; {problem[1]}")
    missing = [name for name, option in known.items() if option.required and name not in {s.option for s in settings}]
    if missing:
        raise UnknownOptionError(f"{level}: {', '.join(missing)} missing")
    return {setting.option: setting.value for setting in settings}
