"""What `lorabake verify` finds and prints with ``--json``: how a run's parts are now, beside what its record says."""

from typing import Literal

from lorabake_schemas.base import Legible, Many, StrictModel, Words
from lorabake_schemas.record import Role, Status

# inputs: inputs.json itself. record: record.json's own digest. compiled: whatever lies ready in a run folder.
Subject = Literal["recipe", "compiled", "record", "inputs", Role, "trainer", "output"]
Change = Literal["changed", "gone", "added", "renamed", "unreadable"]


class Difference(StrictModel):
    """One thing that is otherwise than when the run was made.

    ``index`` counts concepts and others of which there may be several, from 0. ``name`` is a file's, a package's or a
    key's. ``was`` and ``now`` are a SHA-256, a version, a value or a name; null where there is none.
    """

    what: Subject
    index: int = 0
    name: Legible
    change: Change
    message: Words
    was: Legible | None = None
    now: Legible | None = None


class Compared(StrictModel):
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
    run: Legible
    name: str
    status: Status
    rehearsal: bool
    digest: str | None
    identical: bool
    differences: Many[Difference]
    unproven: Many[Words]
    remarks: Many[Words]
    compared: Compared


__all__ = ["Change", "Compared", "Difference", "Subject", "VerifyReport"]
