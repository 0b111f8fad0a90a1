"""Two LoRA files number by number: equal to the byte, equal in every tensor, or how far apart, block by block.

One tensor of each is in memory at a time.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from lorabake.errors import MachineError
from lorabake.lora.rewritten_header import METADATA_KEY, parse_header_metadata
from lorabake.lora.weights import WeightsError, parse_tensor_entry
from lorabake.util.files import open_file, reason
from lorabake.util.safetensors import HeaderError, read_entries
from lorabake_schemas.comparison import BlockDistance, LoraComparison, MetadataDifference, Mismatch, TensorDistance
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    Numbers = np.ndarray[tuple[Any, ...], np.dtype[Any]]

BLOCK_SIZE = 1 << 20
INTEGER_FORMATS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "u1"}
FLOAT_FORMATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# Of sd-scripts' names and LyCORIS', which begin alike: lora_te_, lora_te1_, lora_unet_; the U-Net's blocks by
# diffusers' names (SD1.5, SD2) or by those of the original (SDXL).
TEXT_ENCODER_PATTERN = re.compile(r"^[a-z]+_(te\d?)_")
BLOCK_PATTERN = re.compile(r"_(down_blocks|input_blocks|up_blocks|output_blocks)_(\d+)_|_(mid_block|middle_block)_")
BLOCK_ORDER = (
    "te",
    "te1",
    "te2",
    "down_blocks",
    "input_blocks",
    "mid_block",
    "middle_block",
    "up_blocks",
    "output_blocks",
)


@dataclass(frozen=True, slots=True)
class OpenLora:
    """An open file: its entries by tensor name, and where its tensors begin."""

    path: Path
    file: IO[bytes]
    entries: Mapping[str, Any]
    start: int
    room: int
    metadata: Mapping[str, str]

    def raw(self, name: str) -> bytes:
        layout, shape, begin = parse_tensor_entry(name, self.entries[name], self.room)
        self.file.seek(self.start + begin)
        return self.file.read(math.prod(shape) * np.dtype(layout.bits).itemsize)

    def describe_tensor(self, name: str) -> str:
        """``F16 4x320``."""
        _, shape, _ = parse_tensor_entry(name, self.entries[name], self.room)
        return f"{self.entries[name]['dtype']} {'x'.join(map(str, shape)) or '1'}"

    def shape(self, name: str) -> tuple[int, ...]:
        return parse_tensor_entry(name, self.entries[name], self.room)[1]


@dataclass(slots=True)
class DistanceSums:
    """What adds up to an Apart."""

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
    """Raises MachineError when one of the files cannot be read or is no whole safetensors file."""
    if _are_equal_bytes(first, second):
        with _open_or_raise(first) as one:
            whole = TensorDistance(tensors=len(_read_lora(first, one).entries))
        return LoraComparison(first=str(first), second=str(second), likeness="equal-bytes", whole=whole)
    with _open_or_raise(first) as one, _open_or_raise(second) as other:
        a, b = _read_lora(first, one), _read_lora(second, other)
        try:
            return _compare_tensors(a, b)
        except WeightsError as error:
            raise _unusable_error(a if _is_faulty(a) else b, error.why) from error
        except OSError as error:
            raise _unreadable_error(first, error) from error


def _compare_tensors(a: OpenLora, b: OpenLora) -> LoraComparison:
    found = ComparisonState()
    for name in sorted(a.entries.keys() & b.entries.keys()):
        _compare_tensor(name, a, b, found)
    whole = DistanceSums()
    for sums in found.blocks.values():
        whole.add(sums)
    only = [sorted(x.entries.keys() - y.entries.keys()) for x, y in ((a, b), (b, a))]
    same = not (whole.differing or found.unlike or only[0] or only[1])
    return LoraComparison(
        first=str(a.path),
        second=str(b.path),
        likeness="equal-tensors" if same else "different",
        whole=whole.to_distance(),
        blocks=tuple(
            BlockDistance(block=block, **dict(found.blocks[block].to_distance()))
            for block in sorted(found.blocks, key=block_sort_key)
        ),
        only_first=tuple(only[0]),
        only_second=tuple(only[1]),
        unlike=tuple(found.unlike),
        metadata=tuple(_compare_metadata(a.metadata, b.metadata)),
    )


def _compare_tensor(name: str, a: OpenLora, b: OpenLora, found: ComparisonState) -> None:
    if a.describe_tensor(name) != b.describe_tensor(name):
        found.unlike.append(Mismatch(name=name, first=a.describe_tensor(name), second=b.describe_tensor(name)))
        if a.shape(name) != b.shape(name):
            return
    dtypes = a.entries[name]["dtype"], b.entries[name]["dtype"]
    found.blocks.setdefault(block_name(name), DistanceSums()).add(measure_distance(a.raw(name), b.raw(name), *dtypes))


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


def decode_numbers(raw: bytes, dtype: str) -> Numbers:
    """The numbers of a tensor as float64, in which every one of the formats is exact (whole ones up to 2**53)."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (np.frombuffer(raw, "u1").astype("<u2") << 8).view("<f2").astype(np.float64)
    if dtype == "F8_E4M3":
        return np.take(_E4M3_VALUES, np.frombuffer(raw, "u1"))
    return np.frombuffer(raw, (FLOAT_FORMATS | INTEGER_FORMATS)[dtype]).astype(np.float64)


def _build_e4m3_values() -> Numbers:
    """All 256 numbers of float8_e4m3fn: no infinity, NaN where all bits but the sign are set."""
    bits = np.arange(256)
    exponent, fraction = (bits >> 3) & 15, bits & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))
    size[(bits & 0x7F) == 0x7F] = np.nan
    return np.where(bits & 0x80, -size, size)


_E4M3_VALUES = _build_e4m3_values()


def block_name(name: str) -> str:
    """The block that a tensor belongs to, by its name."""
    if text := TEXT_ENCODER_PATTERN.match(name):
        return text[1]
    if block := BLOCK_PATTERN.search(name):
        return block[3] or f"{block[1]}.{block[2]}"
    return "other"


def block_sort_key(block: str) -> tuple[int, int]:
    """From what comes in to what goes out."""
    name, _, number = block.partition(".")
    return (BLOCK_ORDER.index(name) if name in BLOCK_ORDER else len(BLOCK_ORDER), int(number or 0))


def _compare_metadata(first: Mapping[str, str], second: Mapping[str, str]) -> list[MetadataDifference]:
    return [
        MetadataDifference(key=key, first=first.get(key), second=second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _are_equal_bytes(first: Path, second: Path) -> bool:
    with _open_or_raise(first) as a, _open_or_raise(second) as b:
        try:
            if os.fstat(a.fileno()).st_size != os.fstat(b.fileno()).st_size:
                return False
            while piece := a.read(BLOCK_SIZE):
                if piece != b.read(BLOCK_SIZE):
                    return False
        except OSError as error:
            raise _unreadable_error(first, error) from error
    return True


def _open_or_raise(path: Path) -> IO[bytes]:
    try:
        return open_file(path)
    except OSError as error:
        raise _unreadable_error(path, error) from error


def _read_lora(path: Path, file: IO[bytes]) -> OpenLora:
    try:
        size = os.fstat(file.fileno()).st_size
        entries, start = read_entries(file, size)
        metadata = parse_header_metadata(entries)
    except HeaderError as error:
        raise MachineError(msg("{file} is {what}", file=path, what=error.why)) from error
    except OSError as error:
        raise _unreadable_error(path, error) from error
    entries = {name: entry for name, entry in entries.items() if name != METADATA_KEY}
    return OpenLora(path, file, cast("Mapping[str, Any]", entries), start, size - start, metadata)


def _is_faulty(lora: OpenLora) -> bool:
    try:
        for name in lora.entries:
            parse_tensor_entry(name, lora.entries[name], lora.room)
    except WeightsError:
        return True
    return False


def _unusable_error(lora: OpenLora, why: Message) -> MachineError:
    return MachineError(msg("{file} cannot be read: {why}", file=lora.path, why=why))


def _unreadable_error(path: Path, error: OSError) -> MachineError:
    return MachineError(msg("{file} cannot be read: {why}", file=path, why=reason(error)))
