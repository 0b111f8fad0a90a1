"""What is otherwise in a run folder than when the run began: its recipe, the compiled files, what came out. Pure."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import cast

from lorabake_schemas.messages import Message, msg
from lorabake_schemas.record import FileDigest
from lorabake_schemas.verification import FileChange, VerifyDifference, VerifySubject

Table = Mapping[str, object]
_ABSENT = object()
NO_UNREADABLE_FILES: Mapping[str, Message] = MappingProxyType({})


def changed_file(
    what: VerifySubject, then: FileDigest, now: FileDigest | None, texts: tuple[str | None, str | None] = (None, None)
) -> tuple[VerifyDifference, ...]:
    """One file of a run folder by its digests. ``texts`` are what it was and what it is, where that is known: then the
    keys are named that differ."""
    if now is not None and (now.sha256, now.size) == (then.sha256, then.size):
        return ()
    if now is None:
        return (_make_difference(what, then.name, "gone", _missing_message(what, then.name), then.sha256, None),)
    was, here = (_parse_toml(text) if then.name.endswith(".toml") else None for text in texts)
    whole = _make_difference(what, then.name, "changed", _changed_message(what, then.name), then.sha256, now.sha256)
    if was is None:
        return (whole,)
    if here is None:
        return (whole.model_copy(update={"message": msg("{file} changed and is not valid TOML", file=then.name)}),)
    keys = tuple(_diff_keys(what, then.name, was, here))
    if keys:
        return keys
    said = msg("{file} was edited after the run, but all its settings are the same", file=then.name)
    return (whole.model_copy(update={"message": said}),)


def unreadable_file(what: VerifySubject, then: FileDigest, why: Message) -> VerifyDifference:
    """A file that is there and cannot be read."""
    said = msg("cannot read {file}: {why}", file=then.name, why=why)
    return _make_difference(what, then.name, "unreadable", said, then.sha256, None)


def changed_outputs(
    then: Sequence[FileDigest], now: Mapping[str, FileDigest], shut: Mapping[str, Message] = NO_UNREADABLE_FILES
) -> tuple[VerifyDifference, ...]:
    """What the run wrote and is not as it was; ``shut`` says by name why a file cannot be read.

    What has come since, such as files of the user's own, is no fault.
    """
    found: list[VerifyDifference] = []
    for file in then:
        why = shut.get(file.name)
        found += [unreadable_file("output", file, why)] if why else changed_file("output", file, now.get(file.name))
    return tuple(found)


def _make_difference(
    what: VerifySubject, name: str, change: FileChange, message: Message, was: str | None, now: str | None
) -> VerifyDifference:
    return VerifyDifference(what=what, name=name, change=change, message=message, was=was, now=now)


def _changed_message(what: VerifySubject, name: str) -> Message:
    if what == "output":
        return msg("{file} is not the file that the run wrote", file=name)
    return msg("{file} changed after the run", file=name)


def _missing_message(what: VerifySubject, name: str) -> Message:
    if what == "output":
        return msg("{file}, written by the run, is missing", file=name)
    return msg("{file} is missing", file=name)


def _parse_toml(text: str | None) -> Table | None:
    if text is None:
        return None
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError):
        return None


def _diff_keys(what: VerifySubject, file: str, was: Table, here: Table) -> Iterator[VerifyDifference]:
    before, after = dict(_iter_flat_keys(was, here)), dict(_iter_flat_keys(here, was))
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key, _ABSENT), after.get(key, _ABSENT)
        if old is new or (old == new and type(old) is type(new)):
            continue
        then, now = (None if value is _ABSENT else _format_value(value) for value in (old, new))
        if now is None:
            message = msg("{key} was removed from {file} (it was {was})", key=key, file=file, was=then or "")
            yield _make_difference(what, key, "gone", message, then, None)
        elif then is None:
            message = msg("{key} was added to {file}: {now}", key=key, file=file, now=now)
            yield _make_difference(what, key, "added", message, None, now)
        else:
            message = msg("{key} in {file} changed from {was} to {now}", key=key, file=file, now=now, was=then)
            yield _make_difference(what, key, "changed", message, then, now)


def _iter_flat_keys(table: Table, other: object, above: str = "") -> Iterator[tuple[str, object]]:
    """Every value by its key as a person writes it: ``concept.images``, ``concept#2.images`` where there are several
    (in this file or the ``other``)."""
    for name, value in table.items():
        key = f"{above}.{name}" if above else name
        beside = cast("Table", other).get(name) if isinstance(other, dict) else None
        if isinstance(value, dict):
            yield from _iter_flat_keys(cast("Table", value), beside, key)
        elif _is_table_list(value):
            parts, others = cast("list[Table]", value), cast("list[object]", beside) if isinstance(beside, list) else []
            several = max(len(parts), len(others)) > 1
            for number, part in enumerate(parts):
                with_number = f"{key}#{number + 1}" if several else key
                yield from _iter_flat_keys(part, others[number] if number < len(others) else None, with_number)
        else:
            yield key, value


def _is_table_list(value: object) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, dict) for each in cast("list[object]", value))


def _format_value(value: object) -> str:
    """As in TOML, near enough to be recognised."""
    return json.dumps(value, ensure_ascii=False, default=str)
