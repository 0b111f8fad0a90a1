"""The tensors that each kind of network saves for one module, by name and shape. Pure.

LyCORIS' algorithms as of the locked lycoris-lora (lycoris/modules/*.py); networks.lora is its ``lora``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lorabake.planning.model_shapes import Module

Shape = tuple[int, ...]
Tensors = dict[str, Shape]
SCALAR: Shape = ()


@dataclass(frozen=True, slots=True)
class TargetModule:
    """A module, the algorithm it gets, its rank there, and LyCORIS' options for it by their names in its classes."""

    lora_name: str
    module: Module
    algo: str
    rank: int
    options: Mapping[str, object] = field(default_factory=dict[str, object])

    def on(self, option: str, *, default: bool = False) -> bool:
        return bool(self.options.get(option, default))

    def number(self, option: str, default: int) -> int:
        return int(str(self.options.get(option, default)))


class UnknownNetworkError(ValueError):
    """LyCORIS would stop on this, or it is not known here."""


def list_tensors(attached: TargetModule) -> Tensors:
    """Raises NoSuchNetworkError for an algorithm that is not known, and where LyCORIS stops."""
    if attached.algo not in ALGORITHMS:
        raise UnknownNetworkError(attached.algo)
    return ALGORITHMS[attached.algo](attached)


def _locon_tensors(it: TargetModule) -> Tensors:
    module, rank = it.module, it.rank
    ones = (1,) * len(module.kernel)
    if it.on("use_tucker") and any(side != 1 for side in module.kernel):
        down: Tensors = {
            "lora_down.weight": (rank, module.inputs, *ones),
            "lora_mid.weight": (rank, rank, *module.kernel),
        }
    else:
        down = {"lora_down.weight": (rank, module.inputs, *module.kernel)}
    return {**_dora_tensors(it), "alpha": SCALAR, "lora_up.weight": (module.outputs, rank, *ones), **down}


def _dora_tensors(it: TargetModule) -> Tensors:
    """DoRA's magnitudes: one for each output, or each input."""
    if not it.on("weight_decompose"):
        return {}
    ones = (1,) * len(it.module.kernel)
    if it.on("wd_on_out", default=True):
        return {"dora_scale": (it.module.outputs, 1, *ones)}
    return {"dora_scale": (1, it.module.inputs, *ones)}


def _loha_tensors(it: TargetModule) -> Tensors:
    module, rank = it.module, it.rank
    told: Tensors = {"alpha": SCALAR, **_dora_tensors(it)}
    if it.on("use_tucker") and any(side != 1 for side in module.kernel):
        for number in (1, 2):
            told[f"hada_w{number}_a"] = (rank, module.outputs)
            told[f"hada_w{number}_b"] = (rank, module.inputs)
            told[f"hada_t{number}"] = (rank, rank, *module.kernel)
        return told
    for number in (1, 2):
        told[f"hada_w{number}_a"] = (module.outputs, rank)
        told[f"hada_w{number}_b"] = (rank, module.inputs * module.kernel_area)
    return told


def _lokr_tensors(it: TargetModule) -> Tensors:
    """A Kronecker product of a small matrix and a large one, which is full or of low rank."""
    module, rank, factor, full = it.module, it.rank, it.number("factor", -1), it.on("full_matrix")
    in_small, in_large = factorize(module.inputs, factor)
    out_small, out_large = factorize(module.outputs, factor)
    if it.on("unbalanced_factorization"):
        out_small, out_large = out_large, out_small
    told: Tensors = {"alpha": SCALAR, **_dora_tensors(it)}
    if it.on("decompose_both") and rank < max(out_small, in_small) / 2 and not full:
        told |= {"lokr_w1_a": (out_small, rank), "lokr_w1_b": (rank, in_small)}
    else:
        told["lokr_w1"] = (out_small, in_small)
    if full or rank >= max(out_large, in_large) / 2:
        told["lokr_w2"] = (out_large, in_large, *module.kernel)
    elif it.on("use_tucker") and any(side != 1 for side in module.kernel):
        told |= {"lokr_w2_a": (rank, out_large), "lokr_w2_b": (rank, in_large), "lokr_t2": (rank, rank, *module.kernel)}
    else:
        told |= {"lokr_w2_a": (out_large, rank), "lokr_w2_b": (rank, in_large * module.kernel_area)}
    return told


def factorize(dimension: int, factor: int) -> tuple[int, int]:
    """Two numbers that make the dimension, the smaller one first and at most ``factor``, near each other where it is
    negative (lycoris/functional/general.py)."""
    if factor > 0 and dimension % factor == 0:
        return min(factor, dimension // factor), max(factor, dimension // factor)
    limit = dimension if factor < 0 else factor
    small, large = 1, dimension
    while small < large:
        larger = next(each for each in range(small + 1, dimension + 1) if dimension % each == 0)
        if larger + dimension // larger > small + large or larger > limit:
            break
        small, large = larger, dimension // larger
    return min(small, large), max(small, large)


def _dylora_tensors(it: TargetModule) -> Tensors:
    if it.rank % it.number("block_size", 4):
        raise UnknownNetworkError("dylora's rank must be a multiple of its block_size")
    module, rank = it.module, it.rank
    return {
        "alpha": SCALAR,
        "lora_up.weight": (module.outputs, rank),
        "lora_down.weight": (rank, module.inputs, *module.kernel),
    }


def _glora_tensors(it: TargetModule) -> Tensors:
    module, rank = it.module, it.rank
    ones = (1,) * len(module.kernel)
    return {
        "alpha": SCALAR,
        "a1.weight": (module.inputs, rank, *ones),
        "a2.weight": (rank, module.inputs, *ones),
        "b1.weight": (module.outputs, rank, *ones),
        "b2.weight": (rank, module.inputs, *module.kernel),
    }


def _ia3_tensors(it: TargetModule) -> Tensors:
    size = it.module.inputs if it.on("train_on_input") else it.module.outputs
    return {"weight": (1, size, *(1,) * len(it.module.kernel)) if it.module.kernel else (size,), "on_input": SCALAR}


def _diag_oft_tensors(it: TargetModule) -> Tensors:
    side, blocks = factorize(it.module.outputs, it.rank)
    return {"oft_blocks": (blocks, side, side), "alpha": SCALAR, **_rescale_tensors(it)}


def _boft_tensors(it: TargetModule) -> Tensors:
    side, blocks = _factorize_power_of_two(it.module.outputs, it.rank)
    return {"oft_blocks": ((blocks - 1).bit_count() + 1, blocks, side, side), "alpha": SCALAR, **_rescale_tensors(it)}


def _rescale_tensors(it: TargetModule) -> Tensors:
    ones = (1,) * len(it.module.kernel)
    return {"rescale": (it.module.outputs, 1, *ones)} if it.on("rescaled") else {}


def _factorize_power_of_two(dimension: int, factor: int) -> tuple[int, int]:
    """The largest even number up to ``factor`` that leaves a power of two, and that power
    (lycoris/functional/general.py)."""
    limit = dimension if factor == -1 else factor
    evens = (even for even in range(2, limit + 1, 2) if dimension % even == 0)
    powers = [dimension // even for even in evens if (dimension // even).bit_count() == 1]
    if not powers:
        raise UnknownNetworkError(f"boft cannot divide {dimension} by {factor}")
    return dimension // powers[-1], powers[-1]


def _full_tensors(it: TargetModule) -> Tensors:
    module = it.module
    return {"diff": (module.outputs, module.inputs, *module.kernel)} | (
        {"diff_b": (module.outputs,)} if module.bias else {}
    )


def _norm_tensors(it: TargetModule) -> Tensors:
    return {"w_norm": (it.module.outputs,), "b_norm": (it.module.outputs,)}


NORM = "norm"  # not an algorithm to choose: what train_norm adds
ALGORITHMS: dict[str, Callable[[TargetModule], Tensors]] = {
    "lora": _locon_tensors,
    "locon": _locon_tensors,
    "loha": _loha_tensors,
    "lokr": _lokr_tensors,
    "dylora": _dylora_tensors,
    "glora": _glora_tensors,
    "full": _full_tensors,
    "diag-oft": _diag_oft_tensors,
    "boft": _boft_tensors,
    "ia3": _ia3_tensors,
    NORM: _norm_tensors,
}


def count_elements(shape: Shape) -> int:
    return math.prod(shape)
