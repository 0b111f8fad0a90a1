"""What the programs of a bash script answer and print. None is what only a shell knows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from fnmatch import fnmatchcase

from lorabake.exchange.convert import to_number
from lorabake.exchange.shell.budget import MAX_STEPS, check_size, refuse_size
from lorabake.exchange.shell.sums import compute, join_both, join_either, negate

_OCTAL = re.compile(r"[-+]?0\d+")
_FORMAT = re.compile(r"%(%|(-?)(0?)(\d{0,3})(?:\.(\d{1,2}))?([sdifg]))|\\(.)|[^%\\]+|.", re.DOTALL)
_RISKY = re.compile(r"[*+?}]\)?[*+?{]|\)[*+{]|\\[^.\-+*?()\[\]|/]|\[\[:")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_CLASSES = {"[:upper:]": "A-Z", "[:lower:]": "a-z", "[:digit:]": "0-9", "[:space:]": " \t\n\r", "[:blank:]": " \t"}


def show_output(words: Sequence[str], given: str | None) -> str | None:  # noqa: C901, PLR0911, PLR0912 - one for each program
    """What a command prints, with what goes into it."""
    name, *rest = words
    if name == "echo":
        count = next((at for at, word in enumerate(rest) if not re.fullmatch(r"-[neE]+", word)), len(rest))
        text, flags = " ".join(rest[count:]), "".join(rest[:count])
        text = _unescape(text) if "e" in flags else text
        return text if "n" in flags else f"{text}\n"
    if name == "printf" and rest:
        return format_text(rest[0], rest[1:])
    if name == "cat" and not rest:
        return given
    if any(sign in text for text in (*rest, given or "") for sign in "$`"):
        return None
    match name, rest:
        case "basename" | "dirname", [path, *_] if is_this_folder(path):
            return None
        case "basename", [path, *ends] if not path.startswith("-"):
            base = path.rstrip("/").rpartition("/")[2]
            return f"{base.removesuffix(ends[0]) if ends and base != ends[0] else base}\n"
        case "dirname", [path]:
            return f"{re.sub(r'/+[^/]*$', '', path.rstrip('/')) or '/' if '/' in path.rstrip('/') else '.'}\n"
        case "seq", [*ends] if 0 < len(ends) < 4 and all(re.fullmatch(r"-?\d{1,9}", each) for each in ends):
            start, step, end = int(ends[0] if len(ends) > 1 else 1), int(ends[1] if len(ends) > 2 else 1), int(ends[-1])
            numbers = range(start, end + (1 if step > 0 else -1), step) if step else range(0)
            if len(numbers) > MAX_STEPS:
                refuse_size()
            return "".join(f"{number}\n" for number in numbers)
        case "expr", [*_]:
            found = compute(" ".join(rest))
            return None if found is None else f"{found}\n"
        case "tr", [old, new] if given is not None:
            return _translate(given, old, new)
        case "cut", [*_] if given is not None:
            return _cut(given, " ".join(rest))
        case _:
            return None


def is_this_folder(path: str) -> bool:
    """Whether it is the folder that a script is started in, or one above it: only a shell knows the name."""
    return re.search(r"(?:^|/)\.\.?/*$", path) is not None


def format_text(text: str, values: Sequence[str]) -> str | None:
    """As printf does, again and again for more values than the text has places for."""
    parts, size, free = list[str](), 0, list(reversed(values))
    pieces = list(_FORMAT.finditer(text))
    while True:
        before, shown_before = len(free), len(parts)
        for piece in pieces:
            if piece[7] is not None:
                parts.append(_ESCAPES.get(piece[7], piece[7] if piece[7] in "\\'\"" else piece[0]))
            elif piece[6] is None and piece[0] != "%":
                parts.append("%" if piece[1] else piece[0])
            elif piece[6] is None:
                return None
            elif (shown := _format_value(piece, free.pop() if free else "")) is not None:
                parts.append(shown)
            else:
                return None
        size += sum(map(len, parts[shown_before:]))
        check_size(size)
        if not free or len(free) == before:
            return "".join(parts)


def _format_value(piece: re.Match[str], value: str) -> str | None:
    left, zero, width, digits, kind = piece[2], piece[3], piece[4], piece[5], piece[6]
    if kind == "s":
        shown = value[: int(digits)] if digits else value
    else:
        number = to_number(value) if value else 0
        if number is None or (kind in "di" and (not isinstance(number, int) or _OCTAL.fullmatch(value))):
            return None
        shown = f"{number}" if kind in "di" else f"{number:.{digits or 6}{kind}}"
        if zero and not left:
            return f"{shown:0>{width or 0}}" if number >= 0 else None
    return f"{shown:{'<' if left else '>'}{width or 0}}"


def _unescape(text: str) -> str:
    return re.sub(r"\\([ntr\\])", lambda each: _ESCAPES.get(each[1], each[1]), text)


def _list_signs(text: str) -> str:
    for name, signs in _CLASSES.items():
        text = text.replace(name, signs)
    ranged = re.sub(r"(\w)-(\w)", lambda each: "".join(map(chr, range(ord(each[1]), ord(each[2]) + 1))), text[:200])
    return _unescape(ranged)


def _translate(given: str, old: str, new: str) -> str | None:
    if not f"{old}{new}".isascii():
        return None
    if old.startswith("-"):
        return None if old != "-d" else given.translate(dict.fromkeys(map(ord, _list_signs(new))))
    before, after = _list_signs(old), _list_signs(new)
    if not after:
        return None
    return given.translate(str.maketrans(before, after.ljust(len(before), after[-1])[: len(before)]))


def _cut(given: str, options: str) -> str | None:
    found = re.fullmatch(r"-d ?(\S| ) -f ?(\d{1,3})", options)
    if found is None:
        return None
    lines = (line.split(found[1]) for line in given.splitlines())
    at = int(found[2]) - 1
    return "".join(f"{line[at] if at < len(line) else line[0] if len(line) == 1 else ''}\n" for line in lines)


def answer_command(words: Sequence[str]) -> bool | None:
    """Of true, false, test and [."""
    if words[0] in {"true", ":", "false"}:
        return words[0] != "false"
    return Condition(list(words[1:-1] if words[-1] == "]" else words[1:]), patterns=False).read()


class Condition:
    """The words between [ and ], read from left to right; the answer is None where only a shell knows it. ``patterns``:
    a text may be compared with a pattern, as between [[ and ]]."""

    def __init__(self, words: list[str], *, patterns: bool = True) -> None:
        self.words = words[:200]
        self.patterns = patterns

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
        return _compare(words, patterns=self.patterns)


ORDERS = {"-eq": (0,), "-ne": (-1, 1), "-lt": (-1,), "-le": (-1, 0), "-gt": (1,), "-ge": (0, 1)}
_TEXT_ORDERS = {"=": True, "==": True, "!=": False}


def _compare(words: list[str], *, patterns: bool) -> bool | None:  # noqa: PLR0911 - one for each kind
    if len(words) == 3 and words[1] == "=~":
        found = None if "$" in words[0] or re.search(r"\$[\w{(]|`", words[2]) else search(words[0], words[2])
        return None if found is None else bool(found)
    if any("$" in word or "`" in word for word in words):
        return None
    if len(words) == 2 and words[0] in {*ORDERS, *_TEXT_ORDERS}:
        words = ["", *words]  # an empty variable without quotes
    elif len(words) == 2 and words[1] in _TEXT_ORDERS:
        words = [*words, ""]
    match words:
        case [] | [_]:
            return bool(words and words[0])
        case ["-n" | "-z", text]:
            return bool(text) == (words[0] == "-n")
        case [left, "=" | "==" | "!=", right]:
            holds = left == right or (patterns and fnmatchcase(left, right))
            return None if not holds and is_this_folder(left) else holds == _TEXT_ORDERS[words[1]]
        case [left, operator, right] if operator in ORDERS and left and right:
            one, two = to_number(left), to_number(right)
            whole = isinstance(one, int) and isinstance(two, int)  # else bash has an error, which is no success
            return whole and ((one or 0) > (two or 0)) - ((one or 0) < (two or 0)) in ORDERS[operator]
        case _:
            return None


def search(text: str, pattern: str) -> list[str] | None:
    """What a regular expression finds, and its groups; None for one that takes long or that differs in Python."""
    if len(text) > 100 or len(pattern) > 100 or len(re.findall(r"[*+?{]", pattern)) > 3 or _RISKY.search(pattern):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = re.search(pattern, text)
    except (re.error, OverflowError, RecursionError, FutureWarning):
        return None
    return [found[0], *(group or "" for group in found.groups())] if found else []
