"""The plan: every setting resolved, with its source, and the exact forecast."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainValidator, SkipValidation, WithJsonSchema

from lorabake_schemas.base import MessageText, OptionValue, StrictModel, TupleOf, check_choice
from lorabake_schemas.bucket_fit import Size, SubsetFits
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


def _is_empty(parts: tuple[Source, ...]) -> bool:
    return not parts


def _without_parts(schema: dict[str, Any]) -> None:
    """They are left out where there are none, which pydantic's schema does not know."""
    schema["required"] = [name for name in schema["required"] if name != "parts"]


class Setting(StrictModel):
    """One sd-scripts option with its value and its source. ``parts``: the source of each item of a list of arguments,
    if the recipe and lorabake both have some in it."""

    model_config = ConfigDict(json_schema_extra=_without_parts)

    option: str
    value: OptionValue
    source: Source
    parts: Annotated[TupleOf[Source], Field(exclude_if=_is_empty)] = ()


# The keys that sd-scripts takes for images with caption files, with masks, and with captions in a metadata file.
SubsetLevel = Literal["subsets", "masked_subsets", "metadata_subsets"]


class SubsetPlan(StrictModel):
    """One ``[[datasets.subsets]]`` block, and the table of the recipe that it is made from, counted from 0.

    ``images`` is the number of images in its folder.
    """

    title: str
    table: Literal["concept", "regularization"]
    index: int
    images: int
    settings: TupleOf[Setting]

    @property
    def is_reg(self) -> bool:
        return self.table == "regularization"

    @property
    def level(self) -> SubsetLevel:
        """Which kind of subset it is: all those of one block are of one kind (CU:317-333)."""
        options = {setting.option for setting in self.settings}
        if "conditioning_data_dir" in options:
            return "masked_subsets"
        return "metadata_subsets" if "metadata_file" in options else "subsets"


class DatasetPlan(StrictModel):
    """One ``[[datasets]]`` block with its subsets: all images that are trained at one resolution."""

    settings: TupleOf[Setting]
    subsets: TupleOf[SubsetPlan]

    def value(self, option: str) -> OptionValue | None:
        """The value of an option of the block itself, None when it is not emitted."""
        return next((setting.value for setting in self.settings if setting.option == option), None)

    @property
    def resolution(self) -> Size:
        """Width and height in pixels."""
        sides = self.value("resolution")
        width, height = (sides[0], sides[-1]) if isinstance(sides, tuple) else (sides, sides)
        return int(str(width)), int(str(height))


class Bucket(StrictModel):
    """A bucket's size in pixels, samples per epoch (repeats counted) and batches per epoch.

    ``pictures`` is the number of different images; ``missing`` is how many samples its last batch lacks. ``dataset``
    is the place of its block among the plan's datasets, counted from 0.
    """

    width: int
    height: int
    samples: int
    batches: int
    pictures: int = 0
    missing: int = 0
    dataset: int = 0


class UnderfilledBatches(StrictModel):
    """The cost per epoch of batches that are not full (S10: the last batch of every bucket).

    ``batches`` are not full, ``share`` is their share of all, ``missing_samples`` is what they lack together.
    ``extra_batches`` is how many more there are than if every sample were in one bucket of its block. ``lone_buckets``
    is the number of buckets with a single sample.
    """

    batches: int
    share: float
    missing_samples: int
    extra_batches: int
    lone_buckets: int


class BatchDistribution(StrictModel):
    """How the batches of an epoch are distributed to the processes and grouped into steps (sd-scripts-facts 2.8).

    ``samples_per_step`` counts full batches of every process. accelerate gives each process the same number of batches
    and repeats ``repeated_batches`` of them to make it even. An epoch's last step has ``last_step_batches`` of each
    process; its gradient is divided by ``accumulation`` anyway.
    """

    processes: int
    accumulation: int
    batches_per_process: int
    samples_per_step: int
    repeated_batches: int
    last_step_batches: int


class GuideTarget(StrictModel):
    """A number of the guide to compare with the plan: exposures per image, or total steps.

    ``planned`` is the plan's number; for exposures, that of the concept with the most images.
    """

    rule: str
    measure: Literal["exposures", "steps"]
    guide: int
    planned: float


class FileSize(StrictModel):
    """One file of the LoRA, within 1 %: how many ``tensors`` the network has, their bytes, and the bytes of the header
    before them (names, shapes, and sd-scripts' metadata, which is a guess).
    """

    tensors: int
    tensor_bytes: int
    header_bytes: int


class TimeEstimate(StrictModel):
    """How long training may take, from earlier runs on this machine, without samples, caching and saving.

    Seconds per step and for all steps, each from ``low`` to ``high``. ``runs`` are the run folders that were measured.
    ``differs`` lists how they differ from this plan, empty if they are of the same kind.
    """

    step_low: float
    step_high: float
    low: float
    high: float
    runs: TupleOf[str]
    steps_measured: int
    differs: TupleOf[MessageText] = ()


class FolderShare(StrictModel):
    """What one folder gets at one resolution: ``dataset`` is the place of the block among the plan's datasets.

    ``images_used`` is below ``images`` where sd-scripts drops regularization images that it does not need.
    ``exposures`` is how often each image used is seen in the whole run, on average.
    """

    folder: str
    dataset: int
    images: int
    images_used: int
    num_repeats: int
    samples_per_epoch: int
    exposures: float


class ConceptShare(StrictModel):
    """What one concept, or one regularization set, gets from all its folders and at all resolutions together.

    An image counts once however often its folder is named.
    """

    title: str
    images: int
    images_used: int
    samples_per_epoch: int
    exposures: float
    is_reg: bool = False
    folders: TupleOf[FolderShare] = ()


class PlannedSave(StrictModel):
    """One file the trainer will write, after ``step`` optimizer steps (``epoch`` is None for a step save).

    ``kept`` is False for a file that the trainer deletes again (save_last_n_epochs, save_last_n_steps).
    """

    file: str
    step: int
    epoch: int | None = None
    kept: bool = True


class Forecast(StrictModel):
    """Exact counts, as sd-scripts will make them (sd-scripts-facts 2.8).

    ``restarts`` are the steps after which cosine_with_restarts is at its peak, starting with the end of the warm-up;
    empty for other schedulers. ``file_size`` is None for a network of unknown shape. ``timing`` is None if nothing
    comparable was measured on this machine.
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


class WatchPlan(StrictModel):
    """What is watched while the trainer runs. ``nan_steps``: stop after so many steps in a row whose loss is NaN or
    infinite. ``stall_seconds``: the shortest standstill that is reported. 0 is never, for both.
    """

    nan_steps: int = 10
    stall_seconds: float = 60
    loss_jump: bool = True
    disk_space: bool = True


class Plan(StrictModel):
    """Everything a run will do. ``datasets`` are the blocks of the dataset file, one for each resolution.

    ``prompts`` are the lines of prompts.txt. The run folder may need a LyCORIS preset file: lorabake's, by its name
    under vendor/ (``shipped_preset``), or the recipe's, by its path (``own_preset``). ``fits`` is how every image of
    every subset is scaled and cropped, in order; it is not part of the JSON.
    """

    name: str
    family: Family
    script: Script
    train: TupleOf[Setting]
    datasets: TupleOf[DatasetPlan]
    prompts: TupleOf[str] = ()
    shipped_preset: str | None = None
    own_preset: str | None = None
    launch: LaunchPlan = LaunchPlan.model_construct()  # builds no validator at import
    watch: WatchPlan = WatchPlan.model_construct()
    forecast: Forecast
    fits: Annotated[tuple[SubsetFits, ...], SkipValidation, Field(exclude=True, repr=False)] = ()

    def value(self, option: str) -> OptionValue | None:
        """The value of a train option, None when it is not emitted."""
        return next((setting.value for setting in self.train if setting.option == option), None)

    @property
    def subsets(self) -> tuple[SubsetPlan, ...]:
        """Those of all blocks, in their order."""
        return tuple(part for block in self.datasets for part in block.subsets)
