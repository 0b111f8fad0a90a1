"""Changes the metadata of a safetensors file that is there, and nothing else: tensors keep bytes, order and place.

The whole file is written anew beside the old one and then takes its name, so that a reader, a kill or a full disk
finds the old file or the new one, never a part.
"""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from lorabake.util.files import open_file, replace_with
from lorabake.util.safetensors import HeaderError, read_entries
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    MetadataChange = Callable[[dict[str, str]], dict[str, str]]

HEADER_ALIGNMENT = 8  # bytes; safetensors fills its header up with spaces so that tensors begin at a multiple of it
METADATA_KEY = "__metadata__"
BLOCK_SIZE = 1 << 20


def rewrite_metadata(path: Path, change: MetadataChange) -> bool:
    """Give the file the metadata that ``change`` makes of its own, in that order; whether the file had to be changed.

    A file of another ending than .safetensors is left alone. Raises HeaderError for one that is none by content,
    OSError when it cannot be read or its folder not be written; the old file is then as it was.
    """
    if path.suffix.lower() != ".safetensors":
        return False
    real = path.resolve()  # the link stays
    with open_file(real) as old:
        entries, start = read_entries(old, os.fstat(old.fileno()).st_size)
        header = encode_header(entries, change(parse_header_metadata(entries)))
        old.seek(0)
        if old.read(start) == header:
            return False
        mode = os.fstat(old.fileno()).st_mode

        def write(new: BinaryIO) -> None:
            new.write(header)
            shutil.copyfileobj(old, new, BLOCK_SIZE)
            os.fchmod(new.fileno(), mode & 0o7777)

        replace_with(real, write)
    return True


def parse_header_metadata(entries: Mapping[str, Any]) -> dict[str, str]:
    """The metadata among the entries of a header. Raises HeaderError when it is no table of strings."""
    metadata: object = entries.get(METADATA_KEY, {})
    if not isinstance(metadata, dict):
        raise HeaderError(msg("not a safetensors file: its metadata is no table"))
    table = cast("dict[str, object]", metadata)
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in table.items()}


def encode_header(entries: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """Length and header as the safetensors library writes them: metadata first, no blanks, UTF-8, filled up."""
    tensors = {name: entry for name, entry in entries.items() if name != METADATA_KEY}
    told = {METADATA_KEY: dict(metadata), **tensors} if metadata else tensors
    # Half a character pair, which JSON can hold and UTF-8 cannot, becomes JSON's own \udxxx again.
    text = json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    text += b" " * (-len(text) % HEADER_ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
