"""What `lorabake doctor` found: about the machine, and about a run that failed."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.record import EvidenceLine
from lorabake_schemas.run_status import RunState

HealthLevel = Literal["ok", "warning", "problem"]
HealthTopic = Literal[
    "gpu", "gpu-memory", "cpu", "memory", "shared-memory", "disk", "limits", "store", "trainer", "torch", "xformers",
    "git", "pin", "hub",
]  # fmt: skip


class HealthCheck(StrictModel):
    """One thing of the machine. ``hint`` is what to do where it is not ok."""

    topic: HealthTopic
    level: HealthLevel
    message: MessageText
    hint: MessageText | None = None


class RunDiagnosis(StrictModel):
    """Why a run ended as it did: ``code``, ``message``, ``hint`` and ``evidence`` are its outcome's.

    ``known`` is whether the cause was recognized. Of one that was not, ``last_lines`` are the end of the log and
    ``command`` is what was run. ``next_step`` is how to go on.
    """

    run: EscapedText
    state: RunState
    code: EscapedText | None
    known: bool
    message: MessageText
    hint: MessageText | None = None
    evidence: TupleOf[EvidenceLine] = ()
    remarks: TupleOf[MessageText] = ()
    next_step: MessageText | None = None
    last_lines: TupleOf[EvidenceLine] = ()
    command: TupleOf[EscapedText] = ()


class DoctorReport(StrictModel):
    """``diagnosis`` is None if no run was named."""

    version: Literal[1] = 1
    checks: TupleOf[HealthCheck]
    diagnosis: RunDiagnosis | None = None

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps this machine from training."""
        return all(check.level != "problem" for check in self.checks)
