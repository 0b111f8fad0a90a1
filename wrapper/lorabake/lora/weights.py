"""The numbers in a LoRA file: read exactly, hashed as sd-scripts does, checked without torch, one tensor at a time."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from lorabake.util.files import open_file
from lorabake.util.safetensors import NUMBER_FORMATS, HeaderError, SafetensorsHeader, Tensor, parse_header
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    Numbers = np.ndarray[tuple[Any, ...], np.dtype[Any]]

# Tensors that are zero before training, so that a fresh network changes nothing: networks/lora.py:77 and dylora.py:71
# of sd-scripts; lycoris 4.1.3 modules/locon.py:166, loha.py:156, lokr.py:231,239, glora.py:152, diag_oft.py:76,
# norms.py:51, full.py:73, boft.py:95, ia3.py:88 (the last names its only tensor plainly "weight").
ZERO_INIT_PATTERN = re.compile(
    r"\.(lora_up\.weight|hada_w2_a|lokr_w2(_b)?|[ab]2\.weight|oft_blocks|[wb]_norm|diff)$|^[^.]+\.weight$"
)
BLOCK_LENGTH = 1 << 22  # numbers that are looked at at once
HASH_BLOCK_SIZE = 1 << 20
MODEL_HASH_KEY = "sshs_model_hash"  # sd-scripts' own, of the tensors' bytes (TU:3285)


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """A LoRA file by its own numbers.

    ``shapes`` by tensor name; ``not_finite`` names tensors with a NaN or an infinity; ``zero`` those in which every
    number is zero. ``infinite_alphas`` are alphas that nothing reads, infinite because fp16 cannot contain them.
    """

    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    not_finite: tuple[str, ...] = ()
    zero: tuple[str, ...] = ()
    infinite_alphas: tuple[str, ...] = ()

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
        """Whether every tensor that starts at zero still is zero, that is, whether the LoRA changes nothing."""
        begun = [name for name in self.shapes if ZERO_INIT_PATTERN.search(name)]
        return bool(begun) and set(begun) <= set(self.zero)


def read_weights(path: Path) -> WeightFacts:
    """Read the complete file once. Raises HeaderError if it is not a valid safetensors file, OSError."""
    with open_file(path) as file:
        return judge_numbers(file, parse_header(file))


def judge_numbers(file: BinaryIO, header: SafetensorsHeader) -> WeightFacts:
    """The same of an open file. Raises HeaderError when a number format is not known here, OSError."""
    judged = {name: _judge_tensor(file, header, name) for name in header.tensors}
    broken = [name for name, (finite, _) in judged.items() if not finite]
    unused = {name for name in broken if _is_unused_alpha(name, header.shapes)}
    return WeightFacts(
        header.metadata,
        header.shapes,
        tuple(name for name in broken if name not in unused),
        tuple(name for name, (_, zero) in judged.items() if zero),
        tuple(name for name in broken if name in unused),
    )


def _is_unused_alpha(name: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether it is the alpha of a LoKr of two full matrices: the rank, which may not fit fp16, and the scale is 1
    whatever alpha is (lycoris/modules/lokr.py)."""
    layer, _, last = name.rpartition(".")
    return last == "alpha" and {f"{layer}.lokr_w1", f"{layer}.lokr_w2"} <= shapes.keys()


def _judge_tensor(file: BinaryIO, header: SafetensorsHeader, name: str) -> tuple[bool, bool]:
    """Whether all numbers of a tensor are finite, and whether all are zero: by their bits, which numpy reads in
    every format.
    """
    tensor = header.tensors[name]
    require_known_format(name, tensor)
    known = NUMBER_FORMATS[tensor.dtype]
    kind = np.dtype(f"<u{known.size}")
    exponent, magnitude = kind.type(known.exponent), kind.type(known.magnitude)
    finite, zero = True, True
    file.seek(header.start + tensor.begin)
    for begin in range(0, tensor.numbers, BLOCK_LENGTH):
        bits = np.frombuffer(file.read(min(BLOCK_LENGTH, tensor.numbers - begin) * known.size), kind)
        finite = finite and (not known.exponent or not bool(np.any((bits & exponent) == exponent)))
        zero = zero and not bool(np.any(bits & magnitude))
    return finite, zero


def require_known_format(name: str, tensor: Tensor) -> None:
    """Raises HeaderError when the numbers of a tensor are in a format that is not known here."""
    if tensor.dtype not in NUMBER_FORMATS:
        said = msg("the tensor {name} has an unknown number format: {dtype}", name=name[:100], dtype=tensor.dtype[:20])
        raise HeaderError(said)


def read_tensor(file: BinaryIO, header: SafetensorsHeader, name: str) -> bytes:
    """The bytes of a tensor. Raises OSError."""
    tensor = header.tensors[name]
    file.seek(header.start + tensor.begin)
    return file.read(tensor.size)


def decode_numbers(raw: bytes, dtype: str) -> Numbers:
    """The numbers of a tensor as float64, in which every one of the formats is exact (integers up to 2**53)."""
    if dtype == "BF16":  # the upper half of a float32
        return (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4").astype(np.float64)
    if dtype == "F8_E5M2":  # the upper half of a float16
        return (np.frombuffer(raw, "u1").astype("<u2") << 8).view("<f2").astype(np.float64)
    if dtype == "F8_E4M3":
        return np.take(_E4M3_VALUES, np.frombuffer(raw, "u1"))
    return np.frombuffer(raw, f"<{NUMBER_FORMATS[dtype].code}").astype(np.float64)


def _build_e4m3_values() -> Numbers:
    """All 256 numbers of float8_e4m3fn: no infinity, NaN where all bits but the sign are set."""
    bits = np.arange(256)
    exponent, fraction = (bits >> 3) & 15, bits & 7
    size = np.where(exponent == 0, fraction / 8 * 2.0**-6, (1 + fraction / 8) * 2.0 ** (exponent - 7.0))
    size[(bits & 0x7F) == 0x7F] = np.nan
    return np.where(bits & 0x80, -size, size)


_E4M3_VALUES = _build_e4m3_values()


def read_scalars(file: BinaryIO, header: SafetensorsHeader, names: Iterable[str]) -> dict[str, float]:
    """The values of tensors that contain a single number; others are left out. Raises OSError."""
    tensors = {name: header.tensors[name] for name in names}
    return {
        name: float(decode_numbers(read_tensor(file, header, name), tensor.dtype)[0])
        for name, tensor in tensors.items()
        if tensor.numbers == 1 and tensor.dtype in NUMBER_FORMATS
    }


def hash_tensors(file: BinaryIO, header: SafetensorsHeader) -> tuple[str, str]:
    """SHA-256 of the complete file, and of its tensors' bytes, which sd-scripts saves as MODEL_HASH_KEY. Raises
    OSError.
    """
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    file.seek(0)
    whole.update(file.read(header.start))
    while block := file.read(HASH_BLOCK_SIZE):
        whole.update(block)
        tensors.update(block)
    return whole.hexdigest(), tensors.hexdigest()
