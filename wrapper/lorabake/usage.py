"""What is wrong with a command line, in the reader's language and with what was typed made visible."""

from __future__ import annotations

import click

from lorabake.output import write_err
from lorabake.speech import Speech
from lorabake_schemas.words import Said, quoted, say

EXTRA = "Got unexpected extra argument"


def show(error: click.ClickException, speech: Speech) -> None:
    """Say it on stderr, as click would. What was typed is somebody else's text: it may come from a script."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if type(error).__name__ == "NoArgsIsHelpError":
        write_err(error.format_message())
        return
    if context is not None:
        line = context.get_usage().partition(": ")[2]
        write_err(speech(say("usage: {line}", line=line)))
        write_err(speech(say("`{command} --help` explains it", command=context.command_path)) + "\n")
    head = click.style(speech(say("error:")), fg="red", bold=True)
    said = words_of(error) if isinstance(error, click.UsageError) else quoted(error.format_message())
    write_err(f"{head} {speech(said)}")


def words_of(error: click.UsageError) -> Said:
    """The error as a sentence; what is not known here stays in click's words."""
    match error:
        case click.NoSuchOption():
            return _unknown(say("there is no option {name}", name=error.option_name), error)
        case click.MissingParameter():
            return say("{name} is missing", name=_name(error))
        case click.BadParameter():
            return say("{name}: {problem}", name=_name(error), problem=_bad(error))
        case click.BadOptionUsage():
            return say("{name} needs a value", name=error.option_name)
        case _:
            return _other(error)


def _other(error: click.UsageError) -> Said:
    command = getattr(error, "command_name", None)  # click 8.2 and later tell it
    if command is not None:
        return _unknown(say("there is no command {name}", name=str(command)), error)
    if error.message.startswith(EXTRA):
        return say("nothing more is expected here: {words}", words=error.message.partition("(")[2].rstrip(".)"))
    return quoted(error.message)


def _unknown(said: Said, error: click.UsageError) -> Said:
    near = ", ".join(getattr(error, "possibilities", None) or ())
    return say("{problem}; did you mean {names}?", problem=said, names=near) if near else said


def _bad(error: click.BadParameter) -> Said:
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        return say("one of: {choices}", choices=", ".join(map(str, kind.choices)))
    return quoted(error.message)


def _name(error: click.BadParameter) -> str:
    hint = error.param_hint or (error.param.get_error_hint(error.ctx) if error.param is not None else "?")
    return hint if isinstance(hint, str) else " / ".join(hint)


__all__ = ["show", "words_of"]
