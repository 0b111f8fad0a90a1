"""What is wrong with a command line, in the reader's language and with what was typed made visible."""

from __future__ import annotations

import click

from lorabake.commands.output.console import write_err
from lorabake.util.i18n import Translator
from lorabake_schemas.messages import Message, literal, msg

EXTRA_ARGUMENT = "Got unexpected extra argument"


def show_usage_error(error: click.ClickException, speech: Translator) -> None:
    """Say it on stderr, as click would. What was typed is somebody else's text: it may come from a script."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if type(error).__name__ == "NoArgsIsHelpError":
        write_err(error.format_message())
        return
    if context is not None:
        line = context.get_usage().partition(": ")[2]
        write_err(speech(msg("usage: {line}", line=line)))
        write_err(speech(msg("try `{command} --help` for help", command=context.command_path)) + "\n")
    head = click.style(speech(msg("error:")), fg="red", bold=True)
    said = describe_usage_error(error) if isinstance(error, click.UsageError) else literal(error.format_message())
    write_err(f"{head} {speech(said)}")


def describe_usage_error(error: click.UsageError) -> Message:
    """The error as a sentence; what is not known here stays in click's words."""
    match error:
        case click.NoSuchOption():
            return _with_suggestions(msg("unknown option {name}", name=error.option_name), error)
        case click.MissingParameter():
            return msg("{name} is missing", name=_parameter_name(error))
        case click.BadParameter():
            return msg("{name}: {problem}", name=_parameter_name(error), problem=_describe_bad_value(error))
        case click.BadOptionUsage():
            return msg("{name} needs a value", name=error.option_name)
        case _:
            return _describe_other(error)


def _describe_other(error: click.UsageError) -> Message:
    command = getattr(error, "command_name", None)  # click 8.2 and later tell it
    if command is not None:
        return _with_suggestions(msg("unknown command {name}", name=str(command)), error)
    if error.message.startswith(EXTRA_ARGUMENT):
        return msg("too many arguments: {words}", words=error.message.partition("(")[2].rstrip(".)"))
    return literal(error.message)


def _with_suggestions(said: Message, error: click.UsageError) -> Message:
    near = ", ".join(getattr(error, "possibilities", None) or ())
    return msg("{problem}; did you mean {names}?", problem=said, names=near) if near else said


def _describe_bad_value(error: click.BadParameter) -> Message:
    kind = error.param.type if error.param is not None else None
    if isinstance(kind, click.Choice):
        return msg("one of: {choices}", choices=", ".join(map(str, kind.choices)))
    return literal(error.message)


def _parameter_name(error: click.BadParameter) -> str:
    hint = error.param_hint or (error.param.get_error_hint(error.ctx) if error.param is not None else "?")
    return hint if isinstance(hint, str) else " / ".join(hint)
