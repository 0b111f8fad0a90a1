"""Words of a bash script with the values of variables, and with what commands in them print."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from fnmatch import translate
from itertools import pairwise

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.bash_programs import is_this_folder
from lorabake.exchange.shell.bash_syntax import Assignment, Parser
from lorabake.exchange.shell.bash_words import Part, Word
from lorabake.exchange.shell.budget import MAX_STEPS, Budget, check_size, refuse_size
from lorabake.exchange.shell.script import ReadFile, Runner, Value
from lorabake.exchange.shell.sums import compute

_VARIABLE = re.compile(r"(?P<mark>[#!]?)(?P<name>\w+|[@*#?$!-])(?:\[(?P<index>[^\]]*)\])?(?P<rest>.*)", re.DOTALL)
_DEFAULT = re.compile(r"(:?)([-=?+])(.*)", re.DOTALL)
_CUT = re.compile(r"(##?|%%?)(.*)", re.DOTALL)
_REPLACED = re.compile(r"/([/#%]?)((?:\\.|[^/])+)(?:/(.*))?", re.DOTALL)
_SLICE = re.compile(r":([^:]+)(?::([^:]+))?")
_CASES = {",,": str.lower, "^^": str.upper}
_END = r"(-?\d{1,6}|[A-Za-z])"
_RANGE = re.compile(rf"{_END}\.\.{_END}(?:\.\.(-?\d{{1,4}}))?")
_ITEM = re.compile(r"\[([^\]\n]*)\]=(.*)", re.DOTALL)
ARGUMENTS = "$@"  # those that who starts the script gives it


class Expander(Runner):
    """``tables`` are the arrays whose items have names: each item is a variable such as name[key]. ``kinds`` are the
    flags with which variables are declared: i for a sum, l and u for letters. ``outputs`` are what
    the commands print that are being read, and how many doubts were open before."""

    def __init__(self, variables: Mapping[str, Value], read_file: ReadFile, budget: Budget) -> None:
        super().__init__({"@": [ARGUMENTS], "PWD": ".", **variables}, read_file, budget)
        self.tables = set[str]()
        self.kinds = dict[str, str]()
        self.output: tuple[list[str | None], int] | None = None
        self.inside: int | None = None  # the line of the command whose text is run
        self.unread: str = ""

    @abstractmethod
    def run_text(self, text: str, line: int | None) -> None: ...

    def emit(self, text: str | None) -> None:
        """What a command prints."""
        if self.output is not None:
            self.count(text or "")
            self.output[0].append(text if len(self._open) <= self.output[1] else None)

    def expand(self, words: Iterable[Word], *, split: bool = True) -> list[str]:
        """Words with the values of their variables; an unknown one stays as it is written."""
        found, size = list[str](), 0
        for word in words:
            for each in _expand_braces(word, self.spend) if split else [word]:
                fields = list(self._split(each)) if split else [self.fill(each)]
                found += fields
                size += sum(map(len, fields)) + len(fields)
                check_size(size)
        return found

    def _split(self, word: Word) -> Iterable[str]:
        """A variable outside quotes is split at blanks, an array into its items."""
        current: str | None = None
        for number, part in enumerate(self._list_parts(word)):
            value = self._evaluate(part, first=number == 0)
            self.count(value)
            if part.quoted or part.kind == "text" or (value is part.written and part.kind != "blank"):
                items = value if isinstance(value, list) else [value]
                current = None if not items and not current else current
                after = ""
            else:
                text = " ".join(value) if isinstance(value, list) else value
                items, after = self.cut_fields(text), text[-1:]
                if current is not None and text[:1].isspace():
                    yield current
                    current = None
            for at, item in enumerate(items):
                if at and current is not None:
                    yield current
                    current = None
                current = f"{current or ''}{item}"
            if after.isspace() and current is not None:
                yield current
                current = None
        if current is not None:
            yield current

    def cut_fields(self, text: str) -> list[str]:
        signs = self.variables.get("IFS", " \t\n")
        if not isinstance(signs, str) or not signs:
            return [text]
        if signs.isspace():
            return [item for item in re.split(f"[{signs}]", text) if item]
        items = re.split(f"[{re.escape(signs)}]", text)
        return items if items[-1] else items[:-1]

    def fill(self, word: Word, *, assigned: bool = False) -> str:
        """A word as one text."""
        parts, size = list[str](), 0
        for number, part in enumerate(self._list_parts(word)):
            value = self._evaluate(part, first=number == 0 and (assigned or not part.quoted))
            self.count(value)
            parts.append(self._join(value) if isinstance(value, list) else value)
            size += len(parts[-1])
            check_size(size)
        return "".join(parts)

    def _join(self, items: list[str]) -> str:
        signs = self.variables.get("IFS", " ")
        return (signs[:1] if isinstance(signs, str) else " ").join(items)

    def fill_pattern(self, word: Word, special: str = "*?[") -> str:
        """A word as a pattern, in which signs within quotes are only themselves."""
        signs = re.compile(f"[{re.escape(special)}]")
        pattern = "".join(
            signs.sub(lambda sign: f"[{sign[0]}]", self.fill((part,))) if part.quoted else self.fill((part,))
            for part in word
        )
        self.spend(16 * len(pattern))
        return pattern

    def _list_parts(self, word: Word) -> Iterator[Part]:
        """Of a word, with the words after :- in place of a variable that has no value."""
        for part in word:
            self.spend(20)
            found = _VARIABLE.fullmatch(part.value) if part.kind == "variable" else None
            default = _DEFAULT.fullmatch(found["rest"]) if found is not None and found["mark"] != "#" else None
            text = None if found is None or default is None else self._find_default(found, default, part)
            if text is None:
                yield part
            else:
                yield from [Part("text", "", quoted=True)] if part.quoted else []
                yield from self._list_parts(self._parse(text, quoted=part.quoted))

    def _find_default(self, found: re.Match[str], default: re.Match[str], part: Part) -> str | None:
        """The text that is used in place of a variable; None where its value is."""
        value, name = self._look_up(found, part), found["name"]
        given = value is not None and value != [ARGUMENTS] and not (default[1] and not value)
        if default[2] == "+":
            return default[3] if given else None if name in self.unknown or value == [ARGUMENTS] else ""
        if given or default[2] == "?" or name in self.unknown:
            return None
        if (name.isdigit() or value == [ARGUMENTS]) and not default[3]:  # who starts the script writes it
            return None
        if self.unread and name not in {"@", "*"}:
            known = self.doubts.setdefault(self.unread, [])
            known += [name] if name not in known else []
        if default[2] == "=":
            self.set_variable(name, self.fill(self._parse(default[3], quoted=part.quoted)))
        return default[3]

    def _evaluate(self, part: Part, *, first: bool) -> Value:
        match part.kind:
            case "blank":
                return " "
            case "variable":
                return self._read_variable(part)
            case "sum":
                found = self.compute(part.value)
                return part.written if found is None else str(found)
            case "output":
                found_text = None if part.written[0] in "<>" else self.read_output(part.value)
                return part.written if found_text is None else found_text.rstrip("\n")
            case "text":
                home = self.variables.get("HOME")
                in_home = first and not part.quoted and re.match(r"~(?=/|\Z)", part.value) and isinstance(home, str)
                return f"{home}{part.value[1:]}" if in_home else part.value

    def read_output(self, text: str) -> str | None:
        """What commands print; None where only a shell knows it."""
        self.count(text)
        if text.startswith("(") and text.endswith(")") and (found := self.compute(text)) is not None:
            return str(found)
        before, self.output = self.output, ([], len(self._open))
        with self.apart():
            self.run_text(text, self.inside)
        parts, self.output = self.output[0], before
        known = [part for part in parts if part is not None]
        return "".join(known) if len(known) == len(parts) else None

    def _look_up(self, found: re.Match[str], part: Part) -> Value | None:  # noqa: C901, PLR0911 - one for each kind
        """The value of a variable, of an item, or of the variable that it names."""
        name, index = found["name"], found["index"]
        if name.isdigit() and name != "0":
            given = self.variables.get("@", [])
            items = given[: int(name)] if isinstance(given, list) else []
            self.spend(len(items) // 4)
            return None if ARGUMENTS in items or len(items) < int(name) else items[-1]
        if name in {"#", "*"}:
            given = self.variables.get("@", [])
            self.spend(len(given) // 4)
            if name == "*":
                return given if not part.quoted else self._join(list(given))
            return None if ARGUMENTS in given else str(len(given))
        if index is not None and name in self.tables:
            return None if index in {"@", "*"} else self.variables.get(f"{name}[{self.fill_text(index)}]")
        value = self.variables.get(name)
        if found["mark"] == "!" and index is None:
            return self.variables.get(value) if isinstance(value, str) else None
        if isinstance(value, list):
            if index is None and name != "@":
                return value[0] if value else ""
            if index is not None and index not in {"@", "*"}:
                number = self.compute(index)
                return value[number] if number is not None and -len(value) <= number < len(value) else None
            if part.quoted and index == "*":
                return self._join(value)
        elif index not in {None, "@", "*", "0"}:
            return None
        return value

    def fill_text(self, text: str) -> str:
        return self.fill(self._parse(text, quoted=True))

    def _parse(self, text: str, *, quoted: bool) -> Word:
        self.spend(50 + 4 * len(text))
        return Parser(text).read_default(quoted=quoted)

    def _read_variable(self, part: Part) -> Value:  # noqa: PLR0911 - one for each kind
        found = _VARIABLE.fullmatch(part.value)
        if found is None:
            return part.written
        value, rest = self._look_up(found, part), found["rest"]
        if default := _DEFAULT.fullmatch(rest):
            return value if value is not None and default[2] != "+" else f"${{{found['name']}}}"
        if found["mark"] == "!" and found["index"] is not None:
            return [str(number) for number in range(len(value))] if isinstance(value, list) else part.written
        if value is None or (value == [ARGUMENTS] and rest):
            return self._cut_own_path(found["name"], rest) or part.written
        if found["mark"] == "#":
            return str(len(value))
        if not rest:
            return value
        if isinstance(value, list):
            if cut := _SLICE.fullmatch(rest):
                return part.written if (span := self._read_slice(cut, len(value))) is None else value[slice(*span)]
            changed = [self._change(item, rest) for item in value]
            return part.written if None in changed else [item for item in changed if item is not None]
        return part.written if (text := self._change(value, rest)) is None else text

    def _cut_own_path(self, name: str, rest: str) -> str:
        return "." if name in {"0", "BASH_SOURCE"} and rest == "%/*" else ""

    def _read_slice(self, cut: re.Match[str], size: int) -> tuple[int, int] | None:
        start, length = self.compute(cut[1]), self.compute(cut[2]) if cut[2] else size
        if start is None or length is None:
            return None
        start = max(start + size, 0) if start < 0 else start
        return start, size + length if length < 0 else start + length

    def _change(self, value: str, rest: str) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one for each kind
        """What is left of a value after %, # or /, or of its letters; None for anything else."""
        self.spend(20 + len(value))
        if is_this_folder(value):
            return None
        if rest in _CASES:
            return _CASES[rest](value)
        if rest in {"^", ","}:
            return (value[:1].upper() if rest == "^" else value[:1].lower()) + value[1:]
        if cut := _SLICE.fullmatch(rest):
            return None if (span := self._read_slice(cut, len(value))) is None else value[slice(*span)]
        if cut := _CUT.fullmatch(rest):
            pattern = re.compile(translate(self.fill_text(cut[2].replace("'", ""))))
            sizes = list(range(min(len(value), 4096) + 1))[:: -1 if len(cut[1]) == 2 else 1]
            for size in sizes:
                self.spend(4 + size // 16)
                at = size if cut[1][0] == "#" else len(value) - size
                one, two = value[:at], value[at:]
                if pattern.match(one if cut[1][0] == "#" else two):
                    return two if cut[1][0] == "#" else one
            return value
        if (replaced := _REPLACED.fullmatch(rest)) is None:
            return None
        old, new = (self.fill_text(re.sub(r"\\(.)", r"\1", text)) for text in (replaced[2], replaced[3] or ""))
        match replaced[1]:
            case "#":
                return f"{new}{value.removeprefix(old)}" if value.startswith(old) and not _is_pattern(old) else None
            case "%":
                return f"{value.removesuffix(old)}{new}" if value.endswith(old) and not _is_pattern(old) else None
            case how if not _is_pattern(old):
                return value.replace(old, new, -1 if how else 1)
            case how if re.fullmatch(r"[^*]|\[[^\]]+\]", old):
                return re.sub(re.sub(r"\\[zZ]$", "", translate(old)), lambda _: new, value, count=0 if how else 1)
            case _:
                return None

    def compute(self, text: str) -> int | None:
        """A calculation, which may set variables."""
        return compute(self.fill_text(text), self._read_number, self._set_number)

    def _read_number(self, name: str) -> int | None:
        value = self.variables.get(name)
        number = to_number(value) if isinstance(value, str) else None
        if isinstance(number, int) and re.match(r"[-+]?0\d", str(value)):
            return compute(str(value))
        return number if isinstance(number, int) else None

    def _set_number(self, name: str, value: int | None) -> None:
        self.set_variable(name, None if value is None else str(value))

    def assign(self, assignment: Assignment) -> None:
        name, added, value, item = assignment
        before = self.variables.get(name)
        if isinstance(value, list):
            self._assign_items(name, self.expand(value), added=added)
            return
        text = self.fill(value, assigned=True)
        if any(part.kind == "output" and part.written in text for part in value):  # what another program prints
            self.set_variable(name, None)
        elif item is not None:
            self._assign_item(name, item, text)
        elif added and isinstance(before, list):
            self.set_variable(name, [f"{before[0] if before else ''}{text}", *before[1:]])
        else:
            self.set_variable(name, self._convert(name, text, str(before or "") if added else ""))

    def _convert(self, name: str, text: str, before: str) -> str | None:
        """To what its declaration makes of a value."""
        kind = self.kinds.get(name, "")
        if "i" in kind:
            found = self.compute(f"{before or 0} + ({text or 0})")
            return None if found is None else str(found)
        text = f"{before}{text}"
        return text.lower() if "l" in kind else text.upper() if "u" in kind else text

    def _assign_items(self, name: str, items: list[str], *, added: bool) -> None:
        before = self.variables.get(name)
        named = [_ITEM.fullmatch(item) for item in items]
        if items and all(named):
            for each in named:
                self._assign_item(name, each[1], each[2])  # type: ignore[index]
        elif name not in self.tables:
            old = [before] if isinstance(before, str) and before else before if isinstance(before, list) else []
            self.set_variable(name, [*old, *items] if added else items)

    def _assign_item(self, name: str, index: str, text: str) -> None:
        if name in self.tables:
            self.set_variable(f"{name}[{self.fill_text(index)}]", text)
            return
        before = self.variables.get(name, [])
        items, number = [before] if isinstance(before, str) else list(before), self.compute(index)
        if number is None or not -len(items) <= number <= len(items):
            self.set_variable(name, None)
            return
        self.set_variable(name, [*items[:number], text, *items[number:][1:]])


def _is_pattern(text: str) -> bool:
    return re.search(r"[*?\[]", text) is not None


def _expand_braces(word: Word, spend: Callable[[int], None]) -> Iterator[Word]:
    """One word for each of what is between { and }."""
    waiting, count = [word], 0
    while waiting:
        word = waiting.pop()
        spend(sum(len(part.value) + 2 for part in word))
        texts = [part.value if part.kind == "text" and not part.quoted else "" for part in word]
        at, found = next(((at, found) for at, text in enumerate(texts) if (found := _find_braces(text))), (0, None))
        if found is None:
            yield word
            continue
        start, end, items = found
        count += len(items)
        if count > MAX_STEPS:
            refuse_size()
        text = word[at].value
        texts = [f"{text[:start]}{item}{text[end:]}" for item in items]
        spend(len(texts) * len(word) // 8)
        waiting += [(*word[:at], word[at]._replace(value=each), *word[at + 1 :]) for each in reversed(texts)]


def _find_braces(text: str) -> tuple[int, int, list[str]] | None:
    """Where the first { with items starts and ends, those in it included, and its items."""
    found = list[list[int]]()
    opened = list[list[int]]()  # of each { that has no end yet, where it is and its commas
    for sign in re.finditer(r"(?<!\$)\{|[,}]", text):
        at = sign.start()
        if sign[0] == "{":
            opened.append([at])
        elif opened and sign[0] == ",":
            opened[-1].append(at)
        elif opened:
            places = [*opened.pop(), at]
            counted = _RANGE.fullmatch(text, places[0] + 1, at)
            if len(places) > 2 or (counted and counted[1].isalpha() == counted[2].isalpha()):
                found.append(places)
    if not found:
        return None
    places = min(found)
    items = [text[one + 1 : two] for one, two in pairwise(places)]
    counted = _RANGE.fullmatch(items[0]) if len(items) == 1 else None
    return places[0], places[-1] + 1, items if counted is None else _count_up(counted)


def _count_up(found: re.Match[str]) -> list[str]:
    one, two, step = found[1], found[2], abs(int(found[3] or 1)) or 1
    start, end = (ord(one), ord(two)) if one.isalpha() else (int(one), int(two))
    width = max(len(one), len(two)) if re.match(r"-?0\d", one) or re.match(r"-?0\d", two) else 0
    numbers = range(start, end + (1 if start <= end else -1), step if start <= end else -step)
    if len(numbers) > MAX_STEPS:
        refuse_size()
    return [chr(number) if one.isalpha() else f"{number:0{width}d}" for number in numbers]
