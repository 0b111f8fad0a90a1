"""Changes the metadata of a safetensors file that is there, and nothing else: tensors keep bytes, order and place.

The whole file is written anew beside the old one and then takes its name, so that a reader, a kill or a full disk
finds the old file or the new one, never a part.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lorabake.files import open_file, replace_with
from lorabake.reading.safetensors_header import HeaderError, read_entries
from lorabake_schemas.words import say

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Change = Callable[[dict[str, str]], dict[str, str]]

ALIGNED = 8  # bytes; safetensors fills its header up with spaces so that tensors begin at a multiple of it
METADATA = "__metadata__"
PIECE = 1 << 20


def rewritten(path: Path, change: Change) -> bool:
    """Give the file the metadata that ``change`` makes of its own, in that order; whether the file had to be changed.

    A file of another ending than .safetensors is left alone. Raises HeaderError for one that is none by content,
    OSError when it cannot be read or its folder not be written; the old file is then as it was.
    """
    if path.suffix.lower() != ".safetensors":
        return False
    real = path.resolve()  # the link stays
    with open_file(real) as old:
        entries, start = read_entries(old, os.fstat(old.fileno()).st_size)
        header = header_bytes(entries, change(metadata_of(entries)))
        old.seek(0)
        if old.read(start) == header:
            return False
        mode = os.fstat(old.fileno()).st_mode

        def write(new: BinaryIO) -> None:
            new.write(header)
            shutil.copyfileobj(old, new, PIECE)
            os.fchmod(new.fileno(), mode & 0o7777)

        replace_with(real, write)
    return True


def metadata_of(entries: Mapping[str, Any]) -> dict[str, str]:
    """The metadata among the entries of a header. Raises HeaderError when it is no table of strings."""
    metadata: object = entries.get(METADATA, {})
    if not isinstance(metadata, dict):
        raise HeaderError(say("not a safetensors file: its metadata is no table"))
    table = cast("dict[str, object]", metadata)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in table.items()}


def header_bytes(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Length and header as the safetensors library writes them: metadata first, no blanks, UTF-8, filled up."""
    tensors = {name: entry for name, entry in entries.items() if name != METADATA}
    told = {METADATA: dict(metadata), **tensors} if metadata else tensors
    # Half a character pair, which JSON can hold and UTF-8 cannot, becomes JSON's own \udxxx again.
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    text += b" " * (-len(text) % ALIGNED)
    return len(text).to_bytes(8, "little") + text


__all__ = ["header_bytes", "metadata_of", "rewritten"]
