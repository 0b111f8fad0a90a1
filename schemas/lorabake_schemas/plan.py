"""The plan: every setting resolved, with its source, and the exact forecast."""

from enum import StrEnum
from typing import Literal

from lorabake_schemas.base import Many, OptionValue, StrictModel
from lorabake_schemas.machine import Family

Script = Literal["train_network.py", "sdxl_train_network.py"]


class Origin(StrEnum):
    """Who decided a value, in order of precedence."""

    RECIPE = "recipe"
    GUIDE = "guide"
    SD_SCRIPTS = "sd-scripts"
    MACHINE = "machine"
    LORABAKE = "lorabake"


class Source(StrictModel):
    """Where a value comes from: the recipe key, the guide's rule id, or the S fact that forces it."""

    origin: Origin
    rule: str = ""
    why: str = ""


class Setting(StrictModel):
    """One sd-scripts option with its value and its source."""

    option: str
    value: OptionValue
    source: Source


class SubsetPlan(StrictModel):
    """One ``[[datasets.subsets]]`` block; ``images`` is the number of pictures in its folder."""

    title: str
    is_reg: bool
    images: int
    settings: Many[Setting]


class Bucket(StrictModel):
    """A bucket's size in pixels, samples per epoch (repeats counted) and batches per epoch."""

    width: int
    height: int
    samples: int
    batches: int


class ConceptShare(StrictModel):
    """What one concept gets: samples per epoch and how often each of its pictures is seen in the whole run.

    ``images_used`` is below ``images`` where sd-scripts drops regularisation pictures that it does not need.
    ``exposures`` is the mean over the pictures used.
    """

    title: str
    images: int
    num_repeats: int
    samples_per_epoch: int
    exposures: float
    is_reg: bool = False
    images_used: int | None = None


class Save(StrictModel):
    """One file the trainer will write, after ``step`` optimizer steps (``epoch`` is None for a step save)."""

    file: str
    step: int
    epoch: int | None = None


class Forecast(StrictModel):
    """Exact counts, as sd-scripts will make them (sd-scripts-facts 2.8)."""

    train_samples: int
    reg_samples: int
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    warmup_steps: int
    buckets: Many[Bucket] = ()
    shares: Many[ConceptShare] = ()
    saves: Many[Save] = ()


class LaunchPlan(StrictModel):
    """accelerate's flags; see sd-scripts-facts 1.1."""

    num_processes: int = 1
    gpu_ids: str | None = None
    num_cpu_threads_per_process: int = 1
    main_process_port: int | None = None
    cpu: bool = False


class Plan(StrictModel):
    """Everything a run will do. ``dataset`` holds the ``[[datasets]]`` level, ``subsets`` the blocks below it.

    ``prompts`` are the lines of prompts.txt; The run folder may need a LyCORIS preset file: ours, by its name
    under vendor/ (``shipped_preset``), or the recipe's own, by its path (``own_preset``).
    """

    name: str
    family: Family
    script: Script
    train: Many[Setting]
    dataset: Many[Setting]
    subsets: Many[SubsetPlan]
    prompts: Many[str] = ()
    shipped_preset: str | None = None
    own_preset: str | None = None
    launch: LaunchPlan = LaunchPlan()
    forecast: Forecast

    def value(self, option: str) -> OptionValue | None:
        """The value of a train option, None when it is not emitted."""
        return next((setting.value for setting in self.train if setting.option == option), None)


__all__ = [
    "Bucket",
    "ConceptShare",
    "Forecast",
    "LaunchPlan",
    "Origin",
    "Plan",
    "Save",
    "Script",
    "Setting",
    "Source",
    "SubsetPlan",
]
