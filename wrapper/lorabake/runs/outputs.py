"""Which LoRA is meant: a file, or a run's last one."""

from __future__ import annotations

from pathlib import Path

from lorabake.errors import MachineError
from lorabake.runs.index import find_run
from lorabake.util.files import os_errors_as_messages
from lorabake_schemas.messages import msg

SAFETENSORS_EXTENSION = ".safetensors"


def find_lora(named: str, here: Path) -> Path:
    """The file that ``named`` is, or the LoRA of the run that it means (as runs.find takes it).

    Raises MachineError when there is no such run, or when it left no LoRA that can be read without torch.
    """
    path = here / named
    with os_errors_as_messages(named):
        is_file = path.is_file()
    if is_file and path.suffix.lower() in {SAFETENSORS_EXTENSION, ".ckpt", ".pt"}:
        return _require_safetensors(path)
    found = find_run(named, here)
    if found.record.rehearsal:
        said = msg("{run} is a rehearsal: it left no LoRA", run=found.name)
        raise MachineError(said, msg("name a run, or a .safetensors file"))
    kept = sorted(each for each in found.paths.output.glob(f"{found.record.name}.*") if each.stem == found.record.name)
    if kept:
        return _require_safetensors(kept[-1])
    others = sorted(each.name for each in found.paths.output.glob(f"*{SAFETENSORS_EXTENSION}"))
    hint = msg("there are: {files}; name one of them with its path", files=", ".join(others)) if others else None
    raise MachineError(msg("{run} has no finished LoRA", run=found.name), hint)


def _require_safetensors(path: Path) -> Path:
    if path.suffix.lower() != SAFETENSORS_EXTENSION:
        raise MachineError(
            msg("{file} is no safetensors file: only torch can look into it", file=path),
            msg('take save_model_as = "safetensors", which is what lorabake writes by itself'),
        )
    return path
