"""Whether a LoRA file is complete, by its header or its archive: no numbers are read."""

from __future__ import annotations

from pathlib import Path

from lorabake.util.safetensors import HeaderError, read_header
from lorabake.util.torch_archive import archive_problem
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.saved_names import LORA_EXTENSIONS


def incomplete_lora_reason(path: Path) -> Message | None:
    """Why a file that should be a LoRA is not a complete one, by its header or its archive; None for any other file.

    Raises OSError when it cannot be read.
    """
    if path.suffix == ".safetensors":
        try:
            read_header(path)
        except HeaderError:
            return msg("damaged or cut off")
        return None
    return archive_problem(path) if path.suffix in LORA_EXTENSIONS else None
