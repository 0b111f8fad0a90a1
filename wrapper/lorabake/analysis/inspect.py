"""`lorabake inspect`: what LoRA files tell of themselves, and which runs of this machine they come from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lorabake.analysis.lora_origin import FileIdentity, find_origin_runs
from lorabake.errors import MachineError
from lorabake.lora.inspect import FULL_READ_LIMIT, inspect_file
from lorabake.runs.folder import digest_file
from lorabake.util.files import os_errors_as_messages, unreadable_reason
from lorabake_schemas.inspection import Inspection, InspectReport, Integrity
from lorabake_schemas.messages import msg

LORA_EXTENSION = ".safetensors"


def inspect_files(paths: Iterable[Path], home: Path, *, deep: bool = False) -> InspectReport:
    """A report of every file; a folder stands for the .safetensors files in it, a run folder for those of its output.

    Raises MachineError for a folder without any.
    """
    return InspectReport(
        files=tuple(_inspect_with_runs(file, home, deep=deep) for path in paths for file in _iter_files(path))
    )


def _iter_files(path: Path) -> Iterator[Path]:
    if not os.path.isdir(path):  # noqa: PTH112 - what cannot be looked at is said of the file
        yield path
        return
    if refused := unreadable_reason(path):
        raise MachineError(msg("{path} cannot be read: {why}", path=path, why=refused))
    with os_errors_as_messages(path):
        found = sorted(path.glob(f"*{LORA_EXTENSION}")) or sorted(path.glob(f"output/*{LORA_EXTENSION}"))
    if not found:
        raise MachineError(msg("there is no .safetensors file in {folder}", folder=path), msg("name a LoRA file"))
    yield from found


def _inspect_with_runs(path: Path, home: Path, *, deep: bool) -> Inspection:
    looked = inspect_file(path, deep=deep)
    report = looked.report
    if report.kind == "pickle" and report.size is not None and (report.size <= FULL_READ_LIMIT or deep):
        whole = digest_file(path, path.name).sha256
        report = report.model_copy(update={"integrity": Integrity(verdict="no-hash", file=whole)})
    if report.kind not in {"lora", "pickle"} or report.size is None:
        return report
    integrity = report.integrity
    sought = FileIdentity(
        path=path,
        size=report.size,
        digest=report.digest,
        file_hash=integrity.file if integrity else None,
        tensor_hash=integrity.tensors if integrity else None,
        saved_hash=integrity.saved if integrity else None,
    )
    return report.model_copy(update={"runs": find_origin_runs(sought, home)})
