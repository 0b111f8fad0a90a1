"""What differs between two listings of named things: files by their digest, packages by their version. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake_schemas.messages import Message

if TYPE_CHECKING:
    from lorabake_schemas.record import ChangeKind

NO_REASONS: Mapping[str, Message] = MappingProxyType({})
NOT_RENAMED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Change:
    """``was`` and ``now`` are the two values, or the two names of something renamed; ``why`` it cannot be read."""

    name: str
    kind: ChangeKind
    was: str | None = None
    now: str | None = None
    why: Message | None = None


def compare_listings(
    then: Mapping[str, str],
    now: Mapping[str, str],
    *,
    unreadable: Mapping[str, Message] = NO_REASONS,
    renamed: Mapping[str, str] = NOT_RENAMED,
) -> Iterator[Change]:
    """Everything that is missing, changed, unreadable, renamed or added, in the order of ``then``.

    ``unreadable`` has the reason for names that exist and are not in ``now``, ``renamed`` today's name of an old one.
    """
    for name, was in then.items():
        here = now.get(renamed.get(name, name))
        if here is None:
            why = unreadable.get(name)
            yield Change(name, "missing" if why is None else "unreadable", was, why=why)
        elif here != was:
            yield Change(name, "changed", was, here)
        elif name in renamed:
            yield Change(name, "renamed", name, renamed[name])
    known = {*then, *renamed.values()}
    for name, here in now.items():
        if name not in known:
            yield Change(name, "added", now=here)
