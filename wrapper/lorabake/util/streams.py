"""Runs a long command and passes on its lines while it runs; the command does not outlive this process."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError
from lorabake.util.process import Command, SupervisionOptions, supervise
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

_POLL_S = 0.2


def stream_lines(
    argv: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path, on_line: Callable[[str], None]
) -> int:
    """Run a command to its end; both its streams are added to ``log``, and each new line is passed to ``on_line``.

    Returns its exit code (128 + n for a signal). Whatever ends this function ends the command and everything it
    started, too. Raises SetupError if it cannot be started, InterruptedRunError if this process was asked to stop.
    """
    log.touch()
    with log.open("rb") as file, supervise(Command(tuple(argv), cwd, env), SupervisionOptions(log)) as running:
        file.seek(0, 2)
        while not running.wait(_POLL_S):
            _emit_lines(file, on_line)
        _emit_lines(file, on_line)
        if running.stopped_by is not None:
            raise InterruptedRunError(msg("stopped by {signal}", signal=running.stopped_by))
    return 128 + signal.SIGKILL if running.returncode is None else running.returncode


def _emit_lines(file: BinaryIO, on_line: Callable[[str], None]) -> None:
    """Pass on the complete lines that were added; half a line waits for its rest."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)
            return
        on_line(line.decode("utf-8", "replace").rstrip("\r\n"))
