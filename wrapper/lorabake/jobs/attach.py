"""Watches a run from a terminal. A viewer only reads the run folder; it may come and go."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError, LorabakeError, MachineError
from lorabake.runs.activity import read_event_time
from lorabake.runs.events import decode_event
from lorabake.runs.finalize import complete_record, resume_command_hint
from lorabake.runs.follow import EventFollower, events_size
from lorabake.runs.lock import watch_active
from lorabake.runs.record import read_record
from lorabake.util.background import BackgroundJob, start_in_background
from lorabake.util.owners import find_job_id
from lorabake.util.signals import forward_stop_signals
from lorabake_schemas.events import RunTotals, Saving, Step
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorabake.jobs.display import Display, EventViewer
    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.record import Record

POLL_S = 0.1
GUARD_LIMIT_S = 60.0  # the longest that a guard takes to end a trainer
CONTAINER_INIT_PID = 1
HANGUP = "SIGHUP"


class TerminalClosedError(LorabakeError):
    """The terminal was closed; the run goes on without it."""

    exit_code = 129  # 128 + SIGHUP, as a shell says it


@dataclass(slots=True)
class Viewer:
    """The terminal of a run that this process started: it passes signals on, and leaves when the terminal is closed.

    With ``is_foreground`` it stays, and the run stops.
    """

    supervisor: BackgroundJob[Record]
    watcher: EventViewer
    is_foreground: bool = False
    is_closed: bool = False

    def stop(self, reason: str) -> None:
        if reason == HANGUP and not self.is_foreground:
            self.is_closed = True
        else:
            self.supervisor.stop("SIGTERM" if reason == HANGUP else reason)


def run_supervised(
    job: Callable[[], Record], paths: RunPaths, steps: int, display: Display, *, detach: bool = False
) -> Record:
    """Carry out the job in a supervisor and show its events until it ends, or with ``detach`` until training begins.

    Returns the finished record, or the one so far; raises what the job raised. InterruptedRunError if the supervisor
    was killed, TerminalClosedError when the run goes on without this terminal.

    A container ends with its first process, a batch job with its script: there the run ends with this process, also if
    it is killed. Slurm does not find the supervisor of a killed one (proctrack/linuxproc knows children only), and
    would give its GPU to the next job.
    """
    is_foreground = not detach and (os.getpid() == CONTAINER_INIT_PID or bool(find_job_id()))
    with EventFollower(paths, events_size(paths)) as follower, forward_stop_signals() as bind:
        supervisor = start_in_background(job, bound=is_foreground)
        with display.training(steps) as watcher:
            viewer = Viewer(supervisor, watcher, is_foreground=is_foreground)
            bind(viewer)
            over = has_begun = False
            while not over and not viewer.is_closed and not (detach and has_begun):
                over = supervisor.wait(POLL_S)
                has_begun = show_events(follower, watcher) or has_begun
    if not over:
        if viewer.is_closed:
            said = msg("the terminal was closed; {run} continues", run=paths.root)
            raise TerminalClosedError(said, msg("watch it with `lorabake attach {run}`", run=paths.root))
        return read_record(paths.record)
    record = supervisor.result()
    return record if record is not None else await_guard(paths)


def show_events(follower: EventFollower, watcher: EventViewer, *, are_past: bool = False) -> bool:
    """Show what is new; whether training has begun with it. Of saves that ``are_past`` only the last one is shown: a
    long run has hundreds.
    """
    found = [(decode_event(fields), read_event_time(fields)) for fields in follower.read()]
    saves = [at for at, (event, _) in enumerate(found) if isinstance(event, Saving)]
    skipped = frozenset(saves[:-1] if are_past else ())
    has_begun = False
    for at, (event, moment) in enumerate(found):
        if event is not None and at not in skipped:
            watcher(event, moment)
            has_begun = has_begun or isinstance(event, RunTotals | Step)
    return has_begun


def await_guard(paths: RunPaths) -> Record:
    """The record of a run whose supervisor was killed: it may have been judged before that, or its trainer failed. Else
    the guard stops the trainer, which raises InterruptedRunError.
    """
    deadline = time.monotonic() + GUARD_LIMIT_S
    try:
        for _ in watch_active(paths):
            if time.monotonic() > deadline:
                break
        record = complete_record(paths, read_record(paths.record))
    except MachineError as error:
        raise InterruptedRunError(msg("lorabake was killed before the run began")) from error
    if record.status not in {"started", "interrupted"}:
        return record
    why = record.outcome.message if record.outcome is not None else msg("lorabake was killed")
    raise InterruptedRunError(why, resume_command_hint(record, paths.root))


def attach_run(paths: RunPaths, display: Display) -> Record:
    """Show a run that is in progress until it ends, and return its record. KeyboardInterrupt leaves it alone."""
    steps = read_record(paths.record).planned_steps
    with EventFollower(paths) as follower, display.training(steps) as watcher:
        show_events(follower, watcher, are_past=True)
        for _ in watch_active(paths):
            show_events(follower, watcher)
        show_events(follower, watcher)
    return complete_record(paths, read_record(paths.record))
