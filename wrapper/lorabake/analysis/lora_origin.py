"""The runs that a LoRA file comes from, and how like it is to what they wrote."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorabake.errors import MachineError
from lorabake.lora.lora_file import LoraFile, NotSafetensorsError, hash_lora, open_lora
from lorabake.runs import register
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import load_record, run_path
from lorabake.runs.settle import complete_record
from lorabake_schemas.inspection import KnownRun, OutputLikeness
from lorabake_schemas.messages import escape_undecodable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorabake_schemas.record import FileDigest, Record

KnownBy = Literal["digest", "bytes", "place"]
MODEL_HASH_KEY = "sshs_model_hash"
MAX_RUNS = 20  # runs that are told of
LIKENESS_ORDER: tuple[OutputLikeness, ...] = ("bytes", "tensors", "not-compared", "differs")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file: ``file_hash`` and ``tensor_hash`` are None when it was not read."""

    path: Path
    size: int
    digest: str | None = None
    file_hash: str | None = None
    tensor_hash: str | None = None
    saved_hash: str | None = None


def find_origin_runs(sought: FileIdentity, home: Path) -> tuple[KnownRun, ...]:
    """The likest first. A run folder that is gone, and a record that cannot be read, count as not there."""
    found: dict[Path, KnownRun] = {}
    for root, known_by in _iter_candidates(sought, home):
        with suppress(MachineError, OSError):
            real = root.resolve()
            if real not in found and len(found) < MAX_RUNS:
                record = complete_record(RunPaths(root), load_record(RunPaths(root)))
                if known_by == "bytes" or record.digest == sought.digest or known_by == "place":
                    found[real] = _describe_run(root, record, known_by, sought)
    newest = sorted(found.values(), key=lambda run: run.started, reverse=True)
    return tuple(sorted(newest, key=lambda run: (LIKENESS_ORDER.index(run.likeness), run.known_by != "place")))


def _iter_candidates(sought: FileIdentity, home: Path) -> Iterator[tuple[Path, KnownBy]]:
    noted = register.read_index(home)
    around: Path | None = None
    with suppress(MachineError):  # a folder above that may not be looked into
        around = run_path(sought.path.resolve())
    if around is not None and (sought.digest is None or not register.record_contains(around, sought.digest)):
        yield around, "place"
    if sought.digest is not None:
        if around is not None and register.record_contains(around, sought.digest):
            yield around, "digest"
        for root in register.iter_runs_with_digest(noted, sought.digest):
            yield root, "digest"
    if sought.file_hash is not None:
        for entry in noted:
            if register.record_contains(entry.root, sought.file_hash):
                yield entry.root, "bytes"


def _describe_run(root: Path, record: Record, known_by: KnownBy, sought: FileIdentity) -> KnownRun:
    likeness, output = _compare_outputs(root, record, sought)
    return KnownRun(
        folder=escape_undecodable(str(root)),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        started=record.started,
        known_by=known_by,
        likeness=likeness,
        output=output,
    )


def _compare_outputs(root: Path, record: Record, sought: FileIdentity) -> tuple[OutputLikeness, str | None]:
    """By the SHA-256 that the record has of each output; then by the tensors of those that are still there."""
    outputs = record.outcome.outputs if record.outcome else ()
    sized = sorted(
        (each for each in outputs if each.size == sought.size), key=lambda each: _has_other_name(each, sought)
    )
    if sought.file_hash is None:
        return ("not-compared", sized[0].name) if sized else ("differs", None)
    for each in sized:
        if each.sha256 == sought.file_hash:
            return "bytes", each.name
    for each in sorted(outputs, key=lambda each: _has_other_name(each, sought)):
        if _has_same_tensors(root / each.name, sought):
            return "tensors", each.name
    if not outputs and sought.path.resolve().is_relative_to(root.resolve()):  # a run that has not ended yet
        return "not-compared", escape_undecodable(str(sought.path.resolve().relative_to(root.resolve())))
    return "differs", None


def _has_other_name(output: FileDigest, sought: FileIdentity) -> bool:
    """Outputs of the same name are asked first."""
    return Path(output.name).name != sought.path.name


def _has_same_tensors(path: Path, sought: FileIdentity) -> bool:
    """sd-scripts' own hash of the tensors decides where it is one; LyCORIS' (0x...) only says where to look closer."""
    if path.suffix != ".safetensors" or sought.tensor_hash is None:
        return False
    try:
        other: LoraFile = open_lora(path)
        saved = other.metadata.get(MODEL_HASH_KEY)
        closer = saved is None or (saved.startswith("0x") and saved == sought.saved_hash)
        return saved == sought.tensor_hash or (closer and hash_lora(other)[1] == sought.tensor_hash)
    except (NotSafetensorsError, OSError):
        return False
