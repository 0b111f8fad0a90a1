"""One training run, from a new folder to its finished record."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from lorabake.jobs.supervisor import LaunchContext, run_trainer
from lorabake.runs.events import EventLog
from lorabake.runs.folder import RunPaths, create_run_folder, write_record
from lorabake.runs.launch_request import LaunchRequest, build_initial_files, new_record
from lorabake.runs.lock import acquire_run_lock
from lorabake.util.files import disk_error
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Generator

    from lorabake.jobs.display import Watcher
    from lorabake_schemas.record import Record


def launch_run(request: LaunchRequest, watcher: Watcher) -> Record:
    """Train, and return the finished record, which says whether that went well (``status``).

    Raises MachineError when the folder cannot be made, BusyError when a run of this name is in progress, SetupError
    when the trainer cannot be started, InterruptedRunError when the user stopped it; the record says so too, where
    there is one. When this process is killed, its guard stops the trainer and finishes the record.
    """
    paths = RunPaths(request.root)
    with acquire_run_lock(paths, request.plan.name):
        record = new_record(request)
        create_run_folder(paths, build_initial_files(request))
        with remove_on_failure(paths):
            write_record(paths, record)
            events = open_event_log(paths, record)
        with closing(events):
            return run_trainer(make_launch_context(request, paths), record, events, watcher)


def make_launch_context(request: LaunchRequest, paths: RunPaths) -> LaunchContext:
    return LaunchContext(
        paths=paths,
        argv=request.argv,
        env=request.env,
        output=request.output,
        planned_steps=request.plan.forecast.steps,
        rehearsal=request.rehearsal,
        interrupt_s=request.interrupt_s,
        terminate_s=request.terminate_s,
        watch=request.watch,
    )


@contextmanager
def remove_on_failure(paths: RunPaths) -> Generator[None, None, None]:
    """No run folder stays without a record and an events file, whatever goes wrong."""
    try:
        yield
    except BaseException:
        shutil.rmtree(paths.root, ignore_errors=True)
        raise


def open_event_log(paths: RunPaths, record: Record) -> EventLog:
    """The events file with its first line. Raises MachineError when it cannot be written."""
    try:
        events = EventLog(paths.events)
        events.write([{"event": "started", "name": record.name, "rehearsal": record.rehearsal}])
    except OSError as error:
        said = msg("cannot write {path}: {why}", path=paths.events, why=error.strerror or str(error))
        raise disk_error(error, said) from error
    return events
