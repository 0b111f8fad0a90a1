"""Asks a person on a terminal: a question with its default, which enter accepts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

from lorabake.analysis.draft import Question, find_answer_fault
from lorabake.commands.output.console import write_err, write_to
from lorabake.commands.output.layout import TextLayout, bold
from lorabake_schemas.messages import Message, msg


def can_ask() -> bool:
    """Whether a person sees the question and can answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(question: Question, layout: TextLayout) -> str:
    """The answer; the default for an empty line and for whatever cannot be read. Asks again for an answer that the
    question does not take; the start of a choice is enough."""
    text = layout(question.text)
    if question.choices:
        text += f" ({', '.join(question.choices)})"
    preset = layout(question.default or msg("Enter: later"))
    shown = f" {bold(f'[{preset}]')}"
    while True:
        with suppress(OSError, ValueError):
            write_to(sys.stderr, f"{text}{shown}: ")
        line = _read_line()
        given = line.strip()
        if not given:
            if not line:  # the end of input has no line break of its own
                write_err("")
            return question.default
        answer = _complete_choice(given, question.choices)
        fault = find_answer_fault(question.key, answer)
        if fault is None:
            return answer
        write_err(layout(msg('"{given}" {fault}', given=given, fault=fault)))


def confirm(text: Message, layout: TextLayout) -> bool:
    """Whether the answer is yes, which an empty line means, too. The end of input is a no."""
    hint = layout(msg("[Y/n]"))
    with suppress(OSError, ValueError):
        write_to(sys.stderr, f"{layout(text)} {bold(hint)} ")
    line = _read_line()
    if not line:
        write_err("")
    return line.strip().casefold() in {"", "y", "yes", "s", "sim"} and bool(line)


def _complete_choice(given: str, choices: Sequence[str]) -> str:
    fitting = [choice for choice in choices if choice.startswith(given.casefold())]
    return fitting[0] if len(fitting) == 1 else given


def _read_line() -> str:
    try:
        return sys.stdin.readline()
    except (OSError, ValueError):  # UnicodeDecodeError is one
        return ""
