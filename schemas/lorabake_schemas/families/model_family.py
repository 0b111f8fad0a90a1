"""What a model family is: everything that differs between SD1.5, SD2 and SDXL, as data.

TU is library/train_util.py of sd-scripts at the pin, MU library/model_util.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from lorabake_schemas.messages import Message

T = TypeVar("T")
CLIP_L = "openai/clip-vit-large-patch14"


class GuideValue(NamedTuple, Generic[T]):
    """A value of the guide and the rule that gives it."""

    value: T
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GuideValues:
    """The guide's numbers that depend on the family.

    ``images`` are the least and the recommended number (G1.2, G1.4), ``exposures`` how often each is seen.
    ``bucket_limit`` is max_bucket_reso at the guide's resolution or above, ``least_resolution`` the side below which
    quality suffers, ``anime_resolution`` the side at which most anime models of the family were trained,
    ``anime_clip_skip`` what these are trained with.
    """

    resolution: GuideValue[int]
    images: tuple[int, int]
    exposures: GuideValue[int]
    rank: GuideValue[int]
    alpha_rule: str
    adam_unet_lr: GuideValue[float]
    adam_text_encoder_lr: float
    warmup: GuideValue[float]
    gradient_checkpointing: bool = False
    bucket_limit: GuideValue[int] | None = None
    least_resolution: int | None = None
    anime_resolution: int | None = None
    anime_clip_skip: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEncoder:
    """One text encoder, by its name in a LoRA and its folder in a diffusers model.

    ``tokenizer`` is the hub id from which sd-scripts loads it, ``tokenizer_folder`` a folder in there. A tokenizer
    cuts a caption at one of ``token_limits``, the first of which sd-scripts takes without max_token_length.
    ``parameters`` is how many numbers it has.
    """

    name: str
    folder: str
    width: int
    parameters: int
    tokenizer: str = CLIP_L
    tokenizer_folder: str = ""
    token_limits: tuple[int, ...] = (75, 150, 225)

    @property
    def tokenizer_cache(self) -> str:
        """The name of its folder in tokenizer_cache_dir (strategy_base.py:59)."""
        return self.tokenizer.replace("/", "_")

    @property
    def tokenizer_place(self) -> str:
        """Where sd-scripts finds it without a tokenizer_cache_dir: a hub id, and a folder in it."""
        return "/".join(part for part in (self.tokenizer, self.tokenizer_folder) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraSigns:
    """How a LoRA shows its family.

    ``architectures`` and ``versions`` are starts of ``modelspec.architecture`` and ``ss_base_model_version``;
    ``modules`` start names of modules, after ``lora_``, as in no other family that can be trained.
    """

    architectures: tuple[str, ...]
    versions: tuple[str, ...]
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraFamily:
    """A family whose LoRAs can be recognized."""

    name: str
    label: str
    lora: LoraSigns


class LoraBlocks(NamedTuple):
    """How many blocks networks.lora counts in the UNet: all, down or up, in the middle (networks/lora.py:510, 585)."""

    all: int = 25
    side: int = 12
    middle: int = 1


SD_LORA_BLOCKS = LoraBlocks()  # SD1.5 and SD2


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartNeeds:
    """What the quickstart takes of memory and disk, and of time on two CPU cores. Not ``offered`` on the command line
    where no recipe of the family is shipped to continue with."""

    memory_bytes: int
    disk_bytes: int
    duration: Message
    offered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFamily(LoraFamily):
    """A family that can be trained. How its base models look, how sd-scripts trains them, what the guide recommends.

    Base models: ``context_width`` is the width of the text that the UNet attends to; ``text_encoder_prefix`` starts
    names of tensors that only checkpoints of this family have. ``native_sides`` are the sides of the original models
    by patterns of their names (is_stock_model), ``tag_model_sides`` those of well-known models trained on tags.
    ``two_board_models`` are patterns of the names of models that know the tags of danbooru and of e621,
    ``board_models`` those of models that know one of them, with its name. ``name_patterns`` are in names of checkpoints
    of the family, where nothing else shows it.
    ``other_names`` are what other programs call it, in their configurations.
    ``has_both_predictions``: its original models come with v-prediction and without.

    ``unet_parameters`` is how many numbers the UNet has.

    Training: ``script_options`` are set in every run, each with its rule; ``ignored_options`` do nothing.
    ``size_step`` must divide a bucket's sides, and ``latent_step`` those of latents without buckets, else the UNet
    stops. ``vae_needs_float32``: the VAE overflows at fp16 (S21).
    ``wants_fp16_files``: from a diffusers folder fp16 training loads only *.fp16.* files.
    ``runs_pickles``: a pickled checkpoint is loaded with whatever program is in it, whatever the version of PyTorch.
    ``text_cache_suffix`` is empty where text encoder outputs cannot be cached.

    Network: ``shapes_file`` lists the modules of its models; ``broken_presets`` are those of LyCORIS that crash (S35),
    ``full_preset_file`` replaces "full" where that is another one. Both files are in vendor/.
    """

    script: str
    text_encoders: tuple[TextEncoder, ...]
    unet_parameters: int
    context_width: int
    text_encoder_prefix: str
    native_sides: Mapping[str, int] = field(hash=False)
    guide: GuideValues
    quickstart: QuickstartNeeds
    latent_cache_suffix: str
    text_cache_suffix: str = ""
    shapes_file: str
    lora_blocks: LoraBlocks = SD_LORA_BLOCKS
    size_step: int = 64
    latent_step: int = 1
    tag_model_sides: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)
    two_board_models: tuple[str, ...] = ()
    board_models: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    name_patterns: tuple[str, ...] = ()
    other_names: tuple[str, ...] = ()
    has_both_predictions: bool = False
    script_options: Mapping[str, GuideValue[bool]] = field(default_factory=dict[str, GuideValue[bool]], hash=False)
    ignored_options: tuple[str, ...] = ()
    vae_needs_float32: bool = False
    wants_fp16_files: bool = False
    runs_pickles: bool = False
    broken_presets: tuple[str, ...] = ()
    full_preset_file: str | None = None

    @property
    def token_limits(self) -> tuple[int, ...]:
        """What max_token_length can be: it is the same for all text encoders."""
        return self.text_encoders[0].token_limits

    @property
    def folder_parts(self) -> tuple[str, ...]:
        """The folders of a diffusers model that must have weights."""
        first, *others = (encoder.folder for encoder in self.text_encoders)
        return ("unet", first, "vae", *others)
