"""What a finished LoRA file holds, read without torch: metadata, shapes, and whether its numbers are sound.

The format: 8 bytes little-endian length, a JSON header with dtype, shape and byte range of every tensor and
``__metadata__``, then the tensors. Numbers are judged by their bits, so that bfloat16 and float8, which numpy does
not know, need no conversion; one tensor is in memory at a time.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from lorabake.util.files import open_file
from lorabake.util.safetensors import HeaderError, read_entries
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Tensors that are zero before training, so that a fresh network changes nothing: networks/lora.py:77 and dylora.py:71
# of sd-scripts; lycoris 4.1.3 modules/locon.py:166, loha.py:156, lokr.py:231,239, glora.py:152, diag_oft.py:76,
# norms.py:51, ia3.py:88 (the last names its only tensor plainly "weight").
ZERO_INIT_PATTERN = re.compile(
    r"\.(lora_up\.weight|hada_w2_a|lokr_w2(_b)?|[ab]2\.weight|oft_blocks|[wb]_norm)$|^[^.]+\.weight$"
)


@dataclass(frozen=True, slots=True)
class DtypeLayout:
    """How a number of one safetensors dtype lies in memory.

    It is not finite when all bits of ``exponent`` are set (float8_e4m3fn has one such value, NaN), and zero when
    no bit of ``magnitude`` is. Whole numbers have no exponent.
    """

    bits: str
    exponent: int
    magnitude: int


DTYPE_LAYOUTS = {
    "F64": DtypeLayout("<u8", 0x7FF0_0000_0000_0000, 0x7FFF_FFFF_FFFF_FFFF),
    "F32": DtypeLayout("<u4", 0x7F80_0000, 0x7FFF_FFFF),
    "F16": DtypeLayout("<u2", 0x7C00, 0x7FFF),
    "BF16": DtypeLayout("<u2", 0x7F80, 0x7FFF),
    "F8_E4M3": DtypeLayout("u1", 0x7F, 0x7F),
    "F8_E5M2": DtypeLayout("u1", 0x7C, 0x7F),
    "I64": DtypeLayout("<u8", 0, 0xFFFF_FFFF_FFFF_FFFF),
    "I32": DtypeLayout("<u4", 0, 0xFFFF_FFFF),
    "I16": DtypeLayout("<u2", 0, 0xFFFF),
    "I8": DtypeLayout("u1", 0, 0xFF),
    "U8": DtypeLayout("u1", 0, 0xFF),
    "BOOL": DtypeLayout("u1", 0, 0xFF),
}

BLOCK_LENGTH = 1 << 22  # numbers that are looked at at once


class WeightsError(ValueError):
    """The file is not a complete safetensors file; ``why`` says what is wrong with it."""

    def __init__(self, why: Message) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """A LoRA file by its own numbers.

    ``shapes`` by tensor name; ``not_finite`` names tensors with a NaN or an infinity; ``zero`` those in which every
    number is zero.
    """

    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    not_finite: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()

    @property
    def steps(self) -> int | None:
        """``ss_steps``: the optimizer steps sd-scripts counted (TN:1302); None when no metadata was written."""
        try:
            return int(self.metadata["ss_steps"])
        except (KeyError, ValueError):
            return None

    @property
    def is_all_zero(self) -> bool:
        return len(self.zero) == len(self.shapes)

    @property
    def is_untouched(self) -> bool:
        """Whether every tensor that begins at zero still is zero, that is, whether the LoRA changes nothing."""
        begun = [name for name in self.shapes if ZERO_INIT_PATTERN.search(name)]
        return bool(begun) and set(begun) <= set(self.zero)


def read_weights(path: Path) -> WeightFacts:
    """Read the whole file once. Raises WeightsError when it is not sound safetensors, OSError when unreadable."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            header, start = read_entries(file, size)
        except HeaderError as error:
            raise WeightsError(error.why) from error
        metadata = cast("dict[str, str]", header.pop("__metadata__", {}))
        shapes: dict[str, tuple[int, ...]] = {}
        not_finite: list[str] = []
        zero: list[str] = []
        for name in sorted(header, key=lambda name: _first_byte(header[name])):
            layout, shape, begin = parse_tensor_entry(name, header[name], size - start)
            shapes[name] = shape
            file.seek(start + begin)
            finite, nothing = check_numbers(file, layout, math.prod(shape))
            not_finite += [] if finite else [name]
            zero += [name] if nothing else []
    return WeightFacts(metadata, shapes, tuple(not_finite), tuple(zero))


def _first_byte(entry: Any) -> int:
    try:
        return int(entry["data_offsets"][0])
    except (TypeError, KeyError, IndexError, ValueError):
        return 0  # described() says what is wrong with it


def parse_tensor_entry(name: str, entry: Any, room: int) -> tuple[DtypeLayout, tuple[int, ...], int]:
    """Layout, shape and first byte of a tensor; ``room`` is how many bytes of tensors the file has."""
    try:
        layout = DTYPE_LAYOUTS[entry["dtype"]]
        shape = tuple(int(side) for side in entry["shape"])
        begin, end = (int(offset) for offset in entry["data_offsets"])
    except (TypeError, KeyError, ValueError) as error:
        said = msg("tensor {name}: not a description lorabake knows: {entry}", name=name, entry=repr(entry))
        raise WeightsError(said) from error
    if end > room:
        raise WeightsError(msg("the file is cut off: it ends before its last tensor does"))
    if begin < 0 or end - begin != math.prod(shape) * np.dtype(layout.bits).itemsize:
        raise WeightsError(msg("tensor {name}: its size and its shape do not agree", name=name))
    return layout, shape, begin


def check_numbers(file: IO[bytes], layout: DtypeLayout, count: int) -> tuple[bool, bool]:
    """Whether the next ``count`` numbers are all finite, and whether all are zero."""
    kind = np.dtype(layout.bits)
    exponent, magnitude = kind.type(layout.exponent), kind.type(layout.magnitude)
    finite, nothing = True, True
    for begin in range(0, count, BLOCK_LENGTH):
        bits = np.frombuffer(file.read(min(BLOCK_LENGTH, count - begin) * kind.itemsize), kind)
        finite = finite and (not layout.exponent or not bool(np.any((bits & exponent) == exponent)))
        nothing = nothing and not bool(np.any(bits & magnitude))
    return finite, nothing
