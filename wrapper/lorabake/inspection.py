"""`lorabake inspect`: what LoRA files tell of themselves, and which runs of this machine they come from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorabake.errors import MachineError
from lorabake.files import os_errors_as_messages, unreadable_reason
from lorabake.inspecting.whole import SMALL, look
from lorabake.runs.folder import digest
from lorabake.runs.origin import Sought, runs_of
from lorabake_schemas.inspection import Inspection, InspectReport, Integrity
from lorabake_schemas.words import say

ENDING = ".safetensors"


def inspected(paths: Iterable[Path], home: Path, *, deep: bool = False) -> InspectReport:
    """A report of every file; a folder stands for the .safetensors files in it, a run folder for those of its output.

    Raises MachineError for a folder without any.
    """
    return InspectReport(files=tuple(_inspected(file, home, deep=deep) for path in paths for file in _files(path)))


def _files(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112 - what cannot be looked at is said of the file
        yield path
        return
    if refused := unreadable_reason(path):
        raise MachineError(say("{path} cannot be read: {why}", path=path, why=refused))
    with os_errors_as_messages(path):
        found = sorted(path.glob(f"*{ENDING}")) or sorted(path.glob(f"output/*{ENDING}"))
    if not found:
        raise MachineError(say("there is no .safetensors file in {folder}", folder=path), say("name a LoRA file"))
    yield from found


def _inspected(path: Path, home: Path, *, deep: bool) -> Inspection:
    looked = look(path, deep=deep)
    report = looked.report
    if report.kind == "pickle" and report.size is not None and (report.size <= SMALL or deep):
        whole = digest(path, path.name).sha256
        report = report.model_copy(update={"integrity": Integrity(verdict="no-hash", file=whole)})
    if report.kind not in {"lora", "pickle"} or report.size is None:
        return report
    integrity = report.integrity
    sought = Sought(
        path=path,
        size=report.size,
        digest=report.digest,
        file_hash=integrity.file if integrity else None,
        tensor_hash=integrity.tensors if integrity else None,
        saved_hash=integrity.saved if integrity else None,
    )
    return report.model_copy(update={"runs": runs_of(sought, home)})


__all__ = ["inspected"]
