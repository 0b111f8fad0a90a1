"""What a file is, and which network it contains, from the names and shapes of its tensors only."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from lorabake.util.safetensors import Tensor
from lorabake_schemas.families.model_family import LoraFamily
from lorabake_schemas.families.recognized import RECOGNIZED
from lorabake_schemas.families.registry import find_family_by_context, list_families
from lorabake_schemas.inspection import Algorithm, FileKind, LoraNetwork, LoraPart, RankCount

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
# As sd-scripts names modules: the prefix, the model, then the module's path with _ for each dot (networks/lora.py:871,
# networks/oft.py:185, lycoris/kohya.py).
MODULE_PATTERN = re.compile(r"(?:lora|oft|lycoris)_(unet|te[1-3]?|transformer)_[^.]+")
# Which tensor shows which algorithm made a module; the first that exists counts.
ALGORITHM_TENSORS: tuple[tuple[str, Algorithm], ...] = (
    ("hada_w1_a", "loha"), ("lokr_w1", "lokr"), ("lokr_w1_a", "lokr"), ("a1.weight", "glora"),
    ("lora_down.weight", "lora"), ("lora_A.weight", "lora"), ("diff", "full"), ("on_input", "ia3"),
    ("w_norm", "norm"), ("b_norm", "norm"),
)  # fmt: skip
# Convolutions with a kernel larger than 1 in the UNets of Stable Diffusion (library/sdxl_original_unet.py and
# original_unet.py), for factors of a matrix whose shape no longer shows the kernel.
CONVOLUTION_PATTERN = re.compile(
    r"_conv(1|2|_in|_out)?$|_in_layers_2$|_out_layers_3$|_op$|_input_blocks_0_0$|_unet_out_2$"
)
BLOCK_PATTERN = re.compile(
    r"(down_blocks|up_blocks|input_blocks|output_blocks|double_blocks|single_blocks|joint_blocks|encoder_layers"
    r"|encoder_block|blocks|layers)_(\d+)_|(mid_block|middle_block)_"
)
TEXT_ENCODER_PATTERN = re.compile(r"[a-z]+_(te\d?)_")
BLOCK_ORDER = (
    "te", "te1", "te2", "te3", "layers", "down_blocks", "input_blocks", "mid_block", "middle_block", "up_blocks",
    "output_blocks",
)  # fmt: skip
# What a file is that is not a LoRA, by how its tensors' names start.
KIND_BY_PREFIX: tuple[tuple[tuple[str, ...], FileKind], ...] = (
    (("model.diffusion_model.", "conditioner.embedders.", "cond_stage_model."), "checkpoint"),
    (("control_model.", "controlnet_", "control_"), "controlnet"),
    (("first_stage_model.", "encoder.down", "decoder.up", "post_quant_conv."), "vae"),
    (("text_model.", "text_projection."), "text-encoder"),
    (("down_blocks.", "time_embedding.", "conv_in."), "unet"),
    (("emb_params", "clip_l", "clip_g", "string_to_param"), "embedding"),
)
FOREIGN_LORA_PATTERN = re.compile(r"\.lora[._](A|B|up|down|linear_layer)\b|\.lora_(up|down|A|B)\.")


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One trained module: its tensors' shapes by the part of their names after the module's."""

    name: str
    model: str
    tensors: Shapes

    @property
    def algorithm(self) -> Algorithm | None:
        for tensor, algorithm in ALGORITHM_TENSORS:
            if tensor in self.tensors:
                return algorithm
        if blocks := self.tensors.get("oft_blocks"):
            return "boft" if len(blocks) == 4 else "diag-oft"  # lycoris/modules/boft.py has one dimension more
        return None

    @property
    def rank(self) -> int | None:
        """None if it has no rank, or if the algorithm fell back to a full matrix."""
        for tensor, axis in (
            ("lora_down.weight", 0), ("lora_A.weight", 0), ("hada_t1", 0), ("hada_w1_b", 0), ("lokr_t2", 0),
            ("lokr_w2_b", 0), ("a1.weight", 1),
        ):  # fmt: skip
            if len(shape := self.tensors.get(tensor, ())) > axis:
                return shape[axis]
        return None

    @property
    def is_conv(self) -> bool:
        """Whether it is a convolution with a kernel larger than 1."""
        if any(math.prod(shape[2:]) > 1 for name, shape in self.tensors.items() if name != "oft_blocks"):
            return True
        return self.algorithm != "norm" and CONVOLUTION_PATTERN.search(self.name) is not None

    @property
    def inputs(self) -> int | None:
        """The number of input features, where the shapes show it."""
        shapes = self.tensors
        if self.algorithm == "lokr":
            small, large = (shapes.get(name, shapes.get(f"{name}_b", ())) for name in ("lokr_w1", "lokr_w2"))
            return small[1] * large[1] if len(small) > 1 and len(large) > 1 else None
        for tensor, axis in (("lora_down.weight", 1), ("hada_w1_b", 1), ("b2.weight", 1), ("diff", 1)):
            if len(shape := shapes.get(tensor, ())) > axis:
                return shape[axis]
        return None


def detect_file_kind(shapes: Shapes) -> FileKind:
    """What kind of file has tensors of these names."""
    if any(module.algorithm for module in list_lora_modules(shapes)):
        return "lora"
    if any(FOREIGN_LORA_PATTERN.search(name) for name in shapes):
        return "other-lora"
    for heads, kind in KIND_BY_PREFIX:
        if any(name.startswith(heads) for name in shapes):
            return kind
    return "unknown"


def list_lora_modules(shapes: Shapes) -> list[LoraModule]:
    """The modules that are trained, in the order of their names."""
    modules: dict[tuple[str, str], dict[str, Shape]] = {}
    for name, shape in shapes.items():
        module, _, tensor = name.partition(".")
        if found := MODULE_PATTERN.fullmatch(module):
            modules.setdefault((module, found[1]), {})[tensor] = shape
    return [LoraModule(name, model, tensors) for (name, model), tensors in sorted(modules.items())]


def detect_lora_family(modules: list[LoraModule]) -> LoraFamily | None:
    """Which models these modules belong to: by names that only one family has, else by the width of its text."""
    for family in (*RECOGNIZED, *list_families()):
        if any(f"_{start}" in module.name for module in modules for start in family.lora.modules):
            return family
    for module in modules:
        if module.name.endswith(("attn2_to_k", "attn2_to_v", "_self_attn_q_proj", "_self_attn_k_proj", "_mlp_fc1")):
            return find_family_by_context(module.inputs or 0)
    return None


def describe_network(tensors: Mapping[str, Tensor], alphas: Mapping[str, float]) -> LoraNetwork:
    """``alphas`` are the values of the tensors that contain one."""
    modules = list_lora_modules({name: tensor.shape for name, tensor in tensors.items()})
    ranks = Counter((module.rank, module.is_conv) for module in modules)
    numbers: Counter[str] = Counter()
    for tensor in tensors.values():
        numbers[tensor.dtype] += tensor.numbers
    return LoraNetwork(
        algorithms=dict(Counter(_algorithm_name(module) for module in modules).most_common()),
        parts=tuple(_list_parts(modules)),
        ranks=tuple(
            RankCount(rank=rank, conv=conv, modules=count)
            for (rank, conv), count in ranks.most_common()
            if rank is not None
        ),
        alphas={f"{alpha:g}": count for alpha, count in Counter(alphas.values()).most_common()},
        dora=any("dora_scale" in module.tensors for module in modules),
        tucker=any({"lora_mid.weight", "hada_t1", "lokr_t2"} & module.tensors.keys() for module in modules),
        tensors=len(tensors),
        numbers=sum(numbers.values()),
        formats=dict(numbers.most_common()),
    )


def _algorithm_name(module: LoraModule) -> str:
    """LyCORIS calls a LoRA of a convolution LoCon."""
    algorithm = module.algorithm or "unknown"
    return "locon" if algorithm == "lora" and module.is_conv else algorithm


def _list_parts(modules: list[LoraModule]) -> list[LoraPart]:
    """Text encoders first, then the UNet, as sd-scripts trains them."""
    names = sorted({module.model for module in modules}, key=lambda name: (not name.startswith("te"), name))
    return [_describe_part(name, [module for module in modules if module.model == name]) for name in names]


def _describe_part(name: str, modules: list[LoraModule]) -> LoraPart:
    blocks = Counter(_inner_block(module.name) for module in modules)
    return LoraPart(
        name=name, modules=len(modules), blocks={block: blocks[block] for block in sorted(blocks, key=block_sort_key)}
    )


def block_name(tensor: str) -> str:
    """The block of a tensor by its name: a text encoder (``te1``), or one of the UNet's blocks."""
    text = TEXT_ENCODER_PATTERN.match(tensor)
    return text[1] if text else _inner_block(tensor)


def _inner_block(name: str) -> str:
    """``down_blocks.1``, or ``layers.3`` of a text encoder; "other" for a module outside of the blocks."""
    found = BLOCK_PATTERN.search(name)
    if not found:
        return "other"
    return found[3] or f"{found[1].replace('encoder_layers', 'layers')}.{found[2]}"


def block_sort_key(block: str) -> tuple[int, str, int]:
    """From what comes in to what goes out, block 10 after block 9."""
    name, _, number = block.partition(".")
    return (BLOCK_ORDER.index(name) if name in BLOCK_ORDER else len(BLOCK_ORDER), name, int(number or 0))
