"""Small LoRA files of every kind, written by hand: header, metadata, tensors with the bytes asked for."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorabake.analysis.estimate import load_layers
from lorabake.planning.file_size import Layer, NetworkSpec, factorize, iter_targets

Shapes = Mapping[str, tuple[int, ...]]
SMALL: Shapes = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight": (4, 768),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_up.weight": (320, 4),
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.alpha": (),
}
MB = 1 << 20


@dataclass(frozen=True)
class Wanted:
    """A network of these settings: no ``algo`` is networks.lora, ``conv`` None leaves its convolutions out."""

    algo: str
    rank: int
    conv: int | None
    options: Mapping[str, int] = field(default_factory=dict[str, int])
    train_norm: bool = False
    unet: bool = True
    text: bool = True

    def layers(self, family: str) -> list[tuple[Layer, int]]:
        """Every layer that gets a part of it, with its rank; LyCORIS' own "full" stops on SD1.5's models."""
        full = "full" if family == "sdxl" else "lycoris-preset-full-sd15.toml"
        name = full if self.algo else "lora" if self.conv is None else "lora-conv"
        spec = NetworkSpec(
            name, self.algo or "lora", self.rank, self.conv or 0, {}, self.train_norm, self.unet, self.text
        )
        return list(iter_targets(load_layers(f"shapes-{family}.txt"), spec))


def shapes_of(wanted: Wanted, family: str = "sd15") -> dict[str, tuple[int, ...]]:
    """What such a network saves."""
    return {
        f"lora_{layer.name}.{name}": shape
        for layer, rank in wanted.layers(family)
        for name, shape in tensors(layer, rank, wanted).items()
    }


def tensors(layer: Layer, rank: int, wanted: Wanted) -> dict[str, tuple[int, ...]]:
    """As the modules of LyCORIS and networks.lora name them."""
    inputs, outputs, kernel, ones = layer.inputs, layer.outputs, layer.kernel, (1,) * len(layer.kernel)
    if not inputs:
        return {"w_norm": (outputs,), "b_norm": (outputs,)}
    if wanted.algo == "lokr":
        return lokr_tensors(layer, rank)
    tucker = layer.is_conv and wanted.options.get("tucker")
    down = {"lora_down.weight": (rank, inputs, *kernel)}
    if tucker:
        down = {"lora_down.weight": (rank, inputs, *ones), "lora_mid.weight": (rank, rank, *kernel)}
    lora = {"alpha": (), "lora_up.weight": (outputs, rank, *ones), **down}
    pair = {"a": (outputs, rank), "b": (rank, inputs * layer.area)}
    made: dict[str, dict[str, tuple[int, ...]]] = {
        "locon": lora | ({"dora_scale": (outputs, 1, *ones)} if wanted.options.get("dora") else {}),
        "loha": {"alpha": (), **{f"hada_w{at}_{side}": shape for at in "12" for side, shape in pair.items()}},
        "glora": {
            "alpha": (),
            "a1.weight": (inputs, rank, *ones),
            "a2.weight": (rank, inputs, *ones),
            "b1.weight": (outputs, rank, *ones),
            "b2.weight": (rank, inputs, *kernel),
        },
        "full": {"diff": (outputs, inputs, *kernel), "diff_b": (outputs,)},
        "ia3": {"weight": (1, outputs, *ones) if kernel else (outputs,), "on_input": ()},
        "boft": {"alpha": (), "oft_blocks": (3, outputs // 16, 16, 16)},
        "diag-oft": {"alpha": (), "oft_blocks": (outputs // 8, 8, 8)},
    }
    return made.get(wanted.algo, lora)


def lokr_tensors(layer: Layer, rank: int) -> dict[str, tuple[int, ...]]:
    (small, large), (out_small, out_large) = factorize(layer.inputs, -1), factorize(layer.outputs, -1)
    made: dict[str, tuple[int, ...]] = {"alpha": (), "lokr_w1": (out_small, small)}
    if rank >= max(large, out_large) / 2:
        return made | {"lokr_w2": (out_large, large, *layer.kernel)}
    return made | {"lokr_w2_a": (out_large, rank), "lokr_w2_b": (rank, large * layer.area)}


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
