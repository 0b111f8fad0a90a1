"""The statements of a PowerShell script."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lorabake.exchange.shell.budget import MAX_STEPS, check_size, refuse_size
from lorabake.exchange.shell.powershell_values import (
    BARE,
    COMMA,
    ESCAPES,
    NUMBER,
    Expression,
    ExpressionParser,
    UnclosedError,
)
from lorabake.exchange.shell.script import (
    Block,
    Branch,
    Chain,
    Choice,
    Function,
    Loop,
    Node,
    Step,
    While,
    list_scripts_of,
)

# A line that starts with an option continues the one above, as in documents that leave the sign for it out.
_CONTINUED = re.compile(r"\n(?:[ \t]*\#[^\n]*\n){0,20}(?=[ \t]*--[A-Za-z])")
_KEYWORD = re.compile(
    r"(if|foreach|for|while|switch|do|function|filter|param|try|trap|return|exit|throw|break|continue|begin|process|end"
    r"|class|enum)(?![\w.\\/:-])",
    re.IGNORECASE,
)
_ELSE = re.compile(r"(else\s*if|else)\b", re.IGNORECASE)
_TARGET = re.compile(
    r"(?:\[(?:[\w.]|\[[\w.]*\])+\]\s*)*\$\{?(?:(env:)|(global:|script:)|(?:local|private):)?(\w+)\}?"
    r"""((?:\.\w+|\[(?:"[^"$\n]*"|'[^'\n]*'|[^\[\]\n"'=]{1,60})\])*)[ \t]*(\+\+|--|[-+*/%]?=(?!=))""",
    re.IGNORECASE,
)
_DECLARATION = re.compile(r"\[\w+\([^\]\n]*\)\]")
_PARAMETER = re.compile(r"\$(\w+)\s*(=)?")
_ATTRIBUTE = re.compile(r"""\[((?:[^\[\]"']|\[[^\[\]]*\]|"[^"\n]*"|'[^'\n]*')*)\]""")
_STARTS_EXPRESSION = re.compile(r"""["'(\[{!$@+,]|-(?![\w-]+)|-not\b|-\d""", re.IGNORECASE)
_CLOSING = re.compile(r"[)}\]]+")
_REDIRECTION = re.compile(r"[\d*]?>{1,2}(?:&\d)?")
_UNEXPECTED = re.compile(
    r"\$args\b|\$LASTEXITCODE\s+-ne\b|(?:!|-not\b)\s*\(*\s*(?:\$\?|[a-z]+-[a-z]+\b)|^if[\s(]*\$env:\w+[\s)]*$",
    re.IGNORECASE,
)


class Assignment(NamedTuple):
    """``operator`` is ?= for a parameter with a default. ``is_local``: within a function it is of that function."""

    name: str
    operator: str
    value: list[Node]
    is_local: bool = True


class Call(NamedTuple):
    """A command; ``input`` is a value that goes into it. ``is_sourced``: the script that it is sets variables here."""

    words: tuple[Expression, ...]
    input: Expression | None = None
    is_sourced: bool = False


class Jump(NamedTuple):
    how: str


@dataclass(frozen=True, slots=True)
class Piped(Block):
    """What goes into a command, and is no value of its own."""


class Called(Block):
    """A block that & runs as a function without a name."""


class Match(NamedTuple):
    """An arm of a switch, which compares $_ with an operator."""

    operator: str
    pattern: Expression


class Parser(ExpressionParser):
    """Reads a script from its start."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.read = 0
        self.assigned = set[str]()  # the variables that the script sets somewhere

    def parse(self) -> list[Node]:
        try:
            return self.read_list("")
        except UnclosedError as error:
            self.unclosed = int(str(error))
            return []

    def read_list(self, end: str) -> list[Node]:
        """Statements up to a bracket, which is read, too."""
        start, nodes = self.at, list[Node]()
        with self.nested():
            while True:
                self.skip(";\n")
                if self.at >= len(self.text):
                    return nodes if not end else self.refuse(start - 1)
                if end and self.starts(end):
                    self.at += 1
                    return nodes
                if self.match(_CLOSING):
                    if end:
                        self.refuse(start - 1)
                    continue
                before = self.at
                nodes += self._read_statement()
                self.at += self.at == before
                self.read += 1
                if self.read > MAX_STEPS:
                    refuse_size()

    def _read_block(self) -> list[Node]:
        self.skip("\n")
        if not self.starts("{"):
            return []
        self.at += 1
        return self.read_list("}")

    def _read_statement(self) -> list[Node]:  # noqa: C901, PLR0911, PLR0912 - one for each kind
        if self.match(_DECLARATION):
            return []
        start, line = self.at, self.find_line(self.at)
        keyword = self.match(_KEYWORD)
        match keyword[1].lower() if keyword else "":
            case "if":
                return [self._read_if(start)]
            case "foreach" | "for" | "while" as word:
                return self._read_loop(word, start)
            case "switch":
                return [self._read_switch(start)]
            case "function" | "filter":
                return [self._read_function()]
            case "param":
                return list(self._read_parameters())
            case "do" | "begin" | "process" | "end" as word:
                body = self._read_block()
                end = self._look_for(re.compile(r"(while|until)\b", re.IGNORECASE)) if word == "do" else None
                if end is None:
                    return [Block(body, is_loop=word == "do")]
                condition = self.read_group()
                shown = self.text[end.start() : self.at]
                if end[1].lower() == "until":
                    condition = Expression("unary", shown, "!", (condition,))
                return [While(condition, shown, body, at_end=True)]
            case "try":
                return self._read_try()
            case "trap" | "class" | "enum":
                self.match(re.compile(r"[^{\n]*"))
                self._read_block()
                return []
            case "return" | "exit" | "throw" as word:
                self.skip()
                value = [] if self.at >= len(self.text) or self.text[self.at] in ";\n)}" else self._read_pipeline()
                return [*value, Step(line, Jump(word))]
            case "break" | "continue" as word:
                return [Step(line, Jump(word))]
            case _:
                return self.read_assignment()

    def _look_for(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """A word after a block; nothing is read if it is another one."""
        start = self.at
        self.skip("\n")
        found = self.match(pattern)
        if found is None:
            self.at = start
        return found

    def _read_if(self, start: int) -> Node:
        branches = list[Branch]()
        while True:
            condition = self.read_group()
            shown = self.text[start : self.at]
            branches.append(Branch(condition, shown, self._read_block()))
            found = self._look_for(_ELSE)
            if found is None or found[1].lower() == "else":
                break
            start = found.start()
        if found is not None:
            branches.append(Branch(None, "", self._read_block()))
        return Choice(tuple(branches), expected=_UNEXPECTED.search(branches[0].shown) is None)

    def _read_loop(self, word: str, start: int) -> list[Node]:
        if word != "foreach":
            before, condition, after = self._read_turns() if word == "for" else ([], self.read_group(), [])
            shown = self.text[start : self.at]
            return [*before, While(condition, shown, self._read_block(), after)]
        self.skip("\n")
        head = self.match(re.compile(r"\(\s*\$(\w+)\s+in\s+", re.IGNORECASE))
        if head is None:
            return []
        nodes = self.read_list(")")
        shown = self.text[start : self.at]
        values = Expression("group", shown, nodes)
        return [Loop(head[1].lower(), values, shown, self._read_block())]

    def _read_turns(self) -> tuple[list[Node], Expression, list[Node]]:
        """What for does first, what it asks, and what it does after each turn."""
        self.skip("\n")
        start, parts = self.at, list[list[Node]]([[]])
        self.at += self.starts("(")
        while True:
            self.skip("\n")
            if self.at >= len(self.text):
                self.refuse(start)
            if self.starts(")") or self.starts(";"):
                self.at += 1
                if self.text[self.at - 1] == ")":
                    break
                parts.append([])
                continue
            before = self.at
            parts[-1] += self._read_statement()
            self.at += self.at == before
        parts += [[], []]
        asked = (
            Expression("group", self.text[start : self.at], parts[1]) if parts[1] else Expression("number", "1", "1")
        )
        return parts[0], asked, parts[2]

    def _read_switch(self, start: int) -> Node:
        self.skip()
        operator = "eq"
        while flag := self.match(re.compile(r"-(\w+)\s*")):
            operator = {"wildcard": "like", "regex": "match"}.get(flag[1].lower(), operator)
        subject = self.read_group()
        shown, branches, default = self.text[start : self.at], list[Branch](), list[Branch]()
        self.skip("\n")
        self.at += self.starts("{")
        for _ in self.iter_entries(start):
            before = self.at
            asked = self._read_block()
            pattern = Expression("group", "{", asked) if asked else self.read_primary()
            if pattern.written.lower() == "default":
                default = [Branch(None, "", self._read_block())]
            else:
                branches.append(Branch(pattern if asked else Match(operator, pattern), shown, self._read_block()))
            self.at += self.at == before
        return Loop("_", subject, shown, (Choice((*branches, *default), expected=False, every=True),))

    def _read_function(self) -> Node:
        self.skip()
        name = self.match(re.compile(r"(?:\w+:)?([\w-]+)"))
        self.skip("\n")
        given = list(self._read_parameters()) if self.starts("(") else []
        body = [*given, *self._read_block()]
        return Function(name[1].lower() if name else "", list_parameters(body), body)

    def _read_parameters(self) -> Iterator[Step]:
        self.skip("\n")
        start = self.at
        self.at += self.starts("(")
        while True:
            self.skip(",\n")
            if self.at >= len(self.text):
                self.refuse(start)
            if self.starts(")"):
                self.at += 1
                return
            attribute = self.match(_ATTRIBUTE)
            if attribute is not None:
                continue
            line, found = self.find_line(self.at), self.match(_PARAMETER)
            if found is None:
                self.refuse(start)
            value: list[Node] = []
            if found[2]:
                self.skip("\n")
                value = [Step(line, self.read_expression(COMMA))]
            yield Step(line, Assignment(found[1].lower(), "?=", value))

    def _read_try(self) -> list[Node]:
        nodes: list[Node] = [Block(self._read_block())]
        while found := self._look_for(re.compile(r"(catch|finally)\b", re.IGNORECASE)):
            self.match(re.compile(r"[^{\n]*"))
            body = self._read_block()
            nodes += [Block(body)] if found[1].lower() == "finally" else []
        return nodes

    def read_assignment(self) -> list[Node]:
        line, found = self.find_line(self.at), self.match(_TARGET)
        if found is None:
            return self._read_pipeline()
        keys = re.findall(r"\.(\w+)|\[[\"']([^\"'\]]+)|\[(-?\d+|\$\w+)\]|\[", found[4])
        places = (one or two or three or "$" for one, two, three in keys)
        name = ".".join([f"{found[1] or ''}{found[3]}", *places]).lower()
        self.assigned |= set() if found[1] else {name}
        names, is_local = (found[3].lower(),), not (found[1] or found[2])
        if found[5] in {"++", "--"}:
            value: list[Node] = [Step(line, Expression("number", "1", "1"))]
            return [Step(line, Assignment(name, f"{found[5][0]}=", value, is_local), names)]
        self.skip("\n")
        with self.nested():
            if _KEYWORD.match(self.text, self.at):
                before, self.target = self.target, names
                value = self._read_statement()
                self.target = before
            else:
                value = self.read_assignment()
        return [Step(line, Assignment(name, found[5], value, is_local), names)]

    def _read_pipeline(self) -> list[Node]:
        start, parts, joint = self.at, list[tuple[str, Node]](), ""
        while True:
            nodes = self._read_pipe()
            parts.append((joint, Block(nodes)))
            joint = self.text[self.at : self.at + 2]
            if joint not in {"&&", "||"}:
                return nodes if len(parts) == 1 else [Chain(tuple(parts), self.text[start : min(self.at, start + 300)])]
            self.at += 2
            self.skip("\n")

    def _read_pipe(self) -> list[Node]:
        nodes, source = list[Node](), None
        while True:
            line = self.find_line(self.at)
            if _STARTS_EXPRESSION.match(self.text, self.at) or NUMBER.match(self.text, self.at):
                source = self.read_expression()
                names = re.findall(r"\$(\w+)\.(?:add|addrange|insert|remove)\(", source.written.lower())
                found: list[Node] = [Step(line, source, (*names, *self.target))]
            else:
                found = self._read_command(source)
                source = None
            self.skip()
            if not self.starts("|") or self.starts("||"):
                return [*nodes, *found]
            nodes.append(Piped(found))
            self.at += 1
            self.skip("\n")

    def _read_command(self, source: Expression | None) -> list[Node]:
        start, line = self.at, self.find_line(self.at)
        words, blocks = list[Expression](), list[list[Node]]()
        called = self.match(re.compile(r"[&.](?=[\s\"'$({])"))
        while True:
            self.skip()
            while self.match(_CONTINUED):
                self.skip()
            if self.starts("{"):
                self.at += 1
                blocks.append(self.read_list("}"))
            elif word := self._read_word():
                words.append(word)
            else:
                break
        if called and not words:
            return [(Called if called[0] == "&" else Block)(block) for block in blocks]
        name = words[0].written.lower() if words else ""
        shown = self.text[start : self.at].partition("{")[0].strip()
        if name in {"%", "foreach", "foreach-object"}:
            return [Loop("_", source, shown, block, is_called=True) for block in blocks]
        names = [*list_scripts_of(word.written.strip("\"'") for word in words), *self.target]
        loops = [Loop("_", None, shown, block, is_called=True) for block in blocks]
        call = Call(tuple(words), source, is_sourced=called is not None and called[0] == ".")
        return [*([Step(line, call, tuple(names))] if words else []), *loops]

    def _read_word(self) -> Expression | None:
        """An argument, or several with commas; None where there is none."""
        start, items = self.at, list[Expression]()
        while True:
            item = self._read_item()
            if item is None:
                break
            items.append(item)
            end = self.at
            self.skip()
            if not self.starts(","):
                self.at = end
                break
            self.at += 1
            self.skip("\n")
        if len(items) < 2:
            return items[0] if items else None
        return Expression("items", self.text[start : self.at], None, tuple(items))

    def _read_item(self) -> Expression | None:  # noqa: C901 - one for each kind
        start, parts = self.at, list[Expression]()
        if found := self.match(_REDIRECTION):
            return Expression("text", found[0], found[0])
        if found := self.match(re.compile(r"@(\w+)")):
            return Expression("splat", found[0], found[1].lower())
        if self.starts("(") or self.starts('@"') or self.starts("@'"):
            return self.read_primary()
        while self.at < len(self.text):
            check_size(self.at - start)
            if found := self.match(BARE):
                parts.append(Expression("text", found[0], found[0]))
            elif found := self.match(re.compile(r"`(.)", re.DOTALL)):
                parts.append(Expression("text", found[0], ESCAPES.get(found[1], found[1])))
            elif self.text[self.at] in "\"'":
                parts.append(self.read_string())
            elif self.starts("$"):
                parts.append(self.read_primary() if not parts else self.read_variable())
            elif self.text[self.at] in "({" and parts and parts[-1].value == "@":
                parts.pop()
                self.at -= 1
                return self.read_primary()
            elif self.starts("&") and not self.starts("&&"):
                self.at += 1
                break
            else:
                break
        if len(parts) < 2:
            return parts[0] if parts else None
        return Expression("string", self.text[start : self.at], None, tuple(parts))


def list_parameters(body: Sequence[Node]) -> tuple[str, ...]:
    """Of a function or a script."""
    contents = (node.content for node in body if isinstance(node, Step))
    return tuple(each.name for each in contents if isinstance(each, Assignment) and each.operator == "?=")
