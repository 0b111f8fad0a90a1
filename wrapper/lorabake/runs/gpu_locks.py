"""One run on a GPU at a time: a lock for each GPU, in lorabake's home, that names the run folder.

A supervisor that is killed leaves its lock file, and for a few seconds its trainer: the file leads to the run, whose
trainer is looked for. Processes that lorabake did not start have no lock.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lorabake.errors import BusyError
from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import find_running_trainer
from lorabake.util.files import read_bytes
from lorabake.util.locks import LOCK_FILE_LIMIT, LockHolder, find_holder, try_lock
from lorabake.util.owners import parse_owner
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Generator

    from lorabake.util.machine import GpuDevice

GpuUse = Literal["refuse", "wait", "share"]  # what to do about a GPU that another run uses


class BusyGpuError(BusyError):
    """Another run uses a GPU that this one would train on."""


@dataclass(frozen=True, slots=True)
class GpuReservation:
    """The GPUs that a run trains on, and lorabake's home, where their locks are; ``is_shared`` ones are not locked."""

    home: Path
    gpus: tuple[GpuDevice, ...] = ()
    is_shared: bool = False

    def find_user(self) -> BusyGpuError | None:
        """A run that uses one of them. Changes nothing."""
        gpus = () if self.is_shared else self.gpus
        return next((error for gpu in gpus if (error := _find_user(self.home, gpu)) is not None), None)


@contextmanager
def reserve_gpus(wanted: GpuReservation | None, root: Path) -> Generator[None]:
    """Lock the GPUs for the run in ``root``. Raises BusyGpuError when another run uses one of them.

    Where lorabake's home cannot be written there are no locks: a run must not fail for want of a note about it.
    """
    with ExitStack() as stack:
        if wanted is not None and not wanted.is_shared:
            _lock_gpus(stack, wanted, root)
        yield


def _lock_gpus(stack: ExitStack, wanted: GpuReservation, root: Path) -> None:
    """A trainer that is left running is looked for first: a new lock file would not lead to it."""
    if (error := wanted.find_user()) is not None:
        raise error
    for gpu in wanted.gpus:
        if (busy := _lock_gpu(stack, lock_path(wanted.home, gpu), root)) is not None:
            raise _describe_holder(gpu, busy)


def _lock_gpu(stack: ExitStack, path: Path, root: Path) -> LockHolder | None:
    with suppress(OSError):
        path.parent.mkdir(0o755, parents=True, exist_ok=True)
        return stack.enter_context(try_lock(path, str(root.absolute())))
    return None


def lock_path(home: Path, gpu: GpuDevice) -> Path:
    """A MIG device may be written as MIG-GPU-UUID/1/0."""
    return home / f"gpu-{gpu.uuid.replace('/', '_')}.lock"


def _find_user(home: Path, gpu: GpuDevice) -> BusyGpuError | None:
    """Who has the lock, or the trainer that somebody who had it has left running."""
    path = lock_path(home, gpu)
    with suppress(OSError):
        if (holder := find_holder(path)) is not None:
            return _describe_holder(gpu, holder)
        found = parse_owner(read_bytes(path, LOCK_FILE_LIMIT))
        if found is None or not found[0].use:
            return None
        left = find_running_trainer(RunPaths(Path(found[0].use)))
        return None if left is None else _busy_error(gpu, left.root, left.trainer)
    return None


def _describe_holder(gpu: GpuDevice, holder: LockHolder) -> BusyGpuError:
    run = holder.owner.use if holder.owner is not None and holder.owner.use else None
    if not holder.certain:
        said = msg("{gpu} may be used by {run}: {who}", gpu=gpu.describe(), run=run or "?", who=holder.who)
        return BusyGpuError(said, holder.hint)
    return _busy_error(gpu, run or "?", holder.who)


def _busy_error(gpu: GpuDevice, run: Path | str, who: Message) -> BusyGpuError:
    said = msg("{gpu} is used by {run}: {who}", gpu=gpu.describe(), run=run, who=who)
    hint = msg(
        "wait for it with --wait-for-gpu, choose another GPU with CUDA_VISIBLE_DEVICES or launch.gpu_ids, or let both "
        "runs share it with --share-gpu"
    )
    return BusyGpuError(said, hint)
