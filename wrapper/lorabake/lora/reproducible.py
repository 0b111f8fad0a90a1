"""Removes from a LoRA what differs each time it is trained, so that the same training gives the same file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabake.util.files import is_file, reason
from lorabake.util.safetensors import HeaderError, rewrite_metadata
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.saved_names import parse_saved_name

if TYPE_CHECKING:
    from pathlib import Path

# Drawn before the seed is set (TN:492), and the clock (TN:493, 1301, 1714; modelspec.date: library/sai_model_spec.py).
# sshs_legacy_hash is taken of the file's 64 KiB after the first MiB, header and all (TU:3276-3283), which shift with
# the length of those numbers; sshs_model_hash is of the tensors alone and stays.
VOLATILE_KEYS = frozenset({
    "ss_session_id", "ss_training_started_at", "ss_training_finished_at", "modelspec.date", "sshs_legacy_hash",
})  # fmt: skip


def strip_volatile_metadata(metadata: dict[str, str]) -> dict[str, str]:
    """Sorted, too: the safetensors library writes its keys in a random order."""
    return {key: metadata[key] for key in sorted(metadata) if key not in VOLATILE_KEYS}


def strip_saved_loras(folder: Path, name: str) -> tuple[Message, ...]:
    """Strip every LoRA that sd-scripts saved there as ``name`` (TU:89-97); returns a message for each that failed.

    Links, files of other names and damaged ones are not changed.
    """
    failed: list[Message] = []
    for path in sorted(folder.glob("*.safetensors")):
        if parse_saved_name(path.name, name, ".safetensors") is None or path.is_symlink() or not is_file(path):
            continue
        try:
            rewrite_metadata(path, strip_volatile_metadata)
        except HeaderError:
            continue
        except OSError as error:
            said = msg(
                "could not remove the timestamps from {file}, so it will differ from a rerun's file: {why}",
                file=path.name,
                why=reason(error),
            )
            failed.append(said)
    return tuple(failed)
