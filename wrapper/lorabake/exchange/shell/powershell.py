"""Commands of a PowerShell script, with the variables, lists and conditions that the script itself sets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.powershell_syntax import Assignment, Call, Jump, Match, Parser, Piped
from lorabake.exchange.shell.powershell_values import COMMA, Expression, Member
from lorabake.exchange.shell.script import (
    JUMPS,
    MAX_STEPS,
    Function,
    Loop,
    Node,
    ReadFile,
    Runner,
    Status,
    Step,
    Value,
    add_size,
    check_size,
    refuse_size,
    split_words,
)
from lorabake.exchange.shell.sums import join_both, join_either, negate

_OWN_FOLDER = re.compile(r"split-path\b.*(?:myinvocation|pscommandpath)", re.IGNORECASE | re.DOTALL)
_CONSTANTS = {"true": "True", "false": "False"}
_ORDERS = {"eq": (0,), "ne": (-1, 1), "gt": (1,), "lt": (-1,), "ge": (0, 1), "le": (-1, 0)}
_ROUNDED: dict[str, Callable[[float], float]] = {
    "ceiling": math.ceil,
    "floor": math.floor,
    "round": round,
    "truncate": math.trunc,
    "abs": abs,
}
_SWITCHES = ("-wait", "-nonewwindow", "-passthru", "-verbose", "-force", "-nonewline", "-append")


_SILENT = ("write-host", "write-warning", "write-verbose", "write-error", "out-null", "out-file", "set-content", "cd")


class _Plain(str):
    """A number or a boolean, which differs from the same text in conditions and sums."""

    __slots__ = ()


class _Unknown(str):
    """What only PowerShell knows, as it is written."""

    __slots__ = ()


def read_powershell_commands(text: str, variables: Mapping[str, Value], read_file: ReadFile) -> Runner:
    """Every command in a branch that is taken. Functions are run where they are called."""
    parser = Parser(text)
    script = _PowerShell({"psscriptroot": ".", **{name.lower(): value for name, value in variables.items()}}, read_file)
    script.run(parser.parse())
    script.unclosed = parser.unclosed
    return script


class _PowerShell(Runner):
    """``tables`` are the variables with keys: each is a variable such as name.key. ``output`` is what the statements of
    a value return."""

    def __init__(self, variables: Mapping[str, Value], read_file: ReadFile) -> None:
        super().__init__(variables, read_file)
        self.tables = set[str]()
        self.evaluated = 0
        self.output: list[Value] | None = None

    def run_node(self, node: Node) -> Status:
        kept = self.output
        self.output = None if isinstance(node, Piped) else kept
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
        name, operator, nodes = assignment
        before = self.variables.get(name)
        if operator == "?=" and before is not None and not isinstance(before, _Unknown):
            return
        content = nodes[0].content if len(nodes) == 1 and isinstance(nodes[0], Step) else None
        if isinstance(content, Expression) and content.kind == "table":
            self._forget(name)
            self.tables.add(name.partition(".")[0])
            for key, value in content.parts:
                self._assign(Assignment(f"{name}.{key}", "=", value))
            return
        value = self._evaluate_all(nodes, f"${name}") if nodes or operator != "?=" else _Unknown("")
        if operator == "+=":
            value = value if before is None and name != "args" else self._add([] if before is None else before, value)
        elif operator[0] in "-*/%":
            value = _calculate("" if before is None else before, operator[0], value)
        if isinstance(value, _Unknown) and "$" not in value:
            value = _Unknown(f"${name}")
        self._forget(name)
        self.set_variable(name, value)

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

    def _list_words(self, expression: Expression) -> list[str]:
        """Of an argument; a list is several of them."""
        value = self.evaluate(expression)
        if not isinstance(value, list):
            items = [f"$({value})"] if isinstance(value, _Unknown) and "$" not in value else [value]
        elif expression.kind == "items" and re.match(r"[^\s\"'][^\s]*\Z", expression.written):
            items = [",".join(value)]
        else:
            items = value
        self.count(items)
        return [item for item in items if item]

    def _call(self, function: Function, words: Sequence[str]) -> None:
        values: dict[str, Value] = {name: _Unknown(f"${name}") for name in function.parameters}
        free, rest, waiting = list(function.parameters), list[str](), ""
        for word in words:
            named, _, value = word[1:].lower().partition(":")
            if word.startswith("-") and named in values:
                values[named] = word.partition(":")[2] if value else _Plain("True")
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
            return _holds(self.evaluate(condition))
        return _holds(_compare(self.evaluate(condition.subject), "eq", self.evaluate(condition.pattern)))

    def list_values(self, loop: Loop) -> list[str] | None:
        if loop.values is None:
            return None
        value = self.evaluate(loop.values)
        items = value if isinstance(value, list) else [value] if value else []
        return None if any(isinstance(item, _Unknown) for item in items) else items

    def _to_text(self, expression: Expression) -> str:
        value = self.evaluate(expression)
        return " ".join(value) if isinstance(value, list) else value

    def evaluate(self, expression: Expression) -> Value:  # noqa: C901, PLR0911, PLR0912 - one for each kind
        self.evaluated += 1
        if self.evaluated > 10 * MAX_STEPS:
            refuse_size()
        match expression.kind:
            case "text" | "bare":
                return str(expression.value)
            case "number":
                return _Plain(expression.value)
            case "variable" | "splat":
                return self._read_variable(expression)
            case "string":
                return self._join(expression)
            case "items":
                return self._flatten(self.evaluate(each) for each in expression.parts)
            case "list":
                value = self._evaluate_all(expression.value, expression.written)
                return value if isinstance(value, list | _Unknown) else [value] if expression.value else []
            case "group":
                return self._evaluate_all(expression.value, expression.written)
            case "chain":
                return self._evaluate_chain(expression)
            case "unary":
                return self._evaluate_unary(expression)
            case "cast":
                return _cast(expression.value, self.evaluate(expression.parts[0]))
            case "path":
                return self._follow_path(expression)
            case "static":
                return self._call_static(expression)
            case _:
                return _Unknown(expression.written)

    def _read_variable(self, expression: Expression) -> Value:
        name = expression.value
        if name in _CONSTANTS:
            return _Plain(_CONSTANTS[name])
        value = "" if name == "null" else self.variables.get(name, _Unknown(expression.written))
        self.count(value)
        return value

    def _join(self, expression: Expression) -> str:
        parts, known, size = list[str](), True, 0
        for part in expression.parts:
            value = self.evaluate(part)
            known = known and not isinstance(value, _Unknown)
            parts.append(" ".join(value) if isinstance(value, list) else value)
            self.count(parts[-1])
            size += len(parts[-1])
            check_size(size)
        return "".join(parts) if known else _Unknown("".join(parts))

    def _flatten(self, values: Iterable[Value]) -> list[str]:
        found, size = list[str](), 0
        for value in values:
            found += value if isinstance(value, list) else [value]
            size = add_size(size, value)
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
            return self.variables.get(content.name, _Unknown(written))
        if isinstance(content, Call) and found == [[]]:
            return []
        items = [_Unknown(item or written) if isinstance(item, _Unknown) else item for item in self._flatten(found)]
        return items[0] if len(items) == 1 else items or ""

    def _evaluate_command(self, call: Call) -> Value:
        """An empty unknown value where only PowerShell knows it."""
        shown = " ".join(word.written for word in call.words)
        named, places = _read_named(call.words[1:], [self._list_words(word) for word in call.words[1:]])
        match call.words[0].written.lower():
            case "join-path":
                parts = [*(named.get("path") or []), *(named.get("childpath") or []), *places]
                return _Unknown("") if len(parts) < 2 else "\\".join(part.rstrip("\\/") for part in parts)
            case "new-object":
                return [] if "list" in shown.lower() else _Unknown("")
            case name if name in _SILENT:
                return []
            case _:
                return "." if _OWN_FOLDER.search(shown) else _Unknown("")

    def _evaluate_chain(self, expression: Expression) -> Value:
        first, *rest = expression.parts
        value = self.evaluate(first)
        if expression.value == COMMA:
            return self._flatten([value, *(self.evaluate(part) for _, part in rest)])
        for operator, part in rest:
            other = self.evaluate(part)
            match operator.lstrip("-"):
                case "and":
                    value = _to_plain(join_both(_holds(value), _holds(other)), expression.written)
                case "or":
                    value = _to_plain(join_either(_holds(value), _holds(other)), expression.written)
                case "+":
                    value = self._add(value, other)
                case "" | "*" | "/" | "%":
                    value = _calculate(value, operator, other)
                case "..":
                    value = _count_up(value, other, expression.written)
                case name:
                    value = _compare(value, name, other)
            if isinstance(value, _Unknown) and operator not in {"+", "-and", "-or"}:
                return _Unknown(expression.written)
        return value

    def _add(self, one: Value, two: Value) -> Value:
        if isinstance(one, list):
            return self._flatten([one, two])
        if isinstance(two, list):
            two = " ".join(two)
        if isinstance(one, _Plain) and (total := _calculate(one, "+", two)) and not isinstance(total, _Unknown):
            return total
        text = f"{one}{two}"
        check_size(len(text))
        return _Unknown(text) if isinstance(one, _Unknown) or isinstance(two, _Unknown) else text

    def _evaluate_unary(self, expression: Expression) -> Value:
        value = self.evaluate(expression.parts[0])
        match expression.value.lstrip("-") or "-":
            case "!" | "not":
                return _to_plain(negate(_holds(value)), expression.written)
            case "-":
                return _calculate(_Plain("0"), "-", value)
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
            value = self.variables.get(key, _Unknown(expression.written))
            members.pop(0)
        if members and members[0].name == "keys" and (keys := self._list_below(key)):
            return [each for each in keys if "." not in each]
        for member in members:
            if member.name in {"add", "addrange"} and name:
                before = self.variables.get(key, [])
                self.set_variable(key, self._flatten([before, *map(self.evaluate, member.arguments or ())]))
                return []
            value = self._get_member(value, member)
            if isinstance(value, _Unknown):
                return _Unknown(expression.written)
        return value

    def _get_member(self, value: Value, member: Member) -> Value:
        given = [self.evaluate(each) for each in member.arguments or ()]
        texts = [each for each in given if isinstance(each, str) and not isinstance(each, _Unknown)]
        unknown = _Unknown("?")
        if isinstance(value, _Unknown) or len(texts) != len(given):
            return unknown
        if member.name in {"count", "length"}:
            return _Plain(str(len(value) if isinstance(value, list) or member.name == "length" else 1))
        if member.name == "[":
            index = to_number(texts[0]) if texts else None
            items = value if isinstance(value, list) else list(value)
            return items[index] if isinstance(index, int) and -len(items) <= index < len(items) else unknown
        return str(value) if member.name == "tostring" and not texts else unknown

    def _call_static(self, expression: Expression) -> Value:
        kind, _, name = expression.value.partition("::")
        values = [self.evaluate(each) for each in expression.parts]
        if name == "new":
            return [] if "list" in kind else _Unknown(expression.written)
        texts = [each for each in values if isinstance(each, str) and not isinstance(each, _Unknown)]
        numbers = [number for number in map(to_number, texts) if number is not None]
        if kind == "math" and name in _ROUNDED and len(numbers) == len(values) == 1:
            return _show_number(_ROUNDED[name](numbers[0]))
        return _Unknown(expression.written)


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


def _holds(value: Value) -> bool | None:
    if isinstance(value, list):
        answers = [_holds(item) for item in value]
        return None if None in answers else len(value) > 1 or any(answers)
    if isinstance(value, _Plain):
        number = to_number(value)
        return value != "False" if number is None else number != 0
    return None if isinstance(value, _Unknown) else bool(value)


def _to_plain(holds: bool | None, written: str) -> str:
    return _Unknown(written) if holds is None else _Plain(holds)


def _show_number(number: float) -> str:
    return _Plain(int(number) if abs(number) < 1 << 53 and float(number).is_integer() else number)


def _calculate(one: Value, operator: str, two: Value) -> Value:  # noqa: PLR0911 - one for each operator
    """A sum with numbers; a text or a list is repeated."""
    unknown = _Unknown("?")
    if isinstance(one, _Unknown) or isinstance(two, _Unknown | list):
        return unknown
    right = to_number(two) if two.strip() else 0
    if operator == "*" and not isinstance(one, _Plain) and isinstance(right, int):
        check_size(len(one) * max(right, 0))
        return one * right
    left = None if isinstance(one, list) else to_number(one) if one.strip() else 0
    if left is None or right is None:
        return unknown
    match operator:
        case "+":
            return _show_number(left + right)
        case "-":
            return _show_number(left - right)
        case "*":
            return _show_number(left * right)
        case _ if not right:
            return unknown
        case "/":
            return _show_number(left / right)
        case _:
            return _show_number(math.fmod(left, right))


def _count_up(one: Value, two: Value, written: str) -> Value:
    ends = [to_number(each) if isinstance(each, str) else None for each in (one, two)]
    if not isinstance(ends[0], int) or not isinstance(ends[1], int):
        return _Unknown(written)
    if abs(ends[0] - ends[1]) > MAX_STEPS:
        refuse_size()
    step = 1 if ends[0] <= ends[1] else -1
    return [_Plain(number) for number in range(ends[0], ends[1] + step, step)]


def _cast(kind: str, value: Value) -> Value:
    if kind == "void":
        return []
    number = to_number(value) if isinstance(value, str) else None
    if isinstance(value, _Unknown):
        return value
    if kind in {"int", "long", "float", "double"} and number is not None:
        return _show_number(round(number) if kind in {"int", "long"} else number)
    if kind == "string":
        return " ".join(value) if isinstance(value, list) else str(value)
    if kind in {"bool", "switch"}:
        return _Plain(bool(_holds(value)))
    return [value] if kind.endswith(("[]", "array")) and isinstance(value, str) else value


def _compare(one: Value, operator: str, two: Value) -> Value:  # noqa: PLR0911 - one for each operator
    """An operator between two values that has a name."""
    unknown = _Unknown("?")
    if any(
        isinstance(item, _Unknown) for value in (one, two) for item in (value if isinstance(value, list) else [value])
    ):
        return unknown
    base = operator[1:] if operator[0] in "ci" and operator not in {"contains", "in"} else operator
    if base in {"contains", "notcontains", "in", "notin"}:
        items, wanted = (one, two) if "contains" in base else (two, one)
        items = items if isinstance(items, list) else [items]
        return _Plain((str(wanted).lower() in [each.lower() for each in items]) != base.startswith("not"))
    if base == "join":
        text = (two if isinstance(two, str) else "").join(one)
        check_size(len(text))
        return text
    if isinstance(one, list) or isinstance(two, list):
        return unknown
    left, right = (one, two) if operator == f"c{base}" else (one.lower(), two.lower())
    if base in {"like", "notlike"}:
        return _Plain(fnmatchcase(left, right) != (base == "notlike"))
    if base not in _ORDERS:
        return unknown
    numbers = to_number(one), to_number(two)
    if isinstance(one, _Plain) and numbers[0] is not None and numbers[1] is not None:
        order = (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    else:
        order = (left > right) - (left < right)
    return _Plain(order in _ORDERS[base])
