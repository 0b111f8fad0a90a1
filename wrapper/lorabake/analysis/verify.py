"""A run compared with its record: everything it was made from and everything it made, hashed again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.analysis.differences import Drift
from lorabake.analysis.verify_data import verify_inputs
from lorabake.analysis.verify_files import verify_outputs, verify_run_files
from lorabake.analysis.verify_trainer import changed_trainer, machine_remarks, trainer_remarks, variable_remarks
from lorabake.runs.lock import find_active
from lorabake.trainer.environment import read_current_trainer
from lorabake_schemas.messages import Message, escape_undecodable, msg
from lorabake_schemas.verification import ComparedCounts, VerifyReport

if TYPE_CHECKING:
    from lorabake.runs.index import FoundRun
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.machine import MachineFacts
    from lorabake_schemas.record import TrainerRecord

GivenTrainer = tuple[Path, Path] | None


def find_drift(run: FoundRun, env: Mapping[str, str], hasher: FileHasher, given: GivenTrainer = None) -> Drift:
    """What would make another training of this run: its data, its models and its trainer. Changes nothing.

    ``given`` is a checkout of sd-scripts and its Python from this command line.
    """
    return verify_inputs(run, env, hasher) + _verify_trainer(run.record.trainer, env, hasher, given)


def verify_run(
    run: FoundRun, env: Mapping[str, str], hasher: FileHasher, machine: MachineFacts, given: GivenTrainer = None
) -> VerifyReport:
    """Everything that differs from the record. Changes nothing."""
    record = run.record
    found = verify_run_files(run.paths, record, hasher) + find_drift(run, env, hasher, given)
    found += verify_outputs(run.paths, record, hasher) + Drift(
        remarks=(
            *_outcome_remarks(run),
            *machine_remarks(record.machine, machine),
            *variable_remarks(record, env),
        )
    )
    return VerifyReport(
        run=escape_undecodable(run.name),
        name=record.name,
        status=record.status,
        rehearsal=record.rehearsal,
        digest=record.digest,
        identical=not found.differences and not record.inputs_changed,
        differences=found.differences,
        unproven=found.unproven,
        remarks=found.remarks,
        compared=found.compared,
    )


def _verify_trainer(then: TrainerRecord, env: Mapping[str, str], hasher: FileHasher, given: GivenTrainer) -> Drift:
    found = read_current_trainer(then, env, hasher, given)
    if found.unchecked is not None:
        return Drift(unproven=(found.unchecked,))
    return Drift(
        tuple(changed_trainer(then, found)),
        remarks=tuple(trainer_remarks(then, found.trainer)),
        compared=ComparedCounts(packages=len(then.packages)),
    )


def _outcome_remarks(run: FoundRun) -> tuple[Message, ...]:
    record = run.record
    if record.outcome is None:
        return (describe_unfinished(run),)
    unusable = tuple(
        msg("{file} is not usable: {why}", file=file.name, why=file.incomplete)
        for file in record.outcome.outputs
        if file.incomplete
    )
    if record.rehearsal:
        return (msg("this was a rehearsal, so nothing was trained"), *unusable)
    if not record.trained:
        return (msg("this run did not complete: {how}", how=record.outcome.message), *unusable)
    return unusable


def describe_unfinished(run: FoundRun) -> Message:
    active = find_active(run.paths, run.record)
    if active is None:  # it has ended since the record was read
        return msg("this run and the lorabake that started it were killed, so the record does not list its outputs")
    if active.is_supervised and active.certain:
        return msg("this run is in progress; its outputs are recorded when it ends")
    error = active.error
    return msg("{problem}; {hint}", problem=error.message, hint=error.hint or "")
