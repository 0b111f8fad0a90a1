"""Opens any safetensors file for a close look: every tensor's place is proved, metadata are text that can be printed.

The header alone is read; the tensors' bytes only by ``hashed``, and alphas, a few bytes each, by ``scalars``.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from lorabake.util import files
from lorabake.util.safetensors import HeaderError, find_content_mismatch, is_pickle, read_entries
from lorabake_schemas.messages import Message, escape_undecodable, msg

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

DTYPE_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
STRUCT_FORMATS = {"F64": "<d", "F32": "<f", "F16": "<e", "I64": "<q", "I32": "<i", "I16": "<h", "I8": "<b", "U8": "<B"}
START_SIZE = 9  # bytes that tell what a file is
BLOCK_SIZE = 1 << 20


@dataclass(frozen=True, slots=True)
class Tensor:
    """``begin`` and ``end`` count from the first byte of all tensors."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class LoraFile:
    """A sound file: its tensors fill it from ``start`` to the end without holes."""

    path: Path
    size: int
    start: int
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


class NotSafetensorsError(ValueError):
    """``why`` says in a sentence what the file is; ``pickle`` when it is torch's own format, which is not read."""

    def __init__(self, why: Message, *, pickle: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.pickle = pickle


def open_lora(path: Path) -> LoraFile:
    """Raises NotSafetensorsError when it is none or damaged, OSError when it cannot be read."""
    with files.open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if is_pickle(file.read(START_SIZE)):
            raise NotSafetensorsError(
                msg("{file} is a torch checkpoint: a program, which lorabake does not run", file=path.name), pickle=True
            )
        if (problem := find_content_mismatch(path)) is not None:
            raise NotSafetensorsError(problem)
        file.seek(0)
        try:
            entries, start = read_entries(file, size)
        except HeaderError as error:
            raise NotSafetensorsError(msg("{file} is {what}", file=path.name, what=error.why)) from error
    metadata = _parse_metadata(entries.pop("__metadata__", None))
    try:
        tensors = {
            escape_undecodable(name): _parse_tensor(escape_undecodable(name), entry, size)
            for name, entry in entries.items()
        }
        _check_contiguous(tensors, size - start)
    except NotSafetensorsError as error:
        raise NotSafetensorsError(msg("{file} is damaged: {what}", file=path.name, what=error.why)) from error
    return LoraFile(path, size, start, tensors, metadata)


def _parse_metadata(given: object) -> dict[str, str]:
    """Every value as text; whatever is no table holds none."""
    table = cast("dict[str, object]", given) if isinstance(given, dict) else {}
    return {
        escape_undecodable(key): escape_undecodable(value if isinstance(value, str) else str(value))
        for key, value in table.items()
    }


def _parse_tensor(name: str, entry: object, limit: int) -> Tensor:
    """``limit`` is more than any side of a tensor of this file can be."""
    table = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    dtype, shape, place = (
        table.get("dtype"),
        _parse_counts(table.get("shape")),
        _parse_counts(table.get("data_offsets")),
    )
    if not isinstance(dtype, str) or shape is None or place is None or len(place) != 2:
        raise NotSafetensorsError(msg("its header does not describe the tensor {name}", name=_shorten_name(name)))
    tensor = Tensor(escape_undecodable(dtype), shape, *place)
    each = DTYPE_SIZES.get(dtype)
    if max(shape, default=0) > limit or (each is not None and tensor.end - tensor.begin != each * tensor.numbers):
        raise NotSafetensorsError(msg("size and shape of the tensor {name} do not agree", name=_shorten_name(name)))
    return tensor


def _parse_counts(given: object) -> tuple[int, ...] | None:
    """A list of numbers that count something."""
    values = cast("list[object]", given) if isinstance(given, list) else [None]
    found = [value for value in values if isinstance(value, int) and not isinstance(value, bool) and value >= 0]
    return tuple(found) if len(found) == len(values) else None


def _check_contiguous(tensors: Mapping[str, Tensor], room: int) -> None:
    """The format wants tensors one behind the other, from the first byte to the last."""
    at = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != at or tensor.end < at:
            raise NotSafetensorsError(msg("its tensors overlap, or there are holes between them"))
        at = tensor.end
    if at > room:
        raise NotSafetensorsError(msg("it is cut off, {n} bytes are missing; download or copy it again", n=at - room))
    if at < room:
        raise NotSafetensorsError(msg("{n} bytes follow its last tensor; download or copy it again", n=room - at))


def _shorten_name(name: str) -> str:
    return name if len(name) <= 100 else f"{name[:100]}…"


def read_scalars(file: LoraFile, names: Iterable[str]) -> dict[str, float]:
    """The values of tensors that hold a single number, by name; others are left out. Raises OSError."""
    found: dict[str, float] = {}
    with files.open_file(file.path) as data:
        for name in names:
            tensor = file.tensors[name]
            if tensor.numbers == 1 and (tensor.dtype in STRUCT_FORMATS or tensor.dtype == "BF16"):
                data.seek(file.start + tensor.begin)
                found[name] = _unpack_number(tensor.dtype, data.read(tensor.end - tensor.begin))
    return found


def _unpack_number(dtype: str, raw: bytes) -> float:
    """A bfloat16 is the first half of a float32."""
    layout, raw = ("<f", b"\0\0" + raw) if dtype == "BF16" else (STRUCT_FORMATS[dtype], raw)
    return float(struct.unpack(layout, raw)[0])


def hash_lora(file: LoraFile) -> tuple[str, str]:
    """SHA-256 of the whole file and of its tensors' bytes, in one reading. Raises OSError."""
    whole, tensors = hashlib.sha256(), hashlib.sha256()
    with files.open_file(file.path) as data:
        whole.update(data.read(file.start))
        while piece := data.read(BLOCK_SIZE):
            whole.update(piece)
            tensors.update(piece)
    return whole.hexdigest(), tensors.hexdigest()
