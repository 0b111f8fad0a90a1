"""The one error boundary around every command: expected failures become words and a code, ours a crash file."""

from __future__ import annotations

import errno
import os
import platform
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click

from lorabake import __version__, usage
from lorabake.errors import LorabakeError, MachineError
from lorabake.files import reason
from lorabake.output import write_err
from lorabake.speech import ENGLISH, Speech
from lorabake_schemas.words import legible, quoted, say, visible

KEPT = 10
REFUSED = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EROFS", "ESTALE", "EINVAL", "ENXIO"),
        *("ENODEV", "ETXTBSY", "EBUSY", "EMFILE", "ENFILE", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENOTCONN"),
    )
    if hasattr(errno, name)
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # whatever was being written: output sent to a file, too


@contextmanager
def boundary(
    env: Mapping[str, str], *, debug: bool = False, speech: Callable[[], Speech] = lambda: ENGLISH
) -> Generator[None, None, None]:
    """Run a command's body. Exits with the error's own code, 130 after Ctrl-C, 3 for a bug of ours.

    ``speech`` is asked for the language when there is something to say: options are read inside the boundary.
    """
    try:
        yield
    except LorabakeError as error:
        _show(error, speech())
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        write_err(speech()(say("interrupted")))
        sys.exit(130)
    except click.ClickException as error:
        usage.show(error, speech())
        sys.exit(error.exit_code)
    except (click.exceptions.Exit, click.Abort):
        raise  # --help was printed
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output has left
    except Exception as error:
        if (fault := _of_the_machine(error)) is not None:
            _show(fault, speech())
            sys.exit(fault.exit_code)
        if debug:
            raise
        _crash(error, env, speech())
        sys.exit(3)


def _of_the_machine(error: Exception) -> MachineError | None:
    """What no command can look out for wherever it reads or writes."""
    if isinstance(error, OSError) and error.errno in FULL:
        return MachineError(quoted(str(error)), say("make room and try again"))
    if isinstance(error, FileNotFoundError) and _has_no_cwd():
        return MachineError(say("the current folder is gone"), say("go to another folder and try again"))
    if isinstance(error, MemoryError):
        return MachineError(say("there is not enough memory for this"))
    if isinstance(error, OSError) and error.errno in REFUSED and error.filename is not None:
        named = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
        return MachineError(say("{path} cannot be used: {why}", path=named, why=reason(error)))
    return None


def _has_no_cwd() -> bool:
    """Whether the folder that we were started in was deleted since."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _show(error: LorabakeError, speech: Speech) -> None:
    write_err(f"{_red(speech(say('error:')))} {speech(error.message)}")
    if error.hint:
        write_err(f"  {speech(error.hint)}")


def _red(words: str) -> str:
    return click.style(words, fg="red", bold=True)


def _crash(error: Exception, env: Mapping[str, str], speech: Speech) -> None:
    """Keep everything an issue needs in a file of its own; say it on stderr when no file can be written."""
    text = legible(crash_report(error))  # a path need not be UTF-8
    try:
        path = _crash_file(env)
        path.write_text(text, encoding="utf-8")
    except OSError:
        write_err("\n".join(map(visible, text.splitlines())))
        return
    head = _red(speech(say("this is a bug in lorabake:")))
    write_err(f"{head} {type(error).__name__}: {visible(str(error))}")
    where = say("what happened is in {path}; please send it with a report (it holds your command line)", path=str(path))
    write_err(f"  {speech(where)}")


def crash_report(error: Exception) -> str:
    """Version, platform, command line and traceback, ready to paste."""
    trace = "".join(traceback.format_exception(error))
    return (
        f"lorabake {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {' '.join(sys.argv)}\n\n{trace}"
    )


def _crash_file(env: Mapping[str, str]) -> Path:
    from lorabake.trainer.store import home

    folder = home(env) / "crashes"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("crash-*.txt"))[: -(KEPT - 1) or None]:
        old.unlink(missing_ok=True)
    return folder / f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.txt"


__all__ = ["boundary", "crash_report"]
