"""One run of a name, and one trainer in a run folder, at a time.

Three things show that a run is in progress. lorabake has the lock of the run's name, next to the run folders. The guard
and everything that writes the trainer's log have the lock of that log, which the trainer inherits with its output: it
outlives lorabake and guard. The file .running identifies them: host, guard, and the mark that every process of the tree
has in its environment, by which it is found where there are no locks.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from lorabake.errors import BusyError
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record
from lorabake.util import process_guard
from lorabake.util.files import disk_error, open_descriptor, read_bytes, reason, remove_file
from lorabake.util.locks import LockHolder, find_holder, try_lock
from lorabake.util.owners import LockOwner, current_owner, is_alive, is_gone, is_local_process, parse_owner
from lorabake_schemas.messages import Message, msg, nmsg

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from lorabake_schemas.record import Record

MAX_CLAIM_BYTES = 4096  # bytes of .running
CLAIM_FILE = ".running"
NAME_PATIENCE_S = 0.5
POLL_S, ACTIVITY_CHECK_S = 0.1, 0.5  # how often a watched run is shown, and is looked for among locks and processes


@dataclass(frozen=True, slots=True)
class Claim:
    """The content of .running. ``owner`` is the guard, with the run's name as its use. ``folder`` is the inode of the
    run folder, which distinguishes a copy from the run itself. ``trainer`` is 0 before its start.
    """

    owner: LockOwner
    mark: str
    folder: int
    trainer: int = 0


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run that is in progress, or may be.

    ``owner`` is lorabake's process, or the guard's if lorabake has ended; None if unknown. ``pids`` are the processes
    of the trainer that are known here. ``certain`` is False if nobody here can know whether they are alive.
    """

    root: Path
    owner: LockOwner | None = None
    pids: tuple[int, ...] = ()
    is_supervised: bool = False
    is_guarded: bool = False
    certain: bool = True
    file: Path | None = None

    @property
    def error(self) -> BusyError:
        who = self.owner.describe_owner() if self.owner is not None else msg("an unknown process")
        if not self.certain:
            said = msg("{run} may be in progress: {who}", run=self.root, who=who)
            hint = msg("if you are sure that this process no longer exists, delete {file}", file=self.file or self.root)
        elif self.is_supervised:
            said = msg("{run} is in progress: {who}", run=self.root, who=who)
            hint = msg("wait until it ends, or stop it with `lorabake stop {run}`", run=self.root)
        elif self.is_guarded:
            said = msg(
                "lorabake was killed, and the trainer of {run} is being stopped: {who}",
                run=self.root,
                who=who,
            )
            hint = msg("try again in a few seconds")
        else:
            who = self.trainer
            said = msg("lorabake was killed, but the trainer of {run} is still running: {who}", run=self.root, who=who)
            hint = msg("wait until it ends, or stop it with `lorabake stop {run}`", run=self.root)
        return BusyError(said, hint)

    @property
    def _pid_list(self) -> str:
        return " ".join(map(str, self.pids))

    @property
    def trainer(self) -> Message:
        """The processes of the trainer."""
        if self.pids:
            return nmsg(len(self.pids), "process {pids}", "processes {pids}", pids=self._pid_list)
        return msg("processes that have {log} open", log=RunPaths(self.root).log)


@contextmanager
def acquire_run_lock(paths: RunPaths, name: str) -> Generator[None, None, None]:
    """Lock the name for this run, if no trainer of another run of that name is left running.

    Raises BusyError if another process has the name, or if a trainer outlived its lorabake.
    """
    folder = paths.root.parent
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            busy = _lock_name(stack, lock_path(folder, name), paths.root.name)
        except OSError as error:
            said = msg("cannot write to {folder}: {why}", folder=folder, why=error.strerror or str(error))
            raise disk_error(error, said) from error
        if busy is not None:
            raise _name_taken_error(folder, name, busy)
        for other in (paths, *iter_claimed(folder, name)):
            active = find_running_trainer(other)
            if active is not None:
                raise active.error
        try:
            remove_file(paths.running, within=paths.root)  # of a guard that was killed: nothing of it lives
        except OSError as error:
            said = msg("cannot remove {path}: {why}", path=paths.running, why=reason(error))
            raise disk_error(error, said, msg("move it elsewhere and try again")) from error
        yield


def _name_taken_error(folder: Path, name: str, busy: LockHolder) -> BusyError:
    """Another lorabake process has the name and has recorded for which run."""
    root = folder / busy.owner.use if busy.owner is not None and busy.owner.use else None
    if root is not None and root.parent == folder and busy.certain:
        return ActiveRun(root, busy.owner, is_supervised=True).error
    said = msg("a run named {name} is in progress: {who}", name=name, who=busy.who)
    if not busy.certain:
        said = msg("a run named {name} may be in progress: {who}", name=name, who=busy.who)
    return BusyError(said, busy.hint)


def ensure_idle(root: Path, name: str) -> None:
    """Raises BusyError when a run of that name is in progress, before minutes are spent on an installation.

    Only a hint: launch() decides. Makes no folder and no file.
    """
    with suppress(OSError):
        if (busy := find_holder(lock_path(root.parent, name))) is not None:
            raise _name_taken_error(root.parent, name, busy)
    for other in (RunPaths(root), *iter_claimed(root.parent, name)):
        active = find_running_trainer(other)
        if active is not None:
            raise active.error


def _lock_name(stack: ExitStack, lock: Path, use: str) -> LockHolder | None:
    """Hold the lock until the stack is closed, or return who has it: a command that completes the record of a run that
    was killed has it for a moment.
    """
    deadline = time.monotonic() + NAME_PATIENCE_S
    while True:
        busy = stack.enter_context(try_lock(lock, use))
        if busy is None or time.monotonic() > deadline:
            return busy
        time.sleep(0.1)


def find_active(paths: RunPaths, record: Record) -> ActiveRun | None:
    """Whether a run is in progress: by its lorabake, or by what it has left running. Changes nothing."""
    busy = None
    if record.status == "started":
        with suppress(OSError):
            busy = find_holder(lock_path(paths.root.parent, record.name))
    if busy is not None and (busy.owner is None or busy.owner.use in {"", paths.root.absolute().name}):
        return ActiveRun(paths.root, busy.owner, is_supervised=True, certain=busy.certain, file=busy.path)
    return find_running_trainer(paths)


def watch_active(paths: RunPaths) -> Generator[ActiveRun]:
    """Yields several times a second while a run is in progress. Raises MachineError if its record cannot be read."""
    looked, active = -math.inf, None
    while True:
        if time.monotonic() - looked > ACTIVITY_CHECK_S:
            active, looked = find_active(paths, read_record(paths.record)), time.monotonic()
        if active is None:
            return
        yield active
        time.sleep(POLL_S)


def lock_path(folder: Path, name: str) -> Path:
    """A record's name may come from a stranger: it leads to no other folder."""
    return folder / f".{name.replace('/', '_').replace(chr(0), '_')}.lock"


def find_running_trainer(paths: RunPaths) -> ActiveRun | None:
    """The guard and trainer of a run folder that live, or may live. Changes nothing.

    Only of this machine's processes anything is looked up: a run folder may come from a stranger.
    """
    claim, locked = read_claim(paths), _log_is_free(paths)
    if claim is None or claim.folder != _inode(paths.root):
        return None if locked is not False else ActiveRun(paths.root, claim.owner if claim is not None else None)
    owner = claim.owner
    if is_local_process(owner):
        pids, guarded = _trainer_pids(claim), is_alive(owner)
        if pids or guarded or locked is False:
            return ActiveRun(paths.root, owner, pids, is_guarded=guarded)
        return None
    if locked is not False and is_gone(owner, unlocked=bool(locked)):
        return None
    return ActiveRun(paths.root, owner, certain=locked is False, file=paths.running)


def read_claim(paths: RunPaths) -> Claim | None:
    try:
        found = parse_owner(read_bytes(paths.running, MAX_CLAIM_BYTES, within=paths.root))
    except (OSError, ValueError):
        return None
    if found is None:
        return None
    owner, told = found
    mark, folder, trainer = told.get("mark"), told.get("folder"), told.get("trainer", 0)
    if not isinstance(mark, str) or not mark or not isinstance(folder, int) or type(trainer) is not int:
        return None
    return Claim(owner, mark, folder, trainer if 0 < trainer < 1 << 31 else 0)


def new_claim(paths: RunPaths, name: str) -> tuple[Path, dict[str, object]]:
    """What a guard is to write into .running; it adds itself."""
    return paths.running, {**asdict(current_owner(name)), "folder": _inode(paths.root)}


def remove_stale_claim(paths: RunPaths) -> None:
    """Remove what a guard that was killed has left, unless its trainer lives."""
    if find_running_trainer(paths) is None:
        with suppress(OSError):
            remove_file(paths.running, within=paths.root)


def _trainer_pids(claim: Claim) -> tuple[int, ...]:
    """The trainer's processes, without its guard."""
    found = process_guard.ProcessTree(0, claim.mark).members()
    if not found and claim.trainer and not os.path.exists("/proc/self/stat"):  # noqa: PTH110 - as guard does
        found = process_guard.ProcessTree(claim.trainer, claim.mark).members()
    return tuple(sorted(found - {claim.owner.pid}))


def iter_claimed(folder: Path, name: str) -> Iterator[RunPaths]:
    """Run folders of that name next to this one whose trainer was started and has not ended normally."""
    with suppress(OSError):
        for path in sorted(folder.glob(f"*/{CLAIM_FILE}")):
            paths = RunPaths(path.parent)
            claim = read_claim(paths)
            if claim is not None and claim.owner.use == name:
                yield paths


def _log_is_free(paths: RunPaths) -> bool | None:
    """Whether nobody writes the log; None if that is unknown."""
    try:
        descriptor = open_descriptor(paths.log, within=paths.root)
    except (OSError, ValueError):
        return None
    try:
        return process_guard.flock(descriptor, shared=True)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def _inode(folder: Path) -> int:
    with suppress(OSError):
        return folder.stat().st_ino
    return 0
