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
from lorabake.files import open_file, reason
from lorabake.reading.rewritten_header import METADATA, metadata_of
from lorabake.reading.safetensors_header import HeaderError, read_entries
from lorabake.reading.weights import WeightsError, described
from lorabake_schemas.comparison import Apart, BlockApart, Comparison, MetadataDifference, Unlike
from lorabake_schemas.words import Said, say

if TYPE_CHECKING:
    Numbers = np.ndarray[tuple[Any, ...], np.dtype[Any]]

PIECE = 1 << 20
WHOLE_NUMBERS = {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "u1"}
FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}
# Of sd-scripts' names and LyCORIS', which begin alike: lora_te_, lora_te1_, lora_unet_; the U-Net's blocks by
# diffusers' names (SD1.5, SD2) or by those of the original (SDXL).
TEXT = re.compile(r"^[a-z]+_(te\d?)_")
BLOCK = re.compile(r"_(down_blocks|input_blocks|up_blocks|output_blocks)_(\d+)_|_(mid_block|middle_block)_")
ORDER = ("te", "te1", "te2", "down_blocks", "input_blocks", "mid_block", "middle_block", "up_blocks", "output_blocks")


@dataclass(frozen=True, slots=True)
class Lora:
    """An open file: its entries by tensor name, and where its tensors begin."""

    path: Path
    file: IO[bytes]
    entries: Mapping[str, Any]
    start: int
    room: int
    metadata: Mapping[str, str]

    def raw(self, name: str) -> bytes:
        layout, shape, begin = described(name, self.entries[name], self.room)
        self.file.seek(self.start + begin)
        return self.file.read(math.prod(shape) * np.dtype(layout.bits).itemsize)

    def form(self, name: str) -> str:
        """``F16 4x320``."""
        _, shape, _ = described(name, self.entries[name], self.room)
        return f"{self.entries[name]['dtype']} {'x'.join(map(str, shape)) or '1'}"

    def shape(self, name: str) -> tuple[int, ...]:
        return described(name, self.entries[name], self.room)[1]


@dataclass(slots=True)
class Sums:
    """What adds up to an Apart."""

    tensors: int = 0
    differing: int = 0
    numbers: int = 0
    largest: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    first_squares: float = 0.0
    not_finite: int = 0

    def add(self, other: Sums) -> None:
        self.tensors += other.tensors
        self.differing += other.differing
        self.numbers += other.numbers
        self.largest = max(self.largest, other.largest)
        self.total += other.total
        self.squares += other.squares
        self.first_squares += other.first_squares
        self.not_finite += other.not_finite

    def apart(self) -> Apart:
        length = math.sqrt(self.first_squares)
        return Apart(
            tensors=self.tensors,
            differing=self.differing,
            numbers=self.numbers,
            largest=self.largest,
            mean=self.total / self.numbers if self.numbers else 0.0,
            relative=math.sqrt(self.squares) / length if length else None if self.squares else 0.0,
            not_finite=self.not_finite,
        )


@dataclass(slots=True)
class Found:
    """What was found so far."""

    blocks: dict[str, Sums] = field(default_factory=dict[str, Sums])
    unlike: list[Unlike] = field(default_factory=list[Unlike])


def compared(first: Path, second: Path) -> Comparison:
    """Raises MachineError when one of the files cannot be read or is no whole safetensors file."""
    if _equal_bytes(first, second):
        with _opened(first) as one:
            whole = Apart(tensors=len(_read(first, one).entries))
        return Comparison(first=str(first), second=str(second), likeness="equal-bytes", whole=whole)
    with _opened(first) as one, _opened(second) as other:
        a, b = _read(first, one), _read(second, other)
        try:
            return _by_tensors(a, b)
        except WeightsError as error:
            raise _unusable(a if _is_faulty(a) else b, error.why) from error
        except OSError as error:
            raise _unreadable(first, error) from error


def _by_tensors(a: Lora, b: Lora) -> Comparison:
    found = Found()
    for name in sorted(a.entries.keys() & b.entries.keys()):
        _look(name, a, b, found)
    whole = Sums()
    for sums in found.blocks.values():
        whole.add(sums)
    only = [sorted(x.entries.keys() - y.entries.keys()) for x, y in ((a, b), (b, a))]
    same = not (whole.differing or found.unlike or only[0] or only[1])
    return Comparison(
        first=str(a.path),
        second=str(b.path),
        likeness="equal-tensors" if same else "different",
        whole=whole.apart(),
        blocks=tuple(
            BlockApart(block=block, **dict(found.blocks[block].apart())) for block in sorted(found.blocks, key=place)
        ),
        only_first=tuple(only[0]),
        only_second=tuple(only[1]),
        unlike=tuple(found.unlike),
        metadata=tuple(_metadata(a.metadata, b.metadata)),
    )


def _look(name: str, a: Lora, b: Lora, found: Found) -> None:
    if a.form(name) != b.form(name):
        found.unlike.append(Unlike(name=name, first=a.form(name), second=b.form(name)))
        if a.shape(name) != b.shape(name):
            return
    dtypes = a.entries[name]["dtype"], b.entries[name]["dtype"]
    found.blocks.setdefault(block_of(name), Sums()).add(distance(a.raw(name), b.raw(name), *dtypes))


def distance(first: bytes, second: bytes, dtype: str, other: str) -> Sums:
    """Two tensors of one shape."""
    one = decoded(first, dtype)
    with np.errstate(all="ignore"):
        if dtype == other and first == second:
            finite = one[np.isfinite(one)]
            return Sums(tensors=1, numbers=finite.size, first_squares=float(np.dot(finite, finite)))
        two = decoded(second, other)
        counted = np.isfinite(one) & np.isfinite(two)
        alike = (one == two) | (np.isnan(one) & np.isnan(two))
        apart = np.abs(one[counted] - two[counted])
        kept = one[counted]
        return Sums(
            tensors=1,
            differing=int(dtype == other or not bool(alike.all())),
            numbers=apart.size,
            largest=float(apart.max(initial=0.0)),
            total=float(apart.sum()),
            squares=float(np.dot(apart, apart)),
            first_squares=float(np.dot(kept, kept)),
            not_finite=int(np.count_nonzero(~counted & ~alike)),
        )


def decoded(raw: bytes, dtype: str) -> Numbers:
    """The numbers of a tensor as float64, in which every one of the formats is exact (whole ones up to 2**53)."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (np.frombuffer(raw, "u1").astype("<u2") << 8).view("<f2").astype(np.float64)
    if dtype == "F8_E4M3":
        return np.take(_E4M3, np.frombuffer(raw, "u1"))
    return np.frombuffer(raw, (FLOATS | WHOLE_NUMBERS)[dtype]).astype(np.float64)


def _e4m3() -> Numbers:
    """All 256 numbers of float8_e4m3fn: no infinity, NaN where all bits but the sign are set."""
    bits = np.arange(256)
    exponent, fraction = (bits >> 3) & 15, bits & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))
    size[(bits & 0x7F) == 0x7F] = np.nan
    return np.where(bits & 0x80, -size, size)


_E4M3 = _e4m3()


def block_of(name: str) -> str:
    """The block that a tensor belongs to, by its name."""
    if text := TEXT.match(name):
        return text[1]
    if block := BLOCK.search(name):
        return block[3] or f"{block[1]}.{block[2]}"
    return "other"


def place(block: str) -> tuple[int, int]:
    """From what comes in to what goes out."""
    name, _, number = block.partition(".")
    return (ORDER.index(name) if name in ORDER else len(ORDER), int(number or 0))


def _metadata(first: Mapping[str, str], second: Mapping[str, str]) -> list[MetadataDifference]:
    return [
        MetadataDifference(key=key, first=first.get(key), second=second.get(key))
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _equal_bytes(first: Path, second: Path) -> bool:
    with _opened(first) as a, _opened(second) as b:
        try:
            if os.fstat(a.fileno()).st_size != os.fstat(b.fileno()).st_size:
                return False
            while piece := a.read(PIECE):
                if piece != b.read(PIECE):
                    return False
        except OSError as error:
            raise _unreadable(first, error) from error
    return True


def _opened(path: Path) -> IO[bytes]:
    try:
        return open_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _read(path: Path, file: IO[bytes]) -> Lora:
    try:
        size = os.fstat(file.fileno()).st_size
        entries, start = read_entries(file, size)
        metadata = metadata_of(entries)
    except HeaderError as error:
        raise MachineError(say("{file} is {what}", file=path, what=error.why)) from error
    except OSError as error:
        raise _unreadable(path, error) from error
    entries = {name: entry for name, entry in entries.items() if name != METADATA}
    return Lora(path, file, cast("Mapping[str, Any]", entries), start, size - start, metadata)


def _is_faulty(lora: Lora) -> bool:
    try:
        for name in lora.entries:
            described(name, lora.entries[name], lora.room)
    except WeightsError:
        return True
    return False


def _unusable(lora: Lora, why: Said) -> MachineError:
    return MachineError(say("{file} cannot be read: {why}", file=lora.path, why=why))


def _unreadable(path: Path, error: OSError) -> MachineError:
    return MachineError(say("{file} cannot be read: {why}", file=path, why=reason(error)))


__all__ = ["block_of", "compared", "decoded", "distance", "place"]
