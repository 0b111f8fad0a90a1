"""The plan: every setting resolved, with its source, and the exact forecast."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, SkipValidation, WithJsonSchema

from lorabake_schemas.base import MessageText, OptionValue, StrictModel, TupleOf, check_choice
from lorabake_schemas.bucket_fit import SubsetFits
from lorabake_schemas.families.registry import list_scripts
from lorabake_schemas.machine import Family
from lorabake_schemas.messages import literal


def _check_script(value: object) -> str:
    return check_choice(value, list_scripts())


# One of sd-scripts' training scripts.
Script = Annotated[str, PlainValidator(_check_script), WithJsonSchema({"type": "string", "enum": list(list_scripts())})]


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
    why: MessageText = literal("")


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
    settings: TupleOf[Setting]


class Bucket(StrictModel):
    """A bucket's size in pixels, samples per epoch (repeats counted) and batches per epoch.

    ``pictures`` is the number of different ones; ``missing`` how many samples its last batch lacks.
    """

    width: int
    height: int
    samples: int
    batches: int
    pictures: int = 0
    missing: int = 0


class UnderfilledBatches(StrictModel):
    """What batches that are not full cost in an epoch, by S10: every bucket ends with one of its own.

    ``batches`` are not full, ``share`` is their part of all, ``missing_samples`` what they lack together.
    ``extra_batches`` is how many more there are than if every sample went into one bucket of its block;
    ``lone_buckets`` how many buckets hold a single sample.
    """

    batches: int
    share: float
    missing_samples: int
    extra_batches: int
    lone_buckets: int


class BatchDistribution(StrictModel):
    """How the batches of an epoch are dealt to the processes and gathered into steps (sd-scripts-facts 2.8).

    ``samples_per_step`` counts full batches of every process. accelerate deals the same number to each process and
    repeats ``repeated_batches`` of them to come out even. An epoch's last step holds ``last_step_batches`` of each
    process, and its gradient is divided by ``accumulation`` all the same.
    """

    processes: int
    accumulation: int
    batches_per_process: int
    samples_per_step: int
    repeated_batches: int
    last_step_batches: int


class GuideTarget(StrictModel):
    """A number of the guide's to hold beside the plan's own: exposures of each picture, or steps in all.

    ``planned`` is the plan's, of the concept with the most pictures where it is about exposures.
    """

    rule: str
    measure: Literal["exposures", "steps"]
    guide: int
    planned: float


class FileSize(StrictModel):
    """One file of the LoRA, within 1 %: how many ``tensors`` the network has, their bytes, and those of what comes
    before them (names, shapes, and sd-scripts' metadata, which is a guess)."""

    tensors: int
    tensor_bytes: int
    header_bytes: int


class TimeEstimate(StrictModel):
    """How long training may take, by runs of this machine. Making samples, caching and saving come on top.

    Seconds per step and for all steps, each from ``low`` to ``high``. ``runs`` are the run folders that were measured,
    ``differs`` in what they differ from this plan, in words; empty when they are of its kind.
    """

    step_low: float
    step_high: float
    low: float
    high: float
    runs: TupleOf[str]
    steps_measured: int
    differs: TupleOf[MessageText] = ()


class ConceptShare(StrictModel):
    """What one concept gets: samples per epoch and how often each of its pictures is seen in the whole run.

    ``images_used`` is below ``images`` where sd-scripts drops regularization pictures that it does not need.
    ``exposures`` is the mean over the pictures used.
    """

    title: str
    images: int
    num_repeats: int
    samples_per_epoch: int
    exposures: float
    is_reg: bool = False
    images_used: int | None = None


class PlannedSave(StrictModel):
    """One file the trainer will write, after ``step`` optimizer steps (``epoch`` is None for a step save).

    ``kept`` is False for one that the trainer deletes again (save_last_n_epochs, save_last_n_steps).
    """

    file: str
    step: int
    epoch: int | None = None
    kept: bool = True


class Forecast(StrictModel):
    """Exact counts, as sd-scripts will make them (sd-scripts-facts 2.8).

    ``restarts`` are the steps after which cosine_with_restarts is at its peak, the end of the warm-up first; empty for
    any other scheduler. ``file_size`` is None for a network whose shape cannot be told, ``timing`` where nothing
    comparable was ever measured on this machine.
    """

    train_samples: int
    reg_samples: int
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    steps: int
    warmup_steps: int
    restarts: TupleOf[int] = ()
    dealing: BatchDistribution | None = None
    buckets: TupleOf[Bucket] = ()
    underfilled: UnderfilledBatches | None = None
    shares: TupleOf[ConceptShare] = ()
    marks: TupleOf[GuideTarget] = ()
    saves: TupleOf[PlannedSave] = ()
    file_size: FileSize | None = None
    timing: TimeEstimate | None = None


class LaunchPlan(StrictModel):
    """accelerate's flags (sd-scripts-facts 1.1), and whether the trainer is to give the same file every time."""

    num_processes: int = 1
    gpu_ids: str | None = None
    num_cpu_threads_per_process: int = 1
    main_process_port: int | None = None
    cpu: bool = False
    deterministic: bool = False


class Plan(StrictModel):
    """Everything a run will do. ``dataset`` holds the ``[[datasets]]`` level, ``subsets`` the blocks below it.

    ``prompts`` are the lines of prompts.txt; The run folder may need a LyCORIS preset file: ours, by its name
    under vendor/ (``shipped_preset``), or the recipe's own, by its path (``own_preset``). ``fits`` says of every
    picture of every subset, in their order, what scaling and cropping do to it; it stays out of JSON.
    """

    name: str
    family: Family
    script: Script
    train: TupleOf[Setting]
    dataset: TupleOf[Setting]
    subsets: TupleOf[SubsetPlan]
    prompts: TupleOf[str] = ()
    shipped_preset: str | None = None
    own_preset: str | None = None
    launch: LaunchPlan = LaunchPlan()
    forecast: Forecast
    fits: Annotated[tuple[SubsetFits, ...], SkipValidation, Field(exclude=True, repr=False)] = ()

    def value(self, option: str) -> OptionValue | None:
        """The value of a train option, None when it is not emitted."""
        return next((setting.value for setting in self.train if setting.option == option), None)
