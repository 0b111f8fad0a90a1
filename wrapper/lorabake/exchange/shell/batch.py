"""Commands of a batch file for Windows' cmd, with the variables and conditions that it sets itself."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.script import Value, check_script, check_size
from lorabake.exchange.shell.statements import Branch, ReadScript, expand
from lorabake.exchange.shell.sums import compute, negate

_COMMENT = re.compile(r"\s*@?(rem\b|::)", re.IGNORECASE)
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_VARIABLE = re.compile(r"%%(?!\w)|[%!](\w+)[%!]")
_IF = re.compile(r"if\s+(?:/i\s+)?(not\s+)?(?:/i\s+)?", re.IGNORECASE)
_OPERAND = r'((?:"[^"]*"|[^\s="()])+)'
_COMPARISON = re.compile(rf"{_OPERAND}\s*(==|(?<=\s)(?:equ|neq|lss|leq|gtr|geq)(?=\s))\s*{_OPERAND}\s*", re.IGNORECASE)
_TEST = re.compile(r'(exist|defined|errorlevel)\s+((?:"[^"]*"|[^\s"])+)\s*', re.IGNORECASE)
_FOR = re.compile(r"for\b.*?\bdo\b\s*", re.IGNORECASE)
_END = re.compile(r'"[^"]*"?|(?P<end>&&?|\|\|?|\))')
_LABEL = re.compile(r"\s*:(\w+)")
_ORDERS = {"==": (0,), "equ": (0,), "neq": (-1, 1), "lss": (-1,), "leq": (-1, 0), "gtr": (1,), "geq": (0, 1)}


def read_batch_commands(text: str, environment: Mapping[str, Value]) -> ReadScript:
    """Every command in a branch that is taken."""
    check_script(text)
    script = ReadScript({name.upper(): value for name, value in environment.items()})
    batch = _Batch(script)
    for line, statement in _join_lines(text):
        label = _LABEL.match(statement)
        if batch.goal and label is not None and label[1].lower() == batch.goal:
            batch.goal = ""
        if not batch.goal and label is None and _COMMENT.match(statement) is None:
            batch.run_line(line, statement)
    return script


class _Batch:
    """One file that is being read. ``goal`` is the label that it goes on at."""

    def __init__(self, script: ReadScript) -> None:
        self.script = script
        self.goal = ""

    def run_line(self, line: int, text: str) -> None:
        """A line: parentheses open and close blocks, a condition without them holds for the rest of the line."""
        rest, single = _expand(text, self.script.variables).strip().lstrip("@"), 0
        while rest and not self.goal:
            if rest[0] == ")":
                rest, opened = self._close(rest[1:].lstrip())
                single += opened
            elif rest[0] == "(":
                self.script.enter(holds=True, text="")
                rest = rest[1:].lstrip()
            elif (condition := self._read_condition(rest)) is not None:
                holds, shown, rest = condition
                self.script.enter(holds, shown)
                single += not rest.startswith("(")
                rest = rest.removeprefix("(").lstrip()
            else:
                rest = self._run_first(line, rest)
        for _ in range(single):
            self.script.close()

    def _close(self, rest: str) -> tuple[str, int]:
        """The end of a block, and the other branch if there is one."""
        last = self.script.close()
        if last is None or re.match(r"else\b", rest, re.IGNORECASE) is None:
            return rest, 0
        rest = rest[4:].lstrip()
        self.script.branches.append(Branch(last.run, last.maybe, last.done, last.doubt))
        self.script.turn(holds=True, text="")
        return (rest[1:].lstrip(), 0) if rest.startswith("(") else (rest, 1)

    def _read_condition(self, text: str) -> tuple[bool | None, str, str] | None:
        """Of if and for: whether it holds, how it is written, and what follows."""
        if text[:4].lower() == "for " and (loop := _FOR.match(text)) is not None:
            return None, loop[0].strip(), text[loop.end() :]
        start = _IF.match(text)
        if start is None:
            return None
        rest = text[start.end() :]
        holds: bool | None = None
        if (test := _TEST.match(rest)) is not None:
            named = test[2].strip('"').upper()
            known = test[1].lower() == "defined" and named in self.script.variables
            holds, end = (bool(self.script.variables[named]) if known else None), test.end()
        elif (compared := _COMPARISON.match(rest)) is not None:
            insensitive = "/i" in start[0].lower()
            holds, end = (
                _compare(compared[1], compared[2].lower(), compared[3], insensitive=insensitive),
                compared.end(),
            )
        else:
            end = rest.find("(") if "(" in rest else len(rest)
        return negate(holds) if start[1] else holds, f"{start[0]}{rest[:end]}".strip(), rest[end:]

    def _run_first(self, line: int, text: str) -> str:
        """Run the first command of a line; what follows it."""
        end = len(text)
        following = end
        for each in _END.finditer(text):
            if each["end"] and (each["end"] != ")" or self.script.branches):
                end = each.start()
                following = end if each["end"] == ")" else each.end()
                break
        self._run(line, text[:end].strip())
        return text[following:].lstrip()

    def _run(self, line: int, command: str) -> None:
        words = [word.replace('"', "") for word in _WORD.findall(command)]
        if words[:1] and words[0].lower() == "set":
            self._set(command[3:].strip())
        elif not words or not self.script.is_run():
            return
        elif words[0].lower() in {"goto", "exit"}:
            if self.script.is_sure():
                goal = words[1].lstrip(":").lower() if words[0].lower() == "goto" and len(words) > 1 else ""
                self.goal = goal or "\0"  # no label has this name
        else:
            words = words[1:] if words[0].lower() == "call" else words
            if words and not words[0].startswith(":"):
                self.script.add_command(line, words)

    def _set(self, text: str) -> None:
        """set NAME=value, with /a a calculation, with /p what somebody types."""
        option = text[:2].lower()
        text = text[2:].strip() if option in {"/a", "/p"} else text
        text = text[1:].rpartition('"')[0] if text.startswith('"') and text.count('"') > 1 else text
        parts = text.replace('"', "").split(",") if option == "/a" else [text]
        for name, equals, value in (part.partition("=") for part in parts):
            key = name.strip(" +-*/").upper()
            if not equals or not key:
                continue
            if not self.script.is_run():
                self.script.note(key)
            elif option == "/p" or (option == "/a" and name.strip()[-1:] in set("+-*/")):
                self.script.set_variable(key, None)
            elif option == "/a":
                found = compute(self._fill_sum(value))
                self.script.set_variable(key, None if found is None else str(found))
            else:
                self.script.set_variable(key, value.strip())

    def _fill_sum(self, text: str) -> str:
        variables = self.script.variables
        return expand(re.compile(r"[A-Za-z_]\w*"), lambda each: str(variables.get(each[0].upper(), each[0])), text)


def _compare(left: str, operator: str, right: str, *, insensitive: bool) -> bool | None:
    if any(sign in side for side in (left, right) for sign in "%!"):
        return None
    one, two = (side.strip('"') for side in (left, right))
    numbers = to_number(one), to_number(two)
    if operator != "==" and isinstance(numbers[0], int) and isinstance(numbers[1], int):
        order = (numbers[0] > numbers[1]) - (numbers[0] < numbers[1])
    else:
        if insensitive:
            one, two = one.lower(), two.lower()
        order = (one > two) - (one < two)
    return order in _ORDERS[operator]


def _join_lines(text: str) -> list[tuple[int, str]]:
    """Lines, with those that ^ continues."""
    found: list[tuple[int, list[str]]] = []
    continued, size = False, 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.rstrip()
        cut = f"{stripped[:-1]} " if stripped.endswith("^") else line
        if found and (continued or re.match(r"\s*--[A-Za-z]", line)):
            found[-1][1].append(cut)
            size += len(cut)
        else:
            found.append((number, [cut]))
            size = len(cut)
        check_size(size)
        continued = cut != line
    return [(number, " ".join(parts)) for number, parts in found]


def _expand(text: str, variables: Mapping[str, str | list[str]]) -> str:
    """%NAME% and !NAME! with their values; an unknown one stays as it is written."""

    def fill(each: re.Match[str]) -> str:
        return str(variables.get(each[1].upper(), each[0])) if each[1] else "%"

    return expand(_VARIABLE, fill, text)
