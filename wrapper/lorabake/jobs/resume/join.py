"""Several machines continue one run: what they compare first, and how one joins that does not own the run.

Each process loads the whole state itself: network, optimizer, scheduler, scaler and train_state.json, all of which the
first one has saved (train_util.py:4778, accelerate 1.6.0 checkpointing.py:228-300). So each machine needs the run
folder, on a shared disk or as a copy, and the same state in it. Random numbers are saved by the first process alone
(train_network.py:1499); the others begin theirs again.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.jobs.join import HomeFolder, ensure_disk_not_needed, has_started
from lorabake.jobs.resume.continue_run import (
    choose_resume_point,
    ensure_clean_folder,
    next_part_outputs,
    resume_argv,
    write_own_files,
)
from lorabake.runs.resume_points import resume_options
from lorabake.util.files import disk_error, reason
from lorabake.util.hashing import digest_file
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from lorabake.jobs.resume.continue_run import ResumeRequest
    from lorabake.runs.folder import RunPaths
    from lorabake.runs.resume_points import ResumePoint
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.record import Record
    from lorabake_schemas.verification import VerifyDifference


def list_continuation_parts(
    paths: RunPaths, record: Record, way: ResumePoint, differences: Iterable[VerifyDifference]
) -> dict[str, str]:
    """What must be the same on all machines that continue a run, by name: the run, its state, and what is different
    from when the run was made. Raises MachineError if the state cannot be read."""
    parts = {
        "run": record.digest or "",
        "part": str(next_part_outputs(paths, record, way.how).number),
        "step of the state": str(way.how.step),
    }
    parts |= {f"{each.what} {each.name}": f"{each.change} {each.now or ''}" for each in differences}
    for name in sorted(way.wanted.files):
        path = way.state.path / name
        try:
            parts[f"state {name}"] = digest_file(path, name).sha256
        except OSError as error:
            raise MachineError(msg("cannot read {path}: {why}", path=path, why=reason(error))) from error
    return parts


def digest_parts(parts: Mapping[str, str]) -> str:
    """One SHA-256 over all of them."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def prepare_joined_part(
    request: ResumeRequest,
    plan: Plan,
    record: Record,
    way: ResumePoint,
    _root: Path,
    started: str,
    give_sign: Callable[[], None],
) -> HomeFolder:
    """This machine's run folder, ready for its processes: the one that it shares with the first machine, or a copy.

    ``record`` and ``way`` are those on which all machines have agreed. On a shared disk the first machine has prepared
    everything and may have moved the state. Raises MachineError if the state is not there, or a copy cannot be used.
    """
    paths = request.paths
    is_shared = has_started(paths.root, started, record.digest, give_sign)
    if not is_shared:
        ensure_disk_not_needed(plan)
        ensure_clean_folder(paths, request.files)
    now = choose_resume_point(resume_options(paths, record), paths)
    if now.how != way.how:
        raise MachineError(
            msg("the state of step {step} is no longer in {run}", step=way.how.step, run=paths.root),
            msg("see whether all machines share this folder, or copy it from the first machine again"),
        )
    written = next_part_outputs(paths, record, now.how)
    argv = resume_argv(request.argv, written, now)
    if not is_shared:
        try:
            write_own_files(written, argv, request.files)
        except OSError as error:
            said = msg("cannot write to the run folder {folder}: {why}", folder=paths.root, why=reason(error))
            raise disk_error(error, said) from error
    return HomeFolder(paths, argv)
