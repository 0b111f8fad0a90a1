"""What a user may write in a recipe: shape, types and ranges only.

A field left out stays None. The guide's values are defaults of the resolve step, never of this schema, so that
"the user said 32" and "the guide says 32" never look alike. Options keep sd-scripts' own spelling.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from lorabake_schemas.base import Many, StrictModel
from lorabake_schemas.machine import Family, Precision
from lorabake_schemas.vocabulary import OPTIMIZERS, SCHEDULERS, SCHEDULERS_THAT_CRASH, TORCH_OPTIMIZERS

Kind = Literal["character", "style", "object", "clothing", "concept"]
NetworkType = Literal["lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft"]
TagStyle = Literal["e621", "danbooru", "natural"]
Sampler = Literal[
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver",
    "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
]  # fmt: skip


def _not_a_path(value: str) -> str:
    """File systems take 255 bytes, of which sd-scripts' endings need some; control characters confuse everyone."""
    bad = any(sign in '/\\:*?"<>|' or not sign.isprintable() for sign in value)
    if bad or value != value.strip() or value.startswith(".") or len(value.encode()) > 200:
        raise PydanticCustomError(
            "out-of-range",
            'a name becomes a file name, so it cannot hold / \\ : * ? " < > |, start with a dot, end in a space or be '
            "very long",
            {"write": "letters, digits, - and _"},
        )
    return value


def _an_ending(value: str) -> str:
    if not value.startswith(".") or len(value) < 2 or any(sign in value[1:] for sign in "./\\"):
        said = "a file's ending begins with a dot"
        raise PydanticCustomError("out-of-range", said, {"write": '".txt", with its dot'})
    return value


def _a_prompt(value: str) -> str:
    """prompts.txt holds one prompt a line, and lines that begin with # are skipped (TU:6334)."""
    if "\n" in value or "\r" in value or value.startswith("#"):
        raise PydanticCustomError(
            "out-of-range", "a prompt is one line that does not begin with #", {"write": "one line"}
        )
    return value


def _known_optimizer(value: str) -> str:
    """sd-scripts takes its own names in any case, torch.optim's as they are spelt, and any dotted class path."""
    if "." in value or value in TORCH_OPTIMIZERS or value.lower() in {name.lower() for name in OPTIMIZERS}:
        return next((name for name in OPTIMIZERS if name.lower() == value.lower()), value)
    choices = (*OPTIMIZERS, *TORCH_OPTIMIZERS)
    raise PydanticCustomError("bad-choice", "not an optimizer of sd-scripts or torch.optim", {"choices": choices})


def _known_scheduler(value: str) -> str:
    if value in SCHEDULERS:
        return value
    if value in SCHEDULERS_THAT_CRASH:
        raise PydanticCustomError(
            "bad-choice", "sd-scripts lists this scheduler but always fails on it", {"choices": SCHEDULERS}
        )
    raise PydanticCustomError("bad-choice", "not a scheduler of sd-scripts", {"choices": SCHEDULERS})


def _fits_the_buckets(value: int | tuple[int, ...], info: ValidationInfo) -> int | tuple[int, ...]:
    """sd-scripts floors the sides to bucket_reso_steps (64), so 700 would quietly train 640 (G2.7, TU:216)."""
    step = info.data.get("bucket_reso_steps") or 64
    for side in (value,) if isinstance(value, int) else value:
        if side < 64 or side % step:
            low = max(-(-64 // step) * step, side // step * step)
            raise PydanticCustomError(
                "G2.7",
                "{side} is not a multiple of {step}: sd-scripts would quietly train at {low}",
                {"side": side, "low": low, "step": step, "write": f"{low} or {low + step}"},
            )
    return value


def _warm_up(value: int | float) -> int | float:
    """An int is a number of steps, a float a ratio even when it is 100.0 (S4, TU:5275)."""
    if isinstance(value, float) and not 0 <= value < 1:
        raise PydanticCustomError(
            "S4",
            "a float is a share of all steps, so it must be below 1 ({value} would mean {value} times the whole run)",
            {"value": value, "write": f"{int(value)} for steps, or a share such as 0.1"},
        )
    return value


Text = Annotated[str, StringConstraints(min_length=1)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=120), AfterValidator(_not_a_path)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Optimizer = Annotated[str, AfterValidator(_known_optimizer)]
Scheduler = Annotated[str, AfterValidator(_known_scheduler)]
Side = Annotated[int, Field(ge=64)]
Resolution = Annotated[int | Annotated[tuple[int, int], Field(strict=False)], AfterValidator(_fits_the_buckets)]
WarmUp = Annotated[int | float, Field(ge=0), AfterValidator(_warm_up)]
OptimizerArgument = bool | int | float | str | Many[float]
KohyaValue = bool | int | float | str | Many[str] | Many[int] | Many[float]


class Base(StrictModel):
    """The model to train on. ``model``: a file, a diffusers folder or a hub id; paths are relative to the recipe."""

    model: Text
    family: Family | None = None
    tags: TagStyle | None = None
    v_prediction: bool | None = None
    zero_terminal_snr: bool | None = None
    native_resolution: Side | None = None
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = None
    vae: Text | None = None
    tokenizer_cache_dir: Text | None = None


class Concept(StrictModel):
    """One thing to learn: its instance token, its class token, its pictures."""

    token: Text
    class_: Annotated[Text | None, Field(alias="class")] = None
    outfit: Text | None = None
    images: Text
    num_repeats: Count | None = None
    asymmetric: bool | None = None
    flip_aug: bool | None = None
    shuffle_caption: bool | None = None
    keep_tokens: Annotated[int, Field(ge=0)] | None = None


class Regularisation(StrictModel):
    """Pictures of the class in general, which hold the model to what it knew (guide part 3.5)."""

    class_: Annotated[Text, Field(alias="class")]
    images: Text
    num_repeats: Count | None = None


class Network(StrictModel):
    """What is trained: ``type`` lora is networks.lora, every other type a LyCORIS algorithm."""

    type: NetworkType | None = None
    network_dim: Count | None = None
    network_alpha: Positive | None = None
    conv_dim: Annotated[int, Field(ge=0)] | None = None
    conv_alpha: Positive | None = None
    network_dropout: Share | None = None
    rank_dropout: Share | None = None
    module_dropout: Share | None = None
    dora_wd: bool | None = None
    factor: Annotated[int, Field(ge=-1)] | None = None
    block_size: Count | None = None
    constraint: NotNegative | None = None
    preset: Text | None = None
    use_tucker: bool | None = None
    use_scalar: bool | None = None
    rescaled: bool | None = None
    train_norm: bool | None = None
    network_train_unet_only: bool | None = None
    network_weights: Text | None = None
    scale_weight_norms: NotNegative | None = None


class Train(StrictModel):
    """How it is trained. ``resolution`` in pixels; ``lr_warmup_steps`` an int (steps) or a float (share of them)."""

    optimizer: Optimizer | None = None
    optimizer_args: dict[str, OptimizerArgument] | None = None
    learning_rate: Positive | None = None
    unet_lr: NotNegative | None = None
    text_encoder_lr: NotNegative | None = None
    lr_scheduler: Scheduler | None = None
    lr_warmup_steps: WarmUp | None = None
    lr_scheduler_num_cycles: Count | None = None
    max_train_epochs: Annotated[int, Field(ge=1, le=100_000)] | None = None
    max_train_steps: Count | None = None
    exposures: Count | None = None
    train_batch_size: Count | None = None
    gradient_accumulation_steps: Count | None = None
    bucket_reso_steps: Annotated[int, Field(ge=32)] | None = None  # before resolution, which must be a multiple of it
    resolution: Resolution | None = None
    enable_bucket: bool | None = None
    min_bucket_reso: Side | None = None
    max_bucket_reso: Side | None = None
    bucket_no_upscale: bool | None = None
    mixed_precision: Precision | None = None
    attention: Literal["auto", "xformers", "sdpa"] | None = None
    gradient_checkpointing: bool | None = None
    cache_latents: bool | None = None
    cache_latents_to_disk: bool | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    max_data_loader_n_workers: Annotated[int, Field(ge=0)] | None = None
    persistent_data_loader_workers: bool | None = None
    min_snr_gamma: NotNegative | None = None
    debiased_estimation_loss: bool | None = None
    noise_offset: NotNegative | None = None
    prior_loss_weight: NotNegative | None = None
    max_grad_norm: NotNegative | None = None
    max_token_length: Literal[75, 150, 225] | None = None
    no_half_vae: bool | None = None


class Captions(StrictModel):
    """How captions are read; a concept may say otherwise for itself."""

    caption_extension: Annotated[str, AfterValidator(_an_ending)] | None = None
    shuffle_caption: bool | None = None
    keep_tokens: Annotated[int, Field(ge=0)] | None = None
    caption_prefix: Text | None = None
    caption_suffix: Text | None = None
    caption_dropout_rate: Share | None = None
    caption_tag_dropout_rate: Share | None = None


class Save(StrictModel):
    """What is kept, and where: ``runs`` is the folder for run folders, relative to the recipe."""

    runs: Text | None = None
    save_every_n_epochs: Count | None = None
    save_every_n_steps: Count | None = None
    save_last_n_epochs: Count | None = None
    save_last_n_steps: Count | None = None
    save_precision: Literal["float", "fp16", "bf16"] | None = None
    save_model_as: Literal["safetensors", "ckpt", "pt"] | None = None
    save_state: bool | None = None
    save_state_on_train_end: bool | None = None


class Sample(StrictModel):
    """Pictures made while training. A prompt line takes sd-scripts' flags (--n --w --h --d --s --l)."""

    prompts: Annotated[tuple[Annotated[Text, AfterValidator(_a_prompt)], ...], Field(strict=False, min_length=1)]
    sample_every_n_epochs: Count | None = None
    sample_every_n_steps: Count | None = None
    sample_at_first: bool | None = None
    sample_sampler: Sampler | None = None


class Metadata(StrictModel):
    """Written into the LoRA for whoever downloads it."""

    author: Text | None = None
    title: Text | None = None
    description: Text | None = None
    license: Text | None = None
    tags: Text | None = None
    usage_hint: Text | None = None
    trigger_phrase: Text | None = None
    comment: Text | None = None


class Launch(StrictModel):
    """For accelerate; one process on one GPU when left out."""

    num_processes: Count | None = None
    gpu_ids: Annotated[str, StringConstraints(pattern=r"^(all|\d+(,\d+)*)$")] | None = None
    num_cpu_threads_per_process: Count | None = None
    main_process_port: Annotated[int, Field(ge=1024, le=65535)] | None = None


class Waive(StrictModel):
    """A finding the user has seen and wants to go on with."""

    rule: Text
    reason: Annotated[str, StringConstraints(min_length=3)]


class Recipe(StrictModel):
    """A whole recipe."""

    name: Name
    kind: Kind
    base: Base
    concept: Annotated[tuple[Concept, ...], Field(strict=False, min_length=1)]
    regularisation: Many[Regularisation] = ()
    network: Network = Network()
    train: Train = Train()
    captions: Captions = Captions()
    save: Save = Save()
    sample: Sample | None = None
    metadata: Metadata = Metadata()
    launch: Launch = Launch()
    waive: Many[Waive] = ()
    kohya: dict[str, KohyaValue] = Field(default_factory=dict)


__all__ = [
    "Base", "Captions", "Concept", "Kind", "KohyaValue", "Launch", "Metadata", "Network", "NetworkType",
    "OptimizerArgument", "Recipe", "Regularisation", "Resolution", "Sample", "Save", "TagStyle", "Train", "Waive",
]  # fmt: skip
