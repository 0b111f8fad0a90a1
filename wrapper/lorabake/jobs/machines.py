"""Several processes and machines of one training: what they need of each other."""

from __future__ import annotations

from lorabake.errors import ResourceError
from lorabake.runs.command import DEFAULT_PORT
from lorabake.util.machine import is_port_free
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import LaunchPlan

MAX_PORT = 65_535


def ensure_port_free(launch: LaunchPlan) -> None:
    """Raises ResourceError, with one that is free, when another program has the port by which the processes meet."""
    port = launch.main_process_port or DEFAULT_PORT
    if launch.num_processes == 1 or is_port_free(port):
        return
    free = next((other for other in range(port + 1, min(port + 100, MAX_PORT)) if is_port_free(other)), port + 1)
    raise ResourceError(
        msg("port {port}, which the processes of this run need, is used by another program", port=port),
        msg("set launch.main_process_port = {port} in the recipe", port=free),
    )
