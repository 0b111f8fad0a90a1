"""What a user may write in a recipe: shape, types and ranges only.

A field left out stays None. The guide's values are defaults of the resolve step, never of this schema, so that
"the user said 32" and "the guide says 32" never look alike. Options keep sd-scripts' own spelling.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from lorabake_schemas.base import StrictModel, TupleOf
from lorabake_schemas.machine import Family, Precision
from lorabake_schemas.unjudged import InvalidKeyError
from lorabake_schemas.values import (
    MAX_CYCLES,
    MAX_RANK,
    MAX_SIDE,
    Comment,
    Epochs,
    Extension,
    FilePath,
    Fraction,
    GpuIds,
    KeepTokens,
    KohyaValue,
    NonNegativeNumber,
    OptimizerArgument,
    OptimizerName,
    PerStep,
    PositiveNumber,
    Processes,
    Prompt,
    Rank,
    RankOrZero,
    Repeats,
    Resolution,
    RunName,
    SchedulerName,
    Side,
    Steps,
    Tag,
    Text,
    Warmup,
    Workers,
)  # fmt: skip

# What is trained, in one word (G1.17). outfits: several outfits of one character (part 6).
RecipeKind = Literal["character", "style", "object", "clothing", "concept", "outfits"]
NetworkType = Literal["lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft"]
TagStyle = Literal["e621", "danbooru", "natural"]
TaggingStyle = Literal["flexible", "baked"]
Sampler = Literal[
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver",
    "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
]  # fmt: skip


class RecipeTable(StrictModel):
    """A table of a recipe. A key that is wrong is taken out of it, and whoever asks for it gets no answer."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise InvalidKeyError(name)
            return super().__getattr__(name)


class Base(RecipeTable):
    """The model to train on. ``model``: a file, a diffusers folder or a hub id; paths are relative to the recipe."""

    model: FilePath
    family: Family | None = None
    tags: TagStyle | None = None
    v_prediction: bool | None = None
    zero_terminal_snr: bool | None = None
    native_resolution: Side | None = None
    clip_skip: Annotated[int, Field(ge=1, le=12)] | None = None
    vae: FilePath | None = None
    tokenizer_cache_dir: FilePath | None = None


class Concept(RecipeTable):
    """One thing to learn: its instance token, its class token, its pictures."""

    token: Tag
    class_: Annotated[Tag | None, Field(alias="class")] = None
    outfit: Tag | None = None
    images: FilePath
    num_repeats: Repeats | None = None
    asymmetric: bool | None = None
    flip_aug: bool | None = None
    shuffle_caption: bool | None = None
    keep_tokens: KeepTokens | None = None


class Regularization(RecipeTable):
    """Pictures of the class in general, which hold the model to what it knew (guide part 3.5)."""

    class_: Annotated[Tag, Field(alias="class")]
    images: FilePath
    num_repeats: Repeats | None = None


class Network(RecipeTable):
    """What is trained: ``type`` lora is networks.lora, every other type a LyCORIS algorithm."""

    type: NetworkType | None = None
    network_dim: Rank | None = None
    network_alpha: PositiveNumber | None = None
    conv_dim: RankOrZero | None = None
    conv_alpha: PositiveNumber | None = None
    network_dropout: Fraction | None = None
    rank_dropout: Fraction | None = None
    module_dropout: Fraction | None = None
    dora_wd: bool | None = None
    factor: Annotated[int, Field(ge=-1, le=MAX_RANK)] | None = None
    block_size: Rank | None = None
    constraint: NonNegativeNumber | None = None
    preset: FilePath | None = None
    use_tucker: bool | None = None
    use_scalar: bool | None = None
    rescaled: bool | None = None
    train_norm: bool | None = None
    network_train_unet_only: bool | None = None
    network_weights: FilePath | None = None
    scale_weight_norms: NonNegativeNumber | None = None


class Train(RecipeTable):
    """How it is trained. ``resolution`` in pixels; ``lr_warmup_steps`` an int (steps) or a float (share of them)."""

    optimizer: OptimizerName | None = None
    optimizer_args: dict[str, OptimizerArgument] | None = None
    learning_rate: PositiveNumber | None = None
    unet_lr: NonNegativeNumber | None = None
    text_encoder_lr: NonNegativeNumber | None = None
    lr_scheduler: SchedulerName | None = None
    lr_warmup_steps: Warmup | None = None
    lr_scheduler_num_cycles: Annotated[int, Field(ge=1, le=MAX_CYCLES)] | None = None
    max_train_epochs: Epochs | None = None
    max_train_steps: Steps | None = None
    exposures: Steps | None = None
    train_batch_size: PerStep | None = None
    gradient_accumulation_steps: PerStep | None = None
    # before resolution, which must be a multiple of it
    bucket_reso_steps: Annotated[int, Field(ge=32, le=MAX_SIDE)] | None = None
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
    max_data_loader_n_workers: Workers | None = None
    persistent_data_loader_workers: bool | None = None
    min_snr_gamma: NonNegativeNumber | None = None
    debiased_estimation_loss: bool | None = None
    noise_offset: NonNegativeNumber | None = None
    prior_loss_weight: NonNegativeNumber | None = None
    max_grad_norm: NonNegativeNumber | None = None
    max_token_length: Literal[75, 150, 225] | None = None
    no_half_vae: bool | None = None


class Captions(RecipeTable):
    """How captions are read; a concept may say otherwise for itself.

    ``tagging`` says how they were written (G5.16), for the rules about tags only: flexible describes the subject, so
    that it can be changed by prompt; baked leaves that to the token.
    """

    caption_extension: Extension | None = None
    shuffle_caption: bool | None = None
    keep_tokens: KeepTokens | None = None
    caption_prefix: Text | None = None
    caption_suffix: Text | None = None
    caption_dropout_rate: Fraction | None = None
    caption_tag_dropout_rate: Fraction | None = None
    tagging: TaggingStyle | None = None


class Save(RecipeTable):
    """What is kept, and where: ``runs`` is the folder for run folders, relative to the recipe."""

    runs: FilePath | None = None
    save_every_n_epochs: Epochs | None = None
    save_every_n_steps: Steps | None = None
    save_last_n_epochs: Epochs | None = None
    save_last_n_steps: Steps | None = None
    save_precision: Literal["float", "fp16", "bf16"] | None = None
    save_model_as: Literal["safetensors", "ckpt", "pt"] | None = None
    save_state: bool | None = None
    save_state_on_train_end: bool | None = None


class Sample(RecipeTable):
    """Pictures made while training. A prompt line takes sd-scripts' flags (--n --w --h --d --s --l)."""

    prompts: Annotated[tuple[Prompt, ...], Field(strict=False, min_length=1)]
    sample_every_n_epochs: Epochs | None = None
    sample_every_n_steps: Steps | None = None
    sample_at_first: bool | None = None
    sample_sampler: Sampler | None = None


class Metadata(RecipeTable):
    """Written into the LoRA for whoever downloads it."""

    author: Text | None = None
    title: Text | None = None
    description: Text | None = None
    license: Text | None = None
    tags: Text | None = None
    usage_hint: Text | None = None
    trigger_phrase: Text | None = None
    comment: Comment | None = None


class Launch(RecipeTable):
    """How the trainer is started; for accelerate: one process on one GPU when left out.

    ``deterministic``: the same run twice gives the same file, byte for byte.
    """

    num_processes: Processes | None = None
    gpu_ids: GpuIds | None = None
    num_cpu_threads_per_process: Processes | None = None
    main_process_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    deterministic: bool | None = None


class Ignore(RecipeTable):
    """A finding the user has seen and wants to go on with."""

    rule: Text
    reason: Annotated[str, StringConstraints(min_length=3)]


class Recipe(RecipeTable):
    """A whole recipe."""

    name: RunName
    kind: RecipeKind
    base: Base
    concept: Annotated[tuple[Concept, ...], Field(strict=False, min_length=1)]
    regularization: TupleOf[Regularization] = ()
    network: Network = Network()
    train: Train = Train()
    captions: Captions = Captions()
    save: Save = Save()
    sample: Sample | None = None
    metadata: Metadata = Metadata()
    launch: Launch = Launch()
    ignore: TupleOf[Ignore] = ()
    kohya: dict[str, KohyaValue] = Field(default_factory=dict)
