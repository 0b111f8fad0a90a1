"""Every expected failure, distinguished by who can fix it.

The boundary turns one of these into a message on stderr and an exit code; anything else that reaches it is a bug in
lorabake. Nothing here prints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabake_schemas.findings import Finding
    from lorabake_schemas.messages import Message


class LorabakeError(Exception):
    """A failure that a person can act on.

    ``message`` describes what is wrong in one sentence, ``hint`` what to do about it. A trainer that ran and failed is
    not an exception: its verdict is in the run's record, and the run's exit code is 4, too.
    """

    exit_code = 1

    def __init__(self, message: Message, hint: Message | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RecipeError(LorabakeError):
    """The recipe or the dataset is at fault; every finding is in ``findings``."""

    def __init__(self, message: Message, findings: Sequence[Finding] = (), hint: Message | None = None) -> None:
        super().__init__(message, hint)
        self.findings = tuple(findings)


class UnknownNameError(LorabakeError):
    """The command line names what lorabake does not have: a topic, a shipped recipe."""

    exit_code = 2


class MachineError(LorabakeError):
    """Something on this machine is not as it must be: no such run, a folder that exists, a missing permission."""


class BusyError(MachineError):
    """Another process is using it: a run of that name, a trainer that is still running, images that a run reads."""

    exit_code = 5


class AlreadyFinishedError(MachineError):
    """The same run has finished, and it was to be made once."""

    exit_code = 0


class ResourceError(MachineError):
    """This machine cannot do it: no GPU, too little memory or disk space, an unsupported system."""

    exit_code = 6


class SetupError(LorabakeError):
    """The trainer could not be installed: git, network, Python, disk, or a wrong commit."""

    exit_code = 4


class UnreachableError(SetupError):
    """What the trainer is made from cannot be reached from here: the pin's url, or pip's package index."""


class InterruptedRunError(LorabakeError):
    """The user stopped the run."""

    exit_code = 130
