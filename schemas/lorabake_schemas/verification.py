"""What `lorabake verify` finds and prints with ``--json``: how a run's parts are now, beside what its record says."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.record import ChangeKind, InputRole, RunStatus

# inputs: inputs.json itself. record: record.json's own digest. compiled: whatever lies ready in a run folder.
VerifySubject = Literal["recipe", "compiled", "record", "inputs", InputRole, "trainer", "output"]


class VerifyDifference(StrictModel):
    """One thing that is otherwise than when the run was made.

    ``index`` counts concepts and others of which there may be several, from 0. ``name`` is a file's, a package's or a
    key's. ``was`` and ``now`` are a SHA-256, a version, a value or a name; null where there is none.
    """

    what: VerifySubject
    index: int = 0
    name: EscapedText
    change: ChangeKind
    message: MessageText
    was: EscapedText | None = None
    now: EscapedText | None = None


class ComparedCounts(StrictModel):
    """How much was held against the record: files, their bytes, and packages of the trainer."""

    files: int = 0
    size: int = 0
    packages: int = 0


class VerifyReport(StrictModel):
    """A run, held against its record.

    ``identical``: nothing differs of what the record tells; never for a run whose inputs changed while it ran, nor for
    a record without hashes of images and models. ``unproven`` says what the record does not tell of; ``remarks`` is
    what is worth knowing and no difference, such as another driver.
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
