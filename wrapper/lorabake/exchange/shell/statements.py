"""Splitting the script of a shell into statements, and which of them are run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from lorabake.exchange.shell.script import (
    MAX_STEPS,
    Command,
    Value,
    add_size,
    check_script,
    check_size,
    refuse_size,
)

_CONTINUED = "\x00"  # stands for a line end that continues the statement


class Dialect(NamedTuple):
    """``escape`` takes the meaning of the next sign away, and continues a line at its end. A statement ends at one of
    the ``separators``; ``blocks`` are statements of their own; ``brackets`` keep what is in them together.
    """

    escape: str
    separators: str
    blocks: str = ""
    brackets: str = "()"


class Statement(NamedTuple):
    """``end`` is the sign that it ends at, empty at the end of the text."""

    line: int
    text: str
    end: str


@dataclass(slots=True)
class Branch:
    """An open condition or block. ``run``: whether its statements are run; ``maybe``: whether they could be;
    ``done``: whether a branch of it was; ``doubt``: the condition that nobody could answer."""

    run: bool
    maybe: bool
    done: bool
    doubt: str = ""
    kind: str = ""
    target: str = ""


@dataclass(slots=True)
class ReadScript:
    """What a script does. ``doubts`` are the conditions that only a shell can answer, with the names of what is set
    under each."""

    variables: dict[str, Value]
    commands: list[Command] = field(default_factory=list[Command])
    doubts: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    branches: list[Branch] = field(default_factory=list[Branch])
    written: dict[str, str] = field(default_factory=dict[str, str])
    size: int = 0
    steps: int = 0

    def enter(self, holds: bool | None, text: str, *, kind: str = "", taken: bool = True, target: str = "") -> None:
        """A block. A condition without an answer counts as true if ``taken``; what it sets is a line of the report."""
        run = holds is True or (holds is None and taken)
        doubt = " ".join(text.split()) if holds is None else ""
        self.branches.append(Branch(run, holds is not False, run, doubt, kind, target))

    def turn(self, holds: bool | None, text: str) -> None:
        """The next branch of the innermost condition."""
        if not self.branches:
            return
        last = self.branches[-1]
        if holds is None and (not last.done or last.doubt):
            last.doubt = last.doubt or " ".join(text.split())
        taken = holds is True or (holds is None and last.kind != "case")
        last.run = taken and not last.done
        last.maybe = last.run or (bool(last.doubt) and holds is not False)
        last.done = last.done or last.run

    def close(self) -> Branch | None:
        """The end of the innermost block."""
        return self.branches.pop() if self.branches else None

    def is_run(self) -> bool:
        self.steps += 1
        if self.steps > MAX_STEPS:
            refuse_size()
        return all(each.run for each in self.branches)

    def is_sure(self) -> bool:
        return not any(each.doubt for each in self.branches)

    def set_variable(self, name: str, value: str | list[str] | None) -> None:
        """None: only a shell knows the value."""
        self.note(name)
        if value is None:
            self.variables.pop(name, None)
            return
        self._count(value)
        self.variables[name] = value

    def add_command(self, line: int, words: list[str]) -> None:
        self._count(words)
        self.commands.append(Command(line, words))
        for word in words:
            if word.endswith(".py"):
                self.note(re.split(r"[\\/]", word)[-1])

    def note(self, name: str) -> None:
        """What is set, or would be, under a condition without an answer."""
        if not all(each.run or each.maybe for each in self.branches):
            return
        for each in self.branches:
            if each.doubt:
                names = self.doubts.setdefault(each.doubt, [])
                if name not in names:
                    names.append(name)

    def _count(self, value: str | list[str]) -> None:
        self.size = add_size(self.size, value)


def expand(pattern: re.Pattern[str], fill: Callable[[re.Match[str]], str], text: str) -> str:
    """``text`` with what ``fill`` gives for each match. Raises RecipeError above the size of a value."""
    parts, at, size = list[str](), 0, len(text)
    for each in pattern.finditer(text):
        value = fill(each)
        size += len(value)
        check_size(size)
        parts += [text[at : each.start()], value]
        at = each.end()
    return "".join([*parts, text[at:]])


def split_statements(text: str, dialect: Dialect) -> Iterator[Statement]:
    """Statements and blocks; comments are left out. A line that starts with an option continues the one above, as in
    documents that leave the sign for it out. Raises RecipeError for a script or a statement without end."""
    check_script(text)
    escape = re.escape(dialect.escape)
    text = re.sub(rf"{escape}[ \t]*\r?\n|\r?\n(?=[ \t]*--[A-Za-z])", f" {_CONTINUED}", text)
    tokens = re.compile(
        rf"""(?P<comment>(?<![^\s;{_CONTINUED}])\#[^\n]*)|(?P<text>{escape}.|"(?:{escape}.|[^"])*"?|'[^']*'?"""
        rf"""|\$\{{[^}}\n]{{0,200}}\}}|\d?>&\d?|&>)|(?P<sign>.)""",
        re.DOTALL | re.VERBOSE,
    )
    opening, closing = dialect.brackets[::2], dialect.brackets[1::2]
    line = start = 1
    parts, size, blank, depth = list[str](), 0, True, 0
    for token in tokens.finditer(text):
        sign = token["sign"] or ""
        ends = sign != "" and not depth and sign in f"{dialect.separators}{dialect.blocks}"
        if ends:
            yield Statement(start, _clean(parts), sign)
            parts, size, blank = [], 0, True
        if ends and sign in dialect.blocks:
            yield Statement(line, sign, "")
        if not ends and token["comment"] is None:
            depth += (sign != "" and sign in opening) - (sign != "" and sign in closing and depth > 0)
            parts.append(token[0])
            size += len(token[0])
            blank = blank and not token[0].strip(f" \t\r{_CONTINUED}")
            if not blank:
                check_size(size)
        line += token[0].count("\n") + token[0].count(_CONTINUED)
        if blank:
            start = line
    yield Statement(start, _clean(parts), "")


def _clean(parts: list[str]) -> str:
    return "".join(parts).replace(_CONTINUED, " ").strip()
