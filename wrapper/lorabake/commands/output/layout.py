"""What text is laid out on: a language, a width, and the shapes that every room uses (paragraph, table)."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import click

from lorabake.util.i18n import ENGLISH, Translator

MAX_PROSE_WIDTH = 100  # longer lines of prose are hard to read
MIN_PROSE_WIDTH = 40


@dataclass(frozen=True, slots=True)
class TextLayout:
    """``width`` is that of a terminal; None (a pipe, a file) means that every line is as long as it has to be, so that
    one thing is one line for grep. ``arrow`` stands before what to do."""

    speech: Translator = ENGLISH
    width: int | None = None
    arrow: str = "→"

    def __call__(self, words: str) -> str:
        """The words in the page's language; a plain ``str`` is somebody else's text, which is made visible."""
        return self.speech(words)

    @property
    def columns(self) -> int | None:
        """How wide prose may be."""
        return None if self.width is None else max(MIN_PROSE_WIDTH, min(self.width, MAX_PROSE_WIDTH))

    def paragraph(self, words: str, *, first: str = "", rest: str | None = None) -> list[str]:
        """The words in the page's language as lines that fit, ``first`` before the first, ``rest`` before the others.

        A name that is longer than a line sticks out; nothing is torn apart.
        """
        text = " ".join(self(words).split())
        if self.columns is None:
            return [first + text]
        rest = " " * count_cells(first) if rest is None else rest
        room = max(self.columns - max(count_cells(first), count_cells(rest)), MIN_PROSE_WIDTH // 2)
        lines = wrap_text(text, room) or [""]
        return [(rest if number else first) + line for number, line in enumerate(lines)]


def wrap_text(text: str, room: int) -> list[str]:
    """Lines of at most ``room`` columns; a longer word sticks out."""
    if count_cells(text) == len(text):
        return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    lines: list[str] = []
    for word in text.split():
        if lines and count_cells(lines[-1]) + 1 + count_cells(word) <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def count_cells(text: str) -> int:
    """How many columns a text takes on a terminal: Chinese and Japanese signs take two, accents none, colour none."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(_count_cell(sign) for sign in click.unstyle(text))


def _count_cell(sign: str) -> int:
    return 0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1


def pad_text(text: str, width: int, *, right: bool = False) -> str:
    gap = " " * max(width - count_cells(text), 0)
    return gap + text if right else text + gap


def format_table(rows: Sequence[Sequence[str]], numbers: Iterable[int] = (), indent: str = "  ") -> list[str]:
    """Rows in columns two apart; the columns named in ``numbers`` stand at the right. The first row is the heading."""
    right = frozenset(numbers)
    widths = [max(map(count_cells, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(pad_text(cell, widths[at], right=at in right) for at, cell in enumerate(row)).rstrip() for row in rows
    ]
    return [indent + (dim(line) if not number else line) for number, line in enumerate(lines)]


def format_file_size(size: int) -> str:
    """``6.9 GB``, ``73.4 MB``, ``12 kB``."""
    if size >= 1_000_000_000:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{max(1, round(size / 1e3))} kB"


def style_rule_id(rule: str) -> str:
    """A rule's id, in the colour of the guide's."""
    return click.style(rule, fg="cyan") if rule else ""


def bold(words: str) -> str:
    return click.style(words, bold=True)


def dim(words: str) -> str:
    return click.style(words, dim=True)
