"""Which LoRA is meant: a file, or a run's last one."""

from __future__ import annotations

from pathlib import Path

from lorabake.errors import MachineError
from lorabake.files import os_errors_as_messages
from lorabake.runs.find import find
from lorabake_schemas.words import say

ENDING = ".safetensors"


def lora_of(named: str, here: Path) -> Path:
    """The file that ``named`` is, or the LoRA of the run that it means (as runs.find takes it).

    Raises MachineError when there is no such run, or when it left no LoRA that can be read without torch.
    """
    path = here / named
    with os_errors_as_messages(named):
        is_file = path.is_file()
    if is_file and path.suffix.lower() in {ENDING, ".ckpt", ".pt"}:
        return _readable(path)
    found = find(named, here)
    if found.record.rehearsal:
        said = say("{run} is a rehearsal: it left no LoRA", run=found.name)
        raise MachineError(said, say("name a run, or a .safetensors file"))
    kept = sorted(each for each in found.paths.output.glob(f"{found.record.name}.*") if each.stem == found.record.name)
    if kept:
        return _readable(kept[-1])
    others = sorted(each.name for each in found.paths.output.glob(f"*{ENDING}"))
    hint = say("there are: {files}; name one of them with its path", files=", ".join(others)) if others else None
    raise MachineError(say("{run} has no finished LoRA", run=found.name), hint)


def _readable(path: Path) -> Path:
    if path.suffix.lower() != ENDING:
        raise MachineError(
            say("{file} is no safetensors file: only torch can look into it", file=path),
            say('take save_model_as = "safetensors", which is what lorabake writes by itself'),
        )
    return path


__all__ = ["lora_of"]
