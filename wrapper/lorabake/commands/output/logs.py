"""The trainer's log: its lines, and on a terminal the bar that is drawn now."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

from lorabake.commands.output.console import write_bytes, write_out, write_to
from lorabake.runs.log_lines import LogLines, keep_last
from lorabake_schemas.messages import clean_log_line
from lorabake_schemas.run_status import LogExcerpt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lorabake.commands.output.layout import TextLayout
    from lorabake_schemas.run_status import RunState


def show_raw_log(pieces: Iterable[bytes], lines: int | None = None) -> None:
    """The bytes as they are: all of them as they come, or the last lines."""
    for piece in pieces if lines is None else [keep_last(pieces, lines)]:
        write_bytes(piece)


def show_log(old: Iterable[bytes], new: Iterable[bytes], page: TextLayout, lines: int | None = None) -> None:
    """The last lines of what there is, then those that come. Without bars, but for the last one at the end; a terminal
    shows it all the time.
    """
    log, shown = LogLines(), deque[str](maxlen=lines)
    for piece in old:
        shown.extend(log.feed(piece))
    for line in shown:
        write_out(clean_log_line(line))
    _draw_bar(log, page)
    for piece in new:
        found = log.feed(piece)
        if found and page.width is not None:
            write_to(sys.stdout, "", clear=True)
        for line in found:
            write_out(clean_log_line(line))
        _draw_bar(log, page)
    if page.width is not None:
        write_to(sys.stdout, "", clear=True)
    for line in log.close():
        write_out(clean_log_line(line))
    if log.bar is not None:
        write_out(clean_log_line(log.bar))


def _draw_bar(log: LogLines, page: TextLayout) -> None:
    if page.width is not None and log.bar is not None:
        write_to(sys.stdout, clean_log_line(log.bar)[: page.width - 1], clear=True)


def excerpt_log(pieces: Iterable[bytes], run: str, state: RunState, lines: int | None) -> LogExcerpt:
    log, kept = LogLines(), deque[str](maxlen=lines)
    for piece in pieces:
        kept.extend(log.feed(piece))
    kept.extend(log.close())
    return LogExcerpt(run=run, state=state, lines=tuple(kept), bar=log.bar)
