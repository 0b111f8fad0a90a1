"""A run held against its record: everything it was made from and everything it made, hashed again and compared."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorabake.analysis import evidence
from lorabake.analysis.current_trainer import read_current_trainer
from lorabake.analysis.recompile import changed_digest, recompile_run
from lorabake.analysis.relocated_inputs import find_relocated_inputs, relocation_difference
from lorabake.analysis.verify_files import changed_file, changed_outputs, unreadable_file
from lorabake.analysis.verify_trainer import changed_trainer, machine_remarks, trainer_remarks, variable_remarks
from lorabake.inputs.input_changes import changed_inputs, inconsistent_inputs, unverified_inputs
from lorabake.inputs.manifest import rehash_inputs, resolve_from_run
from lorabake.runs.command import DETERMINISTIC_FILE, numeric_env
from lorabake.runs.input_watch import format_changed_names
from lorabake.runs.lock import find_active
from lorabake.util.files import read_text, unreadable_reason
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.record import FileDigest, Input, InputChange, InputRole, Record
from lorabake_schemas.verification import ComparedCounts, VerifyDifference, VerifyReport, VerifySubject

if TYPE_CHECKING:
    from lorabake.runs.folder import RunPaths
    from lorabake.runs.index import FoundRun
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.machine import MachineFacts


NOTHING_COMPARED = ComparedCounts()
GivenTrainer = tuple[Path, Path] | None


@dataclass(frozen=True, slots=True)
class Drift:
    """``differences`` is empty when all that was looked at is as it was; ``unproven`` says what the record does not
    tell of, ``remarks`` what is worth knowing and no difference."""

    differences: tuple[VerifyDifference, ...] = ()
    unproven: tuple[Message, ...] = ()
    remarks: tuple[Message, ...] = ()
    compared: ComparedCounts = NOTHING_COMPARED

    def __add__(self, other: Drift) -> Drift:
        return Drift(
            self.differences + other.differences,
            self.unproven + other.unproven,
            self.remarks + other.remarks,
            ComparedCounts(
                files=self.compared.files + other.compared.files,
                size=self.compared.size + other.compared.size,
                packages=self.compared.packages + other.compared.packages,
            ),
        )


def find_drift(run: FoundRun, env: Mapping[str, str], fingerprints: FileHasher, given: GivenTrainer = None) -> Drift:
    """What would make another training of this run: its data, its models and its trainer. Changes nothing.

    What the run made, and its copies of recipe and settings, are not looked at; verify() does. ``given`` is a checkout
    of sd-scripts and its Python from this command line.
    """
    return _compare_inputs(run, env, fingerprints) + _compare_trainer(run.record, env, fingerprints, given)


def verify_run(
    run: FoundRun,
    env: Mapping[str, str],
    fingerprints: FileHasher,
    machine: MachineFacts,
    given: GivenTrainer = None,
) -> VerifyReport:
    """Everything that differs from the record. Changes nothing."""
    record = run.record
    found = _compare_run_files(run.paths, record, fingerprints) + find_drift(run, env, fingerprints, given)
    found += _compare_outputs(run, fingerprints) + Drift(remarks=machine_remarks(record.machine, machine))
    found += Drift(remarks=environment_remarks(record, env))
    return VerifyReport(
        run=escape_undecodable(run.name),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        digest=record.digest,
        identical=not found.differences and record.inputs_file is not None and not _input_changes(record),
        differences=found.differences,
        unproven=found.unproven,
        remarks=found.remarks,
        compared=found.compared,
    )


def environment_remarks(record: Record, env: Mapping[str, str]) -> tuple[Message, ...]:
    """Variables that are otherwise here than those that the run was started with, and change numbers."""
    if record.rehearsal:
        return ()
    deterministic = DETERMINISTIC_FILE in record.argv
    here = {name: escape_undecodable(value) for name, value in numeric_env(env, deterministic=deterministic).items()}
    return variable_remarks(numeric_env(record.environment, deterministic=deterministic), here)


class _RecordedFile(NamedTuple):
    """A file of the run folder, and what it is."""

    what: VerifySubject
    file: FileDigest


def _compare_run_files(paths: RunPaths, record: Record, fingerprints: FileHasher) -> Drift:
    """The run's own copy of the recipe, the compiled files, and whether the record agrees with itself."""
    every = [_RecordedFile("recipe", record.recipe), *(_RecordedFile("compiled", file) for file in record.compiled)]
    every += [_RecordedFile("compiled", record.plan_file)] if record.plan_file else []
    now = fingerprints.of(paths.root, [file.name for _, file in every])
    plan = evidence.read_plan(paths)
    was = recompile_run(record, plan)
    found: list[VerifyDifference] = []
    for what, file in every:
        here = now[file.name]
        if here is None and (why := unreadable_reason(paths.root / file.name)) is not None:
            found.append(unreadable_file(what, file, why))
            continue
        changed = changed_file(what, file, here)
        found += (
            changed_file(what, file, here, (was.texts.get(file.name), _read_text_or_none(paths, file.name)))
            if changed
            else ()
        )
    found += evidence.changed_command(paths, record)
    if plan is not None and record.plan_file is not None and now[record.plan_file.name] == record.plan_file:
        found += changed_digest(paths, record, plan, was)
        found += (*evidence.changed_record(record, plan), *evidence.changed_launch(record, plan))
    return Drift(tuple(found), compared=_count_files([file for _, file in every]))


def _read_text_or_none(paths: RunPaths, name: str) -> str | None:
    try:
        return read_text(paths.root / name, within=paths.root)
    except (OSError, ValueError):
        return None


def _compare_inputs(run: FoundRun, env: Mapping[str, str], fingerprints: FileHasher) -> Drift:
    """Pictures, captions and models, by inputs.json."""
    listed = evidence.read_input_listing(run.paths, run.record)
    then = (*listed.inputs, *listed.doubtful)
    found = rehash_inputs(then, run.root, fingerprints, env)
    now = tuple(_with_unreadable(before, here, run.root) for before, here in zip(then, found, strict=True))
    moved = find_relocated_inputs(run, then, now)
    sure, doubtful = ([each for each in some if each not in moved] for some in (listed.inputs, listed.doubtful))
    differences = (
        *listed.differences,
        *([relocation_difference(run.root, moved)] if moved else ()),
        *changed_inputs(sure, now, dict(_iter_unreadable_inputs(then, now, run.root))),
        *inconsistent_inputs(doubtful, now, run.record.inputs),
    )
    files = [file for each in then for file in each.files]
    gaps = (*listed.unproven, *unverified_inputs(listed.inputs))
    if changes := _input_changes(run.record):
        gaps += (
            msg("inputs changed during this run, so what it was trained with is unknown ({n}): {names}",
                n=len(changes), names=format_changed_names(changes)),
        )  # fmt: skip
    return Drift(differences, gaps, compared=_count_files(files))


def _input_changes(record: Record) -> tuple[InputChange, ...]:
    return record.outcome.inputs_changed if record.outcome is not None else ()


def _with_unreadable(then: Input, now: Input, root: Path) -> Input:
    """Files that are there and cannot be read are left out of a listing: they are put back, without a digest."""
    known = {file.name for file in now.files}
    lost = [file.name for file in then.files if file.name not in known]
    place = Path(resolve_from_run(root, then.place))
    folder = place.parent if then.kind == "file" else place
    unreadable = tuple(FileDigest(name=name, sha256="", size=0) for name in lost if _is_unreadable(folder / name))
    return now.model_copy(update={"files": (*now.files, *unreadable)}) if unreadable else now


def _is_unreadable(path: Path) -> bool:
    """Whether it is there and no file that can be read."""
    return unreadable_reason(path) is not None or os.path.isdir(path)  # noqa: PTH112 - never raises


def _iter_unreadable_inputs(
    then: Sequence[Input], now: Sequence[Input], root: Path
) -> Iterator[tuple[tuple[InputRole, int], Message]]:
    """Inputs of which nothing can be read, though they are there, and why."""
    for before, here in zip(then, now, strict=True):
        if before.kind != "hub" and not any(file.sha256 for file in here.files):
            why = unreadable_reason(Path(resolve_from_run(root, before.place)))
            if why is not None:
                yield (before.role, before.index), why


def _compare_trainer(record: Record, env: Mapping[str, str], fingerprints: FileHasher, given: GivenTrainer) -> Drift:
    then = record.trainer
    found = read_current_trainer(then, env, fingerprints, given)
    if found.unchecked is not None:
        return Drift(unproven=(found.unchecked,))
    gaps: tuple[Message, ...] = ()
    if then.kind != "rehearsal" and then.tree is None:
        gaps = (msg("the record does not list the files and packages of the trainer"),)
    return Drift(
        changed_trainer(then, found.trainer, found.edited, found.patched),
        gaps,
        trainer_remarks(then, found.trainer),
        ComparedCounts(packages=len(then.packages)),
    )


def _compare_outputs(run: FoundRun, fingerprints: FileHasher) -> Drift:
    """What the run made, by the verdict in its record."""
    record = run.record
    if record.outcome is None:
        return Drift(remarks=(describe_unfinished(run),))
    then = record.outcome.outputs
    now = fingerprints.of(run.root, [file.name for file in then])
    here = {name: file for name, file in now.items() if file is not None}
    unreadable = {
        name: why for name in now.keys() - here.keys() if (why := unreadable_reason(run.root / name)) is not None
    }
    remarks: tuple[Message, ...] = ()
    if record.rehearsal:
        remarks = (msg("this was a rehearsal, so nothing was trained"),)
    elif not record.trained:
        remarks = (msg("this run did not complete: {how}", how=record.outcome.message),)
    remarks += tuple(
        msg("{file} is not usable: {why}", file=file.name, why=file.incomplete) for file in then if file.incomplete
    )
    return Drift(changed_outputs(then, here, unreadable), remarks=remarks, compared=_count_files(then))


def describe_unfinished(run: FoundRun) -> Message:
    active = find_active(run.paths, run.record)
    if active is None:  # it has ended since the record was read
        return msg("this run and its lorabake were killed, so the record does not list its outputs")
    if active.is_supervised and active.certain:
        return msg("this run is in progress; its outputs are recorded when it ends")
    error = active.error
    return msg("{problem}; {hint}", problem=error.message, hint=error.hint or "")


def _count_files(files: Sequence[FileDigest]) -> ComparedCounts:
    return ComparedCounts(files=len(files), size=sum(file.size for file in files))
