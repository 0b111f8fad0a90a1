"""The modules of the models that are trained, from the snapshots vendor/shapes-*.txt. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, cast

ModuleKind = Literal["", "linear", "conv", "norm"]


@dataclass(frozen=True, slots=True)
class Module:
    """One module by its path in the model; ``end`` is the place after its last descendant in the model's order.

    ``kind`` is empty for one that only holds others. A norm has as many ``outputs`` as ``inputs``; ``kernel`` is
    that of a convolution.
    """

    name: str
    class_name: str
    kind: ModuleKind = ""
    inputs: int = 0
    outputs: int = 0
    kernel: tuple[int, ...] = ()
    bias: bool = False
    end: int = 0

    @property
    def kernel_area(self) -> int:
        """Weights of the kernel for one input and one output: 1 for a linear layer."""
        return math.prod(self.kernel)

    @property
    def small(self) -> bool:
        """Whether it counts as linear for the rank: a linear layer, or a convolution of kernel 1."""
        return self.kind == "linear" or (self.kind == "conv" and self.kernel[0] == 1)


Model = tuple[Module, ...]
Models = Mapping[str, Model]


def parse_models(text: str) -> dict[str, Model]:
    """The models of a snapshot by name (unet, te, te1, te2), each with its modules in torch's own order."""
    models: dict[str, list[Module]] = {}
    rows = [(len(line) - len(line.lstrip(" ")), line.split()) for line in text.splitlines()]
    path = list[str]()
    for at, (depth, words) in enumerate(rows):
        if depth == 0:
            models[words[0]], path = [], [""]
        else:
            del path[depth:]
            path.append(f"{path[-1]}.{words[0]}" if path[-1] else words[0])
        found = list(models.values())[-1]
        after = next((then for then in range(at + 1, len(rows)) if rows[then][0] <= depth), len(rows))
        found.append(_parse_module(path[-1], words[1:], len(found) + after - at))
    return {name: tuple(modules) for name, modules in models.items()}


def _parse_module(name: str, words: list[str], end: int) -> Module:
    class_name, kind, *sizes = (*words, "") if len(words) == 1 else words
    numbers = [int(size) for size in sizes if size != "bias"]
    inputs, outputs = (*numbers[:1] * 2, 0, 0)[:2] if kind == "norm" else (*numbers[:2], 0, 0)[:2]
    kernel = tuple(numbers[2:])
    return Module(name, class_name, cast("ModuleKind", kind), inputs, outputs, kernel, "bias" in sizes, end)


def iter_submodules(model: Model, module: Module) -> Iterator[tuple[str, Module]]:
    """The module itself, named "", and everything in it, by its path from there."""
    start = next(at for at, each in enumerate(model) if each is module)
    skip = len(module.name) + 1 if module.name else 0
    for each in model[start : module.end]:
        yield each.name[skip:], each


def cut_to_layers(model: Model, layers: int) -> Model | None:
    """A text encoder cut to its first layers, as some bases have it; None when it has fewer than that."""
    top = "text_model.encoder.layers."
    there = {each.name.removeprefix(top).split(".")[0] for each in model if each.name.startswith(top)}
    if layers > len(there):
        return None
    gone = {f"{top}{at}" for at in range(layers, len(there))}
    kept = [at for at, each in enumerate(model) if ".".join(each.name.split(".")[:4]) not in gone]
    place = {old: new for new, old in enumerate(kept)}
    return tuple(_with_end(model[at], sum(1 for old in kept if old < model[at].end)) for at in place)


def _with_end(module: Module, end: int) -> Module:
    return Module(
        module.name, module.class_name, module.kind, module.inputs, module.outputs, module.kernel, module.bias, end
    )
