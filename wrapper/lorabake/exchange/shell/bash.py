"""Commands of a bash script, with the variables, arrays and conditions that the script itself sets."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.statements import (
    Dialect,
    ReadScript,
    compute,
    expand,
    join_both,
    join_either,
    negate,
    refuse_size,
    split_statements,
)

Values = Mapping[str, str | list[str]]
_DECLARING = ("export", "local", "readonly", "declare", "typeset")
_READING = ("read", "unset", "mapfile", "readarray", "let")
_ASSIGNMENT = re.compile(rf"(?:(?:{'|'.join(_DECLARING)})(?:\s+-\w+)*\s+)?([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_VARIABLE = re.compile(
    r"\$\(\((?P<sum>[^()]*)\)\)|\$\{(?P<array>\w+)\[[@*]\]\}"
    r"|\$\{(?P<braced>\w+)(?:(?P<colon>:?)[-=](?P<default>[^}]*))?\}|\$(?P<plain>[A-Za-z_]\w*)"
)
_WHOLE_ARRAY = re.compile(r'"\$\{(\w+)\[@\]\}"')
_LEADING_WORD = re.compile(r"(then|else|do)\b\s*")
_FUNCTION = re.compile(r"(?:function\s+([\w-]+)\s*(?:\(\s*\))?|([\w-]+)\s*\(\s*\))\s*(\{?)\s*(.*)", re.DOTALL)
_CASE = re.compile(r"case\s+(\S+)\s+in\b\s*(.*)", re.DOTALL)
_ARM = re.compile(r"\(?([^()\s=]*)\)\s*(.*)", re.DOTALL)
_LOOP = re.compile(r"(for|select)\s+(\w+)\s+in\b(.*)", re.DOTALL)
_HERE = re.compile(r"(?<![<(\d])<<-?\s*([\"']?)([A-Za-z_]\w*)\1")
_BASH = Dialect(escape="\\", separators="\n;&|", brackets="()[]")
_MAX_DEPTH = 8  # of functions that call one another


class Part(NamedTuple):
    """A statement of a line, and what stands before it: nothing, && or ||, or | of a pipe."""

    line: int
    joint: str
    text: str


Chain = list[Part]


def read_bash_commands(text: str, environment: Mapping[str, str]) -> ReadScript:
    """Every command in a branch that is taken. Functions are run where they are called."""
    script = ReadScript(dict(environment))
    _Bash(script).run(_list_chains(_remove_documents(text)), 0)
    return script


def _remove_documents(text: str) -> str:
    """Without the lines of here-documents, which are no commands."""
    if "<<" not in text:
        return text
    kept, until = list[str](), ""
    for line in text.split("\n"):
        if until:
            kept.append("")
            until = "" if line.strip() == until else until
            continue
        kept.append(line)
        found = None if line.lstrip().startswith("#") else _HERE.search(line)
        until = found[2] if found else ""
    return "\n".join(kept)


def _list_chains(text: str) -> list[Chain]:
    chains, parts, joint, before = list[Chain](), Chain(), "", ""
    for line, statement, end in split_statements(text, _BASH):
        if statement:
            if joint == "&" and parts:
                chains.append(parts)
                parts, joint = Chain(), ""
            parts.append(Part(line, joint if parts else "", statement))
            joint = ""
        if end in ("&", "|"):
            joint += end
        elif statement or not joint or end != "\n":
            if parts:
                chains.append(parts)
            parts, joint = Chain(), ""
        if end == before == ";" and not statement:
            chains.append([Part(line, "", ";;")])
        before = end
    return [*chains, parts] if parts else chains


class _Bash:
    """One script that is being read."""

    def __init__(self, script: ReadScript) -> None:
        self.script = script
        self.functions: dict[str, list[Chain]] = {}
        self.ended = False

    def run(self, chains: Sequence[Chain], depth: int) -> None:
        at = 0
        while at < len(chains) and not self.ended:
            chain = chains[at]
            at += 1
            header = _FUNCTION.fullmatch(chain[0].text)
            if header is not None and (header[3] or (at < len(chains) and chains[at][0].text.startswith("{"))):
                body, at = _cut_body(chains, at - 1, header)
                self.functions[header[1] or header[2]] = body
            else:
                self._run_chain(chain, depth)

    def _run_chain(self, chain: Chain, depth: int) -> None:
        line, _, text = chain[0]
        while (leading := _LEADING_WORD.match(text)) is not None:
            if leading[1] == "else":
                self.script.turn(holds=True, text="")
            text = text[leading.end() :].strip()
        text = text.removeprefix("{ ").strip()
        chain = [Part(line, "", text), *chain[1:]] if text else chain[1:]
        word = text.split(None, 1)[0] if text else ""
        if word in {"fi", "done", "esac"}:
            self.script.close()
        elif word in {"if", "elif", "while", "until"}:
            condition = [Part(line, "", text[len(word) :].strip()), *chain[1:]]
            self._open_condition(word, condition)
        elif word in {"for", "select"}:
            self._open_loop(text)
        elif (case := _CASE.fullmatch(text)) is not None:
            subject = "".join(expand_words(case[1], self.script.variables))
            self.script.enter(holds=False, text=text, kind="case", target=subject)
            if case[2]:
                self._run_arm([Part(line, "", case[2]), *chain[1:]], depth)
        else:
            self._run_arm(chain, depth)

    def _open_condition(self, word: str, condition: Chain) -> None:
        holds = self._answer_list(condition)
        shown = " ".join(f"{part.joint} {part.text}" for part in condition)
        if word == "elif":
            self.script.turn(holds, shown)
        else:
            self.script.enter(negate(holds) if word == "until" else holds, shown)

    def _open_loop(self, text: str) -> None:
        """A loop over one value is run with it; over several, what it sets is in doubt."""
        loop = _LOOP.fullmatch(text)
        if loop is None:
            self.script.enter(None, text)
            return
        items = expand_words(loop[3], self.script.variables)
        certain = len(items) < 2 and not any("$" in item or "`" in item or "*" in item for item in items)
        self.script.enter(bool(items) if certain else None, text)
        if self.script.is_run():
            self.script.variables.pop(loop[2], None)
            if certain and items:
                self.script.set_variable(loop[2], items[0])

    def _run_arm(self, chain: Chain, depth: int) -> None:
        """Commands; in a case they may begin with a pattern."""
        last = self.script.branches[-1] if self.script.branches else None
        if not chain or last is None or last.kind != "case":
            self._run_list(chain, depth)
            return
        if chain[0].text == ";;":
            last.run = last.maybe = False
            return
        at = next((at for at, part in enumerate(chain) if at == 0 or part.joint == "|"), 0)
        while at < len(chain) and _ARM.fullmatch(chain[at].text) is None and chain[at : at + 2][-1].joint == "|":
            at += 1
        arm = _ARM.fullmatch(chain[at].text) if at < len(chain) else None
        if arm is None:
            self._run_list(chain, depth)
            return
        patterns = [part.text.lstrip("(").strip("\"'") for part in chain[:at]] + [arm[1].strip("\"'")]
        unknown = "$" in last.target or "`" in last.target
        holds = True if "*" in patterns else None if unknown else any(fnmatchcase(last.target, p) for p in patterns)
        self.script.turn(holds, f"case {last.target}")
        rest = [Part(chain[at].line, "", arm[2]), *chain[at + 1 :]] if arm[2] else chain[at + 1 :]
        if rest:
            self._run_list(rest, depth)

    def _run_list(self, chain: Chain, depth: int) -> None:
        """Commands with && and || between them. One that is no condition is expected to succeed."""
        status: bool | None = True
        shown, assumed = "", False
        for part in chain:
            if (part.joint == "&&" and status is False) or (part.joint == "||" and status is True and not assumed):
                continue
            answer = self._answer(part.text)
            if answer is not None:
                mine, shown, assumed = answer[0], part.text, False
                status = mine if part.joint not in {"&&", "||"} or status is not None else None
                continue
            doubtful = part.joint in {"&&", "||"} and status is None
            skipped = part.joint == "||" and assumed
            if doubtful or skipped:
                self.script.enter(None, shown, taken=not skipped)
            self._run_command(part.line, part.text, depth)
            if doubtful or skipped:
                self.script.close()
            if not doubtful and not skipped:
                status, assumed, shown = True, True, part.text

    def _answer_list(self, chain: Chain) -> bool | None:
        holds: bool | None = True
        for part in chain:
            answer = self._answer(part.text)
            mine = answer[0] if answer else None
            if part.joint == "||":
                holds = join_either(holds, mine)
            else:
                holds = join_both(holds, mine) if part.joint in {"", "&&"} else None
        return holds

    def _answer(self, text: str) -> tuple[bool | None] | None:
        """The value of a condition in a tuple; None for any other command."""
        if text.startswith("! "):
            inner = self._answer(text[2:].strip())
            return None if inner is None else (negate(inner[0]),)
        if text.startswith("((") and text.endswith("))"):
            for name in re.findall(r"(\w+)\s*(?:[-+*/%]?=(?!=)|\+\+|--)", text):
                self.script.set_variable(name, None)
            found = compute(self._fill_sum(text[2:-2]))
            return (None if found is None else bool(found),)
        word = text.split(None, 1)[0] if text else ""
        if word in {"true", ":", "false"}:
            return (word != "false",)
        if word not in {"[", "[[", "test"}:
            return None
        words = expand_words(text, self.script.variables)[1:]
        return (_Condition(words[:-1] if words[-1:] in (["]"], ["]]"]) else words).read(),)

    def _fill_sum(self, text: str) -> str:
        return _fill_sum(text, self.script.variables)

    def _run_command(self, line: int, statement: str, depth: int) -> None:
        running = self.script.is_run()
        assignment = _ASSIGNMENT.fullmatch(statement)
        if assignment is not None and self._is_alone(assignment[3]):
            if running:
                self._assign(assignment)
            else:
                self.script.note(assignment[1])
            return
        if not running:
            return
        words = expand_words(statement.lstrip("!%"), self.script.variables)
        if words and (words[0] in _DECLARING or words[0] in _READING):
            self._declare(words)
            return
        while words and re.match(r"[A-Za-z_]\w*=", words[0]):
            words.pop(0)  # a variable for this command alone
        if not words or words[0] in {"}", "{", ";;"}:
            return
        if words[0] == "exit":
            self.ended = self.script.is_sure()
        elif words[0] in self.functions:
            if depth >= _MAX_DEPTH:
                refuse_size()
            self.run(self.functions[words[0]], depth + 1)
        else:
            self.script.add_command(line, words)

    def _declare(self, words: Sequence[str]) -> None:
        """Several variables at once, or some that a program or a person sets."""
        for name, equals, value in (word.partition("=") for word in words[1:]):
            if words[0] in _READING:
                self.script.set_variable(name, None)
            elif equals:
                self.script.set_variable(name, value)

    def _is_alone(self, value: str) -> bool:
        """Whether nothing but a value follows the name, so that it is no variable for one command alone."""
        if value.startswith("(") or re.fullmatch(r'"?(\$\([^()]*\)|`[^`]*`)"?', value):
            return True
        return len(expand_words(value, self.script.variables)) <= 1

    def _assign(self, assignment: re.Match[str]) -> None:
        name, added, value = assignment[1], assignment[2], assignment[3].strip()
        before = self.script.variables.get(name)
        if value.startswith("("):
            items = expand_words(value[1:].removesuffix(")"), self.script.variables)
            old = [before] if isinstance(before, str) and before else before if isinstance(before, list) else []
            self.script.set_variable(name, [*old, *items] if added else items)
            return
        text = "".join(expand_words(value, self.script.variables))
        if re.search(r"\$\((?!\()|`", value):  # what another program prints
            self.script.set_variable(name, None)
        elif added and isinstance(before, list):
            self.script.set_variable(name, [f"{before[0] if before else ''}{text}", *before[1:]])
        else:
            self.script.set_variable(name, f"{before or ''}{text}" if added else text)


def _cut_body(chains: Sequence[Chain], at: int, header: re.Match[str]) -> tuple[list[Chain], int]:
    """The commands of a function, and where the script goes on."""
    line = chains[at][0].line
    first = [Part(line, "", header[4]), *chains[at][1:]] if header[4] else chains[at][1:]
    depth = 1 if header[3] else 0
    body, at = [first] if first else [], at + 1
    while at < len(chains):
        text = chains[at][0].text
        inner = _FUNCTION.fullmatch(text)
        depth += text.startswith("{") or (inner is not None and inner[3] == "{")
        if text.startswith("}"):
            depth -= 1
            if depth <= 0:
                return body, at + 1
        rest = text.removeprefix("{").strip() if not header[3] and not body else text
        body.append([Part(chains[at][0].line, "", rest), *chains[at][1:]])
        at += 1
    return body, at


def expand_words(text: str, variables: Values) -> list[str]:
    """The words of a statement, with the values of its variables; an unknown one stays as it is written."""
    text = expand(_WHOLE_ARRAY, lambda each: _join(variables.get(each[1], []), quoted=True), text)
    parts = re.split(r"('[^']*')", text)
    expanded = "".join(part if part.startswith("'") else _expand(part, variables) for part in parts)
    try:
        return shlex.split(expanded, comments=True)
    except ValueError:  # a quote without an end
        return expanded.split()


def _expand(text: str, variables: Values) -> str:
    def fill(each: re.Match[str]) -> str:
        if each["sum"] is not None:
            found = compute(_fill_sum(each["sum"], variables))
            return each[0] if found is None else str(found)
        name = each["array"] or each["braced"] or each["plain"]
        if name in variables and not (each["colon"] and not variables[name]):
            return _join(variables[name], quoted=False)
        return each["default"] if each["default"] is not None else each[0]

    return expand(_VARIABLE, fill, text)


def _fill_sum(text: str, variables: Values) -> str:
    def fill(each: re.Match[str]) -> str:
        value = variables.get(each[1], each[0])
        return value if isinstance(value, str) else each[0]

    return expand(re.compile(r"\$?\{?([A-Za-z_]\w*)\}?"), fill, text)


def _join(value: str | Sequence[str], *, quoted: bool) -> str:
    """A value within a text that is split at blanks afterwards, as an unquoted variable is."""
    if isinstance(value, str):
        return re.sub(r'(["\\])', r"\\\1", value)
    return shlex.join(value) if quoted else " ".join(value)


class _Condition:
    """The words between [ and ], read from left to right; the answer is None where only a shell knows it."""

    def __init__(self, words: list[str]) -> None:
        self.words = words[:200]

    def read(self) -> bool | None:
        return self._read_either() if self.words else False

    def _read_either(self) -> bool | None:
        holds = self._read_both()
        while self.words and self.words[0] in {"||", "-o"}:
            self.words.pop(0)
            holds = join_either(holds, self._read_both())
        return holds

    def _read_both(self) -> bool | None:
        holds = self._read_one()
        while self.words and self.words[0] in {"&&", "-a"}:
            self.words.pop(0)
            holds = join_both(holds, self._read_one())
        return holds

    def _read_one(self) -> bool | None:
        end = next((at for at, word in enumerate(self.words) if word in {"||", "&&", "-o", "-a", ")"}), len(self.words))
        if end and self.words[0] == "!":
            self.words.pop(0)
            return negate(self._read_one())
        if end and self.words[0] == "(":
            self.words.pop(0)
            holds = self._read_either()
            self.words = self.words[1:] if self.words[:1] == [")"] else self.words
            return holds
        words, self.words = self.words[:end], self.words[end:]
        return _compare(words)


_ORDERS = {"-eq": (0,), "-ne": (-1, 1), "-lt": (-1,), "-le": (-1, 0), "-gt": (1,), "-ge": (0, 1)}
_TEXT_ORDERS = {"=": True, "==": True, "!=": False}


def _compare(words: list[str]) -> bool | None:
    if any("$" in word or "`" in word for word in words):
        return None
    if len(words) == 2 and words[0] in {*_ORDERS, *_TEXT_ORDERS}:
        words = ["", *words]  # an empty variable without quotes
    elif len(words) == 2 and words[1] in _TEXT_ORDERS:
        words = [*words, ""]
    match words:
        case [] | [_]:
            return bool(words and words[0])
        case ["-n" | "-z", text]:
            return bool(text) == (words[0] == "-n")
        case [left, "=" | "==" | "!=", right]:
            return (left == right or fnmatchcase(left, right)) == _TEXT_ORDERS[words[1]]
        case [left, operator, right] if operator in _ORDERS and left and right:
            one, two = to_number(left), to_number(right)
            whole = isinstance(one, int) and isinstance(two, int)  # else bash has an error, which is no success
            return whole and ((one or 0) > (two or 0)) - ((one or 0) < (two or 0)) in _ORDERS[operator]
        case _:
            return None
