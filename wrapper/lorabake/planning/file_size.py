"""How large a file of the LoRA will be: what the network adds to each layer of its models, summed up. Pure.

Which layers it attaches to is read from vendor/shapes-*.txt (make snapshots); the sizes are those of sd-scripts'
networks.lora and of LyCORIS' algorithms as of the locked lycoris-lora.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from lorabake_schemas.plan import FileSize, Plan

Options = Mapping[str, int]
Count = tuple[int, int]  # tensors, and the numbers in them
BYTES_BY_PRECISION = {"float": 4, "fp16": 2, "bf16": 2}
# What sd-scripts writes into a file about its training (TN:1003-1229): 4.6 kB measured for a concept with a dozen tags.
METADATA, METADATA_SUBSET, METADATA_BUCKET = 3400, 1100, 60
ENTRY = 82  # bytes of a safetensors header for a tensor, without its layer's name
PICKLE_ENTRY = 330  # of torch.save's zip: a record, aligned, and a line of the pickle
TEXT_LAYER = re.compile(r"(te\d?)_text_model_encoder_layers_(\d+)_")
BLOCK_RANKS = ("block_", "conv_block_", "down_lr", "mid_lr", "up_lr")


class UnknownNetworkError(ValueError):
    """LyCORIS would stop on this, or it is not known here."""


class Layer(NamedTuple):
    """A layer of a model by its name in a LoRA. A norm has no inputs. ``networks``: those that attach to it, with
    whether (IA)^3 scales its inputs there."""

    name: str
    inputs: int
    outputs: int
    kernel: tuple[int, ...]
    networks: Mapping[str, bool]

    @property
    def is_conv(self) -> bool:
        """Whether the rank for convolutions counts: not for one of kernel 1."""
        return any(side != 1 for side in self.kernel)

    @property
    def area(self) -> int:
        return math.prod(self.kernel)


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """What the settings ask of a network. ``network`` is a column of the table of layers: networks.lora without or
    with convolutions, or a preset of LyCORIS; ``options`` as LyCORIS' classes name them, 0 and 1 for switches."""

    network: str
    algo: str
    rank: int
    conv: int
    options: Options = field(default_factory=dict[str, int])
    train_norm: bool = False
    unet: bool = True
    text: bool = True


def parse_layers(text: str) -> tuple[Layer, ...]:
    """A table of layers (vendor/shapes-*.txt)."""
    head, *lines = text.splitlines()
    columns, layers = head.split(), list[Layer]()
    for line in lines:
        name, inputs, outputs, *kernel, marks = line.split()
        networks = {column: mark == "i" for column, mark in zip(columns, marks, strict=True) if mark != "0"}
        layers.append(Layer(name, int(inputs), int(outputs), tuple(map(int, kernel)), networks))
    return tuple(layers)


def cut_text_encoders(layers: Sequence[Layer], counts: Sequence[int]) -> tuple[Layer, ...] | None:
    """The text encoders cut to their first layers, as some bases have them; None when one has fewer than that."""
    numbers = [(found[1], int(found[2])) if (found := TEXT_LAYER.match(layer.name)) else ("", -1) for layer in layers]
    encoders = sorted({encoder for encoder, _ in numbers if encoder})
    wanted = dict(zip(encoders, counts, strict=False))
    if any(count > 1 + max(at for name, at in numbers if name == encoder) for encoder, count in wanted.items()):
        return None
    kept = zip(layers, numbers, strict=True)
    return tuple(layer for layer, (encoder, at) in kept if at < wanted.get(encoder, at + 1))


def estimate_file_size(plan: Plan, layers: Sequence[Layer]) -> FileSize | None:
    """The size of one save. None if it is unknown: LyCORIS would stop, the preset is the recipe's own, or the
    settings are not known here.
    """
    width = BYTES_BY_PRECISION.get(str(plan.value("save_precision")))
    try:
        spec = read_network_spec(plan)
        counts = [(layer, *count_weights(layer, rank, spec)) for layer, rank in iter_targets(layers, spec)]
    except (UnknownNetworkError, TypeError, ValueError):
        return None
    if width is None or not counts:
        return None
    tensors = sum(many for _, many, _ in counts)
    head = PICKLE_ENTRY * tensors
    if plan.value("save_model_as") in {None, "safetensors"}:
        head = sum((ENTRY + len(layer.name)) * many for layer, many, _ in counts)
        head += METADATA + METADATA_SUBSET * len(plan.subsets) + METADATA_BUCKET * len(plan.forecast.buckets)
    return FileSize(tensors=tensors, tensor_bytes=width * sum(numbers for *_, numbers in counts), header_bytes=head)


def read_network_spec(plan: Plan) -> NetworkSpec:
    """The settings of the network as it reads them. Raises UnknownNetworkError for a network that is not known."""
    module, rank = plan.value("network_module"), int(str(plan.value("network_dim") or 4))
    unet = not plan.value("network_train_text_encoder_only")
    text = not plan.value("network_train_unet_only")
    args = plan.value("network_args")
    listed: Sequence[object] = args if isinstance(args, tuple) else ()
    given = {key: value for key, _, value in (str(item).partition("=") for item in listed)}  # as TN:664-668
    if plan.own_preset or plan.value("dim_from_weights"):
        raise UnknownNetworkError("layers or ranks of another file")
    if module == "networks.lora" and any(name.startswith(BLOCK_RANKS) for name in given):
        raise UnknownNetworkError("ranks of each block")
    if module == "networks.lora":
        network = "lora-conv" if "conv_dim" in given else "lora"
        return NetworkSpec(network, "lora", rank, int(given.get("conv_dim", 0)), unet=unet, text=text)
    if module != "lycoris.kohya":
        raise UnknownNetworkError(str(module))
    options = {
        "use_tucker": _parse_flag(given, "use_tucker"),
        "weight_decompose": _parse_flag(given, "dora_wd"),
        "wd_on_out": _parse_flag(given, "wd_on_output", default=True),
        "decompose_both": bool(given.get("decompose_both")),
        "full_matrix": _parse_flag(given, "full_matrix"),
        "unbalanced_factorization": _parse_flag(given, "unbalanced_factorization"),
        "rescaled": _parse_flag(given, "rescaled"),
        "factor": int(given.get("factor", -1)),
        "block_size": int(given.get("block_size") or 4),
    }
    conv, algo = int(given.get("conv_dim") or rank), (given.get("algo") or "lora").lower()
    return NetworkSpec(
        given.get("preset", "full"), algo, rank, conv, options, _parse_flag(given, "train_norm"), unet, text
    )


def _parse_flag(given: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """LyCORIS takes any word but "false" for yes (lycoris/utils, str_bool)."""
    return given[name].lower() != "false" if name in given else default


def iter_targets(layers: Sequence[Layer], spec: NetworkSpec) -> Iterator[tuple[Layer, int]]:
    """Every layer that is trained, with its rank."""
    for layer in layers:
        trained = spec.unet if layer.name.startswith("unet_") else spec.text
        rank = spec.conv if layer.is_conv else spec.rank
        if trained and spec.network in layer.networks and (rank if layer.inputs else spec.train_norm):
            yield layer, rank


def count_weights(layer: Layer, rank: int, spec: NetworkSpec) -> Count:
    """Raises UnknownNetworkError where LyCORIS stops and for an algorithm that is not known."""
    if not layer.inputs:
        return 2, 2 * layer.outputs
    if spec.algo == "ia3":
        return 2, 1 + (layer.inputs if layer.networks[spec.network] else layer.outputs)
    if spec.algo not in ALGORITHMS:
        raise UnknownNetworkError(spec.algo)
    tensors, numbers = ALGORITHMS[spec.algo](layer, rank, spec.options)
    if spec.options.get("weight_decompose") and spec.algo in DORA_ALGORITHMS:
        return tensors + 1, numbers + (layer.outputs if spec.options["wd_on_out"] else layer.inputs)
    return tensors, numbers


def _count_lora(layer: Layer, rank: int, options: Options) -> Count:
    if layer.is_conv and options.get("use_tucker"):
        return 4, 1 + rank * (layer.outputs + layer.inputs + rank * layer.area)
    return 3, 1 + rank * (layer.outputs + layer.inputs * layer.area)


def _count_loha(layer: Layer, rank: int, options: Options) -> Count:
    tensors, numbers = _count_lora(layer, rank, options)
    return 2 * tensors - 1, 2 * numbers - 1


def _count_dylora(layer: Layer, rank: int, options: Options) -> Count:
    if rank % options["block_size"]:
        raise UnknownNetworkError("dylora's rank must be a multiple of its block_size")
    return _count_lora(layer, rank, {})


def _count_glora(layer: Layer, rank: int, _: Options) -> Count:
    return 5, 1 + rank * (2 * layer.inputs + layer.outputs + layer.inputs * layer.area)


def _count_full(layer: Layer, *_: object) -> Count:
    return 2, layer.outputs * (layer.inputs * layer.area + 1)


def _count_oft(layer: Layer, rank: int, options: Options) -> Count:
    side, blocks = factorize(layer.outputs, rank)
    return 2 + options["rescaled"], 1 + blocks * side**2 + options["rescaled"] * layer.outputs


def _count_boft(layer: Layer, rank: int, options: Options) -> Count:
    """Blocks are the largest power of two that leaves an even number up to ``rank`` (lycoris/functional/general.py)."""
    limit = layer.outputs if rank == -1 else rank
    powers = [layer.outputs // even for even in range(2, limit + 1, 2) if layer.outputs % even == 0]
    blocks = min((power for power in powers if power.bit_count() == 1), default=0)
    if not blocks:
        raise UnknownNetworkError(f"boft cannot divide {layer.outputs} by {rank}")
    numbers = blocks.bit_length() * blocks * (layer.outputs // blocks) ** 2
    return 2 + options["rescaled"], 1 + numbers + options["rescaled"] * layer.outputs


def _count_lokr(layer: Layer, rank: int, options: Options) -> Count:
    """A Kronecker product of a small matrix and a large one, which is full or of low rank."""
    factor, full, area = options["factor"], options["full_matrix"], layer.area
    in_small, in_large = factorize(layer.inputs, factor)
    out_small, out_large = factorize(layer.outputs, factor)
    if options["unbalanced_factorization"]:
        out_small, out_large = out_large, out_small
    split = options["decompose_both"] and rank < max(out_small, in_small) / 2 and not full
    tensors, numbers = (3, 1 + rank * (out_small + in_small)) if split else (2, 1 + out_small * in_small)
    if full or rank >= max(out_large, in_large) / 2:
        return tensors + 1, numbers + out_large * in_large * area
    if options["use_tucker"] and layer.is_conv:
        return tensors + 3, numbers + rank * (out_large + in_large + rank * area)
    return tensors + 2, numbers + rank * (out_large + in_large * area)


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


ALGORITHMS: Mapping[str, Callable[[Layer, int, Options], Count]] = MappingProxyType(
    {
        "lora": _count_lora,
        "locon": _count_lora,
        "loha": _count_loha,
        "lokr": _count_lokr,
        "dylora": _count_dylora,
        "glora": _count_glora,
        "full": _count_full,
        "diag-oft": _count_oft,
        "boft": _count_boft,
    }
)
DORA_ALGORITHMS = ("lora", "locon", "loha", "lokr")
