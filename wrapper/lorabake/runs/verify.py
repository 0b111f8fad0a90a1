"""A run held against its record: everything it was made from and everything it made, hashed again and compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorabake.files import read_text, unreadable_reason
from lorabake.planning.drift import doubted, input_drift, unproven
from lorabake.planning.file_drift import file_drift, output_drift, shut_file
from lorabake.planning.trainer_drift import machine_remarks, trainer_drift, trainer_remarks, variable_remarks
from lorabake.reading.inputs import every_again, seen_from
from lorabake.runs import evidence
from lorabake.runs.command import DETERMINISTIC_FILE, number_env
from lorabake.runs.input_watch import changed_names
from lorabake.runs.lock import find_active
from lorabake.runs.moved import astray, moved_away
from lorabake.runs.recompiled import digest_drift, recompiled
from lorabake.runs.trainer_now import trainer_now
from lorabake_schemas.record import FileDigest, Input, InputChange, Record, Role
from lorabake_schemas.verification import Compared, Difference, Subject, VerifyReport
from lorabake_schemas.words import Said, legible, say

if TYPE_CHECKING:
    from lorabake.reading.fingerprints import Fingerprints
    from lorabake.runs.find import FoundRun
    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.machine import MachineFacts


NOTHING = Compared()
Given = tuple[Path, Path] | None


@dataclass(frozen=True, slots=True)
class Drift:
    """``differences`` is empty when all that was looked at is as it was; ``unproven`` says what the record does not
    tell of, ``remarks`` what is worth knowing and no difference."""

    differences: tuple[Difference, ...] = ()
    unproven: tuple[Said, ...] = ()
    remarks: tuple[Said, ...] = ()
    compared: Compared = NOTHING

    def __add__(self, other: Drift) -> Drift:
        return Drift(
            self.differences + other.differences,
            self.unproven + other.unproven,
            self.remarks + other.remarks,
            Compared(
                files=self.compared.files + other.compared.files,
                size=self.compared.size + other.compared.size,
                packages=self.compared.packages + other.compared.packages,
            ),
        )


def drift(run: FoundRun, env: Mapping[str, str], fingerprints: Fingerprints, given: Given = None) -> Drift:
    """What would make another training of this run: its data, its models and its trainer. Changes nothing.

    What the run made, and its copies of recipe and settings, are not looked at; verify() does. ``given`` is a checkout
    of sd-scripts and its Python from this command line.
    """
    return _data(run, env, fingerprints) + _trainer(run.record, env, fingerprints, given)


def verify(
    run: FoundRun,
    env: Mapping[str, str],
    fingerprints: Fingerprints,
    machine: MachineFacts,
    given: Given = None,
) -> VerifyReport:
    """Everything that differs from the record. Changes nothing."""
    record = run.record
    found = _folder(run.paths, record, fingerprints) + drift(run, env, fingerprints, given)
    found += _outputs(run, fingerprints) + Drift(remarks=machine_remarks(record.machine, machine))
    found += Drift(remarks=environment_remarks(record, env))
    return VerifyReport(
        run=legible(run.name),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        digest=record.digest,
        identical=not found.differences and record.inputs_file is not None and not _changes(record),
        differences=found.differences,
        unproven=found.unproven,
        remarks=found.remarks,
        compared=found.compared,
    )


def environment_remarks(record: Record, env: Mapping[str, str]) -> tuple[Said, ...]:
    """Variables that are otherwise here than those that the run was started with, and change numbers."""
    if record.rehearsal:
        return ()
    deterministic = DETERMINISTIC_FILE in record.argv
    here = {name: legible(value) for name, value in number_env(env, deterministic=deterministic).items()}
    return variable_remarks(number_env(record.environment, deterministic=deterministic), here)


class _Named(NamedTuple):
    """A file of the run folder, and what it is."""

    what: Subject
    file: FileDigest


def _folder(paths: RunPaths, record: Record, fingerprints: Fingerprints) -> Drift:
    """The run's own copy of the recipe, the compiled files, and whether the record agrees with itself."""
    every = [_Named("recipe", record.recipe), *(_Named("compiled", file) for file in record.compiled)]
    every += [_Named("compiled", record.plan_file)] if record.plan_file else []
    now = fingerprints.of(paths.root, [file.name for _, file in every])
    plan = evidence.plan_of(paths)
    was = recompiled(record, plan)
    found: list[Difference] = []
    for what, file in every:
        here = now[file.name]
        if here is None and (why := unreadable_reason(paths.root / file.name)) is not None:
            found.append(shut_file(what, file, why))
            continue
        changed = file_drift(what, file, here)
        found += file_drift(what, file, here, (was.texts.get(file.name), _text(paths, file.name))) if changed else ()
    found += evidence.command_drift(paths, record)
    if record.plan_file is not None and now[record.plan_file.name] == record.plan_file:
        found += digest_drift(paths, record, plan, was.paths)
        found += (*evidence.record_drift(record, plan), *evidence.start_drift(record, plan)) if plan is not None else ()
    return Drift(tuple(found), compared=_counted([file for _, file in every]))


def _text(paths: RunPaths, name: str) -> str | None:
    try:
        return read_text(paths.root / name, within=paths.root)
    except (OSError, ValueError):
        return None


def _data(run: FoundRun, env: Mapping[str, str], fingerprints: Fingerprints) -> Drift:
    """Pictures, captions and models, by inputs.json."""
    listed = evidence.listing(run.paths, run.record)
    then = (*listed.inputs, *listed.doubtful)
    found = every_again(then, run.root, fingerprints, env)
    now = tuple(_with_unreadable(before, here, run.root) for before, here in zip(then, found, strict=True))
    moved = astray(run, then, now)
    sure, doubtful = ([each for each in some if each not in moved] for some in (listed.inputs, listed.doubtful))
    differences = (
        *listed.differences,
        *([moved_away(run.root, moved)] if moved else ()),
        *input_drift(sure, now, dict(_shut_wholly(then, now, run.root))),
        *doubted(doubtful, now, run.record.inputs),
    )
    files = [file for each in then for file in each.files]
    gaps = (*listed.unproven, *unproven(listed.inputs))
    if changes := _changes(run.record):
        gaps += (
            say("inputs changed during this run, so what it was trained with is unknown ({n}): {names}",
                n=len(changes), names=changed_names(changes)),
        )  # fmt: skip
    return Drift(differences, gaps, compared=_counted(files))


def _changes(record: Record) -> tuple[InputChange, ...]:
    return record.outcome.inputs_changed if record.outcome is not None else ()


def _with_unreadable(then: Input, now: Input, root: Path) -> Input:
    """Files that are there and cannot be read are left out of a listing: they are put back, without a digest."""
    known = {file.name for file in now.files}
    lost = [file.name for file in then.files if file.name not in known]
    place = Path(seen_from(root, then.place))
    folder = place.parent if then.kind == "file" else place
    unreadable = tuple(FileDigest(name=name, sha256="", size=0) for name in lost if _is_shut(folder / name))
    return now.model_copy(update={"files": (*now.files, *unreadable)}) if unreadable else now


def _is_shut(path: Path) -> bool:
    """Whether it is there and no file that can be read."""
    return unreadable_reason(path) is not None or os.path.isdir(path)  # noqa: PTH112 - never raises


def _shut_wholly(then: Sequence[Input], now: Sequence[Input], root: Path) -> Iterator[tuple[tuple[Role, int], Said]]:
    """Inputs of which nothing can be read, though they are there, and why."""
    for before, here in zip(then, now, strict=True):
        if before.kind != "hub" and not any(file.sha256 for file in here.files):
            why = unreadable_reason(Path(seen_from(root, before.place)))
            if why is not None:
                yield (before.role, before.index), why


def _trainer(record: Record, env: Mapping[str, str], fingerprints: Fingerprints, given: Given) -> Drift:
    then = record.trainer
    found = trainer_now(then, env, fingerprints, given)
    if found.unchecked is not None:
        return Drift(unproven=(found.unchecked,))
    gaps: tuple[Said, ...] = ()
    if then.kind != "rehearsal" and then.tree is None:
        gaps = (say("the record does not say which files and packages the trainer had"),)
    return Drift(
        trainer_drift(then, found.trainer, found.edited, found.patched),
        gaps,
        trainer_remarks(then, found.trainer),
        Compared(packages=len(then.packages)),
    )


def _outputs(run: FoundRun, fingerprints: Fingerprints) -> Drift:
    """What the run made, by the verdict in its record."""
    record = run.record
    if record.outcome is None:
        return Drift(remarks=(unfinished(run),))
    then = record.outcome.outputs
    now = fingerprints.of(run.root, [file.name for file in then])
    here = {name: file for name, file in now.items() if file is not None}
    unreadable = {
        name: why for name in now.keys() - here.keys() if (why := unreadable_reason(run.root / name)) is not None
    }
    remarks: tuple[Said, ...] = ()
    if record.rehearsal:
        remarks = (say("this was a rehearsal: nothing was trained"),)
    elif not record.trained:
        remarks = (say("this run did not end well: {how}", how=record.outcome.message),)
    remarks += tuple(
        say("{file} is not usable: {why}", file=file.name, why=file.incomplete) for file in then if file.incomplete
    )
    return Drift(output_drift(then, here, unreadable), remarks=remarks, compared=_counted(then))


def unfinished(run: FoundRun) -> Said:
    active = find_active(run.paths, run.record)
    if active is None:  # it has ended since the record was read
        return say("this run was killed, and its lorabake too: what it made is not in the record")
    if active.is_supervised and active.certain:
        return say("this run is in progress: what it makes is recorded when it ends")
    error = active.error
    return say("{problem}; {hint}", problem=error.message, hint=error.hint or "")


def _counted(files: Sequence[FileDigest]) -> Compared:
    return Compared(files=len(files), size=sum(file.size for file in files))


__all__ = ["Drift", "drift", "environment_remarks", "verify"]
