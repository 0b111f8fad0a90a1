"""Several processes and machines of one training: what the one that owns the run needs of the others."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lorabake.errors import LorabakeError, ResourceError
from lorabake.jobs.meeting import MAX_PORT, Gathering, gather_machines, meeting_port
from lorabake.runs.command import process_port
from lorabake.runs.folder import RunPaths
from lorabake.runs.launch_request import list_digest_parts
from lorabake.runs.stop_request import request_stop
from lorabake.util.machine import is_port_free
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable

    from lorabake.runs.launch_request import LaunchRequest
    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import LaunchPlan
    from lorabake_schemas.record import Record
    from lorabake_schemas.seat import Seat

BUG_EXIT_CODE = 3


def ensure_port_free(launch: LaunchPlan, seat: Seat | None = None) -> None:
    """Raises ResourceError, with one that is free, when another program has the port by which the processes meet."""
    port = process_port(launch, seat)
    if launch.num_processes == 1 or is_port_free(port):
        return
    free = next((other for other in range(port + 1, min(port + 100, MAX_PORT)) if is_port_free(other)), port + 1)
    raise ResourceError(
        msg("port {port}, which the processes of this run need, is used by another program", port=port),
        msg("set launch.main_process_port = {port} in the recipe", port=free),
    )


class OtherMachines:
    """Those that train along with the first one, which is this; none of a run on one machine."""

    def __init__(self, request: LaunchRequest, gathering: Gathering) -> None:
        self._paths = RunPaths(request.root)
        self._gathering = gathering

    def begin(self, record: Record) -> None:
        """The run folder is complete: all start their processes."""
        self._gathering.begin(str(self._paths.root.absolute()), record.started)

    def accompany(self, launch: Callable[[], Record], exit_code: Callable[[Record], int]) -> Record:
        """Train; the run is stopped if another machine fails, and all hear its exit code."""
        if not self._gathering.others:
            return launch()
        code = BUG_EXIT_CODE
        try:
            with self._gathering.watched(partial(request_stop, self._paths, "soon")):
                record = launch()
            code = exit_code(record)
        except LorabakeError as error:
            code = error.exit_code
            raise
        finally:
            self._gathering.end(code)
        return record


def gather_others(request: LaunchRequest, tell: Callable[[Message], None]) -> OtherMachines:
    """Wait for all machines of a run on several. Raises MachineError if one does not come or trains something else."""
    gathering, seat = Gathering(), request.seat
    if seat is not None:
        port = meeting_port(request.plan.launch, seat)
        gathering = gather_machines(seat, port, request.provenance.digest, list_digest_parts(request), tell)
    return OtherMachines(request, gathering)
