"""The GPUs that a training will use: chosen and waited for before it starts."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

from lorabake.runs.command import VISIBLE_GPUS, select_gpus
from lorabake.runs.gpu_locks import BusyGpuError, GpuReservation, reserve_gpus
from lorabake.util.machine import list_gpus
from lorabake.util.paths import lorabake_home
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from lorabake.runs.gpu_locks import GpuUse
    from lorabake_schemas.plan import LaunchPlan

GPU_POLL_S = 1.0
Result = TypeVar("Result")


def choose_gpus(launch: LaunchPlan, env: Mapping[str, str], use: GpuUse, machines: int = 1) -> GpuReservation:
    """The GPUs of a training: one for each process on this machine, of those that it will see.

    Raises MachineError if gpu_ids names a GPU that ``env`` hides, BusyGpuError if one is used and not waited for.
    """
    visible = select_gpus(launch, env.get(VISIBLE_GPUS))
    seen = env if visible is None else {**env, VISIBLE_GPUS: visible}
    gpus = list_gpus(seen)[: max(launch.num_processes // machines, 1)]
    wanted = GpuReservation(lorabake_home(env), gpus, is_shared=use == "share")
    if use == "refuse" and (busy := wanted.find_user()) is not None:
        raise busy
    return wanted


def start_on_free_gpus(
    wanted: GpuReservation | None, use: GpuUse, start: Callable[[], Result], tell: Callable[[Message], None]
) -> Result:
    """Start a training, which locks its GPUs before it writes anything; with ``wait`` as soon as they are free.

    Raises BusyGpuError if another run was quicker, unless it is waited for.
    """
    while True:
        if use == "wait" and wanted is not None:
            _wait_for_gpus(wanted, tell)
        try:
            return start()
        except BusyGpuError:
            if use != "wait":
                raise


def _wait_for_gpus(wanted: GpuReservation, tell: Callable[[Message], None]) -> None:
    report = _report_changes(tell)
    while (busy := wanted.find_user()) is not None:
        report(busy)
        time.sleep(GPU_POLL_S)


def _report_changes(tell: Callable[[Message], None]) -> Callable[[BusyGpuError], None]:
    """Reports whom this run waits for, again if that changes."""
    reported: Message | None = None

    def report(busy: BusyGpuError) -> None:
        nonlocal reported
        if busy.message != reported:
            reported = busy.message
            tell(msg("waiting: {why}", why=reported))

    return report


@contextmanager
def lock_free_gpus(
    wanted: GpuReservation | None, use: GpuUse, root: Path, tell: Callable[[Message], None]
) -> Generator[Callable[[], bool]]:
    """A function that locks the GPUs for the run in ``root`` if they are free, and returns whether they are locked; at
    the end they are released.

    The function raises BusyGpuError if another run uses one, unless it is waited for.
    """
    report, is_locked = _report_changes(tell), False

    with ExitStack() as stack:

        def lock() -> bool:
            nonlocal is_locked
            if not is_locked:
                try:
                    stack.enter_context(reserve_gpus(wanted, root))
                    is_locked = True
                except BusyGpuError as busy:
                    if use != "wait":
                        raise
                    report(busy)
            return is_locked

        yield lock
