"""The LoRA that a training continues from: rank, alpha and kind of its network, by its tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lorabake.util.files import open_file
from lorabake.util.safetensors import SafetensorsHeader, parse_header
from lorabake_schemas.machine import BaseFacts, ContinuedLora
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.unjudged import evaluate_or_none
from lorabake_schemas.values import MAX_NUMBER

if TYPE_CHECKING:
    from lorabake.lora.network import LoraModule

T = TypeVar("T")
CLOSE = 1e-3  # relative: a saved alpha has the precision of the file, at least fp16's


def with_continued_lora(base: BaseFacts, recipe: Recipe, folder: Path) -> BaseFacts:
    """The facts with those of the recipe's network_weights; ``folder`` is the recipe's."""
    name = evaluate_or_none(lambda: recipe.network.network_weights)
    found = read_continued_lora(folder / name, name) if name else None
    return base.model_copy(update={"continued": found}) if found else base


def read_continued_lora(path: Path, name: str) -> ContinuedLora | None:
    """None when the file cannot be read, or is not a LoRA in safetensors format: another check reports that."""
    from lorabake.lora.weights import read_scalars  # few recipes name a LoRA

    if path.suffix != ".safetensors":
        return None
    try:
        with open_file(path) as file:
            header = parse_header(file)
            scalars = read_scalars(file, header, [tensor for tensor in header.tensors if tensor.endswith(".alpha")])
    except (OSError, ValueError):
        return None
    return describe_lora(name, header, scalars)


def describe_lora(name: str, header: SafetensorsHeader, scalars: Mapping[str, float]) -> ContinuedLora | None:
    """The network of a LoRA; ``scalars`` are the values of its alphas. None if the file is not a LoRA."""
    from lorabake.lora.metadata import parse_value
    from lorabake.lora.network import list_lora_modules

    modules = list_lora_modules(header.shapes)
    if not modules:
        return None
    # infinite where it did not fit fp16, as that of LoKr in full-matrix mode: then it is not known
    alphas = {tensor.partition(".")[0]: alpha for tensor, alpha in scalars.items() if math.isfinite(alpha)}
    meant = parse_value(header.metadata.get("ss_network_alpha", ""))
    dim = parse_value(header.metadata.get("ss_network_dim", ""))
    linear, conv = _describe(modules, alphas, conv=False), _describe(modules, alphas, conv=True)
    return ContinuedLora(
        file=name,
        type=_find_type(modules, header.metadata),
        ranks=linear[0] or ((dim,) if type(dim) is int else ()),
        alphas=tuple(_as_meant(alpha, meant) for alpha in linear[1]),
        conv_ranks=conv[0],
        conv_alphas=conv[1],
        text_encoder=any(module.model.startswith("te") for module in modules),
    )


def _as_meant(alpha: float, meant: object) -> float:
    """The intended number in the metadata; a 16-bit tensor may only have its first digits."""
    number = meant if isinstance(meant, int | float) and abs(meant) <= MAX_NUMBER else alpha
    return float(number) if abs(alpha - number) <= CLOSE * abs(number) else alpha


def _describe(
    modules: Sequence[LoraModule], alphas: dict[str, float], *, conv: bool
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Ranks and alphas of the modules that have a rank, the most frequent first: one that fell back on a full matrix
    has neither (S33)."""
    ranked = [module for module in modules if module.is_conv is conv and module.rank is not None]
    return (
        _most_frequent_first(module.rank for module in ranked if module.rank is not None),
        _most_frequent_first(alphas[module.name] for module in ranked if module.name in alphas),
    )


def _most_frequent_first(values: Iterable[T]) -> tuple[T, ...]:
    return tuple(value for value, _ in Counter(values).most_common())


def _find_type(modules: Sequence[LoraModule], metadata: Mapping[str, str]) -> str | None:
    """The recipe's network.type: LyCORIS' algorithm by the metadata, else by the tensors."""
    from lorabake.lora.metadata import parse_algorithm

    if metadata.get("ss_network_module") == "networks.lora":
        return "lora"
    if (named := parse_algorithm(metadata)) is not None:
        return "locon" if named == "lora" else named
    algorithms = Counter(module.algorithm for module in modules if module.algorithm not in {None, "norm"})
    first = next((name for name, _ in algorithms.most_common()), None)
    return "locon" if first == "lora" and any(module.is_conv for module in modules) else first
