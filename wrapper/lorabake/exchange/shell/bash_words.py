"""Words of a bash script: quotes, variables, and what other commands print."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from lorabake.exchange.shell.budget import refuse_size
from lorabake.exchange.shell.script import Scanner

_MAX_OUTPUT = 20_000  # characters of a $(...)
_MAX_SCANNED = 4 << 20
_OPEN = r"(?P<output>\$\(|`|[<>]\()"
_EXPANSION = rf"""\$\(\((?P<sum>[^()\n]*(?:\([^()\n]*\)[^()\n]*)*)\)\)|{_OPEN}
    |\$\{{(?P<braced>(?:[^{{}}\n]|\$?\{{[^{{}}\n]*\}}){{1,200}})\}}|\$(?P<plain>[A-Za-z_]\w*|[@*\#?$!0-9-])"""
_PIECE = re.compile(
    rf"""\\(?P<escaped>.)|'(?P<single>[^']*)'|\$'(?P<ansi>(?:\\.|[^'\\])*)'|\$?(?P<double>")|{_EXPANSION}
    |(?P<text>[^\s;&|()<>"'\\$`]+|[^\s;&|()<>]|(?<==)<[^<>\n]{{1,100}}>)""",  # the last in documents
    re.DOTALL | re.VERBOSE,
)
_QUOTED_PIECE = re.compile(
    rf"""\\(?P<escaped>[$`"\\])|\\\r?\n|{_EXPANSION}|(?P<text>[^"\\$`]+|[^"])""", re.DOTALL | re.VERBOSE
)
_OUTPUT = re.compile(r"""'[^']*'|"(?:\\.|[^"\\])*"|\\.|(?P<sign>[()`])|[^()'"\\`]+|.""", re.DOTALL)
# A line that starts with an option continues the one above, as in documents that leave the sign for it out.
_BLANK = re.compile(r"(?:[ \t\r]|\\[ \t]*\r?(?:\n|\Z)|(?<![^\s;&|()\\])\#[^\n]*)+")
_CONTINUED = re.compile(r"\n(?:[ \t]*\#[^\n]*\n){0,20}(?=[ \t]*--[A-Za-z])")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Part(NamedTuple):
    """Of a word. ``value`` is what stands there, of an expansion what is in its brackets; ``written`` is all of it."""

    kind: Literal["text", "blank", "variable", "sum", "output"]
    value: str
    quoted: bool
    written: str = ""


Word = tuple[Part, ...]


class WordParser(Scanner):
    """``is_waiting``: a here-document starts after this line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.scanned = 0
        self.is_waiting = False

    def skip_blank(self) -> None:
        while self.match(_BLANK) or (not self.is_waiting and self.match(_CONTINUED)):
            pass

    def read_word(self) -> Word:
        """After blanks; empty where there is none."""
        self.skip_blank()
        return self.read_parts()

    def read_parts(self) -> Word:
        parts = list[Part]()
        while self.at < len(self.text) and (piece := self.match(_PIECE)) is not None:
            if piece["double"] is not None:
                parts += self._read_double()
            elif piece["escaped"] is not None:
                parts += [Part("text", piece["escaped"], quoted=True)] if piece["escaped"] != "\n" else []
            elif piece["single"] is not None:
                parts.append(Part("text", piece["single"], quoted=True))
            elif piece["ansi"] is not None:
                text = re.sub(r"\\(.)", lambda each: _ESCAPES.get(each[1], each[1]), piece["ansi"])
                parts.append(Part("text", text, quoted=True))
            else:
                parts.append(self._make_part(piece, quoted=False))
        return tuple(parts)

    def _read_double(self) -> list[Part]:
        """After a quote, up to the next one; the quote alone if there is none."""
        start, parts = self.at, [Part("text", "", quoted=True)]
        while self.at < len(self.text) and (piece := self.match(_QUOTED_PIECE)) is not None:
            self.scanned += 1
            if piece["escaped"] is not None:
                parts.append(Part("text", piece["escaped"], quoted=True))
            elif piece.lastgroup is not None:
                parts.append(self._make_part(piece, quoted=True))
        if self.text.startswith('"', self.at):
            self.at += 1
            return parts
        if self.scanned > _MAX_SCANNED:
            refuse_size()
        self.at = start
        return [Part("text", '"', quoted=True)]

    def _make_part(self, piece: re.Match[str], *, quoted: bool) -> Part:
        """Of an expansion or a text that was just read."""
        if piece["sum"] is not None:
            return Part("sum", piece["sum"], quoted, piece[0])
        if (name := piece["braced"] or piece["plain"]) is not None:
            return Part("variable", name, quoted, piece[0])
        if piece["output"] is None:
            return Part("text", piece["text"], quoted)
        inner = self._read_output(piece["output"])
        if inner is None:
            return Part("text", piece[0], quoted)
        return Part("output", inner, quoted, self.text[piece.start() : self.at])

    def _read_output(self, opening: str) -> str | None:
        """What is between $( and ), or between two `; None without an end."""
        start = at = self.at
        depth, closing = 1, "`" if opening == "`" else ")"
        while at - start < _MAX_OUTPUT and (found := _OUTPUT.match(self.text, at)) is not None:
            at = found.end()
            if found["sign"] == closing:
                depth -= 1
            elif found["sign"] == "(":
                depth += 1
            if depth == 0:
                self.at = at
                break
        self.scanned += at - start
        if self.scanned > _MAX_SCANNED:
            refuse_size()
        return self.text[start : at - 1] if depth == 0 else None

    def read_quoted(self, quote: str = '"') -> Word:
        """The parts of all the text, in which variables have their values, as between double quotes. ``quote`` is what
        becomes of such a quote."""
        parts = list[Part]()
        while self.at < len(self.text):
            if (piece := self.match(_QUOTED_PIECE)) is None:
                parts.append(Part("text", quote, quoted=True))
                self.at += 1
            elif piece["escaped"] is not None:
                parts.append(Part("text", piece["escaped"], quoted=True))
            elif piece.lastgroup is not None:
                parts.append(self._make_part(piece, quoted=True))
        return tuple(parts)

    def read_default(self, *, quoted: bool) -> Word:
        """All the text as what ${NAME:-} has: outside quotes, blanks are parts of their own."""
        if quoted:
            return self.read_quoted("")
        parts = list[Part]()
        while self.at < len(self.text):
            if self.match(re.compile(r"\s+")):
                parts.append(Part("blank", " ", quoted=False, written=" "))
            elif found := self.read_parts():
                parts += found
            else:
                parts.append(Part("text", self.text[self.at], quoted=False))
                self.at += 1
        return tuple(parts)


def get_text(word: Word) -> str | None:
    """A word without expansions; None for any other."""
    return "".join(part.value for part in word) if all(part.kind == "text" for part in word) else None


def show_word(word: Word) -> str:
    return "".join(part.written or part.value for part in word)
