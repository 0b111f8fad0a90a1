"""A recipe that is not valid TOML: where the mistake starts, what it is, and what to write, in plain English."""

from __future__ import annotations

import tomllib

from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, literal, msg

# What the mistakes that people make are called by tomllib, what they are, and what to do.
_BACKSLASH = (msg("a backslash starts an escape sequence in text"), msg("write paths with /, or in single quotes"))
_NOT_CLOSED = msg("the text is not closed on its line")
_TABLE = (msg("the table name is not closed"), msg("write [train] or [[concept]] on a separate line"))
_ERROR_TEXTS = {
    "Illegal character '\\n'": (_NOT_CLOSED, msg('close it with a quote: "like this"')),
    'Expected "\'"': (_NOT_CLOSED, msg("close it with the single quote it starts with")),
    "Unterminated string": (
        msg("the text that starts here is not closed"),
        msg("close it with the quotes it starts with"),
    ),
    "Unclosed array": (
        msg("the list that starts here is not closed"),
        msg("close it with ], and put commas between the items"),
    ),
    "Expected ']' at the end of a table": _TABLE,
    "Expected ']]' at the end of an array": _TABLE,
    "Expected newline or end of document": (
        msg("unexpected text after the value"),
        msg('write one key = value per line; put text that contains " in single quotes'),
    ),
    "Invalid value": (
        msg("not a valid value"),
        msg('write text in quotes "like this", true and false in lower case, and lists in [ ] with commas'),
    ),
    "Cannot overwrite a value": (msg("duplicate key"), msg("keep one of the two")),
    "Cannot declare": (msg("duplicate table"), msg("keep one header and put all its keys below it")),
    "Unescaped '\\'": _BACKSLASH,
    "Invalid hex value": _BACKSLASH,
}
_GENERIC_FIX = msg("write text in quotes, lists in [ ], true and false in lower case, and each key once")
_FOUND_LATE = ("Unterminated string", 'Expected "\'"', "Unclosed array")
LINE_LIMIT = 1000  # lines; nobody writes such a recipe, and looking for the beginning takes their square


def toml_error_finding(error: tomllib.TOMLDecodeError, text: str) -> Finding:
    """tomllib puts the place at the end of its message: '... (at line 3, column 5)' or '(at end of document)'."""
    message, _, place = str(error).rpartition(" (at ")
    numbers = [int(word.strip(",)")) for word in place.split() if word.strip(",)").isdigit()]
    line, column = (numbers[0], numbers[1]) if len(numbers) == 2 else (text.count("\n") + 1, None)
    if message.startswith(_FOUND_LATE):
        line, column = _find_start_line(text), None
    unknown = (literal(message or str(error)), _GENERIC_FIX)
    said, fix = next((words for start, words in _ERROR_TEXTS.items() if message.startswith(start)), unknown)
    return make_syntax_finding(msg("invalid TOML: {why}", why=said), fix, line, column)


def _find_start_line(text: str) -> int:
    """The line where the unclosed part starts: everything before it is a valid recipe."""
    lines = text.splitlines(keepends=True)
    for whole in range(min(len(lines), LINE_LIMIT) - 1, 0, -1):
        try:
            tomllib.loads("".join(lines[:whole]))
        except tomllib.TOMLDecodeError:
            continue
        return whole + 1
    return 1


def make_syntax_finding(message: Message, fix: Message, line: int | None, column: int | None) -> Finding:
    return Finding(rule="toml-syntax", severity=Severity.ERROR, line=line, column=column, message=message, fix=fix)
