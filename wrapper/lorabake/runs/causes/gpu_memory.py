"""What to turn down when the GPU's memory is not enough, in this order, and what each would save.

Weights and the optimizer's state are counted from the number of parameters. What a step needs for activations depends
on too much to be counted, so its savings are shares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lorabake.runs.causes.cause import When, off, on
from lorabake_schemas.messages import MessageTemplate, template

GIB = 1 << 30
SavedPart = Literal["vae", "half the weights", "text encoders", "optimizer", "UNet to fp8", "half the network"]
VAE_PARAMETERS = 83_653_863  # AutoencoderKL of all three families
MAX_STEPS = 5
BYTES = {"fp16": 2, "bf16": 2}
# Bytes for each trained number that an optimizer keeps on the GPU (float32: exp_avg and exp_avg_sq; Prodigy also p0
# and s; 8-bit: one byte each); the first start that fits counts.
OPTIMIZER_BYTES = (
    ("adamw8bit", 2),
    ("paged", 0),
    ("lion8bit", 1),
    ("lion", 4),
    ("adafactor", 1),
    ("sgd", 4),
    ("prodigy", 16),
    ("dadapt", 16),
)
ADAM_BYTES = 8


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Numbers of parameters, and how a run keeps them. ``trained`` is None where the size of the LoRA is unknown."""

    unet: int = 0
    text_encoders: int = 0
    trained: int | None = None
    batch: int = 1
    rank: int = 0
    precision: str = "fp16"
    optimizer: str = "adamw"

    @property
    def weight_bytes(self) -> int:
        return BYTES.get(self.precision, 4)

    @property
    def optimizer_bytes(self) -> int:
        name = self.optimizer.lower()
        return next((size for start, size in OPTIMIZER_BYTES if name.startswith(start)), ADAM_BYTES)


@dataclass(frozen=True, slots=True)
class MemorySaving:
    """A step: what to write, when it applies, and the part whose bytes it saves, where that can be counted."""

    text: MessageTemplate
    when: tuple[When, ...]
    saves: SavedPart | None = None


SAVINGS = (
    MemorySaving(
        template("set train.gradient_checkpointing = true (saves most of what a step needs; about a quarter slower)"),
        (off("gradient_checkpointing"),),
    ),
    MemorySaving(
        template("set train.cache_latents = true (saves {saving}, and what the VAE needs for an image)"),
        (off("cache_latents"), off("cache_latents_to_disk")),
        "vae",
    ),
    MemorySaving(
        template(
            "set train.train_batch_size = {half_batch} and train.gradient_accumulation_steps = {accumulation}"
            " (a step then needs about {batch_share:.0%}, at the same effective batch size)"
        ),
        (on("run.batch_above_1"),),
    ),
    MemorySaving(
        template('set train.mixed_precision = "bf16" (saves {saving})'),
        (on("mixed_precision", "no"),),
        "half the weights",
    ),
    MemorySaving(
        template('set train.attention = "sdpa" (attention then needs far less)'),
        (off("xformers"), off("sdpa"), off("mem_eff_attn")),
    ),
    MemorySaving(
        template("set cache_text_encoder_outputs = true in [kohya] (saves {saving})"),
        (on("network_train_unet_only"), off("cache_text_encoder_outputs"), on("run.caches_text")),
        "text encoders",
    ),
    MemorySaving(
        template('set train.optimizer = "AdamW8bit" (saves {saving})'),
        (on("run.large_optimizer"),),
        "optimizer",
    ),
    MemorySaving(
        template("set fp8_base = true in [kohya] (saves {saving}, and costs some quality)"),
        (off("fp8_base"), off("mixed_precision", "no"), on("run.large_model")),
        "UNet to fp8",
    ),
    MemorySaving(
        template("lower train.resolution (half the side needs about a quarter for a step)"),
        (),
    ),
    MemorySaving(
        template("halve network.network_dim (saves {saving})"),
        (on("run.large_network"),),
        "half the network",
    ),
)


def count_saving(part: SavedPart | None, facts: MemoryFacts) -> int:
    """The bytes that a step saves; 0 where that cannot be counted."""
    trained = facts.trained or 0
    sizes: Mapping[SavedPart | None, int] = {
        None: 0,
        "vae": VAE_PARAMETERS * facts.weight_bytes,
        "half the weights": (facts.unet + facts.text_encoders) * 2,
        "text encoders": facts.text_encoders * facts.weight_bytes,
        "optimizer": trained * max(facts.optimizer_bytes - 2, 0),
        "UNet to fp8": facts.unet * (facts.weight_bytes - 1),
        "half the network": trained // 2 * (facts.optimizer_bytes + 8),  # with weights and gradients in float32
    }
    return sizes[part]


def gpu_memory_values(facts: MemoryFacts) -> Mapping[str, object]:
    """What the conditions above ask for, beside the settings."""
    return {
        "run.batch_above_1": facts.batch > 1,
        "run.large_optimizer": count_saving("optimizer", facts) > GIB // 20,
        "run.large_network": count_saving("half the network", facts) > GIB // 20,
        "run.large_model": facts.unet > 2_000_000_000,
    }
