"""Commands of a PowerShell script, with the variables, lists and conditions that the script itself sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from lorabake.exchange.convert import to_number
from lorabake.exchange.statements import Dialect, split_statements

Variables = dict[str, str | list[str]]
Command = tuple[int, list[str]]
_POWERSHELL = Dialect(escape="`", separators="\n;|", blocks="{}", brackets="()[]")
_ASSIGNMENT = re.compile(r"(?:\[\w+\]\s*)?\$(?:\w+:)?(\w+)\s*(\+?)=\s*(.*)", re.DOTALL)
_ADD = re.compile(r"(?:\[void\]\s*)?\$(\w+)\.Add\((.*)\)", re.IGNORECASE | re.DOTALL)
_BRANCH = re.compile(r"(?:\$(?:\w+:)?(\w+)\s*=\s*)?(if|elseif)\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$\((?:\s*\$)(\w+)\s*\)|\$(?:env:)?(\w+)", re.IGNORECASE)
_TOKEN = re.compile(r"""(?:`.|"(?:`.|""|[^"])*"?|'(?:''|[^'])*'?|[^\s"'`])+""", re.DOTALL)
_COMPARISON = re.compile(r"(.*?)\s+-(eq|ne|gt|lt|ge|le)\s+(.*)", re.IGNORECASE | re.DOTALL)


def read_powershell_commands(text: str, environment: Mapping[str, str]) -> list[Command]:
    """Every command in a branch that is taken, with the line that it starts in. A condition that only PowerShell could
    answer counts as true."""
    variables: Variables = {name.lower(): value for name, value in environment.items()}
    blocks: list[tuple[bool, str]] = []  # for each open block: whether it is taken, and the variable that it sets
    waiting, was_taken, target = True, False, ""
    found: list[Command] = []
    text = re.sub(r"<#.*?#>", lambda each: "\n" * each[0].count("\n"), text, flags=re.DOTALL)
    for line, statement in split_statements(text, _POWERSHELL):
        if statement == "{":
            blocks.append((waiting, target))
            waiting = True
        elif statement == "}":
            was_taken = (blocks.pop()[0] if blocks else False) or was_taken
        elif (branch := _BRANCH.fullmatch(statement)) is not None:
            again = branch[2].lower() == "elseif"
            target, was_taken = (target, was_taken) if again else ((branch[1] or "").lower(), False)
            waiting = _is_true(branch[3], variables) and not (again and was_taken)
        elif statement.lower() == "else":
            waiting = not was_taken
        elif all(taken for taken, _ in blocks):
            _run(line, statement, variables, found, blocks[-1][1] if blocks else "")
    return found


def _run(line: int, statement: str, variables: Variables, found: list[Command], target: str) -> None:
    if (added := _ADD.fullmatch(statement)) is not None:
        before = variables.get(added[1].lower(), [])
        variables[added[1].lower()] = [
            *(before if isinstance(before, list) else [before]),
            _to_text(added[2], variables),
        ]
    elif (assigned := _ASSIGNMENT.fullmatch(statement)) is not None:
        name, value = assigned[1].lower(), _evaluate(assigned[3], variables)
        before = variables.get(name, [])
        if assigned[2] and isinstance(before, list):
            value = [*before, *(value if isinstance(value, list) else [value])]
        elif assigned[2]:
            value = f"{before}{value}"
        variables[name] = value
    elif target and re.match(r"[\"'$\d]", statement):
        variables[target] = _evaluate(statement, variables)
    else:
        words = list(_list_words(statement.removeprefix("& "), variables))
        if words:
            found.append((line, words))


def _list_words(statement: str, variables: Variables) -> Iterator[str]:
    """Arguments; a list alone is several of them."""
    for token in _TOKEN.findall(statement):
        whole = re.fullmatch(r"[@$](\w+)", token)
        value = variables.get(whole[1].lower()) if whole else None
        if isinstance(value, list):
            yield from value
        else:
            yield _to_text(token, variables)


def _evaluate(expression: str, variables: Variables) -> str | list[str]:
    """A literal, a list of them, a variable, or a sum of texts."""
    text = expression.strip()
    if re.match(r"\[System\.Collections\.|\[\w+\[?\]?\]?@?\(?\s*\)?$|@\(\s*\)$|New-Object", text, re.IGNORECASE):
        return []
    if text.startswith("@(") and text.endswith(")"):
        return [_to_text(item, variables) for item in _split_items(text[2:-1])]
    items = _split_items(text)
    if len(items) > 1:
        return [_to_text(item, variables) for item in items]
    if (whole := re.fullmatch(r"\$(\w+)", text)) is not None:
        return variables.get(whole[1].lower(), text)
    return _to_text(text, variables)


def _split_items(text: str) -> list[str]:
    found = re.findall(r"""(?:"(?:`.|""|[^"])*"|'(?:''|[^'])*'|[^,"'\n])+""", text)
    return [item.strip() for item in found if item.strip()]


def _to_text(token: str, variables: Variables) -> str:
    """A word or a sum of texts without its quotes and with its variables."""
    text = ""
    for written in re.findall(r"""`.|"(?:`.|""|[^"])*"?|'(?:''|[^'])*'?|[^"'`]+|.""", token.strip(), re.DOTALL):
        part = re.sub(r"^\s*\+\s*|\s+\+\s*$", "", written)
        if part.startswith("'"):
            text += part.strip("'").replace("''", "'")
        elif part.startswith("`"):
            text += part[1:]
        else:
            inner = part[1:].removesuffix('"').replace('""', '"') if part.startswith('"') else part
            text += re.sub(r"`(.)", r"\1", _expand(inner, variables))
    return text


def _expand(text: str, variables: Variables) -> str:
    def fill(each: re.Match[str]) -> str:
        name = (each[1] or each[2] or each[3]).lower()
        if name in {"true", "false"}:
            return name.capitalize()
        value = variables.get(name, each[0])
        return " ".join(value) if isinstance(value, list) else value

    return _VARIABLE.sub(fill, text)


def _is_true(condition: str, variables: Variables) -> bool:
    compared = _COMPARISON.fullmatch(condition.strip())
    if compared is not None:
        left, right = (_to_text(part, variables).strip().lower() for part in (compared[1], compared[3]))
        return _compare(left, compared[2].lower(), right)
    value = _evaluate(condition.removeprefix("!").strip(), variables)
    holds = bool(value) and value not in {"0", "False", "$null"} if isinstance(value, str) else bool(value)
    return holds != condition.strip().startswith(("!", "-not"))


def _compare(left: str, operator: str, right: str) -> bool:
    numbers = [to_number(text) for text in (left, right)]
    if None not in numbers:
        one, two = (float(number or 0) for number in numbers)
        order = (one > two) - (one < two)
    else:
        order = (left > right) - (left < right)
    return order in {"eq": (0,), "ne": (-1, 1), "gt": (1,), "lt": (-1,), "ge": (0, 1), "le": (-1, 0)}[operator]
