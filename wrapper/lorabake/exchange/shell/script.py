"""What a script does: assignments, commands, conditions, loops and functions, whatever shell it is written for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

from lorabake.errors import RecipeError
from lorabake_schemas.messages import msg

MAX_KIB = 64  # of a statement or a value, in 1024 characters
MAX_DEPTH = 60  # of blocks in one another
_MAX_CALLS = 8  # of functions that call one another
_MAX_SCRIPT = 1 << 20  # characters
_MAX_SET = 8 << 20  # characters of everything that is set and run
MAX_STEPS = 20_000
JUMPS = ("break", "continue")

Value = str | list[str]
Status = bool | Literal["expected"] | None  # of a condition whether it holds; a command is expected to succeed


class Command(NamedTuple):
    """``line`` is where it starts."""

    line: int
    words: list[str]


# What a step, a condition or a loop contains is its shell's own: only the runner of that shell reads it.
@dataclass(frozen=True, slots=True)
class Step:
    """An assignment or a command. ``names`` are the variables that it sets and the scripts that it starts."""

    line: int
    content: Any
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition, None for ``else``, as it is shown in the report, and what is run if it holds."""

    condition: Any
    shown: str
    body: Nodes


@dataclass(frozen=True, slots=True)
class Choice:
    """The first branch that holds is run. ``expected``: one that nobody can answer counts as true."""

    branches: tuple[Branch, ...]
    expected: bool = True


@dataclass(frozen=True, slots=True)
class Loop:
    """A body for each of some values. ``values`` is None where only a shell knows them."""

    name: str
    values: Any
    shown: str
    body: Nodes


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    parameters: tuple[str, ...]
    body: Nodes


@dataclass(frozen=True, slots=True)
class Block:
    """``is_loop``: break and continue end it."""

    body: Nodes
    is_loop: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """Commands, each with && or || before it, the first with nothing or !."""

    parts: tuple[tuple[str, Node], ...]
    shown: str


Node = Step | Choice | Loop | Function | Block | Chain
Nodes = Sequence[Node]


class Scanner:
    """The place in a text that a parser has come to. ``unclosed`` is the line of a block that has no end."""

    def __init__(self, text: str) -> None:
        check_script(text)
        self.text = text
        self.at: int = 0
        self.depth: int = 0
        self.unclosed: int | None = None
        self._ends = [each.start() for each in re.finditer("\n", text)]

    def find_line(self, at: int) -> int:
        return bisect_right(self._ends, at - 1) + 1

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    @contextmanager
    def nested(self) -> Generator[None]:
        """Raises RecipeError where too many blocks are in one another."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            refuse_size()
        try:
            yield
        finally:
            self.depth -= 1


class Runner(ABC):
    """Follows a script as far as the script itself decides what is run, and starts nothing.

    ``doubts`` are the conditions that only a shell can answer, with the names of what depends on each; ``written`` are
    the files that the script writes itself; ``unclosed`` is the line of a block without an end.
    """

    def __init__(self, variables: Mapping[str, Value]) -> None:
        self.variables: dict[str, Value] = dict(variables)
        self.commands: list[Command] = []
        self.doubts: dict[str, list[str]] = {}
        self.written: dict[str, str] = {}
        self.unclosed: int | None = None
        self.stopped = ""
        self._may_have_returned = False
        self._functions: dict[str, Function] = {}
        self._open: list[str] = []
        self._loops: list[tuple[str, int]] = []  # the variable of each, and how many doubts were open before it
        self._levels = 0
        self._size = self._steps = self._calls = 0

    @abstractmethod
    def run_step(self, step: Step) -> Status: ...

    @abstractmethod
    def answer(self, condition: Any) -> bool | None:
        """Whether it holds; None where only a shell knows."""

    @abstractmethod
    def list_values(self, loop: Loop) -> list[str] | None:
        """The values of a loop; None where only a shell knows them."""

    def run(self, nodes: Nodes) -> Status:
        """That of the last one."""
        status: Status = "expected"
        for node in nodes:
            if self.stopped:
                break
            self._steps += 1
            if self._steps > MAX_STEPS:
                refuse_size()
            status = self.run_node(node)
        return status

    def run_node(self, node: Node) -> Status:
        match node:
            case Step(names=names):
                self.note(names)
                return self.run_step(node)
            case Choice():
                self._choose(node)
            case Loop():
                self._repeat(node)
            case Function(name=name):
                self._functions[name] = node
            case Block(body=body, is_loop=True):
                self._run_loop(body)
            case Block(body=body):
                return self.run(body)
            case Chain():
                return self._run_chain(node)
        return "expected"

    def _choose(self, choice: Choice) -> None:
        doubt, done = "", False
        for branch in choice.branches:
            holds = True if branch.condition is None else self.answer(branch.condition)
            if holds is False:
                continue
            if holds is None:
                doubt = doubt or branch.shown
            with self._doubting(doubt):
                if done or (holds is None and not choice.expected):
                    self._note_all(branch.body)
                else:
                    self.run(branch.body)
                    done = True
            if holds is True or not doubt:
                return

    def _repeat(self, loop: Loop) -> None:
        values = self.list_values(loop)
        if values is None:
            self.variables.pop(loop.name, None)
        with self._doubting(loop.shown if values is None else ""):
            self.note((loop.name,))
            for value in [None] if values is None else values:
                if value is not None:
                    self.set_variable(loop.name, value)
                if not self._run_loop(loop.body, loop.name):
                    break

    def _run_loop(self, body: Nodes, name: str = "") -> bool:
        """Once. Returns whether the loop goes on."""
        self._loops.append((name, len(self._open)))
        self.run(body)
        self._loops.pop()
        if self.stopped not in JUMPS:
            return not self.stopped
        self._levels -= 1
        goes_on = self.stopped == "continue" and not self._levels
        self.stopped = self.stopped if self._levels else ""
        return goes_on

    def _run_chain(self, chain: Chain) -> Status:
        status, taken = self.run_node(chain.parts[0][1]), False
        if chain.parts[0][0] == "!" and isinstance(status, bool):
            status = not status
        for joint, node in chain.parts[1:]:
            if self.stopped or (joint, status) in {("&&", False), ("||", True)}:
                continue
            if status is not None and (joint, status) != ("||", "expected"):
                status = self.run_node(node)
                continue
            with self._doubting(chain.shown):
                if joint == "||" and (taken or status is not None):
                    self._note_all([node])
                else:
                    self.run_node(node)
                    taken = True
        return status

    @contextmanager
    def _doubting(self, condition: str) -> Generator[None]:
        if not condition:
            yield
            return
        self._open.append(" ".join(condition.split()))
        yield
        self._open.pop()

    def is_sure(self) -> bool:
        return not self._open

    def note(self, names: Iterable[str]) -> None:
        """What is set, or would be, under a condition without an answer."""
        for doubt in self._open:
            for name in names:
                known = self.doubts.setdefault(doubt, [])
                if name not in known:
                    known.append(name)

    def _note_all(self, nodes: Nodes) -> None:
        for node in nodes:
            match node:
                case Step(names=names):
                    self.note(names)
                case Choice(branches=branches):
                    for branch in branches:
                        self._note_all(branch.body)
                case Chain(parts=parts):
                    self._note_all([part for _, part in parts])
                case Loop(body=body) | Block(body=body):
                    self._note_all(body)
                case Function():
                    pass

    def find_function(self, name: str) -> Function | None:
        return self._functions.get(name)

    def call(self, function: Function, values: Mapping[str, Value]) -> None:
        """Run it with the values of its parameters."""
        self._calls += 1
        if self._calls > _MAX_CALLS:
            refuse_size()
        kept, before = {name: self.variables.get(name) for name in values}, self._may_have_returned
        self.variables |= values
        self._may_have_returned = False
        loops, self._loops = self._loops, []
        self.run(function.body)
        self._loops = loops
        self._may_have_returned = before
        for name, value in kept.items():
            self.set_variable(name, value)
        self._calls -= 1
        self.stopped = "" if self.stopped == "return" else self.stopped

    def stop(self, how: str) -> None:
        """At ``exit`` or ``return``, unless it is in doubt whether that is reached: a function that may have returned
        before its ``exit`` is expected to have done so."""
        if not self.is_sure():
            self._may_have_returned = self._may_have_returned or (how == "return" and self._calls > 0)
        else:
            self.stopped = "return" if self._may_have_returned else how

    def stop_loop(self, how: str, levels: int = 1) -> None:
        """At ``break`` or ``continue``. In doubt, the loop goes on, and its variable depends on that doubt."""
        if not self._loops:
            return
        levels = min(max(levels, 1), len(self._loops))
        name, doubts = self._loops[-levels]
        if len(self._open) > doubts:
            self.note([name] if name else [])
        else:
            self.stopped, self._levels = how, levels

    def set_variable(self, name: str, value: Value | None) -> None:
        """None: only a shell knows the value."""
        if value is None:
            self.variables.pop(name, None)
        else:
            self.count(value)
            self.variables[name] = value

    def add_command(self, line: int, words: list[str]) -> None:
        self.count(words)
        self.commands.append(Command(line, words))

    def count(self, value: Value) -> None:
        self._size = add_size(self._size, value)


def expand(pattern: re.Pattern[str], fill: Callable[[re.Match[str]], str], text: str) -> str:
    """``text`` with what ``fill`` returns for each match. Raises RecipeError above the size of a value."""
    parts, at, size = list[str](), 0, len(text)
    for each in pattern.finditer(text):
        value = fill(each)
        size += len(value)
        check_size(size)
        parts += [text[at : each.start()], value]
        at = each.end()
    return "".join([*parts, text[at:]])


def split_words(text: str) -> list[str]:
    """As programs on Windows split their arguments."""
    return [word.replace('"', "") for word in re.findall(r'(?:[^\s"]|"[^"]*"?)+', text)]


def list_scripts_of(words: Iterable[str]) -> list[str]:
    """The names of the Python scripts in a command."""
    return [name for word in words if (name := re.split(r"[\\/]", word)[-1]).endswith(".py")]


def add_size(before: int, value: Value) -> int:
    """The characters of everything so far. Raises RecipeError above that of a value, or of all together."""
    size = len(value) if isinstance(value, str) else sum(map(len, value)) + len(value)
    check_size(size)
    if before + size > _MAX_SET:
        refuse_size()
    return before + size


def check_size(size: int) -> None:
    """Raises RecipeError above the size of a value."""
    if size > MAX_KIB << 10:
        refuse_size()


def check_script(text: str) -> None:
    """Raises RecipeError above the size of a script."""
    if len(text) > _MAX_SCRIPT:
        refuse_size()


def refuse_size() -> NoReturn:
    """Raises RecipeError."""
    said = msg("the script is too long, or makes a value of more than {size} KB", size=MAX_KIB)
    raise RecipeError(said, hint=msg("write the training command with its values into a file, and import that"))
