"""Small LoRA files of every kind, written by hand: header, metadata, tensors with the bytes asked for."""

from __future__ import annotations

import hashlib
import json
import math
import struct
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lorabake.planning.model_shapes import Models, parse_models
from lorabake.planning.network_layout import TargetModule, list_tensors
from lorabake.planning.network_targets import NetworkSpec, apply_preset, find_target_modules
from lorabake.util import resources

Shapes = Mapping[str, tuple[int, ...]]
PRESETS: dict[str, dict[str, object]] = json.loads(resources.read_vendor_text("lycoris-presets.json"))
SMALL: Shapes = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": (320, 4),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": (),
}
MB = 1 << 20


def models(family: str) -> Models:
    return parse_models(resources.read_vendor_text(f"shapes-{family}.txt"))


def shapes_of(wanted: NetworkSpec, family: str = "sd15") -> dict[str, tuple[int, ...]]:
    """What a network saves that is asked for like this."""
    return named(modules_of(wanted, family))


def modules_of(wanted: NetworkSpec, family: str = "sd15") -> list[TargetModule]:
    """Every module that gets a part of the network; LyCORIS' own "full" stops on SD1.5's models."""
    full = tomllib.loads(resources.read_vendor_text("lycoris-preset-full-sd15.toml"))
    return find_target_modules(
        models(family), wanted, PRESETS["full"] if family == "sdxl" else apply_preset(full, PRESETS[""])
    )


def named(made: Iterable[TargetModule]) -> dict[str, tuple[int, ...]]:
    return {f"{each.lora_name}.{name}": shape for each in made for name, shape in list_tensors(each).items()}


def write(path: Path, shapes: Shapes, metadata: Mapping[str, Any] | None = None, *, value: float = 1.0) -> Path:
    """A sound file of 16-bit numbers that are all ``value``, with sd-scripts' own hash if there are metadata."""
    number = struct.pack("<e", value)
    entries: dict[str, Any] = {}
    data = bytearray()
    for name, shape in sorted(shapes.items()):
        begin = len(data)
        data += number * math.prod(shape)
        entries[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, len(data)]}
    if metadata is not None:
        told = {key: text if isinstance(text, str) else json.dumps(text) for key, text in metadata.items()}
        entries["__metadata__"] = {"sshs_model_hash": hashlib.sha256(data).hexdigest()} | told
    return write_raw(path, entries, bytes(data))


def write_raw(path: Path, entries: object, data: bytes = b"") -> Path:
    header = json.dumps(entries).encode()
    header += b" " * (-len(header) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)
    return path


def metadata(**more: Any) -> dict[str, Any]:
    """As sd-scripts writes them for a dataset configuration; only what is looked at here."""
    tags = {"pics": {"sky": 3, "lum": 15, "lighthouse": 15}}
    subset = {"image_dir": "pics", "img_count": 15, "num_repeats": 2, "is_reg": False, "shuffle_caption": True,
              "keep_tokens": 2, "class_tokens": "lum", "flip_aug": False, "caption_prefix": None}  # fmt: skip
    dataset = {
        "batch_size_per_device": 4,
        "num_train_images": 30,
        "num_reg_images": 0,
        "resolution": [512, 768],
        "enable_bucket": True,
        "bucket_info": {"buckets": {"0": {"resolution": [512, 704], "count": 6}}, "mean_img_ar_error": 0.1},
        "subsets": [subset],
    }
    return {
        "ss_network_module": "networks.lora", "ss_network_dim": "4", "ss_network_alpha": "1.0", "ss_seed": "42",
        "ss_learning_rate": "0.0001", "ss_steps": "120", "ss_epoch": "4", "ss_lowram": "False",
        "ss_unet_lr": "None", "ss_sd_model_name": "model.safetensors", "ss_sd_model_hash": "e1441589",
        "ss_new_sd_model_hash": "ab" * 32, "ss_base_model_version": "sd_v1",
        "ss_training_started_at": "1795368307.58", "ss_training_finished_at": "1795368367.58",
        "ss_datasets": [dataset], "ss_tag_frequency": tags, "ss_training_comment": "None",
        "modelspec.title": "lum", "modelspec.trigger_phrase": "lum", "modelspec.license": "CC0-1.0",
        "modelspec.architecture": "stable-diffusion-v1/lora", **more,
    }  # fmt: skip


__all__ = ["MB", "SMALL", "metadata", "models", "modules_of", "named", "shapes_of", "write", "write_raw"]
