"""What sd-scripts wrote into a file's metadata about the training, with the types that it had before it became text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import cast

from lorabake_schemas.inspection import BaseModelInfo, MetadataGroup, MetadataScalar, MetadataValue, ModelFamily

Metadata = Mapping[str, str]
NETWORK_GROUP: MetadataGroup = "network"
# train_network.py:1003-1065 and 1183-1221 of the pin, without their ss_; the same names since 2023.
NAMES_BY_GROUP: Mapping[MetadataGroup, tuple[str, ...]] = MappingProxyType(
    {
        "network": ("network_module", "network_dim", "network_alpha", "network_dropout", "network_args"),
        "training": (
            "optimizer", "learning_rate", "unet_lr", "text_encoder_lr", "lr_scheduler", "lr_warmup_steps", "steps",
            "max_train_steps", "epoch", "num_epochs", "num_batches_per_epoch", "batch_size_per_device",
            "total_batch_size", "gradient_accumulation_steps", "max_grad_norm", "scale_weight_norms", "seed",
            "clip_skip", "max_token_length", "mixed_precision", "full_fp16", "full_bf16", "fp8_base", "fp8_base_unet",
            "gradient_checkpointing", "cache_latents", "lowram",
        ),
        "noise": (
            "loss_type", "huber_schedule", "huber_scale", "huber_c", "min_snr_gamma", "debiased_estimation",
            "noise_offset", "noise_offset_random_strength", "adaptive_noise_scale", "multires_noise_iterations",
            "multires_noise_discount", "ip_noise_gamma", "ip_noise_gamma_random_strength", "zero_terminal_snr",
        ),
        "data": (
            "num_train_images", "num_reg_images", "num_validation_images", "prior_loss_weight", "resolution",
            "enable_bucket", "bucket_no_upscale", "min_bucket_reso", "max_bucket_reso", "shuffle_caption",
            "keep_tokens", "flip_aug", "color_aug", "random_crop", "face_crop_aug_range", "caption_dropout_rate",
            "caption_dropout_every_n_epochs", "caption_tag_dropout_rate", "resize_interpolation", "validation_seed",
            "validation_split", "max_validation_steps", "validate_every_n_epochs", "validate_every_n_steps",
        ),
        "saving": ("output_name", "session_id", "sd_scripts_commit_hash"),
    }
)  # fmt: skip
GROUP_BY_NAME: Mapping[str, MetadataGroup] = MappingProxyType(
    {name: group for group, names in NAMES_BY_GROUP.items() for name in names}
)
# What stands elsewhere on the page.
SHOWN_ELSEWHERE = frozenset({
    "datasets", "dataset_dirs", "reg_dataset_dirs", "tag_frequency", "bucket_info", "training_comment",
    "training_started_at", "training_finished_at", "sd_model_name", "sd_model_hash", "new_sd_model_hash",
    "vae_name", "vae_hash", "new_vae_hash", "base_model_version", "v2",
})  # fmt: skip
EMPTY_VALUES = frozenset({"None", ""})
UNHASHED_VALUES = frozenset(
    {"IsADirectory", "NOFILE"}
)  # train_util.py:3232-3237: what stands where no hash could be made
FAMILY_BY_ARCHITECTURE: tuple[tuple[str, ModelFamily], ...] = (
    ("stable-diffusion-xl", "sdxl"), ("stable-diffusion-v2", "sd2"), ("stable-diffusion-v1", "sd15"),
    ("stable-diffusion-3", "sd3"), ("flux", "flux"), ("chroma", "flux"), ("lumina", "lumina"),
    ("hunyuan-image", "hunyuan-image"), ("anima", "anima"),
)  # fmt: skip
FAMILY_BY_VERSION: tuple[tuple[str, ModelFamily], ...] = (
    ("sdxl", "sdxl"), ("sd_v2", "sd2"), ("sd_v1", "sd15"), ("sd3", "sd3"), ("flux", "flux"), ("chroma", "flux"),
    ("lumina", "lumina"), ("hunyuan", "hunyuan-image"), ("anima", "anima"),
)  # fmt: skip
INTEGER_PATTERN = re.compile(r"[-+]?[0-9]{1,18}")


def list_training_values(metadata: Metadata) -> tuple[MetadataValue, ...]:
    """Everything with ``ss_`` that is not told elsewhere, in groups and in each in the order of its table."""
    order = {name: number for number, name in enumerate(GROUP_BY_NAME)}
    names = [key.removeprefix("ss_") for key in metadata if key.startswith("ss_")]
    told = sorted((n for n in names if n not in SHOWN_ELSEWHERE), key=lambda n: (order.get(n, len(order)), n))
    typed = [(name, parse_value(metadata[f"ss_{name}"])) for name in told]
    return tuple(
        MetadataValue(group=GROUP_BY_NAME.get(name, "other"), name=name, value=value)
        for name, value in typed
        if value is not None
    )


def parse_value(text: str) -> MetadataScalar | None:
    """What ``str`` made this text of; None for "None". A number that a float cannot hold stays text."""
    if text in EMPTY_VALUES:
        return None
    if text in {"True", "False"}:
        return text == "True"
    if INTEGER_PATTERN.fullmatch(text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) and len(text) < 30 else text


def parse_json_value(metadata: Metadata, key: str) -> object:
    """The value that a key holds as JSON; None when there is none, or when it is no JSON."""
    try:
        return json.loads(metadata[key])
    except (KeyError, ValueError, RecursionError):
        return None


def parse_base_model(metadata: Metadata) -> BaseModelInfo | None:
    """The model that was trained on."""
    given = {name: text for name in SHOWN_ELSEWHERE if (text := metadata.get(f"ss_{name}", "")) not in EMPTY_VALUES}
    told = BaseModelInfo(
        name=given.get("sd_model_name"),
        version=given.get("base_model_version"),
        sha256=_parse_hash(given, "new_sd_model_hash"),
        short_hash=_parse_hash(given, "sd_model_hash"),
        is_folder=given.get("sd_model_hash") == "IsADirectory",
        vae=given.get("vae_name"),
        vae_sha256=_parse_hash(given, "new_vae_hash"),
    )
    return None if told == BaseModelInfo() else told


def _parse_hash(given: Metadata, name: str) -> str | None:
    text = given.get(name)
    return None if text in UNHASHED_VALUES else text


def parse_family(metadata: Metadata) -> ModelFamily | None:
    """By what the metadata say."""
    architecture = metadata.get("modelspec.architecture", "").lower()
    version = metadata.get("ss_base_model_version", "").lower()
    for text, families in ((architecture, FAMILY_BY_ARCHITECTURE), (version, FAMILY_BY_VERSION)):
        for head, family in families:
            if text.startswith(head):
                return family
    return None


def parse_algorithm(metadata: Metadata) -> str | None:
    """The algorithm that LyCORIS was asked for, in lower case."""
    given = parse_network_args(metadata).get("algo")
    return given.lower() if isinstance(given, str) else None


def parse_network_args(metadata: Metadata) -> Mapping[str, object]:
    given = parse_json_value(metadata, "ss_network_args")
    return cast("Mapping[str, object]", given) if isinstance(given, dict) else {}


def parse_unix_time(metadata: Metadata, key: str) -> datetime | None:
    """A Unix time, in UTC; None when the text is no time that there can be."""
    try:
        return datetime.fromtimestamp(float(metadata[key]), UTC)
    except (KeyError, ValueError, OverflowError, OSError):
        return None
