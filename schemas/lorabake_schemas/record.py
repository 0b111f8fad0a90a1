"""The record of a run: what it was made from and how it ended. Versioned, additive."""

from typing import Literal

from lorabake_schemas.base import Many, StrictModel, Words
from lorabake_schemas.findings import Finding
from lorabake_schemas.machine import AttentionProbe, MachineFacts

Status = Literal["started", "finished", "failed", "interrupted"]


class FileDigest(StrictModel):
    """A file by its name inside the run folder (or its path, outside), SHA-256 and size in bytes."""

    name: str
    sha256: str
    size: int


class TrainerRecord(StrictModel):
    """The trainer that ran: ``rehearsal`` when the stand-in took its place."""

    kind: Literal["pin", "own", "rehearsal"]
    url: str | None = None
    commit: str | None = None
    lock: str | None = None
    lock_sha256: str | None = None
    checkout: str | None = None
    python: str


class Outcome(StrictModel):
    """How it ended.

    ``code`` names the verdict, ``message`` says it in words, ``hint`` what to do about it. ``returncode`` is the
    trainer's own (128 + n for a signal; None when it is not known); ``steps`` those that were trained. ``remarks`` are
    what is worth knowing besides, also of a run that ended well.
    """

    code: str
    message: Words
    hint: Words | None = None
    returncode: int | None = None
    steps: int | None = None
    outputs: Many[FileDigest] = ()
    remarks: Many[Words] = ()
    last_words: Many[str] = ()


class Record(StrictModel):
    """``version`` 1. Times are UTC, ISO 8601. ``pid`` is lorabake's own: the one to signal to stop the run.

    ``attention`` is what the trainer said of xformers on this machine; None when it was not asked.
    """

    version: Literal[1] = 1
    lorabake: str
    name: str
    rehearsal: bool
    status: Status
    started: str
    ended: str | None = None
    pid: int | None = None
    recipe: FileDigest
    compiled: Many[FileDigest]
    seed: int
    trainer: TrainerRecord
    machine: MachineFacts
    attention: AttentionProbe | None = None
    argv: Many[str]
    cwd: str
    environment: dict[str, str]
    findings: Many[Finding] = ()
    planned_steps: int
    outcome: Outcome | None = None


__all__ = ["FileDigest", "Outcome", "Record", "Status", "TrainerRecord"]
