"""Commands of a bash script, with the variables, arrays and conditions that the script itself sets."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.bash_programs import (
    ORDERS,
    Condition,
    answer_command,
    format_text,
    is_this_folder,
    search,
    show_output,
)
from lorabake.exchange.shell.bash_syntax import (
    DECLARING,
    READING,
    Assignment,
    Match,
    Parser,
    Pipe,
    Redirected,
    Redirection,
    Simple,
    Test,
)
from lorabake.exchange.shell.bash_values import Expander
from lorabake.exchange.shell.bash_words import Word, get_text
from lorabake.exchange.shell.budget import Budget
from lorabake.exchange.shell.script import JUMPS, Loop, Node, ReadFile, Runner, Status, Step, Value
from lorabake.exchange.shell.sums import negate

_SET_BEFORE = re.compile(r"[A-Za-z_]\w*=")
_OWN_PATH = re.compile(r"\$\{?(?:0|BASH_SOURCE(?:\[0\])?)\}?")
_OUTPUTS, _ERRORS = ("/dev/stdout", "/dev/fd/1"), ("/dev/stderr", "/dev/fd/2")
_SHELLS = ("bash", "sh", "zsh", "/bin/bash", "/bin/sh", "/usr/bin/bash")
_FOUND_ELSEWHERE = re.compile(r"(?:activate|\.bashrc|\.profile|conda\.sh|profile)$")


def read_bash_commands(
    text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget, *, expects: bool
) -> Runner:
    """Every command in a branch that is taken. Functions are run where they are called."""
    parser = Parser(text)
    script = _Bash(variables, read_file, budget)
    script.expects = expects
    script.run(parser.parse())
    script.unclosed = parser.unclosed
    return script


class _Bash(Expander):
    """``input`` is what goes into a command; None where only a shell knows it. ``shows_errors``: what a command writes
    to stderr goes where its output goes. ``ran`` is the status of the last text that was run."""

    def __init__(self, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget) -> None:
        super().__init__(variables, read_file, budget)
        self.input: str | None = None
        self.shows_errors = False
        self.returned: Status = "expected"
        self.ran: Status = "expected"

    def run_node(self, node: Node) -> Status:
        if isinstance(node, Pipe):
            return self._run_pipe(node)
        if isinstance(node, Redirected):
            with self._redirected(node.redirections):
                return super().run_node(node)
        return super().run_node(node)

    def _run_pipe(self, pipe: Pipe) -> Status:
        given = self.input
        status: Status = "expected"
        for number, node in enumerate(pipe.body, 1):
            last, before = number == len(pipe.body), self.output
            if not last:
                self.output = [], len(self._open)
            with self.apart():
                status = self.run_node(node)
            if not last and self.output is not None:
                self.input, self.output = _join_output(self.output[0]), before
        self.input = given
        return status

    @contextmanager
    def _redirected(self, redirections: Iterable[Redirection]) -> Generator[None]:
        kept, given, output, target = False, self.input, self.output, None
        shown, unsure = self.shows_errors, False
        for each in redirections:
            kept = kept or each.document is not None or bool(each.source)
            if each.errors:
                path = get_text(each.errors) or ""
                self.shows_errors = path in _OUTPUTS
                unsure = unsure or (path.startswith("/dev/fd/") and path not in {*_OUTPUTS, *_ERRORS})
            elif each.document is not None:
                self.input = self.fill(each.document.body)
            elif each.source:
                self.input = self._read_source(each.source)
            elif each.target:
                target, unsure = each, unsure or (self.shows_errors and not shown)
                self.output = [], len(self._open)
        yield
        self.shows_errors = shown
        if target is not None and self.output is not None:
            text, self.output = _join_output(self.output[0]), output
            self._write("".join(self.expand([target.target])), text, added=target.added)
        if unsure:
            self.emit(None)
        self.input = given if kept else self.input

    def _read_source(self, word: Word) -> str | None:
        if len(word) == 1 and word[0].written.startswith("<("):
            return self.read_output(word[0].value)
        return self._read_text("".join(self.expand([word], split=False)))

    def _read_text(self, path: str) -> str | None:
        """Of a file that the script wrote, or that is here."""
        return self.written[path] if path in self.written else self.read_file(path)

    def _write(self, path: str, text: str | None, *, added: bool) -> None:
        if path in _OUTPUTS:
            self.emit(text)
            return
        if path.startswith("/dev/"):
            if text != "" and (self.shows_errors if path in _ERRORS else path.startswith("/dev/fd/")):
                self.emit(None)
            return
        before = self.written.get(path, self.read_file(path) or "") if added else ""
        if text is not None:
            self.written[path] = f"{before}{text}"
            self.count(self.written[path])
        else:
            self.written.pop(path, None)

    def run_text(self, text: str, line: int | None) -> None:
        """Run commands that are a text; in the report they are in the line that has it."""
        with self.calling():
            before, self.inside = self.inside, line
            self.spend(32 * len(text))
            self.ran = self.run(Parser(text).parse())
            self.inside = before

    def read_output(self, text: str) -> str | None:
        """What commands print. Also keeps their status."""
        before = self.shows_errors, self.returned
        self.shows_errors, self.returned, self.ran = False, "expected", True
        found = super().read_output(text)
        self.ran = self.ran if self.returned == "expected" else self.returned
        self.shows_errors, self.returned = before
        return found

    def get_state(self) -> tuple[object, ...]:
        return (*super().get_state(), self.input)

    def run_step(self, step: Step) -> Status:
        content = step.content
        if isinstance(content, Test):
            return self._answer_test(content, step.names)
        assert isinstance(content, Simple)  # noqa: S101 - as the parser makes it
        words = self.expand(content.words)
        if not words or words[0] in DECLARING:
            self.ran = True
            with self._redirected(content.redirections):
                self._declare(words, content.assignments)
            return True if words else self.ran
        kept = {each.name: self.variables.get(each.name) for each in content.assignments}
        for assignment in content.assignments:
            self.assign(assignment)
        with self._redirected(content.redirections):
            status = self._run_command(self.inside or step.line, words)
        for name, value in kept.items():
            self.restore(name, value)
        return status

    def _declare(self, words: Sequence[str], assignments: Iterable[Assignment]) -> None:
        flags = "".join(word[1:] for word in words if word.startswith("-"))
        is_local = words[:1] != ["export"] and words[:1] != ["readonly"]
        for name in [*(word for word in words[1:] if word.isidentifier()), *(each.name for each in assignments)]:
            if words and is_local:
                self.make_local(name)
                if "A" in flags:
                    self.tables.add(name)
            if words:
                self.kinds[name] = f"{self.kinds.get(name, '')}{flags}"
        for assignment in assignments:
            self.assign(assignment)

    def _run_command(self, line: int, words: list[str]) -> Status:  # noqa: C901, PLR0911, PLR0912, PLR0915 - one for each
        while words and (words[0] in {"%", "builtin", "time"} or _SET_BEFORE.match(words[0])):
            words.pop(0)  # a variable for this command alone, as env and a variable that contains it have it
        if not words:
            return "expected"
        words[0] = words[0].lstrip("!%") or words[0]  # of a notebook
        function = self.find_function(words[0])
        name, rest, size = words[0], words[1:], len(self.input or "")
        self.spend(50 * len(rest) + (size if name in {"tr", "cut"} else size // 256))
        self.spend(16 * sum(map(len, rest)) if name in {"tr", "cut", "[", "test"} else 0)
        if function is not None:
            self.returned = "expected"
            status = self.call(function, {"@": rest})
            returned, self.returned = self.returned, "expected"
            return status if returned == "expected" else returned
        if name in JUMPS:
            levels = to_number(rest[0]) if rest else 1
            self.stop_loop(name, levels if isinstance(levels, int) else 1)
            return "expected"
        if name in READING:
            return self._set_read(name, rest)
        match name, rest:
            case "exit" | "return", _:
                if self.is_sure() and rest and isinstance(to_number(rest[0]), int):
                    self.returned = to_number(rest[0]) == 0
                self.stop(name)
            case "[" | "test" | "true" | ":" | "false", _:
                return answer_command(words)
            case "shift", _:
                given, count = self.variables.get("@", []), to_number(rest[0]) if rest else 1
                items = list(given[: count if isinstance(count, int) else 1])
                self.set_variable("@", [*(each for each in items if each == "$@"), *given[len(items) :]])
            case "set", ["--", *given]:
                self.set_variable("@", given)
            case "eval", _:
                self.run_text(" ".join(rest), line)
            case "exec", [_, *_]:
                self._run_command(line, rest)
                self.stop("exit")
            case "source" | ".", [path, *given]:
                self._source(path, given, line)
            case "cd" | "pushd", [path]:
                base = self.variables.get("PWD")
                known = isinstance(base, str) and not re.search(r"[$`]|^-", path)
                self.set_variable("PWD", None if not known else path if path[0] == "/" else _join_path(str(base), path))
            case "pwd", _:
                here = self.variables.get("PWD")
                self.emit(f"{here}\n" if isinstance(here, str) else None)
            case "realpath" | "readlink", [*_, path] if _OWN_PATH.fullmatch(path):
                self.emit(f"{path}\n")
            case "dirname", [*_, path] if _OWN_PATH.fullmatch(path):
                self.emit(".\n")
            case "printf", ["-v", variable, text, *values]:
                self.set_variable(variable, None if any("$" in each for each in values) else format_text(text, values))
            case "xargs", _:
                given = self.input.split() if self.input is not None else ["$(xargs)"]
                return self._run_command(line, [*rest, *given]) if rest and rest[0][0] != "-" else "expected"
            case shell, _ if shell in _SHELLS and self._run_shell(rest, line):
                pass
            case _:
                self.emit(found := show_output(words, self.input))
                if found is not None:
                    return True
                self.add_command(line, words)
        return "expected"

    def _source(self, path: str, given: Sequence[str], line: int) -> None:
        """A file that sets variables; one that is not here may set any."""
        text = self._read_text(path)
        if text is None:
            self.unread = self.unread if _FOUND_ELSEWHERE.search(path) else f"source {path}"
            return
        before = self.variables.get("@", [])
        self.variables["@"] = list(given) or before
        self.run_text(text, line)
        self.variables["@"] = before
        self.stopped = "" if self.stopped == "return" else self.stopped

    def _run_shell(self, words: Sequence[str], line: int) -> bool:
        """A shell for a text, a file or its input. Returns whether its commands are known."""
        rest = list(words)
        flags = ""
        while rest and re.fullmatch(r"[-+]\w+", rest[0]):
            flags += rest.pop(0)[1:]
        text = (rest.pop(0) if rest else None) if "c" in flags else self._read_text(rest[0]) if rest else self.input
        if text is None:
            return False
        with self.apart():
            self.set_variable("@", rest[1:])
            self.run_text(text, line)
        return True

    def _set_read(self, kind: str, words: list[str]) -> Status:  # noqa: C901, PLR0911 - one for each kind
        """Of read, mapfile, unset and let. Whether there was something to read."""
        names = [word for word in words if re.match(r"[A-Za-z_]", word)]
        if kind == "let":
            for word in words:
                self.compute(word)
            return "expected"
        if kind == "unset":
            for name in names:
                self.restore(name, None) if name.isidentifier() else self.set_variable(name.partition("[")[0], None)
            return "expected"
        limited = kind == "read" and any(re.match(r"-[a-zA-Z]*[dpnNtu]", word) for word in words)
        text = None if limited else self.input
        if text is None:
            for name in names:
                self.set_variable(name, None)
            return None if kind == "read" and self.input is None else "expected"
        if kind != "read":
            self.set_variable((names or ["MAPFILE"])[0], text.splitlines())
            return "expected"
        if not text:
            return False
        self.spend(len(text) // 256)
        first, _, self.input = text.partition("\n")
        items = self.cut_fields(first)
        if any(word.startswith("-") and "a" in word for word in words):
            self.set_variable(names[0] if names else "REPLY", items)
            return True
        names = names or ["REPLY"]
        for number, name in enumerate(names):
            last = number == len(names) - 1
            value = " ".join(items[number:]) if len(names) > 1 else first.strip()
            self.set_variable(name, value if last else items[number] if number < len(items) else "")
        return True

    def answer(self, condition: Any) -> bool | None:
        if isinstance(condition, Match):
            return self._answer_match(condition)
        until, nodes = condition
        status = self.run(nodes)
        holds = None if status == "expected" else status
        return negate(holds) if until else holds

    def _answer_match(self, match: Match) -> bool | None:
        subject = self.fill(match.subject)
        patterns = [self.fill_pattern(pattern) for pattern in match.patterns]
        if "*" in patterns:
            return True
        if "$" in subject or "`" in subject:
            return None
        if any(fnmatchcase(subject, each) for each in patterns):
            return True
        return None if is_this_folder(subject) or any("$" in each for each in patterns) else False

    def _answer_test(self, test: Test, names: Iterable[str]) -> bool | None:
        if test.total is not None:
            found = self.compute(test.total)
            for name in names if found is None else ():
                self.set_variable(name, None)
            return None if found is None else bool(found)
        words = list[str]()
        for word in test.words:
            operator = words[-1] if words else ""
            is_pattern = operator in {"==", "=", "!=", "=~"} and get_text(test.words[len(words) - 1]) == operator
            special = "*?[" if operator != "=~" else ".*+?[](){}^$|"
            words.append(self.fill_pattern(word, special) if is_pattern else self.fill(word))
            if is_pattern and operator == "=~" and len(words) > 2:
                groups = None if "$" in words[-3] else search(words[-3], words[-1])
                self.set_variable("BASH_REMATCH", groups)
        for at, operator in enumerate(words):
            for near in (at - 1, at + 1) if operator in ORDERS else ():
                if 0 <= near < len(words) and "$" not in words[near]:
                    words[near] = f"$(({words[near]}))" if (sum_ := self.compute(words[near])) is None else str(sum_)
        return Condition(words).read()

    def list_values(self, loop: Loop) -> list[str] | None:
        if loop.values is None:
            return None
        found = self.expand(loop.values)
        return None if any(sign in word for word in found for sign in "$`*") else found


def _join_output(parts: Iterable[str | None]) -> str | None:
    known = list(parts)
    return None if None in known else "".join(part for part in known if part is not None)


def _join_path(base: str, path: str) -> str:
    path = path.rstrip("/")
    if path in {"", "."}:
        return base
    return path if base == "." and path.startswith(".") else f"{base}/{path.removeprefix('./')}"
