"""Commands of a batch file for Windows' cmd, with the variables that it sets."""

from __future__ import annotations

import re
from collections.abc import Mapping

Command = tuple[int, list[str]]
_SET = re.compile(r'set\s+(?:/a\s+)?(?:"([^=]+)=(.*)"|([^=]+)=(.*))', re.IGNORECASE)
_COMMENT = re.compile(r"\s*(rem\b|::)", re.IGNORECASE)
_WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_BRANCH = re.compile(r'if\s+(?:/i\s+)?(not\s+)?("[^"]*"|\S+?)\s*(?:==|equ)\s*("[^"]*"|\S+)\s*(.*)', re.IGNORECASE)


def read_batch_commands(text: str, environment: Mapping[str, str]) -> list[Command]:
    """Every command, with the line that it starts in. Of ``if`` only a comparison in the same line is answered."""
    variables = {name.upper(): value for name, value in environment.items()}
    found: list[Command] = []
    for line, statement in _join_lines(text):
        if _COMMENT.match(statement):
            continue
        for part in re.split(r"&&|&", _expand(statement, variables)):
            command = _strip_branch(part.strip().lstrip("@("))
            if (assigned := _SET.fullmatch(command.rstrip(" )"))) is not None:
                name, value = assigned[1] or assigned[3], assigned[2] or assigned[4] or ""
                variables[name.strip().upper()] = value.strip()
            elif words := [word.replace('"', "") for word in _WORD.findall(command)]:
                found.append((line, words[1:] if words[0].lower() == "call" else words))
    return found


def _strip_branch(command: str) -> str:
    """What follows a condition, if that holds."""
    branch = _BRANCH.fullmatch(command)
    if branch is None:
        return command
    equal = branch[2].strip('"') == branch[3].strip('"')
    return branch[4].strip("( ") if equal != bool(branch[1]) else ""


def _join_lines(text: str) -> list[tuple[int, str]]:
    """Lines, with those that ^ continues."""
    found: list[tuple[int, str]] = []
    continued = False
    for number, line in enumerate(text.splitlines(), 1):
        cut = re.sub(r"\^\s*$", " ", line)
        if found and (continued or re.match(r"\s*--[A-Za-z]", line)):
            found[-1] = (found[-1][0], f"{found[-1][1]} {cut}")
        else:
            found.append((number, cut))
        continued = cut != line
    return found


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """%NAME% and !NAME! with their values; an unknown one stays as it is written."""
    return re.sub(r"[%!](\w+)[%!]", lambda each: variables.get(each[1].upper(), each[0]), text)
