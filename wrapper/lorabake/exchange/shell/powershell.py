"""Commands of a PowerShell script, with the variables, lists and conditions that the script itself sets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.budget import Budget, check_size, get_size
from lorabake.exchange.shell.powershell_operators import (
    Plain,
    Unknown,
    calculate,
    cast,
    compare,
    count_up,
    holds,
    show_number,
    to_plain,
)
from lorabake.exchange.shell.powershell_syntax import (
    Assignment,
    Call,
    Called,
    Jump,
    Match,
    Parser,
    Piped,
    list_parameters,
)
from lorabake.exchange.shell.powershell_values import COMMA, Expression, Member
from lorabake.exchange.shell.script import (
    JUMPS,
    Function,
    Loop,
    Node,
    ReadFile,
    Runner,
    Status,
    Step,
    Value,
    split_words,
)
from lorabake.exchange.shell.sums import join_both, join_either, negate

_OWN_FOLDER = re.compile(r"split-path\b.*(?:myinvocation|pscommandpath)", re.IGNORECASE | re.DOTALL)
_CONSTANTS = {"true": "True", "false": "False"}
_ROUNDED: dict[str, Callable[[float], float]] = {
    "ceiling": math.ceil,
    "floor": math.floor,
    "round": round,
    "truncate": math.trunc,
    "abs": abs,
}
_SWITCHES = ("-wait", "-nonewwindow", "-passthru", "-verbose", "-force", "-nonewline", "-append")


_SILENT = ("write-host", "write-warning", "write-verbose", "write-error", "out-null", "out-file", "set-content", "cd")


def read_powershell_commands(
    text: str, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget, *, expects: bool
) -> Runner:
    """Every command in a branch that is taken. Functions are run where they are called."""
    script = _PowerShell(
        {"psscriptroot": ".", **{name.lower(): value for name, value in variables.items()}}, read_file, budget
    )
    script.expects = expects
    nodes, script.unclosed = script.parse(text)
    script.run(nodes)
    return script


class _PowerShell(Runner):
    """``assigned`` are the variables that the script sets anywhere: before that, they are empty. ``tables`` are those
    with keys: each is a variable such as name.key. ``output`` is what the statements of a value return."""

    def __init__(self, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget) -> None:
        super().__init__(variables, read_file, budget)
        self.tables = set[str]()
        self.assigned = set[str]()
        self.output: list[Value] | None = None

    def parse(self, text: str) -> tuple[list[Node], int | None]:
        """Its statements, and the line of a block without an end."""
        self.spend(4 * len(text))
        parser = Parser(text)
        nodes = parser.parse()
        self.assigned |= parser.assigned
        return nodes, parser.unclosed

    def run_node(self, node: Node) -> Status:
        kept = self.output
        self.output = None if isinstance(node, Piped) else kept
        if isinstance(node, Called):
            self._call(Function("", (), node.body), [])
            return "expected"
        status = super().run_node(node)
        self.output = kept
        return status

    def run_step(self, step: Step) -> Status:
        match step.content:
            case Assignment() as assignment:
                self._assign(assignment)
            case Call() as call:
                self._run_command(step.line, call)
            case Jump(how=how) if how in JUMPS:
                self.stop_loop(how)
            case Jump(how=how):
                self.stop("return" if how == "return" else "exit")
            case content:
                self._return(self.evaluate(content))
        return "expected"

    def _return(self, value: Value) -> None:
        if self.output is not None:
            self.count(value)
            self.output.append(value)

    def _assign(self, assignment: Assignment) -> None:
        name, operator, nodes, is_local = assignment
        name = self._fill_keys(name)
        if is_local and "." not in name:
            for each in [name, *(f"{name}.{below}" for below in self._list_below(name) if name in self.tables)]:
                self.make_local(each)
        before = self.variables.get(name)
        if operator == "?=" and before is not None and not isinstance(before, Unknown):
            return
        content = nodes[0].content if len(nodes) == 1 and isinstance(nodes[0], Step) else None
        if isinstance(content, Expression) and content.kind == "table":
            self._forget(name)
            self.tables.add(name.partition(".")[0])
            for key, value in content.parts:
                if is_local:
                    self.make_local(f"{name}.{key}")
                self._assign(Assignment(f"{name}.{key}", "=", value))
            return
        value = self._evaluate_all(nodes, f"${name}") if nodes or operator != "?=" else Unknown("")
        if operator == "+=":
            value = value if before is None and name != "args" else self._add([] if before is None else before, value)
        elif operator[0] in "-*/%":
            value = calculate("" if before is None else before, operator[0], value)
        if isinstance(value, Unknown) and "$" not in value:
            value = Unknown(f"${name}")
        self._set(name, value, is_changed=operator != "=")

    def _set(self, name: str, value: Value, *, is_changed: bool) -> None:
        """A variable, the item of a list, or a key of a table."""
        root, _, key = name.partition(".")
        items = self.variables.get(root)
        if key and isinstance(items, list):
            changed = None if is_changed else _set_item(items, key, value)
            self.set_variable(root, Unknown(f"${root}") if changed is None else changed)
        elif key == "$":
            self._forget(root)
            self.set_variable(root, Unknown(f"${root}"))
        else:
            self._forget(name)
            self.set_variable(name, value)

    def _fill_keys(self, name: str) -> str:
        """With the value of a key that is a variable; of one that nobody knows, only $ is left."""
        root, *keys = name.split(".")
        values = [self.variables.get(key[1:], "") if key.startswith("$") else key for key in keys]
        known = all(isinstance(value, str) and value and not isinstance(value, Unknown) for value in values)
        return ".".join([root, *(str(value).lower() for value in values)]) if known else f"{root}.$"

    def _forget(self, name: str) -> None:
        """What is under a variable with keys; it is one from now on if the name has a key."""
        root, key, _ = name.partition(".")
        for below in self._list_below(name) if root in self.tables else ():
            self.variables.pop(f"{name}.{below}")
        self.tables |= {root} if key else set()

    def _list_below(self, name: str) -> list[str]:
        self.count(list(self.variables))
        return [key[len(name) + 1 :] for key in self.variables if key.startswith(f"{name}.")]

    def _run_command(self, line: int, call: Call) -> None:
        groups = [self._list_words(word) for word in call.words]
        words = [word for group in groups for word in group]
        name = words[0].lower() if words else ""
        function = self.find_function(name)
        if function is not None:
            self._call(function, words[1:])
            return
        if name.endswith(".ps1") and (script := self.read_file(words[0])) is not None:
            self._run_file(script, words[1:], is_sourced=call.is_sourced)
            return
        named, places = _read_named(call.words[1:], groups[1:])
        if name in {"start-process", "start", "saps"}:
            program = named.get("filepath") or places[:1]
            arguments = named.get("argumentlist") or named.get("args") or places[0 if "filepath" in named else 1 :]
            words = [*program, *split_words(" ".join(arguments))]
        elif name in {"powershell", "powershell.exe", "pwsh", "pwsh.exe"}:
            words = split_words(" ".join(words[1:]))
        elif name in {"set-content", "out-file", "sc"}:
            path = named.get("path") or named.get("filepath") or named.get("literalpath") or places
            text = named.get("value") or ([self._to_text(call.input)] if call.input else places[1:])
            if path and text:
                self.written[path[0]] = "\n".join(text)
        if words:
            self.add_command(line, words)
        if self.output is not None:
            self._return(self._evaluate_command(call))

    def _run_file(self, text: str, words: Sequence[str], *, is_sourced: bool) -> None:
        """Another script: of its own, or as a part of this one."""
        body, _ = self.parse(text)
        with self.calling():
            if is_sourced:
                with self._entering():
                    self.run(body)
            else:
                self._call(Function("", list_parameters(body), body), words)

    def _list_words(self, expression: Expression) -> list[str]:
        """Of an argument; a list is several of them."""
        value = self.evaluate(expression)
        if not isinstance(value, list):
            items = [f"$({value})"] if isinstance(value, Unknown) and "$" not in value else [value]
        elif expression.kind == "items" and re.match(r"[^\s\"'][^\s]*\Z", expression.written):
            items = [",".join(value)]
        else:
            items = value
        self.count(items)
        return [item for item in items if item]

    def _call(self, function: Function, words: Sequence[str]) -> None:
        values: dict[str, Value] = {name: Unknown(f"${name}") for name in function.parameters}
        free, rest, waiting = list(function.parameters), list[str](), ""
        for word in words:
            named, _, value = word[1:].lower().partition(":")
            if word.startswith("-") and named in values:
                values[named] = word.partition(":")[2] if value else Plain("True")
                free = [name for name in free if name != named]
                waiting = "" if value else named
            elif waiting:
                values[waiting], waiting = word, ""
            elif free:
                values[free.pop(0)] = word
            else:
                rest.append(word)
        self.call(function, {**values, "args": rest})

    def answer(self, condition: Any) -> bool | None:
        if not isinstance(condition, Match):
            return holds(self.evaluate(condition))
        subject = self.variables.get("_", Unknown("$_"))
        return holds(compare(subject, condition.operator, self.evaluate(condition.pattern)))

    def list_values(self, loop: Loop) -> list[str] | None:
        if loop.values is None:
            return None
        value = self.evaluate(loop.values)
        is_switch = loop.name == "_" and not loop.is_called
        items = value if isinstance(value, list) else [value] if value or is_switch else []
        return None if any(isinstance(item, Unknown) for item in items) else items

    def _to_text(self, expression: Expression) -> str:
        value = self.evaluate(expression)
        return " ".join(value) if isinstance(value, list) else value

    def evaluate(self, expression: Expression) -> Value:  # noqa: C901, PLR0911, PLR0912 - one for each kind
        self.spend(40)
        match expression.kind:
            case "text" | "bare":
                return str(expression.value)
            case "number":
                return Plain(expression.value)
            case "variable" | "splat":
                return self._read_variable(expression)
            case "string":
                return self._join(expression)
            case "items":
                return self._flatten(self.evaluate(each) for each in expression.parts)
            case "list":
                value = self._evaluate_all(expression.value, expression.written)
                return value if isinstance(value, list | Unknown) else [value] if expression.value else []
            case "group":
                return self._evaluate_all(expression.value, expression.written)
            case "chain":
                return self._evaluate_chain(expression)
            case "unary":
                return self._evaluate_unary(expression)
            case "cast":
                return cast(expression.value, self.evaluate(expression.parts[0]))
            case "path":
                return self._follow_path(expression)
            case "static":
                return self._call_static(expression)
            case _:
                return Unknown(expression.written)

    def _read_variable(self, expression: Expression) -> Value:
        name = expression.value
        if name in _CONSTANTS:
            return Plain(_CONSTANTS[name])
        is_empty = name == "null" or (name in self.assigned and name not in self.unknown)
        value = self.variables.get(name, "" if is_empty else Unknown(expression.written))
        self.count(value)
        return value

    def _join(self, expression: Expression) -> str:
        parts, known, size = list[str](), True, 0
        for part in expression.parts:
            value = self.evaluate(part)
            known = known and not isinstance(value, Unknown)
            parts.append(" ".join(value) if isinstance(value, list) else value)
            self.count(parts[-1])
            size += len(parts[-1])
            check_size(size)
        return "".join(parts) if known else Unknown("".join(parts))

    def _flatten(self, values: Iterable[Value]) -> list[str]:
        found, size = list[str](), 0
        for value in values:
            found += value if isinstance(value, list) else [value]
            size += get_size(value)
            check_size(size)
        return found

    def _evaluate_all(self, nodes: Sequence[Node], written: str) -> Value:
        """What statements return: one value, or several as a list."""
        content = nodes[0].content if len(nodes) == 1 and isinstance(nodes[0], Step) else None
        if isinstance(content, Expression):
            return self.evaluate(content)
        kept, self.output = self.output, []
        self.run(nodes)
        found, self.output = self.output, kept
        if isinstance(content, Assignment):
            return self.variables.get(content.name, Unknown(written))
        if isinstance(content, Call) and found == [[]]:
            return []
        items = [Unknown(item or written) if isinstance(item, Unknown) else item for item in self._flatten(found)]
        return items[0] if len(items) == 1 else items or ""

    def _evaluate_command(self, call: Call) -> Value:
        """An empty unknown value where only PowerShell knows it."""
        shown = " ".join(word.written for word in call.words)
        named, places = _read_named(call.words[1:], [self._list_words(word) for word in call.words[1:]])
        match call.words[0].written.lower():
            case "join-path":
                parts = [*(named.get("path") or []), *(named.get("childpath") or []), *places]
                return Unknown("") if len(parts) < 2 else "\\".join(part.rstrip("\\/") for part in parts)
            case "new-object":
                return [] if "list" in shown.lower() else Unknown("")
            case name if name in _SILENT:
                return []
            case _:
                return "." if _OWN_FOLDER.search(shown) else Unknown("")

    def _evaluate_chain(self, expression: Expression) -> Value:
        first, *rest = expression.parts
        value = self.evaluate(first)
        if expression.value == COMMA:
            return self._flatten([value, *(self.evaluate(part) for _, part in rest)])
        for operator, part in rest:
            other = self.evaluate(part)
            match operator.lstrip("-"):
                case "and":
                    value = to_plain(join_both(holds(value), holds(other)), expression.written)
                case "or":
                    value = to_plain(join_either(holds(value), holds(other)), expression.written)
                case "+":
                    value = self._add(value, other)
                case "" | "*" | "/" | "%":
                    value = calculate(value, operator, other)
                case "..":
                    value = count_up(value, other, expression.written)
                case name:
                    value = compare(value, name, other)
            if isinstance(value, Unknown) and operator not in {"+", "-and", "-or"}:
                return Unknown(expression.written)
        return value

    def _add(self, one: Value, two: Value) -> Value:
        if isinstance(one, list):
            return self._flatten([one, two])
        if isinstance(two, list):
            two = " ".join(two)
        if isinstance(one, Plain) and (total := calculate(one, "+", two)) and not isinstance(total, Unknown):
            return total
        text = f"{one}{two}"
        check_size(len(text))
        return Unknown(text) if isinstance(one, Unknown) or isinstance(two, Unknown) else text

    def _evaluate_unary(self, expression: Expression) -> Value:
        value = self.evaluate(expression.parts[0])
        match expression.value.lstrip("-") or "-":
            case "bnot":
                return Unknown(expression.written)
            case "!" | "not":
                return to_plain(negate(holds(value)), expression.written)
            case "-":
                return calculate(Plain("0"), "-", value)
            case ",":
                return value if isinstance(value, list) else [value]
            case _:
                return value

    def _follow_path(self, expression: Expression) -> Value:
        base, members = expression.value, list(expression.parts)
        name = base.value if base.kind == "variable" else ""
        key, value = name, self.evaluate(base)
        while name in self.tables and members:
            step = members[0].name if members[0].name != "[" else self._to_text(members[0].arguments[0]).lower()
            if f"{key}.{step}" not in self.variables and not self._list_below(f"{key}.{step}"):
                break
            key = f"{key}.{step}"
            value = self.variables.get(key, Unknown(expression.written))
            members.pop(0)
        if members and members[0].name == "keys" and (keys := self._list_below(key)):
            return [each for each in keys if "." not in each]
        for member in members:
            if member.name in {"add", "addrange"} and name:
                before = self.variables.get(key, [])
                self.set_variable(key, self._flatten([before, *map(self.evaluate, member.arguments or ())]))
                return []
            value = self._get_member(value, member)
            if isinstance(value, Unknown):
                return Unknown(expression.written)
        return value

    def _get_member(self, value: Value, member: Member) -> Value:
        given = [self.evaluate(each) for each in member.arguments or ()]
        texts = [each for each in given if isinstance(each, str) and not isinstance(each, Unknown)]
        unknown = Unknown("?")
        if isinstance(value, Unknown) or len(texts) != len(given):
            return unknown
        if member.name in {"count", "length"}:
            return Plain(str(len(value) if isinstance(value, list) or member.name == "length" else 1))
        if member.name == "[":
            index = to_number(texts[0]) if texts else None
            items = value if isinstance(value, list) else list(value)
            return items[index] if isinstance(index, int) and -len(items) <= index < len(items) else unknown
        return str(value) if member.name == "tostring" and not texts else unknown

    def _call_static(self, expression: Expression) -> Value:
        kind, _, name = expression.value.partition("::")
        values = [self.evaluate(each) for each in expression.parts]
        if name == "new":
            return [] if "list" in kind else Unknown(expression.written)
        texts = [each for each in values if isinstance(each, str) and not isinstance(each, Unknown)]
        numbers = [number for number in map(to_number, texts) if number is not None]
        if kind == "math" and name in _ROUNDED and len(numbers) == len(values) == 1:
            return show_number(_ROUNDED[name](numbers[0]))
        return Unknown(expression.written)


def _set_item(items: list[str], key: str, value: Value) -> list[str] | None:
    """A list with another value in a place; None where only PowerShell knows it."""
    index = to_number(key)
    if not isinstance(value, str) or not isinstance(index, int) or not -len(items) <= index < len(items):
        return None
    return [*items[: index % len(items)], value, *items[index % len(items) + 1 :]]


def _read_named(words: Sequence[Expression], values: Sequence[list[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """-Name with the argument that follows it, and what has no name."""
    named, places, name = dict[str, list[str]](), list[str](), ""
    for word, value in zip(words, values, strict=True):
        if word.kind == "text" and re.fullmatch(r"-[A-Za-z]+", word.written):
            name = "" if word.written.lower() in _SWITCHES else word.written[1:].lower()
        elif name:
            named[name], name = value, ""
        else:
            places += value
    return named, places
