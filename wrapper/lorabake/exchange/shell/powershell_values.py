"""Values in a PowerShell script: texts, variables, lists, tables, and what operators make of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from lorabake.exchange.shell.budget import check_size
from lorabake.exchange.shell.script import Node, Scanner, Step

_BLANK = re.compile(r"(?:[ \t\r\f\v\u3000]|`[ \t]*\r?\n|(?<![^\s;{}()|])\#[^\n]*)+")
_VARIABLE = re.compile(r"\$(?:(?:(env:)|\w+:(?=\w))?(\w+)|\{(env:)?([^{}\n]{1,100})\}|([?^$]))", re.IGNORECASE)
NUMBER = re.compile(r"(?:0x[\da-f]+|(?:\d+(?:\.\d+)?|\.\d+)(?:e[+-]?\d+)?)(?![\w\\/:])", re.IGNORECASE)
_LEVELS = [
    r"-(?:and|or|xor)\b",
    r"-(?:f|is|isnot|as|band|bor|bxor|shl|shr|[ci]?(?:eq|ne|[gl][te]|(?:not)?(?:like|match|contains|in)|replace|split|join))\b",
    r"\+(?![+=])|-(?![\w=-])|-(?=\d)",
    r"[*/%](?!=)",
    r"\.\.",
    ",",
]
COMMA = len(_LEVELS) - 1  # binds most
_OPERATOR = re.compile("|".join(f"({level})" for level in _LEVELS), re.IGNORECASE)
_UNARY = re.compile(r"!|-b?not\b|\+\+|--|[-+,]", re.IGNORECASE)
_TYPE = re.compile(r"\[([\w.]+(?:\[\])?)\]\s*(?:::(\w+))?")
_MEMBER = re.compile(r"\.(\w+)|(\[)|(\+\+|--)")
BARE = re.compile(r"""[^\s"'`$;|(){},&]+""")
_QUOTED = re.compile(r"""`(?P<escaped>.)|(?P<two>"")|(?P<end>")|(?P<text>[^"`$]+|.)""", re.DOTALL)
_HERE = re.compile(r"""`(?P<escaped>.)|(?P<two>(?!))|(?P<end>\r?\n"@)|(?P<text>[^`$\r\n]+|.)""", re.DOTALL)
_SINGLE = re.compile(r"'((?:[^']|'')*)'()")
_SINGLE_HERE = re.compile(r"@'[ \t]*\r?(?=\n)()(?:\n(.*?))?\r?\n'@", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "", "\n": ""}


@dataclass(frozen=True, slots=True)
class Expression:
    """``value`` is a text, a name or the statements in brackets, by kind; ``written`` is all of it."""

    kind: str
    written: str
    value: Any = None
    parts: tuple[Any, ...] = ()


class Member(NamedTuple):
    """After a value: a property, a method with its arguments, or an index."""

    name: str
    arguments: tuple[Expression, ...] | None = None


class UnclosedError(Exception):
    """A block or a text, which starts in this line, has no end: PowerShell would not run the file."""


class ExpressionParser(Scanner, ABC):
    """``target`` is the variable that a condition gives its value to, if any."""

    target: tuple[str, ...] = ()

    @abstractmethod
    def read_list(self, end: str) -> list[Node]:
        """Statements up to a bracket, which is read, too."""

    @abstractmethod
    def read_assignment(self) -> list[Node]:
        """What a variable is set to."""

    def refuse(self, at: int) -> NoReturn:
        raise UnclosedError(self.find_line(at))

    def skip(self, more: str = "") -> None:
        """Blanks, comments and some other signs."""
        while True:
            start = self.at
            self.match(_BLANK)
            if self.text.startswith("<#", self.at):
                end = self.text.find("#>", self.at)
                self.at = end + 2 if end >= 0 else self.refuse(self.at)
            elif self.at < len(self.text) and self.text[self.at] in more:
                self.at += 1
            if self.at == start:
                return

    def starts(self, sign: str) -> bool:
        return self.text.startswith(sign, self.at)

    def read_group(self) -> Expression:
        """What is in parentheses."""
        self.skip("\n")
        start = self.at
        if not self.starts("("):
            return Expression("unknown", "")
        self.at += 1
        target, self.target = self.target, ()
        nodes = self.read_list(")")
        self.target = target
        return Expression("group", self.text[start : self.at], nodes)

    def read_expression(self, lowest: int = 0) -> Expression:
        """Operators of one level are one expression, with those that bind more in it."""
        start, first, parts, level = self.at, self._read_unary(), list[tuple[str, Expression]](), -1
        while True:
            end = self.at
            self.skip()
            operator = _OPERATOR.match(self.text, self.at)
            found = (operator.lastindex or 0) - 1 if operator else -1
            if operator is None or found < lowest or (lowest == COMMA):
                self.at = end
                break
            if parts and found != level:
                first, parts = Expression("chain", self.text[start:end], level, (first, *parts)), []
            self.at = operator.end()
            self.skip("\n")
            level = found
            parts.append(
                (operator[0].lower(), self.read_expression(found + 1) if found < COMMA else self._read_unary())
            )
        return Expression("chain", self.text[start:end], level, (first, *parts)) if parts else first

    def _read_unary(self) -> Expression:
        self.skip()
        start = self.at
        if NUMBER.match(self.text, self.at):
            return self.read_primary()
        with self.nested():
            if found := self.match(_UNARY):
                operand = self._read_unary()
                return Expression("unary", self.text[start : self.at], found[0].lower(), (operand,))
            if found := self.match(_TYPE):
                if found[2]:
                    name = f"{found[1].lower().rpartition('.')[2]}::{found[2].lower()}"
                    arguments = self._read_arguments() if self.starts("(") else ()
                    return self._read_members(start, Expression("static", self.text[start : self.at], name, arguments))
                self.skip()
                if self.at >= len(self.text) or self.text[self.at] in ";\n)}|,":
                    return Expression("unknown", found[0])
                operand = self._read_unary()
                return Expression("cast", self.text[start : self.at], found[1].lower(), (operand,))
        return self.read_primary()

    def _read_arguments(self) -> tuple[Expression, ...]:
        group = self.read_group()
        values = [node.content for node in group.value if isinstance(node, Step)]
        found = values[0] if len(values) == 1 and isinstance(values[0], Expression) else None
        if found is not None and found.kind == "chain" and found.value == COMMA:
            return (found.parts[0], *(part for _, part in found.parts[1:]))
        return () if not group.value else (found or group,)

    def read_primary(self) -> Expression:
        start = self.at
        if found := self.match(NUMBER):
            return Expression("number", found[0], found[0])
        sign = next((each for each in ("@(", "@{", "(", "{", '@"', "@'", '"', "'") if self.starts(each)), "")
        match sign:
            case "@(":
                self.at += 1
                group = self.read_group()
                found_value = Expression("list", self.text[start : self.at], group.value)
            case "(":
                found_value = self.read_group()
            case "@{":
                self.at += 1
                found_value = self._read_table(start)
            case "{":
                self.at += 1
                self.read_list("}")
                return Expression("unknown", self.text[start : self.at])
            case "":
                found_value = self.read_variable()
            case _:
                found_value = self.read_string()
        return self._read_members(start, found_value)

    def _read_members(self, start: int, base: Expression) -> Expression:
        members = list[Member]()
        while found := _MEMBER.match(self.text, self.at):
            if found[1] and base.kind == "text":
                break
            self.at = found.end()
            if found[1]:
                arguments = self._read_arguments() if self.starts("(") else None
                members.append(Member(found[1].lower(), arguments))
            elif found[2]:
                nodes = self.read_list("]")
                members.append(Member("[", (Expression("group", self.text[found.start() : self.at], nodes),)))
        return Expression("path", self.text[start : self.at], base, tuple(members)) if members else base

    def iter_entries(self, start: int) -> Iterator[None]:
        """Comes to each entry in the braces of what began at ``start``, then behind them; whoever iterates reads it."""
        while True:
            self.skip(";\n")
            if self.at >= len(self.text):
                self.refuse(start)
            if self.starts("}"):
                self.at += 1
                return
            yield

    def _read_table(self, start: int) -> Expression:
        self.skip("\n")
        self.at += 1
        pairs = list[tuple[str, list[Node]]]()
        for _ in self.iter_entries(start):
            key = self.match(re.compile(r"""["']?([\w. -]+?)["']?\s*=\s*"""))
            if key is None:
                self.refuse(start)
            with self.nested():
                pairs.append((key[1].lower(), self.read_assignment()))
        return Expression("table", self.text[start : self.at], None, tuple(pairs))

    def read_variable(self) -> Expression:
        """Or a word."""
        if found := self.match(_VARIABLE):
            name = f"{found[1] or found[3] or ''}{found[2] or found[4] or found[5]}"
            return Expression("variable", found[0], name.lower())
        if self.starts("$("):
            start, self.at = self.at, self.at + 1
            nodes = self.read_group().value
            return Expression("group", self.text[start : self.at], nodes)
        found = self.match(BARE)
        text = found[0] if found else self.text[self.at : self.at + 1]
        self.at += 0 if found else 1
        return Expression("text" if text == "$" else "bare", text, text)

    def read_string(self) -> Expression:
        start = self.at
        if self.text[start : start + 2].lstrip("@").startswith("'"):
            found = self.match(_SINGLE) or self.match(_SINGLE_HERE) or self.refuse(start)
            check_size(len(found[0]))
            return Expression("text", found[0], found[2] or (found[1] or "").replace("''", "'"))
        here = self.match(re.compile(r'@"[ \t]*\r?(?=\n)'))
        self.at += 0 if here else 1
        pattern, parts = _HERE if here else _QUOTED, list[Expression]()
        while piece := pattern.match(self.text, self.at):
            check_size(self.at - start)
            if piece["end"]:
                self.at = piece.end()
                return Expression("string", self.text[start : self.at], None, tuple(parts[bool(here) :]))
            if self.starts("$"):
                parts.append(self.read_variable())
                continue
            self.at = piece.end()
            text = '"' if piece["two"] else ESCAPES.get(piece["escaped"] or "", piece["escaped"]) or piece["text"] or ""
            parts.append(Expression("text", piece[0], text))
        return self.refuse(start)
