"""Splitting the script of a shell into statements, with the line in which each starts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_CONTINUED = "\x00"  # stands for a line end that continues the statement


class Dialect(NamedTuple):
    """``escape`` takes the meaning of the next sign away, and continues a line at its end. A statement ends at one of
    the ``separators``; ``blocks`` are statements of their own; ``brackets`` keep what is in them together.
    """

    escape: str
    separators: str
    blocks: str = ""
    brackets: str = "()"


def split_statements(text: str, dialect: Dialect) -> Iterator[tuple[int, str]]:
    """Statements and blocks; comments are left out. A line that starts with an option continues the one above, as in
    documents that leave the sign for it out."""
    escape = re.escape(dialect.escape)
    text = re.sub(rf"{escape}[ \t]*\r?\n|\r?\n(?=[ \t]*--[A-Za-z])", f" {_CONTINUED}", text)
    tokens = re.compile(
        rf"""(?P<comment>(?<![^\s;{_CONTINUED}])\#[^\n]*)|(?P<text>{escape}.|"(?:{escape}.|[^"])*"?|'[^']*'?"""
        rf"""|\$\{{[^}}]*\}}|\d?>&\d?|&>)|(?P<sign>.)""",
        re.DOTALL | re.VERBOSE,
    )
    opening, closing = dialect.brackets[::2], dialect.brackets[1::2]
    line = start = 1
    part, depth = "", 0
    for token in tokens.finditer(text):
        sign = token["sign"] or ""
        ends = sign != "" and not depth and sign in f"{dialect.separators}{dialect.blocks}"
        if ends:
            yield start, _clean(part)
            part = ""
        if ends and sign in dialect.blocks:
            yield line, sign
        if not ends and token["comment"] is None:
            depth += (sign != "" and sign in opening) - (sign != "" and sign in closing and depth > 0)
            part += token[0]
        line += token[0].count("\n") + token[0].count(_CONTINUED)
        if not part.strip(f" \t\r{_CONTINUED}"):
            start = line
    yield start, _clean(part)


def _clean(text: str) -> str:
    return text.replace(_CONTINUED, " ").strip()
