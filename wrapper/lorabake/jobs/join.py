"""What every machine but the first does in a run on several: it joins with its processes, and owns no run.

On a shared disk it works in the first machine's run folder and adds a log there; otherwise in a folder of its own with
the same files. The first machine alone saves and judges, and all machines end with the exit code of its run.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError, MachineError, SetupError
from lorabake.jobs.meeting import USER_STOP_CODE, Connection, meet_first_machine, meeting_port
from lorabake.runs.folder import RunPaths, create_run_folder
from lorabake.runs.launch_request import build_initial_files, list_digest_parts
from lorabake.runs.record import read_record_fields
from lorabake.util.files import make_folders, open_append, remove_file
from lorabake.util.process import Command, SupervisionOptions, supervise
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorabake.runs.launch_request import LaunchRequest
    from lorabake.util.process import RunningCommand
    from lorabake_schemas.messages import Message
    from lorabake_schemas.seat import Seat

POLL_S = 0.2
RECORD_LIMIT_S = 10.0  # for a shared disk to show what the first machine has written
END_LIMIT_S = 120.0  # between the end of the run and that of the processes here
RESULT_LIMIT_S = 1800.0  # for the first machine to judge and hash what was trained
CACHES_ON_DISK = ("cache_latents_to_disk", "cache_text_encoder_outputs_to_disk")
STOPPED_BY_FIRST = "the first machine"


def join_run(request: LaunchRequest, seat: Seat, tell: Callable[[Message], None]) -> int:
    """Train along with the first machine; the exit code of the run.

    Raises MachineError if this machine cannot join, or loses the first one, SetupError if its processes cannot be
    started, InterruptedRunError if the user stopped them here.
    """
    parts = list_digest_parts(request)
    port = meeting_port(request.plan.launch, seat)
    first, root, started = meet_first_machine(seat, port, request.provenance.digest, parts, tell)
    try:
        paths = RunPaths(Path(root)) if _is_same_run(Path(root), request, started) else None
        log = prepare_folder(request, paths, seat)
        tell(msg("training with the first machine; this machine's log is {log}", log=log))
        return _train_along(request, log, first)
    except (InterruptedRunError, KeyboardInterrupt):
        first.send({"ended": USER_STOP_CODE})
        raise
    except BaseException:
        first.send({"ended": 1})
        raise
    finally:
        first.close()


def _is_same_run(root: Path, request: LaunchRequest, started: str) -> bool:
    """Whether the first machine's run folder is on a disk that this one shares."""
    deadline = time.monotonic() + RECORD_LIMIT_S
    while time.monotonic() < deadline:
        fields = read_record_fields(root)
        if fields:
            return (fields.get("digest"), fields.get("started")) == (request.provenance.digest, started)
        time.sleep(POLL_S)
    return False


def prepare_folder(request: LaunchRequest, shared: RunPaths | None, seat: Seat) -> Path:
    """The log of this machine, in the run folder or in one of its own. Raises MachineError."""
    if shared is None and any(request.plan.value(option) for option in CACHES_ON_DISK):
        raise MachineError(
            msg("caches on disk are made by all machines together, and this one does not share the first one's disk"),
            msg("remove cache_latents_to_disk from the recipe, or train on a shared disk"),
        )
    paths = shared or RunPaths(request.root)
    log = paths.log.with_name(f"machine-{seat.rank}.log")
    if shared is None:
        create_run_folder(paths, build_initial_files(request))
    try:
        make_folders(log.parent, within=paths.root)
        open_append(log, within=paths.root).close()
        if shared is None:
            remove_file(paths.room, within=paths.root)  # nothing is recorded here
    except OSError as error:
        why = error.strerror or str(error)
        raise MachineError(msg("cannot write {path}: {why}", path=log, why=why)) from error
    return log


def _train_along(request: LaunchRequest, log: Path, first: Connection) -> int:
    """Run this machine's processes until they end, then wait for the verdict of the first machine."""
    how = SupervisionOptions(log=log, interrupt_s=request.interrupt_s, terminate_s=request.terminate_s)
    root, code = log.parent.parent, None
    with supervise(Command(request.argv, root.absolute(), request.env), how) as running:
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
    code, ended_at = None, None
    while not running.wait(POLL_S):
        code = _read_result(first, 0) if code is None else code
        if ended_at is None and (code is not None or first.is_lost):
            ended_at = time.monotonic()
        patience = END_LIMIT_S if code == 0 else 0.0
        if ended_at is not None and running.stopped_by is None and time.monotonic() - ended_at >= patience:
            running.stop(STOPPED_BY_FIRST)
    return code


def _await_result(first: Connection) -> int | None:
    deadline, code = time.monotonic() + RESULT_LIMIT_S, None
    while code is None and not first.is_lost and time.monotonic() < deadline:
        code = _read_result(first, 1.0)
    return code


def _read_result(first: Connection, seconds: float) -> int | None:
    """The exit code of the run, if the first machine has sent it."""
    with suppress(OSError, ValueError):
        while (line := first.receive(seconds)) is not None:
            code = line.get("exit")
            if type(code) is int and 0 <= code < 256:
                return code
    return None
