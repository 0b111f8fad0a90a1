"""The error boundary around every command: expected failures become a message and an exit code, bugs a crash file."""

from __future__ import annotations

import errno
import os
import platform
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from difflib import SequenceMatcher
from pathlib import Path

import click

from lorabake import __version__
from lorabake.commands.output.console import write_err, write_result
from lorabake.errors import LorabakeError, MachineError, ResourceError
from lorabake.util.files import DISK_FULL_ERRNOS, reason
from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.messages import Message, escape_invisible, escape_undecodable, literal, msg

CRASH_FILES_KEPT = 10
MIN_LIKENESS = 0.6  # of a word that is suggested
EXTRA_ARGUMENT = "Got unexpected extra argument"  # how click 8.1 starts it
ACCESS_ERRNOS = frozenset(
    getattr(errno, name)
    for name in (
        *("EACCES", "EPERM", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EROFS", "ESTALE", "EINVAL", "ENXIO"),
        *("ENODEV", "ETXTBSY", "EBUSY", "EMFILE", "ENFILE", "ETIMEDOUT", "EHOSTDOWN", "EREMOTEIO", "ENOTCONN"),
    )
    if hasattr(errno, name)
)


@contextmanager
def error_boundary(
    env: Mapping[str, str],
    *,
    debug: bool = False,
    speech: Callable[[], Translator] = lambda: ENGLISH,
    as_json: Callable[[], bool] = lambda: False,
) -> Generator[None, None, None]:
    """Run a command's body. Exits with the error's own code, 130 after Ctrl-C, 3 for a bug of ours.

    ``speech`` gives the language, and ``as_json`` whether the command prints JSON, once it is known: options are read
    inside the boundary.
    """
    try:
        yield
    except LorabakeError as error:
        _print_error(error, speech(), as_json=as_json())
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        write_err(speech()(msg("interrupted")))
        sys.exit(130)
    except click.ClickException as error:
        show_usage_error(error, speech())
        sys.exit(error.exit_code)
    except (click.exceptions.Exit, click.Abort):
        raise  # --help was printed
    except BrokenPipeError:
        sys.exit(1)  # whoever read our output has left
    except Exception as error:
        if (fault := _to_machine_error(error)) is not None:
            _print_error(fault, speech(), as_json=as_json())
            sys.exit(fault.exit_code)
        if debug:
            raise
        _report_crash(error, env, speech())
        sys.exit(3)


def _to_machine_error(error: Exception) -> MachineError | None:
    """What no command can look out for wherever it reads or writes."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return ResourceError(literal(str(error)), msg("free some space and try again"))
    if isinstance(error, FileNotFoundError) and _has_no_cwd():
        return MachineError(msg("the current folder no longer exists"), msg("go to another folder and try again"))
    if isinstance(error, MemoryError):
        return ResourceError(msg("not enough memory for this"))
    if isinstance(error, OSError) and error.errno in ACCESS_ERRNOS and error.filename is not None:
        named = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else str(error.filename)
        return MachineError(msg("cannot access {path}: {why}", path=named, why=reason(error)))
    return None


def _has_no_cwd() -> bool:
    """Whether the folder that we were started in was deleted since."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _print_error(error: LorabakeError, speech: Translator, *, as_json: bool = False) -> None:
    """On stderr for people, and as JSON on stdout for a program that waits for some."""
    head = _style_error(speech(msg("error:")))
    write_err(f"{head} {speech(error.message)}")
    if error.hint:
        write_err(f"  {speech(error.hint)}")
    if as_json:
        from lorabake_schemas.error_report import ErrorDetails, ErrorReport

        told = ErrorDetails(exit_code=error.exit_code, message=error.message, hint=error.hint)
        write_result(ErrorReport(error=told).model_dump_json(indent=2))


def _style_error(text: str) -> str:
    return click.style(text, fg="red", bold=True)


# What other programs call a command.
COMMANDS_BY_WORD = {"train": "run", "start": "run", "validate": "check", "lint": "check", "continue": "resume"}


def show_usage_error(error: click.ClickException, speech: Translator) -> None:
    """Print it on stderr, as click would. What was typed is text of others: it may come from a script."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if type(error).__name__ == "NoArgsIsHelpError":
        write_err(error.format_message())
        return
    if context is not None:
        line = " ".join(context.get_usage().partition(": ")[2].split())
        write_err(speech(msg("usage: {line}", line=line)))
        write_err(speech(msg("try `{command} --help` for help", command=context.command_path)) + "\n")
    head = _style_error(speech(msg("error:")))
    said = describe_usage_error(error) if isinstance(error, click.UsageError) else literal(error.format_message())
    write_err(f"{head} {speech(said)}")


def describe_usage_error(error: click.UsageError) -> Message:
    """The error as a message; what is not known here keeps click's text."""
    match error:
        case click.NoSuchOption():
            return _with_suggestions(msg("unknown option {name}", name=error.option_name), error)
        case click.MissingParameter():
            return msg("{name} is missing", name=_parameter_name(error))
        case click.BadParameter():
            return _describe_bad_value(_parameter_name(error), error)
        case click.BadOptionUsage():
            return msg("{name} needs a value", name=error.option_name)
        case _:
            return _describe_other(error)


def _describe_other(error: click.UsageError) -> Message:
    command = getattr(error, "command_name", None)  # click 8.2 and later
    if command is not None:
        said, own = msg("unknown command {name}", name=str(command)), COMMANDS_BY_WORD.get(str(command).lower())
        return (
            msg("{problem}; did you mean {names}?", problem=said, names=own) if own else _with_suggestions(said, error)
        )
    if error.message.startswith(EXTRA_ARGUMENT):
        return msg("too many arguments: {words}", words=error.message.partition("(")[2].rstrip(".)"))
    return literal(error.message)


def _with_suggestions(said: Message, error: click.UsageError) -> Message:
    typed = str(getattr(error, "option_name", None) or getattr(error, "command_name", ""))
    near = ", ".join(name for name in getattr(error, "possibilities", None) or () if _is_near(typed, name))
    return msg("{problem}; did you mean {names}?", problem=said, names=near) if near else said


def _is_near(typed: str, name: str) -> bool:
    """click compares options with their dashes, so that any two short ones are alike."""
    return SequenceMatcher(None, typed.lstrip("-"), name.lstrip("-")).ratio() >= MIN_LIKENESS


def _describe_bad_value(name: str, error: click.BadParameter) -> Message:
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        return msg("{name} must be one of: {choices}", name=name, choices=", ".join(map(str, kind.choices)))
    return msg("{name}: {problem}", name=name, problem=literal(error.message))


def _parameter_name(error: click.BadParameter) -> str:
    if isinstance(error.param, click.Argument):
        return error.param.human_readable_name
    hint = error.param_hint or (error.param.get_error_hint(error.ctx) if error.param is not None else "?")
    return (hint if isinstance(hint, str) else " / ".join(hint)).replace("'", "")


def _report_crash(error: Exception, env: Mapping[str, str], speech: Translator) -> None:
    """Write everything an issue needs to a file, or to stderr if that fails."""
    text = escape_undecodable(format_crash_report(error))  # a path need not be UTF-8
    try:
        path = _new_crash_file(env)
        path.write_text(text, encoding="utf-8")
    except OSError:
        write_err("\n".join(map(escape_invisible, text.splitlines())))
        return
    head = _style_error(speech(msg("this is a bug in lorabake:")))
    write_err(f"{head} {type(error).__name__}: {escape_invisible(str(error))}")
    where = msg(
        "details are in {path}; please attach this file to a bug report (it contains your command line)",
        path=str(path),
    )
    write_err(f"  {speech(where)}")


def format_crash_report(error: Exception) -> str:
    """Version, platform, command line and traceback, ready to paste."""
    trace = "".join(traceback.format_exception(error))
    return (
        f"lorabake {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"command: {' '.join(sys.argv)}\n\n{trace}"
    )


def _new_crash_file(env: Mapping[str, str]) -> Path:
    from lorabake.util.paths import lorabake_home

    folder = lorabake_home(env) / "crashes"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("crash-*.txt"))[: -(CRASH_FILES_KEPT - 1) or None]:
        old.unlink(missing_ok=True)
    return folder / f"crash-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.txt"
