"""What `lorabake verify` finds and prints with ``--json``: a run's parts compared with its record."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.record import ChangeKind, InputRole, RunStatus

# inputs: inputs.json itself. record: record.json's own digest. compiled: the files made for a run folder.
VerifySubject = Literal["recipe", "compiled", "record", "inputs", InputRole, "trainer", "output"]


class VerifyDifference(StrictModel):
    """One thing that has changed since the run was made.

    ``index`` counts concepts and other repeated inputs, from 0. ``name`` is that of a file, a package or a key. ``was``
    and ``now`` are a SHA-256, a version, a value or a name, or null.
    """

    what: VerifySubject
    index: int = 0
    name: EscapedText
    change: ChangeKind
    message: MessageText
    was: EscapedText | None = None
    now: EscapedText | None = None


class ComparedCounts(StrictModel):
    """How much was compared with the record: files, their bytes, and packages of the trainer."""

    files: int = 0
    size: int = 0
    packages: int = 0


class VerifyReport(StrictModel):
    """A run compared with its record.

    ``identical``: nothing in the record differs. It is never true for a run whose inputs changed while it ran, or for a
    record without hashes of images and models. ``unproven`` is what the record does not cover. ``remarks`` are changes
    that do not count as a difference, such as another driver.
    """

    version: Literal[1] = 1
    run: EscapedText
    name: str
    status: RunStatus
    rehearsal: bool
    digest: str | None
    identical: bool
    differences: TupleOf[VerifyDifference]
    unproven: TupleOf[MessageText]
    remarks: TupleOf[MessageText]
    compared: ComparedCounts
