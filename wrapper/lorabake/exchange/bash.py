"""Commands of a bash script, with the variables, arrays and conditions that the script itself sets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from lorabake.exchange.statements import Dialect, split_statements

Variables = dict[str, str | list[str]]
Command = tuple[int, list[str]]
_ASSIGNMENT = re.compile(r"(?:(?:export|local|readonly|declare(?:\s+-\w+)*)\s+)?([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_VARIABLE = re.compile(
    r"\$\{(?P<array>\w+)\[[@*]\]\}|\$\{(?P<braced>\w+)(?::?-(?P<default>[^}]*))?\}|\$(?P<plain>[A-Za-z_]\w*)"
)
_WHOLE_ARRAY = re.compile(r'"\$\{(\w+)\[@\]\}"')
_LEADING_WORD = re.compile(r"(then|else|do)\b\s*")
_BASH = Dialect(escape="\\", separators="\n;&|", brackets="()[]")
_SKIPPED = ("done", "}", "{", "esac", ";;")


def read_bash_commands(text: str, environment: Mapping[str, str]) -> list[Command]:
    """Every command in a branch that is taken, with the line that it starts in. A condition that only a shell could
    answer counts as true."""
    variables: Variables = dict(environment)
    taken: list[list[bool]] = []  # for each open if: whether this branch is taken, and whether one was
    found: list[Command] = []
    for line, written in split_statements(text, _BASH):
        statement = written
        while (leading := _LEADING_WORD.match(statement)) is not None:
            if leading[1] == "else" and taken:
                taken[-1] = [not taken[-1][1], True]
            statement = statement[leading.end() :].strip()
        word = statement.split(None, 1)[0] if statement.split() else ""
        if word == "fi" and taken:
            taken.pop()
        elif word in {"if", "elif"}:
            holds = _is_true(expand_words(statement, variables)[1:])
            if word == "if":
                taken.append([holds, holds])
            elif taken:
                taken[-1] = [holds and not taken[-1][1], holds or taken[-1][1]]
        elif statement and word not in _SKIPPED and all(each[0] for each in taken):
            _run(line, statement, variables, found)
    return found


def _run(line: int, statement: str, variables: Variables, found: list[Command]) -> None:
    assignment = _ASSIGNMENT.fullmatch(statement)
    if assignment and (assignment[3].startswith("(") or len(expand_words(assignment[3], variables)) <= 1):
        name, added, value = assignment[1], assignment[2], assignment[3].strip()
        if value.startswith("("):
            items = expand_words(value[1:].removesuffix(")"), variables)
            before = variables.get(name, [])
            variables[name] = [*before, *items] if added and isinstance(before, list) else items
        else:
            text = "".join(expand_words(value, variables))
            variables[name] = f"{variables.get(name, '')}{text}" if added else text
        return
    words = expand_words(statement.lstrip("!%"), variables)
    while words and re.fullmatch(r"[A-Za-z_]\w*=.*", words[0], re.DOTALL):
        words.pop(0)  # a variable for this command alone
    if words:
        found.append((line, words))


def expand_words(text: str, variables: Mapping[str, str | Sequence[str]]) -> list[str]:
    """The words of a statement, with the values of its variables; an unknown one stays as it is written."""
    text = _WHOLE_ARRAY.sub(lambda each: _join(variables.get(each[1], []), quoted=True), text)
    parts = re.split(r"('[^']*')", text)
    expanded = "".join(part if part.startswith("'") else _expand(part, variables) for part in parts)
    try:
        return shlex.split(expanded, comments=True)
    except ValueError:  # a quote without an end
        return expanded.split()


def _expand(text: str, variables: Mapping[str, str | Sequence[str]]) -> str:
    def fill(each: re.Match[str]) -> str:
        name = each["array"] or each["braced"] or each["plain"]
        if name in variables:
            return _join(variables[name], quoted=False)
        return each["default"] if each["default"] is not None else each[0]

    return _VARIABLE.sub(fill, text)


def _join(value: str | Sequence[str], *, quoted: bool) -> str:
    """A value within a text that is split at blanks afterwards, as an unquoted variable is."""
    if isinstance(value, str):
        return re.sub(r'(["\\])', r"\\\1", value)
    return shlex.join(value) if quoted else " ".join(value)


def _is_true(words: Sequence[str]) -> bool:
    """The value of [ ... ] or [[ ... ]]."""
    if not words or words[0] not in {"[", "[["}:
        return True
    inner = [word for word in words[1:] if word not in {"]", "]]"}]
    if "&&" in inner:
        at = inner.index("&&")
        return _is_true(["[", *inner[:at]]) and _is_true(["[", *inner[at + 1 :]])
    if inner[:1] in (["-n"], ["-z"]):
        return bool("".join(inner[1:])) == (inner[0] == "-n")
    operator = next((word for word in inner if word in _EQUAL or word in _UNEQUAL), None)
    if operator is not None and len(inner) <= 3:
        left, _, right = " ".join(inner).partition(operator)
        return (left.strip() == right.strip()) == (operator in _EQUAL)
    return len(inner) != 1 or inner[0] != "" if inner else False


_EQUAL, _UNEQUAL = ("==", "=", "-eq"), ("!=", "-ne")
