"""The one door to subprocesses: argv lists in, results out, never a shell."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.errors import SetupError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Output:
    """A finished command: its argv, exit code and both streams, decoded leniently as UTF-8."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.returncode == 0


def capture(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Output:
    """Run a short command to its end and keep what it said.

    A non-zero exit is a normal result. ``timeout`` is in seconds. Raises SetupError when the program does not
    exist, cannot be started or does not end in time.
    """
    command = tuple(argv)
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=None if env is None else dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout,
        )
    except FileNotFoundError as error:
        raise SetupError(f"cannot start {command[0]}: not found on this machine") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{command[0]} did not end within {timeout:g} s") from error
    except OSError as error:
        raise SetupError(f"cannot start {command[0]}: {error.strerror or error}") from error
    return Output(
        command,
        done.returncode,
        done.stdout.decode("utf-8", "replace"),
        done.stderr.decode("utf-8", "replace"),
    )


def child_env(base: Mapping[str, str], *, drop: Sequence[str] = (), **changes: str) -> dict[str, str]:
    """The environment for a child: ``base`` without every name that starts with one of ``drop``, plus changes."""
    kept = {name: value for name, value in base.items() if not name.startswith(tuple(drop))} if drop else dict(base)
    return kept | changes


def own_environment() -> Mapping[str, str]:
    """This process' environment, read in one place so that everything else takes it as an argument."""
    return os.environ


__all__ = ["Output", "capture", "child_env", "own_environment"]
