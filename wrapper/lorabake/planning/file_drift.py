"""What is otherwise in a run folder than when the run began: its recipe, the compiled files, what came out. Pure."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from lorabake_schemas.record import FileDigest
from lorabake_schemas.verification import Change, Difference, Subject
from lorabake_schemas.words import Said, say

Table = Mapping[str, object]
_ABSENT = object()
NONE_SHUT: Mapping[str, Said] = MappingProxyType({})


def file_drift(
    what: Subject, then: FileDigest, now: FileDigest | None, texts: tuple[str | None, str | None] = (None, None)
) -> tuple[Difference, ...]:
    """One file of a run folder by its digests. ``texts`` are what it was and what it is, where that is known: then the
    keys are named that differ."""
    if now is not None and (now.sha256, now.size) == (then.sha256, then.size):
        return ()
    if now is None:
        return (_found(what, then.name, "gone", _gone(what, then.name), then.sha256, None),)
    was, here = (_parsed(text) if then.name.endswith(".toml") else None for text in texts)
    whole = _found(what, then.name, "changed", _changed(what, then.name), then.sha256, now.sha256)
    if was is None:
        return (whole,)
    if here is None:
        return (whole.model_copy(update={"message": say("{file} changed and is no TOML any more", file=then.name)}),)
    keys = tuple(_keys(what, then.name, was, here))
    if keys:
        return keys
    said = say("{file} was edited after the run; every setting in it is the same", file=then.name)
    return (whole.model_copy(update={"message": said}),)


def shut_file(what: Subject, then: FileDigest, why: Said) -> Difference:
    """A file that is there and cannot be read."""
    said = say("{file} cannot be read: {why}", file=then.name, why=why)
    return _found(what, then.name, "unreadable", said, then.sha256, None)


def output_drift(
    then: Sequence[FileDigest], now: Mapping[str, FileDigest], shut: Mapping[str, Said] = NONE_SHUT
) -> tuple[Difference, ...]:
    """What the run wrote and is not as it was; ``shut`` says by name why a file cannot be read.

    What has come since, such as files of the user's own, is no fault.
    """
    found: list[Difference] = []
    for file in then:
        why = shut.get(file.name)
        found += [shut_file("output", file, why)] if why else file_drift("output", file, now.get(file.name))
    return tuple(found)


def _found(what: Subject, name: str, change: Change, message: Said, was: str | None, now: str | None) -> Difference:
    return Difference(what=what, name=name, change=change, message=message, was=was, now=now)


def _changed(what: Subject, name: str) -> Said:
    if what == "output":
        return say("{file} is not the file that the run wrote", file=name)
    return say("{file} changed after the run", file=name)


def _gone(what: Subject, name: str) -> Said:
    if what == "output":
        return say("{file}, which the run wrote, is gone", file=name)
    return say("{file} is gone", file=name)


def _parsed(text: str | None) -> Table | None:
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _keys(what: Subject, file: str, was: Table, here: Table) -> Iterator[Difference]:
    before, after = dict(_flat(was, here)), dict(_flat(here, was))
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old is new or (old == new and type(old) is type(new)):
            continue
        then, now = (None if value is _ABSENT else _shown(value) for value in (old, new))
        if now is None:
            message = say("{key} was taken out of {file}: it was {was}", key=key, file=file, was=then or "")
            yield _found(what, key, "gone", message, then, None)
        elif then is None:
            message = say("{key} was added to {file}: {now}", key=key, file=file, now=now)
            yield _found(what, key, "added", message, None, now)
        else:
            message = say("{key} in {file} is {now} now, it was {was}", key=key, file=file, now=now, was=then)
            yield _found(what, key, "changed", message, then, now)


def _flat(table: Table, other: object, above: str = "") -> Iterator[tuple[str, object]]:
    """Every value by its key as a person writes it: ``concept.images``, ``concept#2.images`` where there are several
    (in this file or the ``other``)."""
    for name, value in table.items():
        key = f"{above}.{name}" if above else name
        beside = cast("Table", other).get(name) if isinstance(other, dict) else None
        if isinstance(value, dict):
            yield from _flat(cast("Table", value), beside, key)
        elif _is_tables(value):
            parts, others = cast("list[Table]", value), cast("list[object]", beside) if isinstance(beside, list) else []
            several = max(len(parts), len(others)) > 1
            for number, part in enumerate(parts):
                with_number = f"{key}#{number + 1}" if several else key
                yield from _flat(part, others[number] if number < len(others) else None, with_number)
        else:
            yield key, value


def _is_tables(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, dict) for each in cast("list[object]", value))


def _shown(value: object) -> str:
    """As in TOML, near enough to be recognised."""
    return json.dumps(value, ensure_ascii=False, default=str)


__all__ = ["file_drift", "output_drift", "shut_file"]
