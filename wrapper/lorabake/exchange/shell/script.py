"""What a script does: assignments, commands, conditions, loops and functions, whatever shell it is written for."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from lorabake.exchange.shell.budget import MAX_STEPS, Budget, check_script, check_size, get_size, refuse_size

MAX_DEPTH = 60  # of blocks in one another
_MAX_CALLS = 16  # of functions that call one another, and of texts that are run
JUMPS = ("break", "continue")

Value = str | list[str]
Status = bool | Literal["expected"] | None  # of a condition whether it holds; a command is expected to succeed


ReadFile = Callable[[str], str | None]  # of a file that a script names: its text, None where it is not here


class Command(NamedTuple):
    """``line`` is where it starts; ``written`` are the files that the script has written until then."""

    line: int
    words: list[str]
    written: Mapping[str, str]


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
    """The first branch that holds is run, or with ``every`` each of them, and the one without a condition if none does.
    ``expected``: a condition that nobody can answer counts as true."""

    branches: tuple[Branch, ...]
    expected: bool = True
    every: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """A body for each of some values. ``values`` is None where only a shell knows them. ``is_called``: return ends a
    turn, as of a function."""

    name: str
    values: Any
    shown: str
    body: Nodes
    is_called: bool = False


@dataclass(frozen=True, slots=True)
class While:
    """A body for as long as a condition holds, with what is run after each turn. ``at_end``: it is asked after the
    first turn."""

    condition: Any
    shown: str
    body: Nodes
    after: Nodes = ()
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    name: str
    parameters: tuple[str, ...]
    body: Nodes


@dataclass(frozen=True, slots=True)
class Block:
    """``is_loop``: break and continue end it. ``is_apart``: what it sets and stops is only for itself."""

    body: Nodes
    is_loop: bool = False
    is_apart: bool = False


@dataclass(frozen=True, slots=True)
class Chain:
    """Commands, each with && or || before it, the first with nothing or !."""

    parts: tuple[tuple[str, Node], ...]
    shown: str


Node = Step | Choice | Loop | While | Function | Block | Chain
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
    the files that the script writes itself; ``unclosed`` is the line of a block without an end. ``unknown`` are the
    variables that are set to what only a shell knows.
    """

    expects = True  # of a condition without an answer, that it holds where that is usual

    def __init__(self, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget) -> None:
        self.budget = budget
        self.spend = budget.spend
        self.spend(len(variables))
        self.variables: dict[str, Value] = dict(variables)
        self.unknown = set[str]()
        self._read_file = read_file
        self.commands: list[Command] = []
        self.doubts: dict[str, list[str]] = {}
        self.written: dict[str, str] = {}
        self.unclosed: int | None = None
        self.stopped = ""
        self._may_have_returned = self._may_have_left = self._left = self._ended = False
        self._entered = list[int]()  # how many doubts were open before each function that runs
        self._frames: list[dict[str, Value | None]] = []  # of the functions that run: what their variables hide
        self._functions: dict[str, Function] = {}
        self._open: list[str] = []
        self._loops: list[tuple[str, int]] = []  # the variable of each, and how many doubts were open before it
        self._levels = 0
        self._calls = 0

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
            self.budget.take_step()
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
            case While():
                self._run_while(node)
            case Function(name=name):
                self._functions[name] = node
            case Block(body=body, is_loop=True):
                self._run_loop(body)
            case Block(body=body, is_apart=True):
                with self.apart():
                    return self.run(body)
            case Block(body=body):
                return self.run(body)
            case Chain():
                return self._run_chain(node)
        return "expected"

    def _choose(self, choice: Choice) -> None:
        doubt, done = "", False
        for branch in choice.branches:
            holds = True if branch.condition is None else self.answer(branch.condition)
            if holds is False or self.stopped or (done and choice.every and branch.condition is None):
                continue
            if holds is None:
                doubt = doubt or branch.shown
            with self._doubting("" if choice.every and holds and branch.condition is not None else doubt):
                if (done and not choice.every) or (holds is None and not (choice.expected and self.expects)):
                    self._note_all(branch.body)
                else:
                    self.run(branch.body)
                    done = True
            done = done and not self._ended
            if not choice.every and (holds is True or not doubt):
                return

    def _repeat(self, loop: Loop) -> None:
        values = self.list_values(loop)
        if values is None:
            self.set_variable(loop.name, None)
        with self._doubting(loop.shown if values is None else ""):
            self.note((loop.name,))
            for value in [None] if values is None else values:
                if value is not None:
                    self.set_variable(loop.name, value)
                with self._entering() if loop.is_called else nullcontext():
                    goes_on = self._run_loop(loop.body, loop.name) or (loop.is_called and self.stopped == "return")
                if not goes_on:
                    break

    def _run_while(self, loop: While) -> None:
        """Turn after turn. One that changes nothing is the last; after one that may have ended the loop, or without an
        answer, more of them are in doubt."""
        for turn in range(MAX_STEPS):
            before = self.get_state()
            holds = True if loop.at_end and not turn else self.answer(loop.condition)
            if holds is False or self.stopped:
                return
            with self._doubting(loop.shown if holds is None else ""):
                if holds is None and turn:
                    self._note_all(loop.body)
                    return
                kept, self._may_have_left = self._may_have_left, False
                goes_on = self._run_loop(loop.body)
                left, self._may_have_left = self._may_have_left, kept
                if goes_on:
                    self.run(loop.after)
            if not goes_on or holds is None or left or before == self.get_state():
                return

    def get_state(self) -> tuple[object, ...]:
        """What the next turn of a loop depends on."""
        self.count(list(self.variables))
        return (dict(self.variables),)

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
        """What is set before a stop in doubt is forgotten, since what follows is reached only without it."""
        if not condition:
            yield
            self._ended = False
            return
        before, self._left = self._left, False
        self.count(list(self.variables))
        variables, unknown = dict(self.variables), set(self.unknown)
        self._open.append(" ".join(condition.split()))
        yield
        self._open.pop()
        self._ended, self._left = self._left, before
        if self._ended:
            self.variables, self.unknown = variables, unknown

    def is_sure(self) -> bool:
        return not self._open

    def note(self, names: Iterable[str]) -> None:
        """What is set, or would be, under a condition without an answer."""
        for doubt in self._open:
            for name in names:
                known = self.doubts.setdefault(doubt, [])
                self.spend(1 + len(known) // 16)
                if name not in known:
                    known.append(name)

    def _note_all(self, nodes: Nodes) -> None:
        for node in nodes:
            self.spend(10)
            match node:
                case Step(names=names):
                    self.note(names)
                case Choice(branches=branches):
                    for branch in branches:
                        self._note_all(branch.body)
                case Chain(parts=parts):
                    self._note_all([part for _, part in parts])
                case Loop(body=body) | While(body=body) | Block(body=body):
                    self._note_all(body)
                case Function():
                    pass

    def find_function(self, name: str) -> Function | None:
        return self._functions.get(name)

    def call(self, function: Function, values: Mapping[str, Value]) -> Status:
        """Run it with the values of its parameters."""
        before, self._may_have_returned = self._may_have_returned, False
        self._frames.append({})
        for name, value in values.items():
            self.make_local(name)
            self.set_variable(name, value)
        loops, self._loops = self._loops, []
        with self.calling(), self._entering():
            status = self.run(function.body)
        self._loops = loops
        self._may_have_returned = before
        for name, hidden in self._frames.pop().items():
            self.restore(name, hidden)
        return status

    @contextmanager
    def _entering(self) -> Generator[None]:
        """What return ends."""
        self._entered.append(len(self._open))
        yield
        self._entered.pop()
        self.stopped = "" if self.stopped == "return" else self.stopped

    @contextmanager
    def calling(self) -> Generator[None]:
        """A function, or a text that is run. Raises RecipeError where too many call one another."""
        self._calls += 1
        if self._calls > _MAX_CALLS:
            refuse_size()
        yield
        self._calls -= 1

    def make_local(self, name: str) -> None:
        """A variable of the function that runs, if one does."""
        if self._frames:
            self._frames[-1].setdefault(name, self.variables.get(name))

    def restore(self, name: str, value: Value | None) -> None:
        self.unknown.discard(name)
        if value is None:
            self.variables.pop(name, None)
        else:
            self.set_variable(name, value)

    @contextmanager
    def apart(self) -> Generator[None]:
        """What is set or stopped is forgotten."""
        self.count(list(self.variables))
        variables, unknown = dict(self.variables), set(self.unknown)
        loops, self._loops = self._loops, []
        before, self._may_have_returned = self._may_have_returned, False
        yield
        self.variables, self.unknown, self._loops = variables, unknown, loops
        self._may_have_returned = before
        self.stopped = ""

    def stop(self, how: str) -> None:
        """At ``exit`` or ``return``, unless it is in doubt whether that is reached: a function that may have returned
        before its ``exit`` is expected to have done so."""
        if len(self._open) > (self._entered[-1] if how == "return" and self._entered else 0):
            self._may_have_left = self._left = True
            self._may_have_returned = self._may_have_returned or (how == "return" and bool(self._entered))
        else:
            self.stopped = "return" if self._may_have_returned else how

    def stop_loop(self, how: str, levels: int = 1) -> None:
        """At ``break`` or ``continue``. In doubt, the loop goes on, and its variable depends on that doubt."""
        if not self._loops:
            return
        levels = min(max(levels, 1), len(self._loops))
        name, doubts = self._loops[-levels]
        if len(self._open) > doubts:
            self._may_have_left = True
            self.note([name] if name else [])
        else:
            self.stopped, self._levels = how, levels

    def set_variable(self, name: str, value: Value | None) -> None:
        """None: only a shell knows the value."""
        if value is None:
            self.variables.pop(name, None)
            self.unknown.add(name)
        else:
            self.count(value)
            self.unknown.discard(name)
            self.variables[name] = value

    def add_command(self, line: int, words: list[str]) -> None:
        self.count(words)
        self.spend(4 * len(self.written))
        self.commands.append(Command(line, words, dict(self.written)))

    def count(self, value: Value) -> None:
        self.spend(get_size(value))

    def read_file(self, name: str) -> str | None:
        """Of a file that the script names: its text, None where it is not here."""
        text = self._read_file(name)
        self.spend(1000 + len(text or "") // 16)
        return text


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
