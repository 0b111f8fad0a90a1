"""The one place that writes to a terminal, a pipe or a file that our output goes to.

What comes here is already laid out: text of others was made visible where it entered a sentence or a table
(``lorabake_schemas.messages.escape_invisible``). As a second line of defense nothing passes but text, line breaks and
lorabake's own styles; the rest is escaped as JSON would, since JSON passes here, too.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

from lorabake_schemas.messages import INVISIBLE_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Callable

# Line breaks and tabs pass, and the styles that this package uses: none, bold, dim, and six colors.
_UNSAFE = rf"(?P<style>\x1b\[(?:[012]|3[1-6])(?:;(?:[12]|3[1-6]))*m)|(?![\n\t])[{INVISIBLE_CHARACTERS}]"
_CLEAR_LINE = "\r\x1b[2K"
_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))


def _json_escape(text: str) -> str:
    import json  # which most output can do without

    return json.dumps(text)[1:-1]


def _escape_unencodable(error: UnicodeError) -> tuple[str, int]:
    """Escape characters that an encoding does not have, as JSON does."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _json_escape(error.object[error.start : error.end]), error.end


codecs.register_error("lorabake", _escape_unencodable)


def write_out(text: str, *, end: str = "\n") -> None:
    """What a command was asked for. Raises OSError when it cannot be written: its reader left, the disk is full."""
    write_to(sys.stdout, f"{text}{end}")


def write_err(text: str) -> None:
    """Warnings, errors, progress. If it cannot be written, nobody can be informed."""
    with suppress(OSError, ValueError):
        write_to(sys.stderr, f"{text}\n")


def write_result(text: str) -> None:
    """How something ended that is done. It keeps its exit code even if nobody can read this."""
    with suppress(OSError, ValueError):
        write_out(text)


def write_bytes(data: bytes) -> None:
    """Bytes of another program as they are, which somebody has asked for. Raises OSError as write_out does."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        _redirect_to_null(sys.stdout)
        raise


def write_to(stream: TextIO, text: str, *, clear: bool = False) -> None:
    """Write to a stream, after clearing the terminal's line if asked to. Raises OSError, ValueError when closed."""
    passing = _keep_style if _has_color(stream) else _drop_style
    try:
        stream.write(f"{_CLEAR_LINE if clear else ''}{re.sub(_UNSAFE, passing, text)}")
        stream.flush()
    except OSError:
        _redirect_to_null(stream)
        raise


def _has_color(stream: TextIO) -> bool:
    context = click.get_current_context(silent=True)
    chosen = context.color if context is not None else None
    return stream.isatty() if chosen is None else chosen


def _keep_style(found: re.Match[str]) -> str:
    return found["style"] or _json_escape(found[0])


def _drop_style(found: re.Match[str]) -> str:
    return "" if found["style"] else _json_escape(found[0])


def open_streams() -> Callable[[], None]:
    """Make stdin, stdout and stderr usable whatever they are; what is returned is to be called at the end.

    One that was closed leads to /dev/null: else the next file that is opened, a run's record perhaps, would get its
    number and with it all that is written there. What the encoding lacks is escaped.
    """
    for number, (name, how) in enumerate(_STREAMS):
        stream = getattr(sys, name)
        if stream is None:
            with suppress(OSError):
                _reserve_descriptor(number, how)
            mode = "r" if how == os.O_RDONLY else "w"
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8", errors="lorabake"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper) and how != os.O_RDONLY:
            stream.reconfigure(errors="lorabake")
    return _flush_streams


def _reserve_descriptor(number: int, how: int) -> None:
    """Make a closed descriptor lead to /dev/null, for children as well."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, how)
        if null == number:
            os.set_inheritable(null, True)
        else:
            os.dup2(null, number)
            os.close(null)


def _flush_streams() -> None:
    """Write what is left, so that Python does not fail to do so at its end and set its own exit code."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _redirect_to_null(stream)


def _redirect_to_null(stream: TextIO) -> None:
    """Lead a stream that cannot be written to /dev/null: what it still keeps has to go somewhere."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
