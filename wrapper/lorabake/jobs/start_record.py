"""The request of a launch: turns a prepared recipe and a trainer into files, command, environment and provenance."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorabake.analysis.check import CheckResult
from lorabake.errors import MachineError
from lorabake.inputs.hub import can_run_offline
from lorabake.inputs.manifest import ManifestSpec
from lorabake.jobs.run_files import build_run_files
from lorabake.planning.digest import compute_run_digest
from lorabake.recipe.paths import resolve_run_paths
from lorabake.runs.command import planned_argv, rehearsal_argv, trainer_env
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.trainer.environment import TrainerContents, trainer_record
from lorabake.trainer.install import Trainer
from lorabake_schemas.messages import escape_undecodable, msg
from lorabake_schemas.record import IgnoredFinding, Inputs, TrainerRecord
from lorabake_schemas.seat import Seat

Env = Mapping[str, str]


def manifest_spec(examination: CheckResult, root: Path, env: Env, *, weights: bool) -> ManifestSpec:
    """What is to be hashed for a run in ``root``; a rehearsal reads no ``weights``."""
    recipe, plan = examination.planned()
    return ManifestSpec(recipe, plan, examination.dataset, examination.loaded.folder, root, env, weights)


def training_request(
    examination: CheckResult,
    root: Path,
    trainer: Trainer,
    contents: TrainerContents,
    inputs: Inputs,
    env: Env,
    seat: Seat | None = None,
) -> LaunchRequest:
    """A real run, with this machine's ``seat`` among several. Raises MachineError when something that it is made from
    cannot be read."""
    recipe, plan = examination.planned()
    _ensure_readable(inputs)
    request = _build_request(examination, root, inputs, trainer_record(trainer, contents))
    child = trainer_env(
        env,
        python=trainer.python,
        checkout=trainer.checkout,
        offline=can_run_offline(recipe, examination.base, examination.loaded.folder),
        launch=plan.launch,
        complete=trainer.kind == "pin",
    )
    argv = planned_argv(plan, request.provenance.digest, trainer.python, trainer.checkout, seat)
    return replace(request, argv=argv, env=child, seat=seat)


def rehearsal_request(examination: CheckResult, root: Path, inputs: Inputs, env: Env) -> LaunchRequest:
    """The same way with the stand-in."""
    _, plan = examination.planned()
    stand_in = TrainerRecord(kind="rehearsal", python=escape_undecodable(sys.executable))
    request = _build_request(examination, root, inputs, stand_in)
    child = trainer_env(env, python=Path(sys.executable))
    return replace(request, argv=rehearsal_argv(plan.launch, plan.family), env=child)


def _build_request(examination: CheckResult, root: Path, inputs: Inputs, trainer: TrainerRecord) -> LaunchRequest:
    """Everything but the command, which has the run's digest in it."""
    _, plan = examination.planned()
    recipe, files = examination.loaded.path, build_run_files(examination, root)
    short = tuple(each.digest() for each in inputs.inputs)
    digested = files.hash_placeholders(short)
    return LaunchRequest(
        root=root,
        files=files.fill_folder(),
        plan=plan,
        argv=(),
        env={},
        trainer=trainer,
        machine=examination.machine,
        attention=examination.attention,
        findings=examination.findings,
        ignored=tuple(IgnoredFinding(finding=each.finding, reason=each.reason) for each in examination.ignored),
        provenance=Provenance(inputs, compute_run_digest(digested, short, trainer, plan.launch), digested),
        recipe_place=resolve_run_paths((recipe.name,), examination.loaded.folder, root)[recipe.name],
    )


def _ensure_readable(inputs: Inputs) -> None:
    """Raises MachineError: the trainer would fail on it minutes later, or take it for missing."""
    for each in inputs.inputs:
        if each.kind in {"file", "folder"} and not each.files:
            raise MachineError(
                msg("cannot read {path}, or it contains no files", path=each.name), msg("check its permissions")
            )
