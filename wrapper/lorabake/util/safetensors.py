"""The one reader of safetensors files: the header alone is read, and each tensor's place in the file is proved.

The format: 8 bytes little-endian length, a JSON header with dtype, shape and byte range of every tensor and
``__metadata__``, then the tensors. What is refused here, the safetensors library refuses as well. Also here: what a
model file is when its content and its name disagree, and new metadata for a file that exists.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeGuard, cast

from lorabake.util.files import UnreadableError, open_file, parse_json, replace_with
from lorabake_schemas.messages import Message, msg

_HEADER_LIMIT = 100_000_000  # bytes; the safetensors library's own limit for a header
_SIGN_LIMITS = {b"[": 1_000_000, b"{": 1_000_000, b",": 4_000_000}  # each costs memory; the largest models have 30,000
METADATA_KEY = "__metadata__"
_ALIGNMENT = 8  # bytes; the library fills its header up with spaces so that tensors start at a multiple of it
_MAX_DIMENSIONS = 64  # numpy's own limit; torch models have 5
_MAX_NAME_LENGTH = 100  # characters of a tensor's name in a message
_COPY_SIZE = 1 << 20
_START_SIZE = 64
# How torch.save starts: a zip whose first member is its pickle, or before 1.6 this number, pickled by any protocol.
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_TORCH_MEMBER = b"/data.pkl"
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_ZIP_TAIL_SIZE = 1 << 20  # bytes


class NumberFormat(NamedTuple):
    """How a number of one dtype is stored. ``code`` is its format for struct and numpy, "" where neither knows it.

    It is NaN or infinite when all bits of ``exponent`` are set (float8_e4m3fn has NaN only); integers have none.
    """

    size: int
    code: str
    exponent: int = 0

    @property
    def magnitude(self) -> int:
        """The bits that are all unset in a zero."""
        return (1 << (8 * self.size - bool(self.exponent))) - 1


NUMBER_FORMATS: Mapping[str, NumberFormat] = {
    "F64": NumberFormat(8, "d", 0x7FF0_0000_0000_0000),
    "F32": NumberFormat(4, "f", 0x7F80_0000),
    "F16": NumberFormat(2, "e", 0x7C00),
    "BF16": NumberFormat(2, "", 0x7F80),
    "F8_E4M3": NumberFormat(1, "", 0x7F),
    "F8_E5M2": NumberFormat(1, "", 0x7C),
    "I64": NumberFormat(8, "q"),
    "I32": NumberFormat(4, "i"),
    "I16": NumberFormat(2, "h"),
    "I8": NumberFormat(1, "b"),
    "U64": NumberFormat(8, "Q"),
    "U32": NumberFormat(4, "I"),
    "U16": NumberFormat(2, "H"),
    "U8": NumberFormat(1, "B"),
    "BOOL": NumberFormat(1, "B"),
}


class HeaderError(UnreadableError):
    """The file is not a valid safetensors file; ``why`` is what is wrong with it."""

    def __init__(self, why: Message) -> None:
        super().__init__(why, "")


class Tensor(NamedTuple):
    """``begin`` and ``end`` count from the first byte of all tensors. The dtype may be one that is not known here."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.begin

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)


class SafetensorsHeader(NamedTuple):
    """The tensors in the header's order; their bytes fill the file from ``start`` to its end, without holes."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    start: int

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: tensor.shape for name, tensor in self.tensors.items()}


def read_header(path: Path) -> SafetensorsHeader:
    """Raises HeaderError when the file is not a sound safetensors file, OSError when it cannot be read."""
    with open_file(path) as file:
        return parse_header(file)


def parse_header(file: BinaryIO) -> SafetensorsHeader:
    """The header of an open file, at its start. Raises HeaderError, OSError."""
    entries, start, room = _parse_json(file)
    metadata = _parse_metadata(entries.pop(METADATA_KEY, None))
    tensors = {name: _parse_tensor(name, entry, start + room) for name, entry in entries.items()}
    _check_contiguous(tensors.values(), room)
    return SafetensorsHeader(tensors, metadata, start)


def read_header_text(path: Path) -> bytes:
    """The JSON of a header that ``parse_header`` could read. Raises OSError."""
    with open_file(path) as file:
        return file.read(int.from_bytes(file.read(8), "little"))


def _parse_json(file: BinaryIO) -> tuple[dict[str, object], int, int]:
    """The header's JSON, where the tensors start, and how many bytes follow there."""
    size = os.fstat(file.fileno()).st_size
    start = file.read(_START_SIZE)
    if (other := _describe_content(start)) is not None:
        raise HeaderError(other)
    if is_pickle(start):
        raise HeaderError(msg("it is a torch checkpoint despite its name (rename it to .ckpt)"))
    length = int.from_bytes(start[:8], "little")
    if start[8:9] != b"{" or not 2 <= length <= _HEADER_LIMIT:
        raise HeaderError(msg("it is not a safetensors file (it does not start with a header)"))
    if length > size - 8:
        raise HeaderError(
            msg(
                "it is cut off (the header needs {n} bytes, the file has {size}); download or copy it again",
                n=length,
                size=size,
            )
        )
    file.seek(8)
    text = file.read(length)
    try:
        loaded = parse_json(text) if all(text.count(sign) <= most for sign, most in _SIGN_LIMITS.items()) else None
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        raise HeaderError(msg("it is not a safetensors file (its header is not JSON)"))
    return cast("dict[str, object]", loaded), 8 + length, size - 8 - length


def _parse_metadata(given: object) -> dict[str, str]:
    table = cast("dict[str, object]", {} if given is None else given)
    if not isinstance(given, dict | None) or not all(isinstance(text, str) for text in table.values()):
        raise HeaderError(msg("its metadata is not a table of strings"))
    return cast("dict[str, str]", table)


def _parse_tensor(name: str, entry: object, file_size: int) -> Tensor:
    table = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    dtype, shape, offsets = table.get("dtype"), table.get("shape"), table.get("data_offsets")
    if not (isinstance(dtype, str) and _are_counts(shape, _MAX_DIMENSIONS) and _are_counts(offsets, 2) and offsets[1:]):
        raise HeaderError(msg("the header does not describe tensor {name}", name=name[:_MAX_NAME_LENGTH]))
    tensor, known = Tensor(dtype, tuple(shape), offsets[0], offsets[1]), NUMBER_FORMATS.get(dtype)
    if max(shape, default=0) > file_size or (known is not None and tensor.size != known.size * tensor.numbers):
        raise HeaderError(msg("the size of tensor {name} does not match its shape", name=name[:_MAX_NAME_LENGTH]))
    return tensor


def _are_counts(given: object, most: int) -> TypeGuard[list[int]]:
    values = cast("list[object]", given if isinstance(given, list) else [None])
    return len(values) <= most and all(type(each) is int and each >= 0 for each in values)


def _check_contiguous(tensors: Iterable[Tensor], room: int) -> None:
    """The format requires tensors one after the other, from the first byte to the last."""
    at = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.begin, tensor.end)):
        if tensor.begin != at or tensor.end < at:
            raise HeaderError(msg("its tensors overlap or have gaps between them"))
        at = tensor.end
    if at > room:
        raise HeaderError(msg("the file is cut off ({n} bytes missing); download or copy it again", n=at - room))
    if at < room:
        raise HeaderError(msg("{n} extra bytes after the last tensor; download or copy the file again", n=room - at))


def rewrite_metadata(path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> bool:
    """Replace a file's metadata by what ``change`` makes of it, in that order; returns whether the file had to
    change.

    Tensors keep bytes, order and place. The file is written again next to the old one and then gets its name, so that a
    reader, a kill or a full disk finds the old file or the new one, never a part. A file with another extension than
    .safetensors is not changed. Raises HeaderError, or OSError if its folder cannot be written.
    """
    if path.suffix.lower() != ".safetensors":
        return False
    real = path.resolve()  # the link stays
    with open_file(real) as old:
        header = parse_header(old)
        made = encode_header(header.tensors, change(dict(header.metadata)))
        old.seek(0)
        if old.read(header.start) == made:
            return False
        mode = os.fstat(old.fileno()).st_mode

        def write(new: BinaryIO) -> None:
            new.write(made)
            shutil.copyfileobj(old, new, _COPY_SIZE)
            os.fchmod(new.fileno(), mode & 0o7777)

        replace_with(real, write)
    return True


def encode_header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Length and header as the safetensors library writes them: metadata first, no blanks, UTF-8, filled up."""
    entries: dict[str, object] = {METADATA_KEY: dict(metadata)} if metadata else {}
    for name, tensor in tensors.items():
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (tensor.begin, tensor.end)}
    # Half a character pair, which JSON can represent and UTF-8 cannot, becomes JSON's own \udxxx again.
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _describe_content(start: bytes) -> Message | None:
    """What a file is that was saved under a model's name by mistake, None when it may be a model."""
    if not start:
        return msg("it is empty (0 bytes)")
    if start.startswith(b"version https://git-lfs"):
        return msg("it is a Git LFS pointer, not the model itself (run `git lfs pull`, or download the file)")
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return msg("it is a web page saved under this name, not a model (download it again)")
    return None


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts like this is torch's own format, or any pickle: a program when it is loaded.

    A safetensors header of 640 bytes starts as a pickle does: with its length, then the brace of its JSON.
    """
    pickled = start[:1] == b"\x80" and start[1:2] in _PICKLE_PROTOCOLS
    return start.startswith(b"PK\x03\x04") or (pickled and start[8:9] != b"{")


def can_run_code(path: Path) -> bool:
    """Whether a file is one of torch's own, which is a program, by its content. False when it cannot be read."""
    try:
        with open_file(path) as file:
            return is_pickle(file.read(_START_SIZE))
    except (OSError, ValueError):
        return False


def find_checkpoint_problem(path: Path) -> Message | None:
    """Why a file that sd-scripts would unpickle is not a checkpoint of torch's, by its content. Raises OSError."""
    with open_file(path) as file:
        start = file.read(_START_SIZE)
        zipped = start.startswith(b"PK")
        end = _read_end(file) if zipped else b""
    if (other := _describe_content(start)) is not None:
        return msg("cannot read {file}: {why}", file=path.name, why=other)
    if is_pickle(start) and (_TORCH_MEMBER if zipped else _TORCH_MAGIC) in start + end:
        return None
    if zipped:
        return msg("{file} is a zip archive, but not a torch checkpoint", file=path.name)
    if is_pickle(start):
        return msg("{file} is a pickle, but not a torch checkpoint; loading it could run any code", file=path.name)
    try:
        read_header(path)
    except HeaderError:
        return msg("{file} is not a model file (safetensors or torch checkpoint)", file=path.name)
    return msg("{file} is a safetensors file; sd-scripts needs it to have the extension .safetensors", file=path.name)


def _read_end(file: BinaryIO) -> bytes:
    """The last bytes, where a zip lists its members."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_TAIL_SIZE))
    return file.read(_ZIP_TAIL_SIZE)
