"""The runs that a LoRA file comes from, and how like it is to what they wrote."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorabake.errors import MachineError
from lorabake.reading.lora_file import LoraFile, NotSafetensorsError, hashed, opened
from lorabake.runs import register
from lorabake.runs.find import place, record_of
from lorabake.runs.folder import RunPaths
from lorabake.runs.settle import settled
from lorabake_schemas.inspection import KnownRun, Likeness
from lorabake_schemas.words import legible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lorabake_schemas.record import FileDigest, Record

KnownBy = Literal["digest", "bytes", "place"]
MODEL_HASH = "sshs_model_hash"
MOST = 20  # runs that are told of
LIKEST: tuple[Likeness, ...] = ("bytes", "tensors", "not-compared", "differs")


@dataclass(frozen=True, slots=True)
class Sought:
    """A file: ``file_hash`` and ``tensor_hash`` are None when it was not read."""

    path: Path
    size: int
    digest: str | None = None
    file_hash: str | None = None
    tensor_hash: str | None = None
    saved_hash: str | None = None


def runs_of(sought: Sought, home: Path) -> tuple[KnownRun, ...]:
    """The likest first. A run folder that is gone, and a record that cannot be read, count as not there."""
    found: dict[Path, KnownRun] = {}
    for root, known_by in _candidates(sought, home):
        with suppress(MachineError, OSError):
            real = root.resolve()
            if real not in found and len(found) < MOST:
                record = settled(RunPaths(root), record_of(RunPaths(root)))
                if known_by == "bytes" or record.digest == sought.digest or known_by == "place":
                    found[real] = _known(root, record, known_by, sought)
    newest = sorted(found.values(), key=lambda run: run.started, reverse=True)
    return tuple(sorted(newest, key=lambda run: (LIKEST.index(run.likeness), run.known_by != "place")))


def _candidates(sought: Sought, home: Path) -> Iterator[tuple[Path, KnownBy]]:
    noted = register.entries(home)
    around: Path | None = None
    with suppress(MachineError):  # a folder above that may not be looked into
        around = place(sought.path.resolve())
    if around is not None and (sought.digest is None or not register.holds(around, sought.digest)):
        yield around, "place"
    if sought.digest is not None:
        if around is not None and register.holds(around, sought.digest):
            yield around, "digest"
        for root in register.with_digest(noted, sought.digest):
            yield root, "digest"
    if sought.file_hash is not None:
        for entry in noted:
            if register.holds(entry.root, sought.file_hash):
                yield entry.root, "bytes"


def _known(root: Path, record: Record, known_by: KnownBy, sought: Sought) -> KnownRun:
    likeness, output = _likeness(root, record, sought)
    return KnownRun(
        folder=legible(str(root)),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        started=record.started,
        known_by=known_by,
        likeness=likeness,
        output=output,
    )


def _likeness(root: Path, record: Record, sought: Sought) -> tuple[Likeness, str | None]:
    """By the SHA-256 that the record has of each output; then by the tensors of those that are still there."""
    outputs = record.outcome.outputs if record.outcome else ()
    sized = sorted((each for each in outputs if each.size == sought.size), key=lambda each: _first(each, sought))
    if sought.file_hash is None:
        return ("not-compared", sized[0].name) if sized else ("differs", None)
    for each in sized:
        if each.sha256 == sought.file_hash:
            return "bytes", each.name
    for each in sorted(outputs, key=lambda each: _first(each, sought)):
        if _same_tensors(root / each.name, sought):
            return "tensors", each.name
    if not outputs and sought.path.resolve().is_relative_to(root.resolve()):  # a run that has not ended yet
        return "not-compared", legible(str(sought.path.resolve().relative_to(root.resolve())))
    return "differs", None


def _first(output: FileDigest, sought: Sought) -> bool:
    """Outputs of the same name are asked first."""
    return Path(output.name).name != sought.path.name


def _same_tensors(path: Path, sought: Sought) -> bool:
    """sd-scripts' own hash of the tensors decides where it is one; LyCORIS' (0x...) only says where to look closer."""
    if path.suffix != ".safetensors" or sought.tensor_hash is None:
        return False
    try:
        other: LoraFile = opened(path)
        saved = other.metadata.get(MODEL_HASH)
        closer = saved is None or (saved.startswith("0x") and saved == sought.saved_hash)
        return saved == sought.tensor_hash or (closer and hashed(other)[1] == sought.tensor_hash)
    except (NotSafetensorsError, OSError):
        return False


__all__ = ["Sought", "runs_of"]
