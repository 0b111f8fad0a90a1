"""What a user may write in a recipe: shape, types and ranges only.

A field left out stays None. The guide's values are defaults of the resolve step, never of this schema, so that
"the user said 32" and "the guide says 32" never look alike. Options keep sd-scripts' own spelling.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, StringConstraints

from lorabake_schemas.base import Many, StrictModel
from lorabake_schemas.machine import Family, Precision
from lorabake_schemas.unjudged import UnjudgedError
from lorabake_schemas.values import (
    LARGEST_RANK,
    LARGEST_SIDE,
    MOST_CYCLES,
    Comment,
    Ending,
    Epochs,
    FilePath,
    GpuNumbers,
    KohyaValue,
    Name,
    NotNegative,
    Optimizer,
    OptimizerArgument,
    PerStep,
    Positive,
    Processes,
    Prompt,
    Rank,
    RankOrNone,
    Repeats,
    Resolution,
    Scheduler,
    Share,
    Side,
    Steps,
    Tag,
    Tags,
    Text,
    WarmUp,
    Workers,
)  # fmt: skip

# What is trained, in one word (G1.17). outfits: several outfits of one character (part 6).
Kind = Literal["character", "style", "object", "clothing", "concept", "outfits"]
NetworkType = Literal["lora", "locon", "loha", "lokr", "dylora", "glora", "ia3", "diag-oft"]
TagStyle = Literal["e621", "danbooru", "natural"]
Tagging = Literal["flexible", "baked"]
Sampler = Literal[
    "ddim", "pndm", "lms", "euler", "euler_a", "heun", "dpm_2", "dpm_2_a", "dpmsolver",
    "dpmsolver++", "dpmsingle", "k_lms", "k_euler", "k_euler_a", "k_dpm_2", "k_dpm_2_a",
]  # fmt: skip


class Part(StrictModel):
    """A table of a recipe. A key that is wrong is taken out of it, and whoever asks for it gets no answer."""

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in type(self).model_fields:
                raise UnjudgedError(name)
            return super().__getattr__(name)


class Base(Part):
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


class Concept(Part):
    """One thing to learn: its instance token, its class token, its pictures."""

    token: Tag
    class_: Annotated[Tag | None, Field(alias="class")] = None
    outfit: Tag | None = None
    images: FilePath
    num_repeats: Repeats | None = None
    asymmetric: bool | None = None
    flip_aug: bool | None = None
    shuffle_caption: bool | None = None
    keep_tokens: Tags | None = None


class Regularisation(Part):
    """Pictures of the class in general, which hold the model to what it knew (guide part 3.5)."""

    class_: Annotated[Tag, Field(alias="class")]
    images: FilePath
    num_repeats: Repeats | None = None


class Network(Part):
    """What is trained: ``type`` lora is networks.lora, every other type a LyCORIS algorithm."""

    type: NetworkType | None = None
    network_dim: Rank | None = None
    network_alpha: Positive | None = None
    conv_dim: RankOrNone | None = None
    conv_alpha: Positive | None = None
    network_dropout: Share | None = None
    rank_dropout: Share | None = None
    module_dropout: Share | None = None
    dora_wd: bool | None = None
    factor: Annotated[int, Field(ge=-1, le=LARGEST_RANK)] | None = None
    block_size: Rank | None = None
    constraint: NotNegative | None = None
    preset: FilePath | None = None
    use_tucker: bool | None = None
    use_scalar: bool | None = None
    rescaled: bool | None = None
    train_norm: bool | None = None
    network_train_unet_only: bool | None = None
    network_weights: FilePath | None = None
    scale_weight_norms: NotNegative | None = None


class Train(Part):
    """How it is trained. ``resolution`` in pixels; ``lr_warmup_steps`` an int (steps) or a float (share of them)."""

    optimizer: Optimizer | None = None
    optimizer_args: dict[str, OptimizerArgument] | None = None
    learning_rate: Positive | None = None
    unet_lr: NotNegative | None = None
    text_encoder_lr: NotNegative | None = None
    lr_scheduler: Scheduler | None = None
    lr_warmup_steps: WarmUp | None = None
    lr_scheduler_num_cycles: Annotated[int, Field(ge=1, le=MOST_CYCLES)] | None = None
    max_train_epochs: Epochs | None = None
    max_train_steps: Steps | None = None
    exposures: Steps | None = None
    train_batch_size: PerStep | None = None
    gradient_accumulation_steps: PerStep | None = None
    # before resolution, which must be a multiple of it
    bucket_reso_steps: Annotated[int, Field(ge=32, le=LARGEST_SIDE)] | None = None
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
    min_snr_gamma: NotNegative | None = None
    debiased_estimation_loss: bool | None = None
    noise_offset: NotNegative | None = None
    prior_loss_weight: NotNegative | None = None
    max_grad_norm: NotNegative | None = None
    max_token_length: Literal[75, 150, 225] | None = None
    no_half_vae: bool | None = None


class Captions(Part):
    """How captions are read; a concept may say otherwise for itself.

    ``tagging`` says how they were written (G5.16), for the rules about tags only: flexible describes the subject, so
    that it can be changed by prompt; baked leaves that to the token.
    """

    caption_extension: Ending | None = None
    shuffle_caption: bool | None = None
    keep_tokens: Tags | None = None
    caption_prefix: Text | None = None
    caption_suffix: Text | None = None
    caption_dropout_rate: Share | None = None
    caption_tag_dropout_rate: Share | None = None
    tagging: Tagging | None = None


class Save(Part):
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


class Sample(Part):
    """Pictures made while training. A prompt line takes sd-scripts' flags (--n --w --h --d --s --l)."""

    prompts: Annotated[tuple[Prompt, ...], Field(strict=False, min_length=1)]
    sample_every_n_epochs: Epochs | None = None
    sample_every_n_steps: Steps | None = None
    sample_at_first: bool | None = None
    sample_sampler: Sampler | None = None


class Metadata(Part):
    """Written into the LoRA for whoever downloads it."""

    author: Text | None = None
    title: Text | None = None
    description: Text | None = None
    license: Text | None = None
    tags: Text | None = None
    usage_hint: Text | None = None
    trigger_phrase: Text | None = None
    comment: Comment | None = None


class Launch(Part):
    """How the trainer is started; for accelerate: one process on one GPU when left out.

    ``deterministic``: the same run twice gives the same file, byte for byte.
    """

    num_processes: Processes | None = None
    gpu_ids: GpuNumbers | None = None
    num_cpu_threads_per_process: Processes | None = None
    main_process_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    deterministic: bool | None = None


class Waive(Part):
    """A finding the user has seen and wants to go on with."""

    rule: Text
    reason: Annotated[str, StringConstraints(min_length=3)]


class Recipe(Part):
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
    "OptimizerArgument", "Recipe", "Regularisation", "Resolution", "Sample", "Save", "TagStyle", "Tagging", "Train",
    "Waive",
]  # fmt: skip
