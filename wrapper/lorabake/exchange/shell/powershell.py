"""Commands of a PowerShell script, with the variables, lists and conditions that the script itself sets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.script import Value, refuse_size
from lorabake.exchange.shell.statements import (
    Branch,
    Dialect,
    ReadScript,
    Statement,
    expand,
    split_statements,
)
from lorabake.exchange.shell.sums import join_both, join_either, negate

Variables = dict[str, str | list[str]]
_POWERSHELL = Dialect(escape="`", separators="\n;|", blocks="{}", brackets="()[]")
_ASSIGNMENT = re.compile(r"(?:\[\w+\]\s*)?\$(?:\w+:)?(\w+)\s*(\+?)=\s*(.*)", re.DOTALL)
_ADD = re.compile(r"(?:\[void\]\s*)?\$(\w+)\.Add\((.*)\)", re.IGNORECASE | re.DOTALL)
_BRANCH = re.compile(r"(?:\$(?:\w+:)?(\w+)\s*=\s*)?(if|elseif)\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_VARIABLE = re.compile(r"\$\{(\w+)\}|\$\((?:\s*\$)(\w+)\s*\)|\$(?:env:)?(\w+)", re.IGNORECASE)
_TOKEN = re.compile(r"""(?:`.|"(?:`.|""|[^"`])*"?|'(?:''|[^'])*'?|[^\s"'`])+""", re.DOTALL)
_SIGN = re.compile(
    r"""\s+|(?P<text>"(?:`.|""|[^"`])*"?|'(?:''|[^'])*'?)|(?P<sign>[()!]|-(?:and|or|not|c?eq|c?ne|[gl][te]|c?like)\b)"""
    r"""|(?P<word>[^\s"'()!]+)|(?P<rest>.)""",
    re.IGNORECASE | re.DOTALL,
)
_LOOP = re.compile(r"foreach\s*\(\s*\$(\w+)\s+in\s+(.*)\)", re.IGNORECASE | re.DOTALL)
_SWITCH = re.compile(r"switch\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_WHILE = re.compile(r"while\s*\((.*)\)", re.IGNORECASE | re.DOTALL)
_FUNCTION = re.compile(r"function\s+([\w-]+).*", re.IGNORECASE | re.DOTALL)
_RUN_ONCE = ("", "&", ".", "try", "finally", "do", "begin", "process", "end")
_MAX_DEPTH = 8  # of functions that call one another


def read_powershell_commands(text: str, environment: Mapping[str, Value]) -> ReadScript:
    """Every command in a branch that is taken. Functions are run where they are called."""
    script = ReadScript({name.lower(): value for name, value in environment.items()})
    statements = [each for each in split_statements(_remove_comments(text), _POWERSHELL) if each.text]
    _PowerShell(script, statements).run(0, len(statements), 0)
    return script


def _remove_comments(text: str) -> str:
    """Without <# ... #>; lines keep their numbers."""
    parts, at = list[str](), 0
    while (start := text.find("<#", at)) >= 0 and (end := text.find("#>", start)) >= 0:
        parts += [text[at:start], "\n" * text.count("\n", start, end)]
        at = end + 2
    return "".join([*parts, text[at:]])


class _PowerShell:
    """One script that is being read."""

    def __init__(self, script: ReadScript, statements: Sequence[Statement]) -> None:
        self.script = script
        self.statements = statements
        self.functions: dict[str, tuple[int, int]] = {}
        self.ended = False

    def run(self, start: int, end: int, depth: int) -> None:
        at, last = start, None
        while at < end and not self.ended:
            line, text, _ = self.statements[at]
            opens = at + 1 < end and self.statements[at + 1].text == "{"
            if text == "}":
                last = self.script.close()
                at += 1
            elif text == "{":
                self.script.enter(holds=True, text="")
                at += 1
            elif opens:
                at = self._open(text, at, last)
            else:
                self._run(line, text, depth)
                at += 1

    def _open(self, text: str, at: int, last: Branch | None) -> int:
        """A block with what stands before it; where its statements begin, or end if it is not run here."""
        script, variables = self.script, self.script.variables
        if (function := _FUNCTION.fullmatch(text)) is not None:
            end = self._find_end(at + 1)
            self.functions[function[1].lower()] = (at + 2, end)
            return end + 1
        if text.endswith("@") or re.fullmatch(r"\$\w+\s*=", text):  # a table, or commands kept in a variable
            if (assigned := _ASSIGNMENT.fullmatch(text)) is not None and script.is_run():
                script.set_variable(assigned[1].lower(), None)
            return self._find_end(at + 1) + 1
        branch = _BRANCH.fullmatch(text)
        if last is not None and (text.lower() == "else" or (branch is not None and branch[2].lower() == "elseif")):
            script.branches.append(last)
            script.turn(True if branch is None else _Condition(branch[3], variables).read(), text)
        elif branch is not None:
            holds = _Condition(branch[3], variables).read()
            script.enter(holds, text, target=(branch[1] or "").lower())
        elif script.branches and script.branches[-1].kind == "case":
            return self._open_arm(text, at)
        elif (loop := _LOOP.fullmatch(text)) is not None:
            self._open_loop(loop, text)
        elif (switch := _SWITCH.fullmatch(text)) is not None:
            subject = _to_text(switch[1], variables)
            script.enter(holds=True, text=text, kind="case", target=subject)
            script.branches[-1].done = False
        elif (loop := _WHILE.fullmatch(text)) is not None:
            script.enter(_Condition(loop[1], variables).read(), text)
        else:
            word = text.lower().partition("(")[0].strip().partition(" ")[0]
            skipped = word in {"catch", "trap", "param"}
            script.enter(False if skipped else True if text.lower() in _RUN_ONCE else None, text)
        return at + 2

    def _open_arm(self, text: str, at: int) -> int:
        """In a switch: a value with its commands."""
        switch = self.script.branches[-1]
        value = _to_text(text, self.script.variables)
        unknown = "$" in switch.target or "$" in value
        holds: bool | None = None if unknown else value.lower() == switch.target.lower()
        if text.lower() == "default":
            holds = not switch.done
        switch.done = switch.done or holds is True
        self.script.enter(holds, f"switch {switch.target}", taken=False)
        return at + 2

    def _open_loop(self, loop: re.Match[str], text: str) -> None:
        """A loop over one value is run with it; over several, what it sets is in doubt."""
        found = _evaluate(loop[2], self.script.variables)
        items = found if isinstance(found, list) else [found]
        certain = len(items) < 2 and not any("$" in item or "(" in item or ".." in item for item in items)
        self.script.enter(bool(items) if certain else None, text)
        if self.script.is_run():
            self.script.variables.pop(loop[1].lower(), None)
            if certain and items:
                self.script.set_variable(loop[1].lower(), items[0])

    def _find_end(self, at: int) -> int:
        """The } of the { at a place."""
        depth = 0
        for number in range(at, len(self.statements)):
            text = self.statements[number].text
            depth += (text == "{") - (text == "}")
            if depth == 0:
                return number
        return len(self.statements)

    def _run(self, line: int, statement: str, depth: int) -> None:
        script, variables = self.script, self.script.variables
        target = script.branches[-1].target if script.branches and script.branches[-1].kind != "case" else ""
        added, assigned = _ADD.fullmatch(statement), _ASSIGNMENT.fullmatch(statement)
        sets_target = target and re.match(r"[\"'$\d]", statement)
        if not script.is_run():
            if named := added or assigned:
                script.note(named[1].lower())
            elif sets_target:
                script.note(target)
        elif added is not None:
            before = variables.get(added[1].lower(), [])
            items = before if isinstance(before, list) else [before]
            script.set_variable(added[1].lower(), [*items, _to_text(added[2], variables)])
        elif assigned is not None:
            self._assign(assigned)
        elif sets_target:
            script.set_variable(target, _evaluate(statement, variables))
        else:
            self._run_command(line, statement, depth)

    def _assign(self, assigned: re.Match[str]) -> None:
        name, value = assigned[1].lower(), _evaluate(assigned[3], self.script.variables)
        before = self.script.variables.get(name, [])
        if assigned[2] and isinstance(before, list):
            value = [*before, *(value if isinstance(value, list) else [value])]
        elif assigned[2]:
            value = f"{before}{value}"
        self.script.set_variable(name, value)

    def _run_command(self, line: int, statement: str, depth: int) -> None:
        words = list(_list_words(statement.removeprefix("& "), self.script.variables))
        name = words[0].lower() if words else ""
        if name == "exit":
            self.ended = self.script.is_sure()
        elif name in self.functions:
            if depth >= _MAX_DEPTH:
                refuse_size()
            self.run(*self.functions[name], depth + 1)
        elif words:
            self.script.add_command(line, words)


def _list_words(statement: str, variables: Variables) -> Iterator[str]:
    """Arguments; a list alone is several of them."""
    for token in _TOKEN.findall(statement):
        whole = re.fullmatch(r"[@$](\w+)", token)
        value = variables.get(whole[1].lower()) if whole else None
        if isinstance(value, list):
            yield from value
        else:
            yield from filter(None, [_to_text(token.removesuffix(","), variables)])  # of a list of several


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
    found = re.findall(r"""(?:"(?:`.|""|[^"`])*"|'(?:''|[^'])*'|[^,"'\n])+""", text)
    return [item.strip() for item in found if item.strip()]


def _to_text(token: str, variables: Variables) -> str:
    """A word or a sum of texts without its quotes and with its variables."""
    text = ""
    for written in re.findall(r"""`.|"(?:`.|""|[^"`])*"?|'(?:''|[^'])*'?|[^"'`]+|.""", token.strip(), re.DOTALL):
        part = _strip_sum(written)
        if part.startswith("'"):
            text += part.strip("'").replace("''", "'")
        elif part.startswith("`"):
            text += part[1:]
        else:
            inner = part[1:].removesuffix('"').replace('""', '"') if part.startswith('"') else part
            text += re.sub(r"`(.)", r"\1", _expand(inner, variables))
    return text


def _strip_sum(text: str) -> str:
    """Without the + that joins it to its neighbours."""
    if (start := text.lstrip()).startswith("+"):
        text = start[1:].lstrip()
    end = text.rstrip()
    return end[:-1].rstrip() if end.endswith("+") and end[:-1] != end[:-1].rstrip() else text


def _expand(text: str, variables: Variables) -> str:
    def fill(each: re.Match[str]) -> str:
        name = (each[1] or each[2] or each[3]).lower()
        if name in {"true", "false"}:
            return name.capitalize()
        value = variables.get(name, each[0])
        return " ".join(value) if isinstance(value, list) else value

    return expand(_VARIABLE, fill, text)


class _Condition:
    """A condition, read from left to right; the answer is None where only PowerShell knows it."""

    def __init__(self, text: str, variables: Variables) -> None:
        found = [each for each in _SIGN.finditer(text) if each.lastgroup is not None]
        self.signs = [(each[0], each.lastgroup == "sign") for each in found][:200]
        self.variables = variables

    def read(self) -> bool | None:
        holds = self._read_both()
        while self._take("-or"):
            holds = join_either(holds, self._read_both())
        return holds

    def _take(self, sign: str) -> bool:
        if self.signs and self.signs[0] == (self.signs[0][0], True) and self.signs[0][0].lower() == sign:
            self.signs.pop(0)
            return True
        return False

    def _read_both(self) -> bool | None:
        holds = self._read_one()
        while self._take("-and"):
            holds = join_both(holds, self._read_one())
        return holds

    def _read_one(self) -> bool | None:
        if self._take("!") or self._take("-not"):
            return negate(self._read_one())
        if self._take("("):
            holds = self.read()
            self._take(")")
            return holds
        left = self._take_operand()
        operator = self.signs[0][0].lower() if self.signs and self.signs[0][1] else ""
        if not operator.startswith("-") or operator in {"-and", "-or", "-not"}:
            return _holds(left)
        self.signs.pop(0)
        return _compare_values(left, operator.lstrip("-"), self._take_operand())

    def _take_operand(self) -> str | list[str] | None:
        parts = list[str]()
        while self.signs and not self.signs[0][1]:
            parts.append(self.signs.pop(0)[0])
        if len(parts) != 1:  # a command, or a sum
            return None
        if parts[0].lower() in {"$null", "$true", "$false"}:
            return {"$null": "", "$true": "True", "$false": "False"}[parts[0].lower()]
        found = _evaluate(parts[0], self.variables)
        is_text = parts[0].startswith(("'", '"', "$")) or to_number(parts[0]) is not None
        unknown = not isinstance(found, list) and ("$" in found or not is_text)
        return None if unknown and not parts[0].startswith("'") else found


def _holds(value: str | list[str] | None) -> bool | None:
    return None if value is None else value not in ("", "0", "False", [])


def _compare_values(left: str | list[str] | None, operator: str, right: str | list[str] | None) -> bool | None:
    if not isinstance(left, str) or not isinstance(right, str):
        return None
    one, two = left.strip().lower(), right.strip().lower()
    if operator.endswith("like"):
        return fnmatchcase(one, two)
    return _compare(one, operator.removeprefix("c"), two)


def _compare(left: str, operator: str, right: str) -> bool:
    numbers = [to_number(text) for text in (left, right)]
    if None not in numbers:
        one, two = (float(number or 0) for number in numbers)
        order = (one > two) - (one < two)
    else:
        order = (left > right) - (left < right)
    return order in {"eq": (0,), "ne": (-1, 1), "gt": (1,), "lt": (-1,), "ge": (0, 1), "le": (-1, 0)}[operator]
