"""The statements of a bash script."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lorabake.exchange.shell.bash_words import Part, Word, WordParser, get_text, show_word
from lorabake.exchange.shell.budget import MAX_STEPS, refuse_size
from lorabake.exchange.shell.script import Block, Branch, Chain, Choice, Function, Loop, Node, Step, While

DECLARING = ("export", "local", "readonly", "declare", "typeset")
READING = ("read", "unset", "mapfile", "readarray", "let")
_LISTING, _LISTED = tuple("?*+@!"), re.compile(r"\((?:[^()\n]|\([^()\n]*\))*\)")  # of extglob
_NUMBERS = ("-", *"0123456789")
_REDIRECTION = re.compile(r"(\d+|\{\w+\})?(<<<|<<-?|<>|<&|>&|&>>?|>>|>\||[<>])(?!\()")
_SEPARATOR = re.compile(r";;&?|;&|&&|\|\||\|&|[;&|()\n]")
_KEYWORD = re.compile(r"(?:[A-Za-z]+|[{}!]|\[\[)(?=[\s;&|()<>]|\Z)")
_SUM = re.compile(r"\(\((.{0,500}?)\)\)", re.DOTALL)
_FOR_SUM = re.compile(r"for\s*\(\((.{0,200}?);(.{0,200}?);(.{0,200}?)\)\)", re.DOTALL)
_FUNCTION = re.compile(r"(?:function\s+([\w-]+)\s*(?:\(\s*\))?|([\w-]+)[ \t]*\(\s*\))\s*")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(?:\[([^\]\n]*)\])?(\+?)=")


class Assignment(NamedTuple):
    """``value`` is a list of words for an array; ``item`` is which one is set."""

    name: str
    added: bool
    value: Word | list[Word]
    item: str | None = None


@dataclass(slots=True)
class Document:
    """A here-document; without ``body`` until its line ends."""

    end: str
    expanded: bool
    indented: bool
    body: Word = ()


class Redirection(NamedTuple):
    """What goes into a command, a document or a file, or where its output goes, or what it writes to stderr: one of
    them."""

    document: Document | None = None
    source: Word = ()
    target: Word = ()
    added: bool = False
    errors: Word = ()


@dataclass(frozen=True, slots=True)
class Simple:
    """Assignments, else a command with its words."""

    words: tuple[Word, ...]
    assignments: tuple[Assignment, ...] = ()
    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True, slots=True)
class Redirected(Block):
    """A block or a loop with what goes into it and out of it."""

    redirections: tuple[Redirection, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipe(Block):
    """Commands, each with what the one before it prints."""


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


class Parser(WordParser):
    """Reads a script from its start."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.read = 0
        self.waiting = list[Document]()

    def parse(self) -> list[Node]:
        nodes = list[Node]()
        try:
            self._read_list((), nodes)
        except _UnclosedError as error:
            self.unclosed = int(str(error))
        match nodes:
            case [Step(line, Simple((), (), [Redirection(source=[_, *_])] as given))]:  # $(<FILE)
                return [Step(line, Simple((_make_text("cat"),), (), given))]
            case _:
                return nodes

    def _skip_lines(self) -> None:
        """Blanks, ends of lines, and here-documents after them."""
        while True:
            self.skip_blank()
            if not self.text.startswith("\n", self.at):
                return
            self.at += 1
            for document in self.waiting:
                self._read_document(document)
            self.waiting.clear()
            self.is_waiting = False

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
        self.skip_blank()
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
        return negated, nodes[0] if len(nodes) == 1 else Pipe(nodes)

    def _read_command(self) -> Node:
        with self.nested():
            node = self._read_compound()
        if node is None:
            return self._read_simple()
        self.skip_blank()
        redirections = list[Redirection]()
        while _REDIRECTION.match(self.text, self.at):
            redirections += self._read_redirection()
            self.skip_blank()
        return Redirected((node,), redirections=tuple(redirections)) if redirections else node

    def _read_compound(self) -> Node | None:  # noqa: PLR0911 - one for each kind of statement
        start = self.at
        line = self.find_line(start)
        if (total := self.match(_SUM)) is not None:
            return self._make_sum(line, total[1])
        if self._peek("("):
            self.at += 1
            return Block(self._read_block(")"), is_apart=True)
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
                return While((word == "until", condition), shown, self._read_block("done"))
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

    def _make_sum(self, line: int, total: str) -> Step:
        """A calculation, with the variables that it sets."""
        names = re.findall(r"(\w+)\s*(?:[-+*/%]?=(?!=)|\+\+|--)", total)
        return Step(line, Test(total=total), tuple(names))

    def _read_loop(self) -> Node:
        start, line = self.at, self.find_line(self.at)
        if sums := self.match(_FOR_SUM):
            self._read_block("do")
            first, condition, after = (self._make_sum(line, total.strip() or "1") for total in sums.groups())
            loop = While((False, [condition]), sums[0], self._read_block("done"), after=(after,))
            return Block((first, loop))
        word = self.match(re.compile(r"(for|select)\s+(\w+)\s*")) or self.match(_KEYWORD)
        name, values = word[2] if word is not None and word.re.groups else "", None
        self._skip_lines()
        if self.match(re.compile(r"in\b")):
            values = self._read_words() if self.text.startswith("for", start) else None
        elif self.text.startswith("for", start):
            values = [(Part("variable", "@", quoted=True, written="$@"),)]
        shown = self.text[start : self.at].strip()
        self._read_block("do")
        return Loop(name, values, shown, self._read_block("done"))

    def _read_words(self) -> list[Word]:
        words = list[Word]()
        while word := self.read_word():
            words.append(word)
        return words

    def _read_case(self) -> Node:
        subject = self.read_word()
        self._skip_lines()
        self.match(re.compile(r"in\b"))
        branches = list[tuple[str, Branch]]()
        while True:
            self._skip_lines()
            start = self.at
            if self.at >= len(self.text):
                raise _UnclosedError(self.find_line(start))
            if self.match(re.compile(r"esac(?=[\s;&|)<>]|\Z)")):
                return _join_branches(branches)
            self.match(re.compile(r"\("))
            patterns = list[Word]()
            while word := self._read_pattern():
                patterns.append(word)
                self.match(re.compile(r"[ \t]*\|"))
            self.match(re.compile(r"\)|."))
            shown = f"case {show_word(subject)} in {self.text[start : self.at]}"
            body = self._read_list((";;", ";;&", ";&", "esac"), [])
            end = self.match(re.compile(r";;&?|;&"))
            branches.append((end[0] if end else "", Branch(Match(subject, tuple(patterns)), shown, body)))

    def _read_pattern(self) -> Word:
        """A word in which a list of patterns, as in +(a|b), is something that only bash knows."""
        word = self.read_word()
        while self.text[self.at - 1 : self.at] in _LISTING and word and (found := self.match(_LISTED)):
            word = (*word, Part("text", f"${found[0]}", quoted=False), *self.read_parts())
        return word

    def _read_test(self) -> tuple[Word, ...]:
        words = list[Word]()
        while True:
            self._skip_lines()
            if self.match(re.compile(r"\]\]")) or self.at >= len(self.text):
                return tuple(words)
            if words and get_text(words[-1]) == "=~":
                words.append(self._read_expression())
                continue
            sign = self.match(re.compile(r"&&|\|\||[()<>;&|]"))
            words.append((Part("text", sign[0], quoted=False),) if sign else self._read_pattern())

    def _read_expression(self) -> Word:
        """A regular expression, in which some signs are not those of bash."""
        parts = list[Part]()
        while self.at < len(self.text) and not self.text[self.at].isspace():
            parts += self.read_parts()
            while sign := self.match(re.compile(r"[()<>;&|{}]")):
                parts.append(Part("text", sign[0], quoted=False))
        return tuple(parts)

    def _read_simple(self) -> Node:
        line = self.find_line(self.at)
        self.read += 1
        if self.read > MAX_STEPS:
            refuse_size()
        words, assignments = list[Word](), list[Assignment]()
        redirections = list[Redirection]()
        while True:
            self.skip_blank()
            if _REDIRECTION.match(self.text, self.at):
                redirections += self._read_redirection()
                continue
            declares = bool(words) and get_text(words[0]) in DECLARING
            if (not words or declares) and (assigned := _ASSIGNMENT.match(self.text, self.at)):
                self.at = assigned.end()
                assignments.append(Assignment(assigned[1], bool(assigned[3]), self._read_value(), assigned[2]))
            elif word := self.read_word():
                words.append(word)
            else:
                break
        if not words and not assignments and _SEPARATOR.match(self.text, self.at) is None:
            self.at += 1  # a sign that starts nothing
        names = [get_text(word) for word in words[1:]] if words and get_text(words[0]) in READING else []
        if not words or get_text(words[0]) in DECLARING:
            names += [each.name for each in assignments]
        names += [each for word in words if (each := re.split(r"[\\/]", show_word(word))[-1]).endswith(".py")]
        return Step(line, Simple(tuple(words), tuple(assignments), tuple(redirections)), tuple(filter(None, names)))

    def _read_value(self) -> Word | list[Word]:
        if not self.text.startswith("(", self.at):
            return self.read_parts()
        start, words = self.at, list[Word]()
        self.at += 1
        while True:
            self._skip_lines()
            if self._peek(")"):
                self.at += 1
                return words
            if word := self.read_word():
                words.append(word)
            elif self.at >= len(self.text):
                raise _UnclosedError(self.find_line(start))
            else:
                self.at += 1

    def _read_redirection(self) -> list[Redirection]:  # noqa: PLR0911 - one for each kind
        """Of what goes into a command, and of its output; nothing for any other."""
        sign = self.match(_REDIRECTION)
        word = self.read_word()
        number, kind = sign.groups("") if sign is not None else ("", "")
        if kind == ">&":
            named = get_text(word) or ""
            word = _make_text(f"/dev/fd/{named}" if named.isdigit() else "/dev/null") if named in _NUMBERS else word
        if number == "2" and kind in {">", ">>", ">|", ">&"}:
            return [Redirection(errors=word)]
        if number == "2" or (">" in kind and number not in {"", "1"}):
            return []
        match kind:
            case "<<" | "<<-" as kind:
                plain = all(part.kind == "text" and not part.quoted for part in word)
                document = Document("".join(part.value for part in word), plain, kind == "<<-")
                self.waiting.append(document)
                self.is_waiting = True
                return [Redirection(document)]
            case "<<<":
                return [Redirection(Document("", True, False, (*word, Part("text", "\n", quoted=True))))]
            case "<":
                return [Redirection(source=word)]
            case ">" | ">|" | ">>" | ">&" | "&>" | "&>>" as kind:
                return [Redirection(target=word, added=kind.endswith(">>"))]
            case _:
                return []


def _join_branches(branches: Sequence[tuple[str, Branch]]) -> Choice:
    """The arms of a case: after ;& the next one is run too, after ;;& those that follow are asked too."""
    joined = list[Branch]()
    for end, branch in reversed(branches):
        after = joined[0].body if end == ";&" and joined else [Choice(tuple(joined), expected=False)]
        joined.insert(0, replace(branch, body=[*branch.body, *after]) if end in {";&", ";;&"} else branch)
    return Choice(tuple(joined), expected=False)


def _make_text(text: str) -> Word:
    return (Part("text", text, quoted=True),)
