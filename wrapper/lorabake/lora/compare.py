"""Two LoRA files number by number: equal bytes, equal tensors, or how far apart, block by block.

One tensor of each is in memory at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lorabake.lora.network import block_name, block_sort_key
from lorabake.lora.weights import decode_numbers, read_tensor, require_known_format
from lorabake.util.files import open_file, os_errors_as_messages
from lorabake.util.safetensors import SafetensorsHeader, parse_header
from lorabake_schemas.comparison import BlockDistance, LoraComparison, MetadataDifference, Mismatch, TensorDistance

BLOCK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class OpenLora:
    """An open file with its header. Any part that cannot be read raises MachineError."""

    path: Path
    file: BinaryIO
    header: SafetensorsHeader

    def read_tensor(self, name: str) -> bytes:
        with os_errors_as_messages(self.path):
            require_known_format(name, self.header.tensors[name])
            return read_tensor(self.file, self.header, name)

    def read_block(self) -> bytes:
        with os_errors_as_messages(self.path):
            return self.file.read(BLOCK_SIZE)

    def describe_tensor(self, name: str) -> str:
        """``F16 4x320``."""
        tensor = self.header.tensors[name]
        return f"{tensor.dtype} {'x'.join(map(str, tensor.shape)) or '1'}"


@dataclass(slots=True)
class DistanceSums:
    """What adds up to a TensorDistance."""

    tensors: int = 0
    differing: int = 0
    numbers: int = 0
    largest: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    first_squares: float = 0.0
    not_finite: int = 0

    def add(self, other: DistanceSums) -> None:
        self.tensors += other.tensors
        self.differing += other.differing
        self.numbers += other.numbers
        self.largest = max(self.largest, other.largest)
        self.total += other.total
        self.squares += other.squares
        self.first_squares += other.first_squares
        self.not_finite += other.not_finite

    def to_distance(self) -> TensorDistance:
        length = math.sqrt(self.first_squares)
        return TensorDistance(
            tensors=self.tensors,
            differing=self.differing,
            numbers=self.numbers,
            largest=self.largest,
            mean=self.total / self.numbers if self.numbers else 0.0,
            relative=math.sqrt(self.squares) / length if length else None if self.squares else 0.0,
            not_finite=self.not_finite,
        )


@dataclass(slots=True)
class ComparisonState:
    """What was found so far."""

    blocks: dict[str, DistanceSums] = field(default_factory=dict[str, DistanceSums])
    unlike: list[Mismatch] = field(default_factory=list[Mismatch])


def compare_loras(first: Path, second: Path) -> LoraComparison:
    """Raises MachineError when one of the files cannot be read or is not a sound safetensors file."""
    with ExitStack() as files:
        a, b = (_open_lora(path, files) for path in (first, second))
        if _are_equal_bytes(a, b):
            whole = TensorDistance(tensors=len(a.header.tensors))
            return LoraComparison(first=str(first), second=str(second), likeness="equal-bytes", whole=whole)
        return _compare_tensors(a, b)


def _open_lora(path: Path, files: ExitStack) -> OpenLora:
    with os_errors_as_messages(path):
        file = files.enter_context(open_file(path))
        return OpenLora(path, file, parse_header(file))


def _are_equal_bytes(a: OpenLora, b: OpenLora) -> bool:
    if a.header != b.header:
        return False
    for lora in (a, b):
        lora.file.seek(0)
    while block := a.read_block():
        if block != b.read_block():
            return False
    return not b.read_block()


def _compare_tensors(a: OpenLora, b: OpenLora) -> LoraComparison:
    found = ComparisonState()
    names, others = a.header.tensors.keys(), b.header.tensors.keys()
    for name in sorted(names & others):
        _compare_tensor(name, a, b, found)
    whole = DistanceSums()
    for sums in found.blocks.values():
        whole.add(sums)
    same = names == others and not (whole.differing or found.unlike)
    return LoraComparison(
        first=str(a.path),
        second=str(b.path),
        likeness="equal-tensors" if same else "different",
        whole=whole.to_distance(),
        blocks=tuple(
            BlockDistance(block=block, **dict(found.blocks[block].to_distance()))
            for block in sorted(found.blocks, key=block_sort_key)
        ),
        only_first=tuple(sorted(names - others)),
        only_second=tuple(sorted(others - names)),
        unlike=tuple(found.unlike),
        metadata=tuple(_compare_metadata(a.header.metadata, b.header.metadata)),
    )


def _compare_tensor(name: str, a: OpenLora, b: OpenLora, found: ComparisonState) -> None:
    one, two = a.header.tensors[name], b.header.tensors[name]
    if (one.dtype, one.shape) != (two.dtype, two.shape):
        found.unlike.append(Mismatch(name=name, first=a.describe_tensor(name), second=b.describe_tensor(name)))
        if one.shape != two.shape:
            return
    distance = measure_distance(a.read_tensor(name), b.read_tensor(name), one.dtype, two.dtype)
    found.blocks.setdefault(block_name(name), DistanceSums()).add(distance)


def measure_distance(first: bytes, second: bytes, dtype: str, other: str) -> DistanceSums:
    """Two tensors of one shape."""
    one = decode_numbers(first, dtype)
    with np.errstate(all="ignore"):
        if dtype == other and first == second:
            finite = one[np.isfinite(one)]
            return DistanceSums(tensors=1, numbers=finite.size, first_squares=float(np.dot(finite, finite)))
        two = decode_numbers(second, other)
        counted = np.isfinite(one) & np.isfinite(two)
        alike = (one == two) | (np.isnan(one) & np.isnan(two))
        apart = np.abs(one[counted] - two[counted])
        kept = one[counted]
        return DistanceSums(
            tensors=1,
            differing=int(dtype == other or not bool(alike.all())),
            numbers=apart.size,
            largest=float(apart.max(initial=0.0)),
            total=float(apart.sum()),
            squares=float(np.dot(apart, apart)),
            first_squares=float(np.dot(kept, kept)),
            not_finite=int(np.count_nonzero(~counted & ~alike)),
        )


def _compare_metadata(first: Mapping[str, str], second: Mapping[str, str]) -> list[MetadataDifference]:
    return [
        MetadataDifference(key=key, first=first.get(key), second=second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]
