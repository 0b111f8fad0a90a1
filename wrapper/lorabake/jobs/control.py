"""Stops a run from any terminal."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from lorabake.errors import MachineError
from lorabake.runs.finalize import complete_record
from lorabake.runs.lock import find_active, read_claim, watch_active
from lorabake.runs.record import read_record
from lorabake.runs.stop_request import request_stop
from lorabake.util.files import DISK_FULL_ERRNOS, disk_error, reason
from lorabake.util.owners import is_alive, is_local_process
from lorabake.util.process_guard import ProcessTree
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.runs.folder import RunPaths
    from lorabake.runs.index import FoundRun
    from lorabake.runs.lock import ActiveRun
    from lorabake.runs.stop_request import StopMode
    from lorabake_schemas.record import Record

UNCERTAIN_LIMIT_S = 60.0  # how long a run on a host that may be gone is waited for


def stop_run(found: FoundRun, mode: StopMode) -> ActiveRun:
    """Ask whoever runs the trainer to stop it. Raises MachineError if the run is not in progress, or cannot be reached.

    A trainer whose supervisor and guards were killed is ended from here. Without space for a request the supervisor
    gets a signal, which stops it at once in every mode that is not a later one.
    """
    paths = found.paths
    active = find_active(paths, found.record)
    if active is None:
        hint = msg("see how it ended with `lorabake status {run}`", run=found.name)
        raise MachineError(msg("{run} is not in progress", run=found.name), hint)
    if not active.is_supervised and not active.is_guarded:
        _end_orphans(paths, active)
        return active
    try:
        request_stop(paths, mode)
    except OSError as error:
        owner = active.owner
        is_full = error.errno in DISK_FULL_ERRNOS
        unreachable = disk_error(
            error,
            msg("cannot ask {run} to stop: {why}", run=found.name, why=reason(error)),
            msg("free some space and try again") if is_full else msg("ask from the user and the host that run it"),
        )
        if mode not in {"soon", "now"} or owner is None or not is_local_process(owner) or not is_alive(owner):
            raise unreachable from error
        try:
            os.kill(owner.pid, signal.SIGTERM)
        except PermissionError:
            raise unreachable from error
        except ProcessLookupError:
            pass
    return active


def _end_orphans(paths: RunPaths, active: ActiveRun) -> None:
    """Kill what was left of a trainer. Only processes of this machine are looked up, and only by the run's mark."""
    claim = read_claim(paths)
    if claim is None or not active.pids or not is_local_process(claim.owner):
        raise active.error
    ProcessTree(0, claim.mark).kill()


def wait_for_end(paths: RunPaths) -> Record:
    """The record of a run that is being stopped, as soon as it has ended. Raises BusyError if nobody here can know
    whether it will: its host may be gone."""
    deadline = time.monotonic() + UNCERTAIN_LIMIT_S
    for active in watch_active(paths):
        if not active.certain and time.monotonic() > deadline:
            raise active.error
    return complete_record(paths, read_record(paths.record))
