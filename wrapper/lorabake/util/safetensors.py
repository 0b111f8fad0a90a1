"""Reads the header of a safetensors file: names, shapes, metadata, and whether the file is whole. No tensor is read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from lorabake.util.files import open_file, parse_json
from lorabake_schemas.messages import Message, msg

_HEADER_LIMIT = 100_000_000  # bytes; the safetensors library's own limit for a header
_SIGN_LIMITS = {b"[": 1_000_000, b"{": 1_000_000, b",": 4_000_000}  # each costs memory; the largest models have 30,000
_START_SIZE = 64
# How torch.save begins: a zip whose first member is its pickle, or before 1.6 this number, pickled by any protocol.
_TORCH_MAGIC = (0x1950A86A20F9469CFC6C).to_bytes(10, "little")
_TORCH_MEMBER = b"/data.pkl"
_PICKLE_PROTOCOLS = (b"\x02", b"\x03", b"\x04", b"\x05")
_ZIP_TAIL_SIZE = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class SafetensorsHeader:
    """Tensor names with their shapes, and the file's ``__metadata__``."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


class HeaderError(ValueError):
    """The file is not safetensors; ``why`` says what it is, and reads on from "it is"."""

    def __init__(self, why: Message) -> None:
        super().__init__(why)
        self.why = why


def read_header(path: Path) -> SafetensorsHeader | Message:
    """The header of the file at ``path``, or in words what is wrong with the file.

    Raises OSError when the file cannot be opened.
    """
    problem = find_content_mismatch(path)
    if problem is not None:
        return problem
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            entries, start = read_entries(file, size)
    except HeaderError as error:
        return msg("{file} is {what}", file=path.name, what=error.why)
    return _build_header(entries, path.name, size - start)


def read_entries(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    """The JSON of a file of ``size`` bytes, and where its tensors begin, in bytes.

    By name the dtype, shape and byte range of each tensor, and ``__metadata__``. Raises HeaderError.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise HeaderError(msg("not a safetensors file: it has {size} bytes", size=size))
    brace = file.read(1)
    if brace != b"{" or not 2 <= length <= _HEADER_LIMIT:
        raise HeaderError(msg("not a safetensors file: it does not start with a header"))
    if length > size - 8:
        raise HeaderError(
            msg("cut off: its header has {length} bytes, the whole file {size}", length=length, size=size)
        )
    try:
        text = brace + file.read(length - 1)
        loaded = parse_json(text) if all(text.count(sign) <= most for sign, most in _SIGN_LIMITS.items()) else None
    except ValueError:
        loaded = None
    if not isinstance(loaded, dict):
        raise HeaderError(msg("not a safetensors file: its header is not JSON"))
    return cast("dict[str, Any]", loaded), 8 + length


def find_content_mismatch(path: Path) -> Message | None:
    """What a file is that was saved under a model's name by mistake, None when it may be a model."""
    with open_file(path) as file:
        start = file.read(_START_SIZE)
    name = path.name
    if not start:
        return msg("{file} is empty (0 bytes)", file=name)
    if start.startswith(b"version https://git-lfs"):
        return msg(
            "{file} is a Git LFS pointer, not the model itself: run `git lfs pull`, or download the file", file=name
        )
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return msg("{file} is a web page saved under this name, not a model: download it again", file=name)
    if path.suffix.lower() == ".safetensors" and is_pickle(start):
        return msg("{file} is a torch checkpoint by content: it is no safetensors file, name it .ckpt", file=name)
    return None


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts like this is torch's own format, or any pickle: a program when it is loaded."""
    return start.startswith(b"PK\x03\x04") or (
        start[:1] == b"\x80" and start[1:2] in _PICKLE_PROTOCOLS and not _is_safetensors_start(start)
    )


def _is_safetensors_start(start: bytes) -> bool:
    """A safetensors header of 640 bytes starts as a pickle does: with its length, then the brace of its JSON."""
    return start[8:9] == b"{"


def find_pickle_problem(path: Path) -> Message | None:
    """Why a file that sd-scripts would unpickle is no checkpoint of torch's, by its content. Raises OSError."""
    with open_file(path) as file:
        start = file.read(_START_SIZE)
        if start.startswith(b"PK"):
            if _TORCH_MEMBER in start or _TORCH_MEMBER in _read_end(file):
                return None
            return msg("{file} is a zip archive, but not a torch checkpoint", file=path.name)
    if is_pickle(start):
        if _TORCH_MAGIC in start:
            return None
        return msg("{file} is a pickle, but not a torch checkpoint: loading it could run any program", file=path.name)
    if isinstance(read_header(path), SafetensorsHeader):
        return msg(
            "{file} is a safetensors file by content: sd-scripts needs the name to end in .safetensors", file=path.name
        )
    return msg("{file} is not a model file (neither safetensors nor a torch checkpoint)", file=path.name)


def can_run_code(path: Path) -> bool:
    """Whether a file is one of torch's own, which is a program, by its content. False when it cannot be read."""
    try:
        with open_file(path) as file:
            return is_pickle(file.read(_START_SIZE))
    except (OSError, ValueError):
        return False


def _read_end(file: IO[bytes]) -> bytes:
    """The last bytes, where a zip lists its members."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _ZIP_TAIL_SIZE))
    return file.read(_ZIP_TAIL_SIZE)


def _build_header(entries: dict[str, Any], name: str, data_bytes: int) -> SafetensorsHeader | Message:
    """``data_bytes`` is how many bytes follow the header; the last tensor must end there exactly."""
    metadata = entries.pop("__metadata__", {})
    try:
        shapes = {key: _parse_counts(entry["shape"]) for key, entry in entries.items()}
        ends = [_parse_counts(entry["data_offsets"])[1] for entry in entries.values()]
        texts = {key: str(value) for key, value in metadata.items()}
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return msg("{file} is not a safetensors file: its header describes no tensors", file=name)
    end = max(ends, default=0)
    if end > data_bytes:
        return msg("{file} is cut off: {n} bytes are missing; download it again", file=name, n=end - data_bytes)
    if end < data_bytes:
        return msg("{file} is damaged: {n} bytes too many; download it again", file=name, n=data_bytes - end)
    return SafetensorsHeader(shapes, texts)


def _parse_counts(given: object) -> tuple[int, ...]:
    """A list of whole numbers from 0 on. Raises TypeError for anything else."""
    values = cast("list[object]", given) if isinstance(given, list) else [None]
    if not all(type(value) is int and value >= 0 for value in values):
        raise TypeError(values)
    return tuple(cast("list[int]", values))
