"""Commands of a bash script, with the variables, arrays and conditions that the script itself sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase, translate
from typing import Any

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.bash_syntax import (
    DECLARING,
    READING,
    Assignment,
    Match,
    Parser,
    Part,
    Simple,
    Test,
    Word,
)
from lorabake.exchange.shell.script import JUMPS, Loop, Runner, Status, Step, Value, check_size
from lorabake.exchange.shell.sums import compute, join_both, join_either, negate

_VARIABLE = re.compile(r"(?P<length>#?)(?P<name>\w+|[@*#?$!-])(?:\[(?P<index>[^\]]*)\])?(?P<rest>.*)", re.DOTALL)
_DEFAULT = re.compile(r"(:?)([-=?+])(.*)", re.DOTALL)
_CUT = re.compile(r"(##?|%%?)(.*)", re.DOTALL)
_REPLACED = re.compile(r"/(/?)([^/]+)(?:/(.*))?", re.DOTALL)
_OWN_FOLDER = re.compile(r"\bdirname\b.*(?:\$0|BASH_SOURCE)")
_SET_BEFORE = re.compile(r"[A-Za-z_]\w*=")


def read_bash_commands(text: str, variables: Mapping[str, Value]) -> Runner:
    """Every command in a branch that is taken. Functions are run where they are called."""
    parser = Parser(text)
    script = _Bash(variables)
    script.run(parser.parse())
    script.unclosed = parser.unclosed
    return script


class _Bash(Runner):
    def run_step(self, step: Step) -> Status:
        content = step.content
        if isinstance(content, Test):
            return self._answer_test(content, step.names)
        assert isinstance(content, Simple)  # noqa: S101 - as the parser makes it
        words = self.expand(content.words)
        name = words[0] if words else ""
        if not words or name in DECLARING:
            for assignment in content.assignments:
                self._assign(assignment)
        if name in {"[", "test", "true", ":", "false"}:
            return _answer_command(words)
        if name in READING:
            for each in words[1:]:
                self.set_variable(each.partition("=")[0], None)
        elif name not in DECLARING:
            self._run_command(step.line, words, content)
        return "expected"

    def _run_command(self, line: int, words: list[str], content: Simple) -> None:
        while words and (words[0] == "%" or _SET_BEFORE.match(words[0])):
            words.pop(0)  # a variable for this command alone, as env and a variable that contains it have it
        if not words:
            return
        words[0] = words[0].lstrip("!%") or words[0]  # of a notebook
        function = self.find_function(words[0])
        if words[0] in {"exit", "return"}:
            self.stop(words[0])
        elif words[0] in JUMPS:
            levels = to_number(words[1]) if len(words) > 1 else 1
            self.stop_loop(words[0], levels if isinstance(levels, int) else 1)
        elif function is not None:
            arguments: dict[str, Value] = {str(number): word for number, word in enumerate(words[1:10], 1)}
            self.call(function, {**dict.fromkeys("123456789", ""), **arguments, "@": words[1:], "*": words[1:]})
        else:
            if content.document is not None and content.target:
                self.written["".join(self.expand([content.target]))] = self._fill(content.document.body)
            self.add_command(line, words)

    def answer(self, condition: Any) -> bool | None:
        if isinstance(condition, Match):
            return self._answer_match(condition)
        until, nodes = condition
        status = self.run(nodes)
        holds = None if status == "expected" else status
        return negate(holds) if until else holds

    def _answer_match(self, match: Match) -> bool | None:
        subject = self._fill(match.subject)
        patterns = ["".join(self.expand([pattern])) for pattern in match.patterns]
        if "*" in patterns:
            return True
        return None if "$" in subject or "`" in subject else any(fnmatchcase(subject, each) for each in patterns)

    def _answer_test(self, test: Test, names: Iterable[str]) -> bool | None:
        if test.total is None:
            return _Condition(self.expand(test.words, split=False)).read()
        for name in names:
            self.set_variable(name, None)
        found = self._compute(test.total)
        return None if found is None else bool(found)

    def list_values(self, loop: Loop) -> list[str] | None:
        if loop.values is None:
            return None
        found = self.expand(loop.values)
        return None if any(sign in word for word in found for sign in "$`*") else found

    def _assign(self, assignment: Assignment) -> None:
        name, added, value = assignment
        before = self.variables.get(name)
        if isinstance(value, list):
            items = self.expand(value)
            old = [before] if isinstance(before, str) and before else before if isinstance(before, list) else []
            self.set_variable(name, [*old, *items] if added else items)
            return
        text = self._fill(value, assigned=True)
        if any(part.kind == "output" and part.written in text for part in value):  # what another program prints
            self.set_variable(name, None)
        elif added and isinstance(before, list):
            self.set_variable(name, [f"{before[0] if before else ''}{text}", *before[1:]])
        else:
            self.set_variable(name, f"{before or ''}{text}" if added else text)

    def expand(self, words: Iterable[Word], *, split: bool = True) -> list[str]:
        """Words with the values of their variables; an unknown one stays as it is written."""
        found, size = list[str](), 0
        for word in words:
            fields = list(self._split(word)) if split else [self._fill(word)]
            found += fields
            size += sum(map(len, fields)) + len(fields)
            check_size(size)
        return found

    def _split(self, word: Word) -> Iterable[str]:
        """A variable outside quotes is split at blanks, an array into its items."""
        current: str | None = None
        for number, part in enumerate(word):
            value = self._evaluate(part, first=number == 0)
            if part.quoted or part.kind == "text":
                items = value if isinstance(value, list) else [value]
                current = None if not items and not current else current
            else:
                text = " ".join(value) if isinstance(value, list) else value
                items = text.split()
                if current is not None and text[:1].isspace():
                    yield current
                    current = None
            for at, item in enumerate(items):
                if at and current is not None:
                    yield current
                    current = None
                current = f"{current or ''}{item}"
        if current is not None:
            yield current

    def _fill(self, word: Word, *, assigned: bool = False) -> str:
        """A word as one text."""
        parts, size = list[str](), 0
        for number, part in enumerate(word):
            value = self._evaluate(part, first=number == 0 and (assigned or not part.quoted))
            parts.append(" ".join(value) if isinstance(value, list) else value)
            size += len(parts[-1])
            check_size(size)
        return "".join(parts)

    def _evaluate(self, part: Part, *, first: bool) -> Value:
        match part.kind:
            case "variable":
                return self._read_variable(part)
            case "sum":
                found = self._compute(part.value)
                return part.written if found is None else str(found)
            case "output":
                return "." if _OWN_FOLDER.search(part.value) else part.written
            case "text":
                home = self.variables.get("HOME")
                in_home = first and not part.quoted and re.match(r"~(?=/|\Z)", part.value) and isinstance(home, str)
                return f"{home}{part.value[1:]}" if in_home else part.value

    def _read_variable(self, part: Part) -> Value:
        found = _VARIABLE.fullmatch(part.value)
        if found is None:
            return part.written
        name, rest, index = found["name"], found["rest"], found["index"]
        value = self.variables.get(name)
        if isinstance(value, list):
            if index is None and name not in {"@", "*"}:
                value = value[0] if value else ""
            elif index is not None and index not in {"@", "*"}:
                number = to_number(index)
                value = value[number] if isinstance(number, int) and 0 <= number < len(value) else None
            elif part.quoted and "*" in {name, index}:
                value = " ".join(value)
        if default := _DEFAULT.fullmatch(rest):
            return self._use_default(name, value, default)
        if value is None:
            return part.written
        if found["length"]:
            return str(len(value))
        return _change(value, rest, part.written) if rest else value

    def _use_default(self, name: str, value: Value | None, default: re.Match[str]) -> Value:
        given = value is not None and not (default[1] and not value)
        if default[2] == "+":
            return self._fill(Parser(default[3]).read_quoted()) if given else ""
        if given or (value is None and default[2] == "?"):
            return value if value is not None else f"${{{name}}}"
        text = self._fill(Parser(default[3]).read_quoted())
        if name.isdigit() and not text:  # who starts the script writes it
            return f"${{{name}}}"
        if default[2] == "=":
            self.set_variable(name, text)
        return text

    def _compute(self, text: str) -> int | None:
        def fill(each: re.Match[str]) -> str:
            value = self.variables.get(each[1])
            return value[:40] if isinstance(value, str) else each[0]

        return compute(re.sub(r"\$?\{?([A-Za-z_]\w*)\}?", fill, text[:500]))


def _change(value: Value, rest: str, written: str) -> Value:
    """What is left of a value after %, # or /; as it is written after anything else."""
    if isinstance(value, list):
        return written
    if cut := _CUT.fullmatch(rest):
        pattern = re.compile(translate(cut[2].strip("\"'")))
        sizes = list(range(min(len(value), 4096) + 1))[:: -1 if len(cut[1]) == 2 else 1]
        if cut[1][0] == "#":
            return next((value[size:] for size in sizes if pattern.match(value[:size])), value)
        return next((value[: len(value) - size] for size in sizes if pattern.match(value[len(value) - size :])), value)
    if (replaced := _REPLACED.fullmatch(rest)) and re.search(r"[*?\[$]", rest) is None:
        return value.replace(replaced[2], replaced[3] or "", -1 if replaced[1] else 1)
    return written


def _answer_command(words: Sequence[str]) -> bool | None:
    """Of true, false, test and [."""
    if words[0] in {"true", ":", "false"}:
        return words[0] != "false"
    return _Condition(list(words[1:-1] if words[-1] == "]" else words[1:])).read()


class _Condition:
    """The words between [ and ], read from left to right; the answer is None where only a shell knows it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words[:200]

    def read(self) -> bool | None:
        return self._read_either() if self.words else False

    def _read_either(self) -> bool | None:
        holds = self._read_both()
        while self.words and self.words[0] in {"||", "-o"}:
            self.words.pop(0)
            holds = join_either(holds, self._read_both())
        return holds

    def _read_both(self) -> bool | None:
        holds = self._read_one()
        while self.words and self.words[0] in {"&&", "-a"}:
            self.words.pop(0)
            holds = join_both(holds, self._read_one())
        return holds

    def _read_one(self) -> bool | None:
        end = next((at for at, word in enumerate(self.words) if word in {"||", "&&", "-o", "-a", ")"}), len(self.words))
        if end and self.words[0] == "!":
            self.words.pop(0)
            return negate(self._read_one())
        if end and self.words[0] == "(":
            self.words.pop(0)
            holds = self._read_either()
            self.words = self.words[1:] if self.words[:1] == [")"] else self.words
            return holds
        words, self.words = self.words[:end], self.words[end:]
        return _compare(words)


_ORDERS = {"-eq": (0,), "-ne": (-1, 1), "-lt": (-1,), "-le": (-1, 0), "-gt": (1,), "-ge": (0, 1)}
_TEXT_ORDERS = {"=": True, "==": True, "!=": False}


def _compare(words: list[str]) -> bool | None:
    if any("$" in word or "`" in word for word in words):
        return None
    if len(words) == 2 and words[0] in {*_ORDERS, *_TEXT_ORDERS}:
        words = ["", *words]  # an empty variable without quotes
    elif len(words) == 2 and words[1] in _TEXT_ORDERS:
        words = [*words, ""]
    match words:
        case [] | [_]:
            return bool(words and words[0])
        case ["-n" | "-z", text]:
            return bool(text) == (words[0] == "-n")
        case [left, "=" | "==" | "!=", right]:
            return (left == right or fnmatchcase(left, right)) == _TEXT_ORDERS[words[1]]
        case [left, operator, right] if operator in _ORDERS and left and right:
            one, two = to_number(left), to_number(right)
            whole = isinstance(one, int) and isinstance(two, int)  # else bash has an error, which is no success
            return whole and ((one or 0) > (two or 0)) - ((one or 0) < (two or 0)) in _ORDERS[operator]
        case _:
            return None
