"""Which files of a run's images, captions and models are not what they were. Pure: two listings in, changes out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from posixpath import splitext
from types import MappingProxyType

from lorabake.util.changes import NO_REASONS, Change, compare_listings
from lorabake_schemas.dataset import IMAGE_EXTENSIONS
from lorabake_schemas.messages import Message
from lorabake_schemas.record import Input, InputKey

EMPTY_DIGEST = hashlib.sha256().hexdigest()
NO_UNREADABLE_INPUTS: Mapping[InputKey, Mapping[str, Message]] = MappingProxyType({})


def changed_inputs(
    then: Sequence[Input],
    now: Sequence[Input],
    unreadable: Mapping[InputKey, Mapping[str, Message]] = NO_UNREADABLE_INPUTS,
) -> Iterator[tuple[Input, Change]]:
    """Every file that has changed, with the input of ``then`` that it belongs to. An input that is missing or cannot
    be read at all is one change under its own name.

    An input without hashes is not compared. ``unreadable`` has the reasons by the files' names, or by the input's own.
    """
    current = {each.key: each for each in now}
    for each in then:
        here, reasons = current.get(each.key), unreadable.get(each.key, NO_REASONS)
        was = {file.name: file.sha256 for file in each.files}
        if not was:
            continue
        if here is None or here.kind == "missing" or each.name in reasons:
            changes = compare_listings({each.name: each.digest().sha256 or ""}, {}, unreadable=reasons)
        else:
            files = {file.name: file.sha256 for file in here.files}
            changes = compare_listings(was, files, unreadable=reasons, renamed=match_renames(was, files))
        for change in changes:
            yield each, change


def match_renames(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Today's names of files that were renamed: known by their content where only one file has it, and, as a caption is
    by its image, by a name that differs from theirs in nothing but the extension."""
    lost, came = ({name: one[name] for name in one if name not in other} for one, other in ((then, now), (now, then)))
    if not lost or not came:
        return {}
    before, after = _names_by_content(lost), _names_by_content(came)
    renamed = {
        names[0]: after[content][0]
        for content, names in before.items()
        if len(names) == len(after.get(content, ())) == 1 and content != EMPTY_DIGEST
    }
    images = {old: new for old, new in renamed.items() if old.lower().endswith(IMAGE_EXTENSIONS)}
    stems = {splitext(old)[0]: splitext(new)[0] for old, new in images.items()}
    taken = {*renamed.values()}
    for name in lost:
        stem, extension = splitext(name)
        other = stems.get(stem, "") + extension
        if name not in renamed and other in came and other not in taken:
            renamed[name] = other
            taken.add(other)
    return renamed


def _names_by_content(files: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, digest in files.items():
        found.setdefault(digest, []).append(name)
    return found
