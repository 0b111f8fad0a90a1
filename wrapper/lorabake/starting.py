"""What a launch is asked for: a prepared recipe and a trainer to ready files, command, environment and provenance."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lorabake import resources
from lorabake.errors import MachineError
from lorabake.examine import Examination
from lorabake.planning.identity import content_spelling, run_digest
from lorabake.reading.hub import is_offline
from lorabake.reading.inputs import Ingredients
from lorabake.reading.paths import hub_ids, recipe_paths, spellings
from lorabake.run_files import run_files
from lorabake.runs.command import planned_argv, rehearsal_argv, trainer_env
from lorabake.runs.request import LaunchRequest, Provenance
from lorabake.trainer.contents import TrainerContents
from lorabake.trainer.install import Trainer
from lorabake_schemas.record import Inputs, TrainerRecord, WaivedFinding
from lorabake_schemas.words import legible, say

Env = Mapping[str, str]


def ingredients(examination: Examination, root: Path, env: Env, *, weights: bool) -> Ingredients:
    """What is to be hashed for a run in ``root``; a rehearsal reads no ``weights``."""
    recipe, plan = examination.planned()
    return Ingredients(recipe, plan, examination.dataset, examination.loaded.folder, root, env, weights)


def training_request(
    examination: Examination, root: Path, trainer: Trainer, contents: TrainerContents, inputs: Inputs, env: Env
) -> LaunchRequest:
    """A real run. Raises MachineError when something that it is made from cannot be read."""
    recipe, plan = examination.planned()
    _check_readable(inputs)
    who = trainer_record(trainer, contents)
    made_from = provenance(examination, root, inputs, who)
    argv = planned_argv(plan, made_from.digest, trainer.python, trainer.checkout)
    offline = is_offline(recipe, examination.base, examination.loaded.folder)
    child = trainer_env(
        env,
        python=trainer.python,
        checkout=trainer.checkout,
        offline=offline,
        cpu=plan.launch.cpu,
        deterministic=plan.launch.deterministic,
        complete=trainer.kind == "pin",
    )
    return _request(examination, root, (argv, child), who, made_from)


def rehearsal_request(examination: Examination, root: Path, inputs: Inputs, env: Env) -> LaunchRequest:
    """The same way with the stand-in."""
    _, plan = examination.planned()
    here = TrainerRecord(kind="rehearsal", python=legible(sys.executable))
    started = rehearsal_argv(plan.launch, plan.family), trainer_env(env, python=Path(sys.executable))
    return _request(examination, root, started, here, provenance(examination, root, inputs, here))


def _request(
    examination: Examination,
    root: Path,
    started: tuple[Sequence[str], Env],
    trainer: TrainerRecord,
    made_from: Provenance,
) -> LaunchRequest:
    _, plan = examination.planned()
    recipe = examination.loaded.path
    return LaunchRequest(
        root=root,
        files=run_files(examination, root),
        plan=plan,
        argv=tuple(started[0]),
        env=started[1],
        trainer=trainer,
        machine=examination.machine,
        attention=examination.attention,
        findings=examination.findings,
        waived=tuple(WaivedFinding(finding=each.finding, reason=each.reason) for each in examination.waived),
        provenance=made_from,
        recipe_place=spellings((recipe.name,), examination.loaded.folder, root)[recipe.name],
    )


def provenance(examination: Examination, root: Path, inputs: Inputs, trainer: TrainerRecord) -> Provenance:
    """The inputs and the run's digest, for which the files are compiled once more without any path in them."""
    recipe, plan = examination.planned()
    short = tuple(each.digest() for each in inputs.inputs)
    paths = spellings(recipe_paths(recipe), examination.loaded.folder, root, hub_ids(recipe))
    files = run_files(examination, root, content_spelling(short, tuple(paths)))
    del files["recipe.toml"]  # its settings count, not its words
    return Provenance(inputs, run_digest(files, short, trainer, plan.launch), files)


def _check_readable(inputs: Inputs) -> None:
    """Raises MachineError: the trainer would fail on it minutes later, or take it for missing."""
    for each in inputs.inputs:
        if each.kind in {"file", "folder"} and not each.files:
            raise MachineError(
                say("{path} cannot be read, or holds no file", path=each.name), say("check its permissions")
            )


def trainer_record(trainer: Trainer, contents: TrainerContents | None = None) -> TrainerRecord:
    """The trainer as it stands in the record."""
    record = TrainerRecord(
        kind=trainer.kind,
        url=resources.pin().url if trainer.kind == "pin" else None,
        commit=trainer.commit,
        lock=trainer.lock,
        lock_sha256=trainer.lock_sha256,
        checkout=legible(str(trainer.checkout)),
        python=legible(str(trainer.python)),
    )
    if contents is None:
        return record
    return record.model_copy(
        update={
            "python_version": contents.python_version,
            "clean": contents.clean,
            "tree": contents.tree,
            "packages": dict(contents.packages),
        }
    )


__all__ = ["ingredients", "provenance", "rehearsal_request", "trainer_record", "training_request"]
