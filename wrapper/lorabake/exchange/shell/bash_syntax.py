"""The statements of a bash script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from lorabake.exchange.shell.script import (
    MAX_STEPS,
    Block,
    Branch,
    Chain,
    Choice,
    Function,
    Loop,
    Node,
    Scanner,
    Step,
    refuse_size,
)

DECLARING = ("export", "local", "readonly", "declare", "typeset")
READING = ("read", "unset", "mapfile", "readarray", "let")
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
_BLANK = re.compile(r"(?:[ \t\r]|\\[ \t]*\r?\n|(?<![^\s;&|()\\])\#[^\n]*)+")
_CONTINUED = re.compile(r"\n(?:[ \t]*\#[^\n]*\n){0,20}(?=[ \t]*--[A-Za-z])")
_REDIRECTION = re.compile(r"(?:\d+|\{\w+\})?(<<<|<<-?|<>|<&|>&|&>>?|>>|>\||[<>])(?!\()")
_SEPARATOR = re.compile(r";;&?|;&|&&|\|\||\|&|[;&|()\n]")
_KEYWORD = re.compile(r"(?:[A-Za-z]+|[{}!]|\[\[)(?=[\s;&|()<>]|\Z)")
_SUM = re.compile(r"\(\((.{0,500}?)\)\)", re.DOTALL)
_FOR_SUM = re.compile(r"for\s*\(\(.{0,500}?\)\)", re.DOTALL)
_FUNCTION = re.compile(r"(?:function\s+([\w-]+)\s*(?:\(\s*\))?|([\w-]+)[ \t]*\(\s*\))\s*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[[^\]\n]*\])?(\+?)=")
_TESTED = re.compile(r"[^\s\"'\\$`]+|[^\s]")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class Part(NamedTuple):
    """Of a word. ``value`` is what stands there, of an expansion what is in its brackets; ``written`` is all of it."""

    kind: Literal["text", "variable", "sum", "output"]
    value: str
    quoted: bool
    written: str = ""


Word = tuple[Part, ...]


class Assignment(NamedTuple):
    """``value`` is a list of words for an array."""

    name: str
    added: bool
    value: Word | list[Word]


@dataclass(slots=True)
class Document:
    """A here-document; without ``body`` until its line ends."""

    end: str
    expanded: bool
    indented: bool
    body: Word = ()


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, else a command with its words; ``target`` is the file that its output goes to."""

    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...] = ()
    document: Document | None = None
    target: Word = ()


@dataclass(frozen=True, slots=True)
class Test:
    """What is between [[ and ]], or within (( and )) as ``total``."""

    words: tuple[Word, ...] = ()
    total: str | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """An arm of a case."""

    subject: Word
    patterns: tuple[Word, ...]


class _UnclosedError(Exception):
    """A block, which starts in this line, has no end: bash would not run it."""


class Parser(Scanner):
    """Reads a script from its start."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.scanned = self.read = 0
        self.waiting = list[Document]()

    def parse(self) -> list[Node]:
        nodes = list[Node]()
        try:
            self._read_list((), nodes)
        except _UnclosedError as error:
            self.unclosed = int(str(error))
        return nodes

    def _skip_blank(self) -> None:
        while self.match(_BLANK) or (not self.waiting and self.match(_CONTINUED)):
            pass

    def _skip_lines(self) -> None:
        """Blanks, ends of lines, and here-documents after them."""
        while True:
            self._skip_blank()
            if not self.text.startswith("\n", self.at):
                return
            self.at += 1
            for document in self.waiting:
                self._read_document(document)
            self.waiting.clear()

    def _read_document(self, document: Document) -> None:
        lines = list[str]()
        while self.at < len(self.text):
            end = self.text.find("\n", self.at)
            end = len(self.text) if end < 0 else end
            line = self.text[self.at : end].removesuffix("\r")
            line = line.lstrip("\t") if document.indented else line
            self.at = end + 1
            if line == document.end:
                break
            lines.append(line)
        self.at = min(self.at, len(self.text))
        body = "".join(f"{line}\n" for line in lines)
        document.body = Parser(body).read_quoted() if document.expanded else (Part("text", body, quoted=True),)

    def _read_list(self, until: Sequence[str], nodes: list[Node]) -> list[Node]:
        """Statements up to one of some words or signs, which is not read."""
        start = self.at
        while True:
            self._skip_lines()
            if self.at >= len(self.text):
                if until:
                    raise _UnclosedError(self.find_line(start))
                return nodes
            sign = _SEPARATOR.match(self.text, self.at)
            keyword = _KEYWORD.match(self.text, self.at)
            if (sign or keyword) and (sign or keyword)[0] in until:  # type: ignore[index]
                return nodes
            if sign is not None and sign[0] != "(":
                self.at = sign.end()
            elif keyword is not None and keyword[0] in {"fi", "done", "esac", "then", "do", "else", "}"}:
                self.at = keyword.end()  # without its start
            else:
                nodes.append(self._read_chain())

    def _read_block(self, *until: str) -> list[Node]:
        """Statements up to one of some words or signs, which is read, too."""
        found = self._read_list(until, [])
        self.at += len(self._peek(*until))
        return found

    def _peek(self, *words: str) -> str:
        """Which of some words or signs comes next."""
        self._skip_blank()
        return next((word for word in words if self.text.startswith(word, self.at)), "")

    def _read_chain(self) -> Node:
        start = self.at
        parts = [self._read_pipe()]
        while joint := self._peek("&&", "||"):
            self.at += 2
            self._skip_lines()
            parts.append((joint, self._read_pipe()[1]))
        if len(parts) == 1 and not parts[0][0]:
            return parts[0][1]
        return Chain(tuple(parts), self.text[start : min(self.at, start + 300)])

    def _read_pipe(self) -> tuple[str, Node]:
        negated = ""
        if self.match(re.compile(r"!\s+")):
            negated = "!"
        nodes = [self._read_command()]
        while (sign := self._peek("||", "|&", "|")) in {"|", "|&"}:
            self.at += len(sign)
            self._skip_lines()
            nodes.append(self._read_command())
        return negated, nodes[0] if len(nodes) == 1 else Block(nodes)

    def _read_command(self) -> Node:
        with self.nested():
            node = self._read_compound()
        if node is None:
            return self._read_simple()
        self._skip_blank()
        while _REDIRECTION.match(self.text, self.at):
            self._read_redirection()
            self._skip_blank()
        return node

    def _read_compound(self) -> Node | None:  # noqa: PLR0911 - one for each kind of statement
        start = self.at
        line = self.find_line(start)
        if (total := self.match(_SUM)) is not None:
            names = re.findall(r"(\w+)\s*(?:[-+*/%]?=(?!=)|\+\+|--)", total[1])
            return Step(line, Test(total=total[1]), tuple(names))
        if self._peek("("):
            self.at += 1
            return Block(self._read_block(")"))
        if (function := self.match(_FUNCTION)) is not None and (function[1] or function[2]) not in {"if", "while"}:
            self._skip_lines()
            return Function(function[1] or function[2], (), [self._read_command()])
        self.at = start
        keyword = self.match(_KEYWORD)
        match keyword[0] if keyword else "":
            case "{":
                return Block(self._read_block("}"))
            case "if":
                return self._read_if()
            case "while" | "until" as word:
                condition, shown = self._read_condition("do")
                body = self._read_block("done")
                return Block((Choice((Branch((word == "until", condition), shown, body),)),), is_loop=True)
            case "for" | "select":
                self.at = start
                return self._read_loop()
            case "case":
                return self._read_case()
            case "[[":
                return Step(line, Test(self._read_test()))
            case _:
                self.at = start
                return None

    def _read_condition(self, end: str) -> tuple[list[Node], str]:
        start = self.at
        found = self._read_list((end,), [])
        shown = self.text[start : self.at].strip().rstrip(";")
        self.at += len(end)
        return found, shown

    def _read_if(self) -> Node:
        branches, word = list[Branch](), "if"
        while word in {"if", "elif"}:
            condition, shown = self._read_condition("then")
            body = self._read_list(("elif", "else", "fi"), [])
            branches.append(Branch((False, condition), shown, body))
            word = self._peek("elif", "else", "fi")
            self.at += len(word)
        if word == "else":
            branches.append(Branch(None, "", self._read_block("fi")))
        return Choice(tuple(branches))

    def _read_loop(self) -> Node:
        start = self.at
        name, values = "", None
        if self.match(_FOR_SUM) is None:
            word = self.match(re.compile(r"(for|select)\s+(\w+)\s*")) or self.match(_KEYWORD)
            name = word[2] if word is not None and word.re.groups else ""
            self._skip_lines()
            if self.match(re.compile(r"in\b")):
                values = self._read_words() if self.text.startswith("for", start) else None
        shown = self.text[start : self.at].strip()
        self._read_block("do")
        return Loop(name, values, shown, self._read_block("done"))

    def _read_words(self) -> list[Word]:
        words = list[Word]()
        while word := self._read_word():
            words.append(word)
        return words

    def _read_case(self) -> Node:
        subject = self._read_word()
        self._skip_lines()
        self.match(re.compile(r"in\b"))
        branches = list[Branch]()
        while True:
            self._skip_lines()
            start = self.at
            if self.at >= len(self.text):
                raise _UnclosedError(self.find_line(start))
            if self.match(re.compile(r"esac(?=[\s;&|)<>]|\Z)")):
                return Choice(tuple(branches), expected=False)
            self.match(re.compile(r"\("))
            patterns = list[Word]()
            while word := self._read_word():
                patterns.append(word)
                self.match(re.compile(r"[ \t]*\|"))
            self.match(re.compile(r"\)|."))
            shown = f"case {show_word(subject)} in {self.text[start : self.at]}"
            body = self._read_list((";;", ";;&", ";&", "esac"), [])
            self.match(re.compile(r";;&?|;&"))
            branches.append(Branch(Match(subject, tuple(patterns)), shown, body))

    def _read_test(self) -> tuple[Word, ...]:
        words = list[Word]()
        while True:
            self._skip_lines()
            if self.match(re.compile(r"\]\]")) or self.at >= len(self.text):
                return tuple(words)
            sign = self.match(re.compile(r"&&|\|\||[()<>;&|]"))
            words.append((Part("text", sign[0], quoted=False),) if sign else self._read_word())

    def _read_simple(self) -> Node:
        line = self.find_line(self.at)
        self.read += 1
        if self.read > MAX_STEPS:
            refuse_size()
        words, assignments = list[Word](), list[Assignment]()
        document, target = None, Word()
        while True:
            self._skip_blank()
            if _REDIRECTION.match(self.text, self.at):
                found, place = self._read_redirection()
                document, target = found or document, place or target
                continue
            declares = bool(words) and get_text(words[0]) in DECLARING
            if (not words or declares) and (assigned := _ASSIGNMENT.match(self.text, self.at)):
                self.at = assigned.end()
                assignments.append(Assignment(assigned[1], bool(assigned[2]), self._read_value()))
            elif word := self._read_word():
                words.append(word)
            else:
                break
        if not words and not assignments and _SEPARATOR.match(self.text, self.at) is None:
            self.at += 1  # a sign that starts nothing
        names = [get_text(word) for word in words[1:]] if words and get_text(words[0]) in READING else []
        if not words or get_text(words[0]) in DECLARING:
            names += [each.name for each in assignments]
        names += [each for word in words if (each := re.split(r"[\\/]", show_word(word))[-1]).endswith(".py")]
        return Step(line, Simple(tuple(words), tuple(assignments), document, target), tuple(filter(None, names)))

    def _read_value(self) -> Word | list[Word]:
        if not self.text.startswith("(", self.at):
            return self._read_parts()
        start, words = self.at, list[Word]()
        self.at += 1
        while True:
            self._skip_lines()
            if self._peek(")"):
                self.at += 1
                return words
            if word := self._read_word():
                words.append(word)
            elif self.at >= len(self.text):
                raise _UnclosedError(self.find_line(start))
            else:
                self.at += 1

    def _read_redirection(self) -> tuple[Document | None, Word]:
        """A here-document, or the file that the output goes to."""
        sign = self.match(_REDIRECTION)
        word = self._read_word()
        if sign is None or sign[1] not in {"<<", "<<-"}:
            return None, word if sign is not None and sign[1] in {">", ">|"} and not sign[0].startswith("2") else ()
        plain = all(part.kind == "text" and not part.quoted for part in word)
        document = Document("".join(part.value for part in word), plain, sign[1] == "<<-")
        self.waiting.append(document)
        return document, ()

    def _read_word(self) -> Word:
        """After blanks; empty where there is none."""
        self._skip_blank()
        return self._read_parts()

    def _read_parts(self) -> Word:
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
        if self._peek('"'):
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

    def read_quoted(self) -> Word:
        """The parts of all the text, in which variables have their values, as between double quotes."""
        parts = list[Part]()
        while self.at < len(self.text):
            if (piece := self.match(_QUOTED_PIECE)) is None:
                parts.append(Part("text", '"', quoted=True))
                self.at += 1
            elif piece["escaped"] is not None:
                parts.append(Part("text", piece["escaped"], quoted=True))
            elif piece.lastgroup is not None:
                parts.append(self._make_part(piece, quoted=True))
        return tuple(parts)


def get_text(word: Word) -> str | None:
    """A word without expansions; None for any other."""
    return "".join(part.value for part in word) if all(part.kind == "text" for part in word) else None


def show_word(word: Word) -> str:
    return "".join(part.written or part.value for part in word)
