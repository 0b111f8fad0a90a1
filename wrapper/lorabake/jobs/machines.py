"""Several processes and machines of one training: what the one that owns the run needs of the others."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lorabake.errors import InterruptedRunError, LorabakeError, MachineError, ResourceError
from lorabake.jobs.gpus import lock_free_gpus, start_on_free_gpus
from lorabake.jobs.meeting import USER_STOP_CODE, Gathering, gather_machines
from lorabake.jobs.supervisor import STOPPED_ON_REQUEST
from lorabake.runs.command import meeting_port, process_port
from lorabake.runs.events import EventLog
from lorabake.runs.finalize import finalize_run, resume_command_hint
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record, with_outcome
from lorabake.runs.seat import MAX_PORT, MIN_PORT
from lorabake.runs.stop_request import StopSchedule, request_stop
from lorabake.util.machine import is_port_free
from lorabake_schemas.events import Stopping
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from lorabake.jobs.meeting import FailedMachine, Meeting
    from lorabake.runs.gpu_locks import GpuReservation, GpuUse
    from lorabake_schemas.events import ProgressEvent
    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import LaunchPlan
    from lorabake_schemas.record import Record
    from lorabake_schemas.seat import Seat

BUG_EXIT_CODE = 3
MACHINE_FAILED = "machine-failed"  # the run was stopped because another machine failed


def ensure_port_free(launch: LaunchPlan, seat: Seat | None = None, *, is_resumed: bool = False) -> None:
    """Raises ResourceError, with one that is free, when another program has the port by which the processes meet, or
    the one by which the machines do. The recipe of a run that is resumed cannot be changed."""
    port, has_others = process_port(launch, seat), seat is not None
    if launch.num_processes == 1 or _is_usable(port, has_others=has_others):
        return
    near = (*range(port + 1, min(port + 100, MAX_PORT)), *range(max(port - 100, MIN_PORT), port))
    free = next((other for other in near if _is_usable(other, has_others=has_others)), near[0])
    hint = msg(
        "set launch.main_process_port = {port} in the recipe, or add --set launch.main_process_port={port}", port=free
    )
    if is_resumed:
        hint = msg("wait until that program has ended, or end it")
    if seat is not None:
        hint = msg("write --main-address HOST:{port} on all machines", port=free)
    raise ResourceError(
        msg("port {port}, which the processes of this run need, is used by another program", port=port), hint
    )


def _is_usable(port: int, *, has_others: bool) -> bool:
    return is_port_free(port) and (not has_others or is_port_free(meeting_port(port)))


class OtherMachines:
    """Those that train along with the first one, which is this; none of a run on one machine."""

    def __init__(self, root: Path, gathering: Gathering) -> None:
        self._paths = RunPaths(root)
        self._gathering = gathering
        self._stopped_by: str | None = None
        self._asked_before = False

    def give_sign(self) -> None:
        """Show them that this machine is alive."""
        self._gathering.give_sign()

    def begin(self, record: Record) -> None:
        """The run folder is complete: all start their processes."""
        self._gathering.begin(str(self._paths.root.absolute()), last_start(record))

    def watch(self, event: ProgressEvent) -> None:
        """The events of the run here: why it is stopped."""
        if isinstance(event, Stopping):
            self._stopped_by = event.signal

    def accompany(self, launch: Callable[[], Record], exit_code: Callable[[Record], int]) -> Record:
        """Train; the run is stopped if another machine fails, and all hear its exit code.

        Returns the record of one that was stopped for that reason, too. Raises what ``launch`` raises,
        InterruptedRunError if the user stopped another machine.
        """
        if not self._gathering.others:
            return launch()
        code = BUG_EXIT_CODE
        try:
            with self._gathering.watched(self._ask_to_stop):
                record = self._launch(launch)
            code = exit_code(record)
        except LorabakeError as error:
            code = error.exit_code
            raise
        finally:
            self._gathering.end(code)
        return record

    def _ask_to_stop(self) -> None:
        self._asked_before = bool(StopSchedule(self._paths).poll())
        request_stop(self._paths, "soon")

    def _launch(self, launch: Callable[[], Record]) -> Record:
        try:
            return launch()
        except InterruptedRunError:
            failed = self._gathering.failed
            if failed is None or self._stopped_by != STOPPED_ON_REQUEST or self._asked_before:
                raise  # the user stopped it here
            with suppress(MachineError, OSError):  # somebody took the run folder away
                if (record := self._record_failure(failed)) is not None:
                    return record
            raise

    def _record_failure(self, failed: FailedMachine) -> Record | None:
        """Record why the run was stopped; None if it has no end. Raises InterruptedRunError if the user of the other
        machine stopped it, MachineError or OSError if the record cannot be read or written."""
        paths, record = self._paths, read_record(self._paths.record)
        if record.outcome is None:
            return None
        is_stopped = failed.code == USER_STOP_CODE
        changes = {"code": record.outcome.code if is_stopped else MACHINE_FAILED, "message": describe_failure(failed)}
        if not is_stopped:
            name = f"logs/machine-{failed.rank}.log"
            changes["hint"] = msg("see what lorabake reports on machine {rank}, and {log}", rank=failed.rank, log=name)
        outcome = record.outcome.model_copy(update=changes)
        record = with_outcome(record, outcome)
        with closing(EventLog(paths.events)) as events:
            finalize_run(paths, record, events)
        if is_stopped:
            raise InterruptedRunError(outcome.message, resume_command_hint(record, paths.root))
        return record


def describe_failure(failed: FailedMachine) -> Message:
    """Why a run is stopped when another machine fails."""
    if failed.code is None:
        return msg("the connection to machine {rank} was lost, so the run was stopped", rank=failed.rank)
    if failed.code == USER_STOP_CODE:
        return msg("machine {rank} was stopped, and the run with it", rank=failed.rank)
    return msg("machine {rank} ended with code {code}, so the run was stopped", rank=failed.rank, code=failed.code)


def last_start(record: Record) -> str:
    """When the trainer was started for the last time, by which machines that share a disk recognize the run."""
    return record.parts[-1].started if record.parts else record.started


@dataclass(frozen=True, slots=True)
class TrainingSite:
    """Where a training is to run: its run folder, the GPUs to lock, and what to do if another run uses one."""

    root: Path
    gpus: GpuReservation | None
    use: GpuUse


def start_with_others(
    site: TrainingSite,
    meeting: Meeting | None,
    train: Callable[[OtherMachines], Record],
    tell: Callable[[Message], None],
) -> Record:
    """Train when the GPUs of this machine are free and all machines have come; alone without a ``meeting``.

    Raises MachineError if one does not come, BusyGpuError if another run uses a GPU that is not waited for.
    """
    if meeting is None:
        alone = OtherMachines(site.root, Gathering())
        return start_on_free_gpus(site.gpus, site.use, lambda: train(alone), tell)
    with lock_free_gpus(site.gpus, site.use, site.root, tell) as are_locked:  # until the run locks them a moment later
        gathering = gather_machines(meeting, are_locked, tell)
    return train(OtherMachines(site.root, gathering))
