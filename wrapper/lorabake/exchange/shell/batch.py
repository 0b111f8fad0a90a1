"""Commands of a batch file for Windows' cmd, with the variables and conditions that it sets itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.budget import MAX_STEPS, Budget, check_script, check_size, refuse_size
from lorabake.exchange.shell.script import (
    Block,
    Branch,
    Chain,
    Choice,
    Function,
    Loop,
    Node,
    ReadFile,
    Runner,
    Scanner,
    Status,
    Step,
    Value,
    expand,
    list_scripts_of,
    split_words,
)
from lorabake.exchange.shell.sums import compute, negate

_CONTINUED = re.compile(r"(?<!\^)(?:\^\^)*\^[ \t]*$")
_PERCENT = re.compile(
    r"(?P<loop>%%(?=[~A-Za-z]))|%%|%(?P<how>~\w*?)?(?P<place>[0-9*])|%(?P<name>[^%:\n]+)(?P<part>:[^%\n]*)?%"
)
_DELAYED = re.compile(r"!(?P<name>[^!:\n]+)(?P<part>:[^!\n]*)?!")
_OF_LOOP = re.compile(r"%%(?P<plain>~?)(?P<name>[A-Za-z])(?!\w*:)")
_CUT = re.compile(r":~(-?\d{1,6})(?:,(-?\d{1,6}))?")
_JOINT = re.compile(r"\s*(&&|\|\|)")
_PIPE = re.compile(r"\s*\|(?!\|)")
_SEPARATOR = re.compile(r"\s*&(?!&)")
_BLANK = re.compile(r"[\s@,;=]+")
_COMMENT = re.compile(r"(?:rem\b|:).*", re.IGNORECASE | re.DOTALL)
_IF = re.compile(r"if\s+((?:(?:/i|not)\s+)*)", re.IGNORECASE)
_ELSE = re.compile(r"\s*else\b", re.IGNORECASE)
_OPERAND = r'((?:"[^"]*"?|\([^\s()"]*\)|[^\s"=()])+)'
_COMPARISON = re.compile(rf"{_OPERAND}\s*(==|(?<=\s)(?:equ|neq|lss|leq|gtr|geq)(?=\s))\s*{_OPERAND}\s*", re.IGNORECASE)
_TEST = re.compile(rf"()(exist|defined|errorlevel)\s+{_OPERAND}\s*", re.IGNORECASE)
_OTHER_TEST = re.compile(r"()()([^(]*)")
_FOR = re.compile(r"for\s+(?:/([dflr])\s+)?([^%\n]{0,300}?)%%([A-Za-z])\s+in\s*\(", re.IGNORECASE)
_VALUES = re.compile(r"""((?:"[^"]*"|`[^`]*`|'[^']*'|[^()"'`])*)\)\s*do\b""", re.IGNORECASE)
_PIECE = re.compile(r'("[^"]*"?|\d?>&\d)|\^(.?)|(&&?|\|\|?|\))|([^"^&|)\d>]+|.)', re.DOTALL)
_SET = re.compile(r"set\s+(/[ap]\b)?\s*(.*)", re.IGNORECASE | re.DOTALL)
_SUM = re.compile(r"\s*(\w+)\s*([-+*/%]?)=(.*)", re.DOTALL)
_ORDERS = {"==": (0,), "equ": (0,), "neq": (-1, 1), "lss": (-1,), "leq": (-1, 0), "gtr": (1,), "geq": (0, 1)}


def read_batch_commands(
    text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget, *, expects: bool
) -> Runner:
    """Every command in a branch that is taken. goto and call go to labels of the file."""
    script = _Batch(text, {name.upper(): value for name, value in variables.items()}, read_file, budget)
    script.expects = expects
    script.follow(0)
    return script


class _Condition(NamedTuple):
    negated: bool
    insensitive: bool
    kind: str
    left: str
    right: str


class _Parser(Scanner):
    """Reads one statement after the other. A block continues in the lines after it, which ``get_line`` returns."""

    def __init__(self, get_line: Callable[[], tuple[int, str] | None]) -> None:
        super().__init__("")
        self.get_line = get_line
        self.line = self.open = 0

    def read_line(self) -> bool:
        found = self.get_line()
        self.line, self.text = found or (self.line, "")
        self.at = 0
        return found is not None

    def read_statements(self) -> list[Node]:
        """All of a line."""
        self.open = 0
        return self._read_rest()  # what is after a parenthesis that closes nothing is not run

    def _read_rest(self) -> list[Node]:
        """Up to the end of the line or the block."""
        nodes = list[Node]()
        while True:
            self.match(_BLANK)
            if self.at >= len(self.text) or self.text[self.at] == ")":
                return nodes
            start = self.at
            nodes.append(self._read_chain())
            if self.match(_SEPARATOR) is None and self.at == start:
                self.at += 1

    def _read_block(self) -> list[Node]:
        start, nodes = self.line, list[Node]()
        self.open += 1
        while True:
            nodes += self._read_rest()
            if self.at < len(self.text):
                self.at += 1
                self.open -= 1
                return nodes
            if not self.read_line():
                self.unclosed = start
                return []

    def _read_chain(self) -> Node:
        start, parts = self.at, [("", self._read_pipe())]
        while joint := self.match(_JOINT):
            parts.append((joint[1], self._read_pipe()))
        return parts[0][1] if len(parts) == 1 else Chain(tuple(parts), self.text[start : self.at][:300])

    def _read_pipe(self) -> Node:
        nodes = [self._read_command()]
        while self.match(_PIPE):
            nodes.append(self._read_command())
        return nodes[0] if len(nodes) == 1 else Block(nodes)

    def _read_command(self) -> Node:
        self.match(_BLANK)
        with self.nested():
            if self.match(_COMMENT):
                return Block(())
            if self.text.startswith("(", self.at):
                self.at += 1
                block = Block(self._read_block())
                if re.match(r"\s*\d?[<>]", self.text[self.at : self.at + 80]):
                    self._read_text()
                return block
            if options := self.match(_IF):
                return self._read_if(options)
            if loop := self.match(_FOR):
                return self._read_for(loop)
        line, text = self.line, self._read_text()
        names = [name for name, _, _ in _list_targets(text)] or list_scripts_of(split_words(text))
        return Step(line, text, tuple(names))

    def _read_text(self) -> str:
        """Of a command. ^ takes the meaning of the next sign away."""
        parts = list[str]()
        while piece := _PIECE.match(self.text, self.at):
            if piece[3] and (self.open or piece[3] != ")"):
                break
            parts.append(piece[0] if piece[2] is None else piece[2])
            self.at = piece.end()
        return "".join(parts)

    def _read_if(self, options: re.Match[str]) -> Node:
        found = self.match(_TEST) or self.match(_COMPARISON) or self.match(_OTHER_TEST)
        assert found is not None  # noqa: S101 - the last one always matches
        shown = self.text[options.start() : self.at].strip()
        given = options[1].lower()
        condition = _Condition("not" in given, "/i" in given, found[2].lower(), found[1], found[3])
        branches = [Branch(condition, shown, self._read_body())]
        if self.match(_ELSE):
            branches.append(Branch(None, "", self._read_body()))
        return Choice(tuple(branches), expected=_is_expected(condition))

    def _read_body(self) -> Sequence[Node]:
        """Of a condition or a loop: the rest of the line, or a block before else."""
        self.match(_BLANK)
        if not self.text.startswith("(", self.at):
            return self._read_rest()
        first = self._read_chain()
        return [first] if _ELSE.match(self.text, self.at) else [first, *self._read_rest()]

    def _read_for(self, loop: re.Match[str]) -> Node:
        start, line, head = self.at, self.line, loop[0]
        while (values := self.match(_VALUES)) is None:
            before = self.text[start:]
            if not self.read_line():
                self.unclosed = line
                return Block(())
            self.text, start = f"{before} {self.text}", 0
            check_size(len(self.text))
        kind = (loop[1] or "").lower()
        return Loop(f"%%{loop[3]}", (kind, values[1]), f"{head}{values[0]}", self._read_body())


class _Batch(Runner):
    """``goal`` is the label that goto goes to."""

    def __init__(self, text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget) -> None:
        super().__init__(variables, read_file, budget)
        self._open_file(text)
        self.parser = _Parser(self._get_line)
        self.next: int = 0
        self.goal = ""
        self.delayed = False
        self.kept: list[tuple[dict[str, Value], bool]] = []

    def _open_file(self, text: str) -> None:
        check_script(text)
        self.spend(len(text) + 20 * text.count("\n"))
        self.lines: list[tuple[int, str]] = _join_lines(text)
        labels = [(re.match(r"\s*:\s*([^\s:&|()]+)", line), at) for at, (_, line) in enumerate(self.lines)]
        self.labels: dict[str, int] = {label[1].lower(): at for label, at in reversed(labels) if label is not None}

    def follow(self, start: int) -> None:
        """Run the file from a line to its end, or to where it returns."""
        self.next = start
        while not self.stopped and self.parser.read_line():
            nodes = self.parser.read_statements()
            self.unclosed = self.unclosed or self.parser.unclosed
            if self.unclosed is None:
                self.run(nodes)
            self._jump()

    def _jump(self) -> None:
        if self.stopped == "goto":
            self.stopped = "" if self.goal in self.labels else "exit"
            self.next = self.labels.get(self.goal, 0)

    def _get_line(self) -> tuple[int, str] | None:
        if self.next >= len(self.lines):
            return None
        line, text = self.lines[self.next]
        self.spend(50)
        self.next += 1
        text = expand(_PERCENT, self._fill_percent, text)
        self.count(text)
        return line, text

    def _fill_percent(self, each: re.Match[str]) -> str:
        if each["name"]:
            return self._look_up(each)
        if each["place"] is None:
            return each["loop"] or "%"
        value = self.variables.get(each["place"])
        if each["place"] == "0" and set("dp") & set(each["how"] or ""):
            return ".\\"
        if not isinstance(value, str):
            return each[0]
        return value.strip('"') if each["how"] else value

    def _look_up(self, each: re.Match[str]) -> str:
        """What a variable contains, or the part of it; an unknown one stays as it is written."""
        value = self.variables.get(each["name"].upper())
        if not isinstance(value, str):
            return each[0].replace('"', "") if each["part"] else each[0]
        if not (part := each["part"]):
            return value
        self.count(value)
        if cut := _CUT.fullmatch(part):
            start, length = int(cut[1]), int(cut[2]) if cut[2] else len(value)
            value = value[start:]
            return value[:length]
        old, equals, new = part[1:].partition("=")
        if not equals or not old:
            return value
        return expand(re.compile(re.escape(old), re.IGNORECASE), lambda _: new, value)

    def _fill(self, text: str) -> str:
        """With what is only known when a command is run."""

        def fill_loop(each: re.Match[str]) -> str:
            value = self.variables.get(f"%%{each['name']}")
            return each[0] if not isinstance(value, str) else value.strip('"') if each["plain"] else value

        self.spend(20)
        text = expand(_OF_LOOP, fill_loop, text)
        text = expand(_DELAYED, self._look_up, text) if self.delayed else text
        self.count(text)
        return text

    def run_step(self, step: Step) -> Status:  # noqa: C901 - one for each command
        if isinstance(step.content, int):  # a label that is called
            after, kept, self.kept = self.next, self.kept, []
            self.follow(step.content)
            if self.kept:
                self.variables, self.delayed = self.kept[0]
            self.next, self.kept = after, kept
            return "expected"
        text = self._fill(step.content).strip()
        words = split_words(text)
        name = words[0].lower() if words else ""
        match name:
            case "set":
                self._set(text)
            case "goto":
                self.goal = words[1].lstrip(":").lower() if len(words) > 1 else ""
                self.stop("return" if self.goal == "eof" else "goto")
            case "exit":
                self.stop("return" if "/b" in " ".join(words).lower() else "exit")
            case "setlocal" | "endlocal":
                self._set_local(name, text.lower())
            case "shift":
                for number in range(1, 10):
                    if (given := self.variables.get(str(number))) is not None:
                        self.set_variable(str(number), self.variables.get(str(number + 1), "" if given == "" else None))
            case "call":
                self._call(step.line, words[1:])
            case "":
                pass
            case _:
                self.add_command(step.line, words)
        return "expected"

    def _call(self, line: int, words: list[str]) -> None:
        given: dict[str, Value] = dict.fromkeys("123456789", "")
        given |= {str(number): word for number, word in enumerate(words[1:10], 1)}
        if words and words[0].startswith(":"):
            start = self.labels.get(words[0][1:].lower())
            if start is not None:
                body = (Step(line, start),)
                self.call(Function(words[0], (), body), given)
        elif words and words[0].lower().endswith((".bat", ".cmd")) and (text := self.read_file(words[0])) is not None:
            kept = self.lines, self.labels, self.next
            self._open_file(text)
            self.call(Function(words[0], (), (Step(line, 0),)), given)
            self.lines, self.labels, self.next = kept
        elif words:
            self.add_command(line, words)

    def _set_local(self, name: str, text: str) -> None:
        if name == "setlocal" and len(self.kept) < 32:  # as many as cmd has
            self.kept.append((dict(self.variables), self.delayed))
            self.delayed = "enabledelayed" in text or (self.delayed and "disabledelayed" not in text)
        elif name == "endlocal" and self.kept:
            self.variables, self.delayed = self.kept.pop()

    def _set(self, text: str) -> None:
        """set NAME=value, with /a a calculation, with /p what somebody types."""
        option = (_SET.match(text) or ("", ""))[1]
        for name, operator, value in _list_targets(text):
            if (option or "").lower() == "/a":
                before = f"({self.variables.get(name)}){operator}" if operator else ""
                found = compute(f"{before}({self._fill_sum(value)})")
                self.set_variable(name, None if found is None else str(found))
            else:
                self.set_variable(name, None if option else value)

    def _fill_sum(self, text: str) -> str:
        return expand(re.compile(r"[A-Za-z_]\w*"), lambda each: str(self.variables.get(each[0].upper(), each[0])), text)

    def answer(self, condition: Any) -> bool | None:
        assert isinstance(condition, _Condition)  # noqa: S101 - as the parser makes it
        left, right = self._fill(condition.left), self._fill(condition.right)
        if condition.kind == "defined":
            value = self.variables.get(right.strip('"').upper())
            holds = None if value is None else bool(value)
            return negate(holds) if condition.negated else holds
        return _compare(condition._replace(left=left, right=right))

    def list_values(self, loop: Loop) -> list[str] | None:
        kind, text = loop.values
        text = self._fill(text)
        found = re.findall(r'"[^"]*"?|[^\s,;="]+', text)
        if kind == "l" and len(found) == 3 and all(re.fullmatch(r"-?\d{1,9}", each) for each in found):
            start, step, end = map(int, found)
            numbers = range(start, end + (1 if step > 0 else -1), step) if step else range(0)
            if len(numbers) > MAX_STEPS:
                refuse_size()
            return [str(number) for number in numbers]
        return None if kind or any(sign in text for sign in "*?%") else found


def _list_targets(text: str) -> Iterator[tuple[str, str, str]]:
    """The variables that a command sets: with what operator, to what."""
    if (found := _SET.match(text.strip("\r\n\t @"))) is None:
        return
    option, value = (found[1] or "").lower(), found[2]
    if option == "/a":
        sums = [_SUM.fullmatch(part) for part in value.replace('"', "").split(",")]
        yield from ((each[1].upper(), each[2], each[3]) for each in sums if each is not None)
        return
    if value.startswith('"'):
        value = value[1:].rpartition('"')[0] if '"' in value[1:] else value[1:]
    name, equals, value = value.partition("=")
    if name and equals:
        yield name.upper(), "", value


def _compare(condition: _Condition) -> bool | None:
    """Anything but defined; None where only cmd knows it."""
    one, two = condition.left, condition.right
    if condition.kind not in _ORDERS or any(sign in side for side in (one, two) for sign in "%!"):
        return None
    numbers = to_number(one), to_number(two)
    if condition.kind != "==" and isinstance(numbers[0], int) and isinstance(numbers[1], int):
        order = (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    else:
        one, two = (one.lower(), two.lower()) if condition.insensitive else (one, two)
        order = (one > two) - (one < two)
    return (order in _ORDERS[condition.kind]) != condition.negated


def _is_expected(condition: _Condition) -> bool:
    """Of one that only cmd can answer: commands succeed, and the file is started without arguments."""
    if condition.kind == "errorlevel":
        return (condition.right == "0") != condition.negated
    left, right = (
        re.sub(r"%~?[0-9*]", "", re.sub(r"[%!]errorlevel[%!]", "0", side, flags=re.IGNORECASE))
        for side in (condition.left, condition.right)
    )
    return _compare(condition._replace(left=left, right=right)) is not False


def _join_lines(text: str) -> list[tuple[int, str]]:
    """Lines, with those that ^ continues, or that start with an option as in documents that leave the ^ out."""
    found: list[tuple[int, list[str]]] = []
    continued, size = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        is_option = re.match(r"\s*--[A-Za-z]", line) is not None
        if found and (continued or is_option):
            found[-1][1].append(f"{' ' if is_option else ''}{line}")
        else:
            found.append((number, [line]))
            size = 0
        size += len(line)
        check_size(size)
        if len(found) > MAX_STEPS:
            refuse_size()
        continued = _CONTINUED.search(line[-200:]) is not None
        if continued:
            found[-1][1][-1] = found[-1][1][-1].rstrip()[:-1]
    return [(number, "".join(parts)) for number, parts in found]
