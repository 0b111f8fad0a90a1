"""What a command with --json prints when it fails."""

from typing import Literal

from lorabake_schemas.base import MessageText, StrictModel


class ErrorDetails(StrictModel):
    """``exit_code`` is that of the command, ``hint`` what to do."""

    exit_code: int
    message: MessageText
    hint: MessageText | None = None


class ErrorReport(StrictModel):
    """Printed in place of the command's own JSON. `check --json` lists findings in a recipe in its own report."""

    version: Literal[1] = 1
    error: ErrorDetails
