"""How text fits a terminal or a pipe: paragraphs, columns, styles, and quantities with their unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import click
from rich.cells import cell_len

from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.messages import Message, msg

MAX_PROSE_WIDTH = 100  # longer lines of prose are hard to read
MIN_PROSE_WIDTH = 40
MIN_WRAPPED_WIDTH = 12  # of a column, on a terminal that is too narrow
COLUMN_GAP = 2


@dataclass(frozen=True, slots=True)
class TextLayout:
    """``width`` is the terminal's. None (a pipe, a file) means that no line is wrapped, so that grep finds all of it.
    ``arrow`` marks what to do."""

    translator: Translator = ENGLISH
    width: int | None = None
    arrow: str = "→"

    def __call__(self, text: str) -> str:
        """A message in the reader's language; a plain ``str`` is text of others, which is escaped."""
        return self.translator(text)

    @property
    def columns(self) -> int | None:
        """How wide prose may be."""
        return None if self.width is None else max(MIN_PROSE_WIDTH, min(self.width, MAX_PROSE_WIDTH))

    def paragraph(self, text: str, *, first: str = "", rest: str | None = None) -> list[str]:
        """The translated text as lines that fit, ``first`` before the first of them, ``rest`` before the others."""
        words = " ".join(self(text).split())
        if self.columns is None:
            return [first + words]
        rest = " " * count_cells(first) if rest is None else rest
        room = max(self.columns - max(count_cells(first), count_cells(rest)), MIN_PROSE_WIDTH // 2)
        return [(rest if number else first) + line for number, line in enumerate(wrap_text(words, room))]


def wrap_text(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns, styles included. A longer word sticks out: a path has to stay in one piece."""
    from rich.console import Console
    from rich.text import Text

    console = Console(
        width=room, force_terminal=True, color_system="standard", no_color=False, legacy_windows=False, highlight=False
    )
    with console.capture() as captured:
        for line in Text.from_ansi(text, overflow="ignore").wrap(console, room):
            line.rstrip()
            console.print(line, soft_wrap=True)
    return captured.get().splitlines() or [""]


def count_cells(text: str) -> int:
    """How many columns a text takes on a terminal: a Chinese character takes two, an accent or a color none."""
    return cell_len(click.unstyle(text))


def pad_text(text: str, width: int, *, right: bool = False) -> str:
    gap = " " * max(width - count_cells(text), 0)
    return gap + text if right else text + gap


def align_rows(
    rows: Sequence[Sequence[str]], numbers: Iterable[int] = (), *, limit: int | None = None, room: int | None = None
) -> list[list[str]]:
    """The lines of each row, in columns two apart; those named in ``numbers`` are right-aligned.

    A cell may have several lines. One that is wider than ``limit`` sticks out. With ``room`` the last column is
    wrapped.
    """
    right, gap = frozenset(numbers), " " * COLUMN_GAP
    table = [[cell.split("\n") for cell in row] for row in rows]
    sizes = [[count_cells(line) for cell in column for line in cell] for column in zip(*table, strict=True)]
    widths = [max((size for size in column if limit is None or size <= limit), default=0) for column in sizes]
    if room is not None:
        left = max(room - sum(width + COLUMN_GAP for width in widths[:-1]), MIN_WRAPPED_WIDTH)
        for cells in table:
            cells[-1] = [part for line in cells[-1] for part in wrap_text(line, left)]
    return [
        [
            gap.join(pad_text(cell, widths[at], right=at in right) for at, cell in enumerate(line)).rstrip()
            for line in zip_longest(*cells, fillvalue="")
        ]
        for cells in table
    ]


def format_table(rows: Sequence[Sequence[str]], numbers: Iterable[int] = (), indent: str = "  ") -> list[str]:
    """Rows in columns. The first one is the heading."""
    head, *body = ("\n".join(lines) for lines in align_rows(rows, numbers))
    return [indent + dim(head), *(indent + line for line in body)]


def format_file_size(size: int) -> Message:
    """``6.9 GB``, ``73.4 MB``, ``12 kB``."""
    if size >= 1_000_000_000:
        return msg("{size:.1f} GB", size=size / 1e9)
    if size >= 100_000:
        return msg("{size:.1f} MB", size=size / 1e6)
    return msg("{size} kB", size=max(1, round(size / 1e3)))


def format_duration(seconds: float | None) -> str:
    """``42 s``, ``3:05 min``, ``2:03 h``; "-" when it is not known."""
    if seconds is None:
        return "-"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def style_rule_id(rule: str) -> str:
    """A rule's id, in the color of the guide's."""
    return click.style(rule, fg="cyan") if rule else ""


def bold(text: str) -> str:
    return click.style(text, bold=True)


def dim(text: str) -> str:
    return click.style(text, dim=True)
