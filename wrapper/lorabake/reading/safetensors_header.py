"""Reads the header of a safetensors file: names, shapes, metadata, and whether the file is whole. No tensor is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from lorabake.files import open_file
from lorabake_schemas.words import Said, say

_LIMIT = 100_000_000  # bytes; the safetensors library's own limit for a header
_START = 64


@dataclass(frozen=True, slots=True)
class Header:
    """Tensor names with their shapes, and the file's ``__metadata__``."""

    shapes: Mapping[str, tuple[int, ...]]
    metadata: Mapping[str, str]


class HeaderError(ValueError):
    """The file is not safetensors; ``why`` says what it is, and reads on from "it is"."""

    def __init__(self, why: Said) -> None:
        super().__init__(why)
        self.why = why


def read(path: Path) -> Header | Said:
    """The header of the file at ``path``, or in words what is wrong with the file.

    Raises OSError when the file cannot be opened.
    """
    size = path.stat().st_size
    problem = impostor(path)
    if problem is not None:
        return problem
    try:
        with open_file(path) as file:
            entries, start = read_entries(file, size)
    except HeaderError as error:
        return say("{file} is {what}", file=path.name, what=error.why)
    return _described(entries, path.name, size - start)


def read_entries(file: IO[bytes], size: int) -> tuple[dict[str, Any], int]:
    """The JSON of a file of ``size`` bytes, and where its tensors begin, in bytes.

    By name the dtype, shape and byte range of each tensor, and ``__metadata__``. Raises HeaderError.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise HeaderError(say("not a safetensors file: it has {size} bytes", size=size))
    brace = file.read(1)
    if brace != b"{" or not 2 <= length <= _LIMIT:
        raise HeaderError(say("not a safetensors file: it does not start with a header"))
    if length > size - 8:
        raise HeaderError(
            say("cut off: its header has {length} bytes, the whole file {size}", length=length, size=size)
        )
    try:
        loaded: object = json.loads(brace + file.read(length - 1))
    except (ValueError, RecursionError):
        loaded = None
    if not isinstance(loaded, dict):
        raise HeaderError(say("not a safetensors file: its header is not JSON"))
    return cast("dict[str, Any]", loaded), 8 + length


def impostor(path: Path) -> Said | None:
    """What a file is that was saved under a model's name by mistake, None when it may be a model."""
    with open_file(path) as file:
        start = file.read(_START)
    name = path.name
    if not start:
        return say("{file} is empty (0 bytes)", file=name)
    if start.startswith(b"version https://git-lfs"):
        return say(
            "{file} is a Git LFS pointer, not the model itself: run `git lfs pull`, or download the file", file=name
        )
    if start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return say("{file} is a web page saved under this name, not a model: download it again", file=name)
    if path.suffix.lower() == ".safetensors" and is_pickle(start):
        return say("{file} is a torch checkpoint by content: it is no safetensors file, name it .ckpt", file=name)
    return None


def is_pickle(start: bytes) -> bool:
    """Whether a file that starts like this is torch's own format: a zip or a pickle."""
    return start.startswith((b"PK\x03\x04", b"\x80\x02")) and not _is_header(start)


def _is_header(start: bytes) -> bool:
    """A safetensors header of 640 bytes starts as a pickle does: with its length, then the brace of its JSON."""
    return start[8:9] == b"{"


def not_a_pickle(path: Path) -> Said | None:
    """Why a file that sd-scripts would unpickle is none; told from the first bytes: torch's are a zip or a pickle."""
    with open_file(path) as file:
        start = file.read(_START)
    if start.startswith((b"PK", b"\x80")) and not _is_header(start):
        return None
    if isinstance(read(path), Header):
        return say(
            "{file} is a safetensors file by content: sd-scripts needs the name to end in .safetensors", file=path.name
        )
    return say("{file} is not a model file (neither safetensors nor a torch checkpoint)", file=path.name)


def _described(entries: dict[str, Any], name: str, data_bytes: int) -> Header | Said:
    """``data_bytes`` is how many bytes follow the header; the last tensor must end there exactly."""
    try:
        metadata = {key: str(value) for key, value in entries.pop("__metadata__", {}).items()}
        shapes = {key: tuple(cast("list[int]", entry["shape"])) for key, entry in entries.items()}
        end = max((cast("list[int]", entry["data_offsets"])[1] for entry in entries.values()), default=0)
    except (AttributeError, KeyError, TypeError, IndexError):
        return say("{file} is not a safetensors file: its header describes no tensors", file=name)
    if end > data_bytes:
        return say("{file} is cut off: {n} bytes are missing; download it again", file=name, n=end - data_bytes)
    if end < data_bytes:
        return say("{file} is damaged: {n} bytes too many; download it again", file=name, n=data_bytes - end)
    return Header(shapes, metadata)


__all__ = ["Header", "HeaderError", "impostor", "is_pickle", "not_a_pickle", "read", "read_entries"]
