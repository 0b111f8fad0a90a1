"""What every machine but the first does in a run on several: it joins with its processes, and owns no run.

On a shared disk it works in the first machine's run folder and adds a log there; otherwise in a folder of its own with
the same files. The first machine alone saves and judges, and all machines end with the exit code of its run.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lorabake.errors import InterruptedRunError, MachineError, SetupError
from lorabake.jobs.gpus import lock_free_gpus
from lorabake.jobs.machines import last_start
from lorabake.jobs.meeting import BEAT_S, USER_STOP_CODE, Connection, Meeting, meet_first_machine
from lorabake.runs.folder import RunPaths, create_run_folder
from lorabake.runs.launch_request import build_initial_files
from lorabake.runs.record import read_record
from lorabake.util.files import make_folders, open_append, remove_file
from lorabake.util.process import Command, SupervisionOptions, supervise
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lorabake.jobs.machines import TrainingSite
    from lorabake.runs.launch_request import LaunchRequest
    from lorabake.util.process import RunningCommand
    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import Plan
    from lorabake_schemas.seat import Seat

POLL_S = 0.2
RECORD_LIMIT_S = 20.0  # for a shared disk to show what the first machine has written: NFS keeps what it has listed
END_LIMIT_S = 120.0  # between the end of the run and that of the processes here
RESULT_LIMIT_S = 1800.0  # for the first machine to judge and hash what was trained
CACHES_ON_DISK = ("cache_latents_to_disk", "cache_text_encoder_outputs_to_disk")
STOPPED_BY_FIRST = "the first machine"


class HomeFolder(NamedTuple):
    """Where this machine's processes work, and the command there; it gets its own log."""

    paths: RunPaths
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Participation:
    """What this machine adds to the training of the first one.

    ``prepare`` makes the folder when the training starts; it gets the run folder on the first machine, when the run
    was started there, and what to call while it waits. The two waits are those of the shutdown ladder, in seconds.
    """

    env: Mapping[str, str]
    prepare: Callable[[Path, str, Callable[[], None]], HomeFolder]
    interrupt_s: float = 10.0
    terminate_s: float = 5.0


def join_run(request: LaunchRequest, site: TrainingSite, meeting: Meeting, tell: Callable[[Message], None]) -> int:
    """Train a new run along with the first machine; the exit code of the run. Raises what ``join_training`` does."""
    prepare = partial(prepare_folder, request)
    part = Participation(request.env, prepare, request.interrupt_s, request.terminate_s)
    return join_training(part, site, meeting, tell)


def join_training(part: Participation, site: TrainingSite, meeting: Meeting, tell: Callable[[Message], None]) -> int:
    """Train along with the first machine; the exit code of the run.

    Raises MachineError if this machine cannot join, or loses the first one, SetupError if its processes cannot be
    started, InterruptedRunError if the user stopped them here, BusyGpuError if another run uses a GPU of this machine
    that is not waited for.
    """
    with lock_free_gpus(site.gpus, site.use, site.root, tell) as are_locked:
        first, root, started = meet_first_machine(meeting, are_locked, tell)
        try:
            home = part.prepare(Path(root), started, lambda: first.send({}))
            log = open_machine_log(home.paths, meeting.seat)
            tell(msg("training with the first machine; this machine's log is {log}", log=log))
            return _train_along(part, home, log, first)
        except (InterruptedRunError, KeyboardInterrupt):
            first.send({"ended": USER_STOP_CODE})
            raise
        except BaseException:
            first.send({"ended": 1})
            raise
        finally:
            first.close()


def has_started(root: Path, started: str, digest: str | None, give_sign: Callable[[], None]) -> bool:
    """Whether the run that the first machine has just started is in this folder, so that both share the disk. Without
    the folder of its runs they do not.
    """
    deadline = time.monotonic() + RECORD_LIMIT_S
    while time.monotonic() < deadline:
        give_sign()
        try:
            _ = [*root.parent.iterdir()]  # makes NFS look again
        except OSError:
            return False
        with suppress(MachineError):
            record = read_record(RunPaths(root).record)
            if (record.digest, last_start(record)) == (digest, started):
                return True
        time.sleep(1.0)
    return False


def prepare_folder(request: LaunchRequest, root: Path, started: str, give_sign: Callable[[], None]) -> HomeFolder:
    """The run folder, or one of this machine's own with the same files. Raises MachineError."""
    if has_started(root, started, request.provenance.digest, give_sign):
        return HomeFolder(RunPaths(root), request.argv)
    ensure_disk_not_needed(request.plan)
    paths = RunPaths(request.root)
    create_run_folder(paths, build_initial_files(request))
    with suppress(OSError):
        remove_file(paths.room, within=paths.root)  # nothing is recorded here
    return HomeFolder(paths, request.argv)


def ensure_disk_not_needed(plan: Plan) -> None:
    """Raises MachineError for a training whose machines need a shared disk."""
    if any(plan.value(option) for option in CACHES_ON_DISK):
        raise MachineError(
            msg("caches on disk are made by all machines together, and this one does not share the first one's disk"),
            msg("remove cache_latents_to_disk from the recipe, or train on a shared disk"),
        )


def open_machine_log(paths: RunPaths, seat: Seat) -> Path:
    """The log of this machine. Raises MachineError if it cannot be written."""
    log = paths.log.with_name(f"machine-{seat.rank}.log")
    try:
        make_folders(log.parent, within=paths.root)
        open_append(log, within=paths.root).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError(msg("cannot write {path}: {why}", path=log, why=why)) from error
    return log


def _train_along(part: Participation, home: HomeFolder, log: Path, first: Connection) -> int:
    """Run this machine's processes until they end, then wait for the verdict of the first machine."""
    how = SupervisionOptions(log=log, interrupt_s=part.interrupt_s, terminate_s=part.terminate_s)
    code = None
    with supervise(Command(home.argv, home.paths.root.absolute(), part.env), how) as running:
        code = _follow_first(running, first)
        if running.stopped_by not in {None, STOPPED_BY_FIRST}:
            raise InterruptedRunError(msg("{how}; the log is in {path}", how=running.stopped_by or "", path=log))
        if running.returncode and code is None:
            first.send({"ended": running.returncode})
    code = _await_result(first) if code is None else code
    if running.returncode and running.stopped_by is None and code in {None, SetupError.exit_code}:
        raise SetupError(
            msg("the processes of this machine ended with code {code}", code=running.returncode),
            msg("see {log}", log=log),
        )
    if code is not None:
        return code
    raise MachineError(msg("the first machine ended without a result"), msg("see what lorabake says there"))


def _follow_first(running: RunningCommand, first: Connection) -> int | None:
    """Wait for the end of the processes; they are stopped if the run ends without them. The run's exit code, if the
    first machine has said it by then."""
    code, ended_at, beat_at = None, None, 0.0
    while not running.wait(POLL_S):
        beat_at = _give_sign(first, beat_at)
        code = _read_result(first, 0) if code is None else code
        if ended_at is None and (code is not None or first.is_lost):
            ended_at = time.monotonic()
        patience = END_LIMIT_S if code == 0 else 0.0
        if ended_at is not None and running.stopped_by is None and time.monotonic() - ended_at >= patience:
            running.stop(STOPPED_BY_FIRST)
    return code


def _await_result(first: Connection) -> int | None:
    deadline, code, beat_at = time.monotonic() + RESULT_LIMIT_S, None, 0.0
    while code is None and not first.is_lost and time.monotonic() < deadline:
        beat_at = _give_sign(first, beat_at)
        code = _read_result(first, 1.0)
    return code


def _give_sign(first: Connection, beat_at: float) -> float:
    """Show the first machine that this one is alive, if it is time; when it is again."""
    if time.monotonic() < beat_at:
        return beat_at
    first.send({})
    return time.monotonic() + BEAT_S


def _read_result(first: Connection, seconds: float) -> int | None:
    """The exit code of the run, if the first machine has sent it."""
    with suppress(OSError, ValueError):
        while (line := first.receive(seconds)) is not None:
            code = line.get("exit")
            if type(code) is int and 0 <= code < 256:
                return code
    return None
