"""The sentences of `lorabake verify`: one for each kind of change, whatever changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.util.changes import Change
from lorabake_schemas.messages import Message, literal, msg
from lorabake_schemas.verification import ComparedCounts, VerifyDifference, VerifySubject

if TYPE_CHECKING:
    from lorabake_schemas.record import FileDigest, InputRole

MODEL_LABELS: Mapping[InputRole, Message] = MappingProxyType(
    {
        "base": msg("the base model"),
        "vae": msg("the VAE"),
        "network_weights": msg("the LoRA the training starts from"),
        "base_weights": msg("the LoRA merged into the base model"),
        "tokenizer": msg("the tokenizer"),
        "preset": msg("the LyCORIS preset"),
    }
)
NOTHING_COMPARED = ComparedCounts()


@dataclass(frozen=True, slots=True)
class Drift:
    """``differences`` from the record, ``unproven`` what the record does not have, and ``remarks``: worth knowing, and
    no difference."""

    differences: tuple[VerifyDifference, ...] = ()
    unproven: tuple[Message, ...] = ()
    remarks: tuple[Message, ...] = ()
    compared: ComparedCounts = NOTHING_COMPARED

    def __add__(self, other: Drift) -> Drift:
        return Drift(
            self.differences + other.differences,
            self.unproven + other.unproven,
            self.remarks + other.remarks,
            ComparedCounts(
                files=self.compared.files + other.compared.files,
                size=self.compared.size + other.compared.size,
                packages=self.compared.packages + other.compared.packages,
            ),
        )


def count_files(files: Iterable[FileDigest]) -> ComparedCounts:
    sizes = [file.size for file in files]
    return ComparedCounts(files=len(sizes), size=sum(sizes))


def describe_file_change(
    what: VerifySubject, change: Change, label: Message | None = None, index: int = 0
) -> VerifyDifference:
    """A file or folder, known by its digest; ``label`` is what it is called, by default its name."""
    file = label if label is not None else literal(change.name)
    match change.kind:
        case "missing":
            said = msg("{file} is missing", file=file)
        case "changed":
            said = msg("{file} changed after the run", file=file)
        case "added":
            said = msg("{file} was added after the run", file=file)
        case "renamed":
            said = msg("{file} is now named {now}", file=file, now=change.now or "")
        case "unreadable":
            said = msg("cannot read {file}: {why}", file=file, why=change.why or "")
    return _make_difference(what, change, said, index)


def describe_value_change(what: VerifySubject, change: Change, place: Message) -> VerifyDifference:
    """A key, a version or another value that people can read, of ``place``."""
    was, now = change.was or "", change.now or ""
    match change.kind:
        case "missing":
            said = msg("{key} was removed from {file} (it was {was})", key=change.name, file=place, was=was)
        case "added":
            said = msg("{key} was added to {file}: {now}", key=change.name, file=place, now=now)
        case _:
            said = msg("{key} in {file} changed from {was} to {now}", key=change.name, file=place, was=was, now=now)
    return _make_difference(what, change, said)


def describe_record_changes(changes: Iterable[Change]) -> Iterator[VerifyDifference]:
    """What record.json has and lorabake would not have written."""
    for change in changes:
        said = msg("{key} in record.json was edited and does not match the plan", key=change.name)
        yield _make_difference("record", change, said)


def _make_difference(what: VerifySubject, change: Change, said: Message, index: int = 0) -> VerifyDifference:
    return VerifyDifference(
        what=what, index=index, name=change.name, change=change.kind, message=said, was=change.was, now=change.now
    )
