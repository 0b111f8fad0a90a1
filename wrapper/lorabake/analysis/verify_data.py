"""A run's images, captions and models compared with inputs.json, and that with the record."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from posixpath import isabs, join
from typing import TYPE_CHECKING

from lorabake.analysis.differences import MODEL_LABELS, Drift, count_files, describe_file_change
from lorabake.analysis.verify_files import compare_files
from lorabake.inputs.input_changes import changed_inputs
from lorabake.inputs.manifest import rehash_inputs, resolve_from_run
from lorabake.runs.record import read_inputs
from lorabake.runs.watch.input_watch import format_changed_names
from lorabake.util.changes import Change, compare_listings
from lorabake.util.files import unreadable_reason
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.record import Input, InputDigest, InputKey, Record
from lorabake_schemas.verification import VerifyDifference

if TYPE_CHECKING:
    from lorabake.runs.index import FoundRun
    from lorabake.util.hashing import FileHasher


def read_trusted_inputs(run: FoundRun) -> tuple[Input, ...]:
    """Those inputs of inputs.json that the record confirms."""
    return tuple(each for each in read_inputs(run.paths) or () if each.digest() in run.record.inputs)


def verify_inputs(run: FoundRun, env: Mapping[str, str], hasher: FileHasher) -> Drift:
    record, listed = run.record, read_inputs(run.paths) or ()
    now = rehash_inputs(listed, run.root, hasher, env)
    relocated = _find_relocated(run, listed, now)
    pairs = [(then, here) for then, here in zip(listed, now, strict=True) if then not in relocated]
    trusted = [then for then, _ in pairs if then.digest() in record.inputs]
    unreadable = {then.key: _find_unreadable(then, here, run.root) for then, here in pairs}
    found = [describe_file_change("inputs", change) for change in compare_files([record.inputs_file], run.root, hasher)]
    found += [_describe_relocation(run.root, relocated[0])] if relocated else []
    found += [
        describe_file_change(one.role, change, _label(one, change), one.index)
        for one, change in changed_inputs(trusted, now, unreadable)
    ]
    doubtful = {then.key: here for then, here in pairs if then not in trusted}
    found += _compare_as_wholes([each for each in record.inputs if each.key in doubtful], doubtful)
    files = [file for each in listed for file in each.files]
    return Drift(tuple(found), tuple(_iter_gaps(record, listed)), compared=count_files(files))


def _label(one: Input, change: Change) -> Message:
    name = one.name if one.kind == "file" or change.name == one.name else join(one.name, change.name)
    return _label_input(one, name)


def _label_input(one: Input | InputDigest, name: str) -> Message:
    return msg("{what} {name}", what=MODEL_LABELS[one.role], name=name) if one.role in MODEL_LABELS else literal(name)


def _find_unreadable(then: Input, now: Input, root: Path) -> dict[str, Message]:
    """Why files of an input that exist cannot be read; under the input's own name, why nothing of it can be."""
    place = Path(resolve_from_run(root, then.place))
    if then.kind != "hub" and not now.files and (why := unreadable_reason(place)) is not None:
        return {then.name: why}
    folder, known = place.parent if then.kind == "file" else place, {file.name for file in now.files}
    lost = {name: unreadable_reason(folder / name) for name in (file.name for file in then.files) if name not in known}
    return {name: why for name, why in lost.items() if why is not None}


def _compare_as_wholes(recorded: Sequence[InputDigest], now: Mapping[InputKey, Input]) -> Iterator[VerifyDifference]:
    """Inputs whose files differ between inputs.json and the record: the list of files cannot be trusted."""
    for each in recorded:
        here = now[each.key].digest().sha256
        for change in compare_listings({each.name: each.sha256 or ""}, {each.name: here} if here else {}):
            said = msg(
                "{what} does not match the record; inputs.json changed too, so it is unknown which of its files "
                "changed",
                what=_label_input(each, each.name),
            )
            found = describe_file_change(each.role, change, index=each.index)
            yield found.model_copy(update={"message": said})


def _iter_gaps(record: Record, listed: Sequence[Input]) -> Iterator[Message]:
    """What the record does not have."""
    for each in listed:
        if not each.files and each.digest() in record.inputs:
            yield msg(
                "{what} {name} was not on this machine when the run started, so the record has no hash of it",
                what=MODEL_LABELS.get(each.role) or literal(each.role),
                name=each.name,
            )
    if changes := record.inputs_changed:
        yield msg(
            "inputs changed during this run, so it is unknown what it was trained with: {names}",
            names=format_changed_names(changes),
        )


def _find_relocated(run: FoundRun, then: Sequence[Input], now: Sequence[Input]) -> tuple[Input, ...]:
    """Everything around the run folder, if none of it exists and the folder is not where it was made."""
    if run.record.cwd in {escape_undecodable(str(folder)) for folder in (run.root.absolute(), run.root.resolve())}:
        return ()
    around = [
        (before, here)
        for before, here in zip(then, now, strict=True)
        if before.files and before.kind != "hub" and not isabs(before.place) and not Path(before.place).is_absolute()
    ]
    if any(here.kind != "missing" or os.path.lexists(resolve_from_run(run.root, here.place)) for _, here in around):
        return ()
    return tuple(before for before, _ in around)


def _describe_relocation(root: Path, first: Input) -> VerifyDifference:
    """Reported once, and not for each of them."""
    said = msg(
        "the run folder was moved out of its project, so {name} was not found in {folder}; move the whole project "
        "instead",
        name=first.name,
        folder=Path(resolve_from_run(root, first.place)).parent,
    )
    found = describe_file_change("inputs", Change(first.name, "missing", first.digest().sha256))
    return found.model_copy(update={"message": said})
