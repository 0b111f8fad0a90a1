"""The owner of a lock, read from its file, and whether that process has provably ended."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorabake.util.environment import read_environment
from lorabake.util.process_guard import read_process_stat
from lorabake_schemas.messages import Message, escape_undecodable, join_list, msg

if TYPE_CHECKING:
    from collections.abc import Mapping

JOB_ID_VARIABLES = (
    "SLURM_JOB_ID",
    "PBS_JOBID",
    "LSB_JOBID",
    "OAR_JOB_ID",
    "FLUX_JOB_ID",
    "JOB_ID",
)  # the last is Grid Engine's, which sets SGE_TASK_ID, too; others use that name for anything
GENERIC_HOST_NAMES = frozenset({"", "localhost", "localhost.localdomain"})  # as which many hosts are known
BOOT_ID_PATH, PID_NAMESPACE_PATH = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class LockOwner:
    """A process that has a lock.

    ``boot`` is the id of its system's start, ``space`` that of the pid namespace, ``started`` the start time of the
    process in it; all three are empty without /proc. ``flock`` is whether it has also locked the file by flock, ``use``
    what the lock is for.
    """

    host: str
    pid: int
    boot: str = ""
    space: str = ""
    started: str = ""
    job: str = ""
    since: str = ""
    use: str = ""
    flock: bool = False

    def describe_owner(self) -> Message:
        """Host, pid, job and since when."""
        parts = [msg("process {pid} on {host}", pid=str(self.pid), host=self.host or "?")]
        parts += [msg("job {job}", job=self.job)] if self.job else []
        parts += [msg("since {time}", time=self.since)] if self.since else []
        return join_list(parts)


def find_job_id() -> str:
    """The batch job that this process is part of; empty outside of one."""
    env = read_environment()
    known = [name for name in JOB_ID_VARIABLES if env.get(name) and (name != "JOB_ID" or env.get("SGE_TASK_ID"))]
    return escape_undecodable(env[known[0]]) if known else ""


def current_owner(use: str = "", *, flock: bool = False) -> LockOwner:
    return LockOwner(
        host=escape_undecodable(socket.gethostname()),
        pid=os.getpid(),
        boot=_read_boot_id(),
        space=_read_pid_namespace(),
        started=read_process_stat(os.getpid())[2],
        job=find_job_id(),
        since=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        use=escape_undecodable(use),
        flock=flock,
    )


def _read_boot_id() -> str:
    with suppress(OSError):
        return BOOT_ID_PATH.read_text("ascii").strip()
    return ""


def _read_pid_namespace() -> str:
    with suppress(OSError):
        return str(PID_NAMESPACE_PATH.readlink())
    return ""


def is_local_process(owner: LockOwner) -> bool:
    """Whether its pid can be looked up: the same start of the same system, and the same pid namespace."""
    here = current_owner()
    if owner.boot or here.boot:
        return (owner.boot, owner.space) == (here.boot, here.space)
    return owner.host == here.host and owner.host not in GENERIC_HOST_NAMES


def is_alive(owner: LockOwner) -> bool:
    """Whether the process of an owner that ``is_here`` is alive; another one with its pid has another start time."""
    if read_process_stat(os.getpid())[2]:
        state, _, started = read_process_stat(owner.pid)
        return state not in "ZX" and started == owner.started
    with suppress(PermissionError):  # it is another user's
        try:
            os.kill(owner.pid, 0)
        except ProcessLookupError:
            return False
    return True


def is_gone(owner: LockOwner, *, unlocked: bool) -> bool:
    """Whether an owner has provably ended; ``unlocked`` means that no process has locked the file by flock.

    The kernel frees the flocks of its own processes, and some network file systems lock within one machine only:
    nothing is ever proven about another host's process. A host that was restarted has lost all its processes.
    """
    here = current_owner()
    if owner.boot == here.boot and unlocked and owner.flock and (here.boot or owner.host == here.host):
        return True
    if is_local_process(owner):
        return not is_alive(owner)
    return bool(
        owner.host == here.host and owner.host not in GENERIC_HOST_NAMES and owner.boot and owner.boot != here.boot
    )


def serialize_owner(owner: LockOwner, **further: object) -> bytes:
    """One line of JSON."""
    return (json.dumps(asdict(owner) | further, ensure_ascii=True) + "\n").encode()


def parse_owner(content: bytes) -> tuple[LockOwner, Mapping[str, Any]] | None:
    """An owner and the other fields of its file; None for anything else. Reads the first line only."""
    try:
        told: object = json.loads(content.split(b"\n", 1)[0])
        table = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        known = {each.name: table[each.name] for each in fields(LockOwner)}
    except (ValueError, RecursionError, KeyError):
        return None
    numbers, flock = known.pop("pid"), known.pop("flock")
    if type(numbers) is not int or not 0 < numbers < 1 << 31 or type(flock) is not bool:
        return None
    if not all(isinstance(each, str) for each in known.values()):
        return None
    return LockOwner(
        pid=numbers, flock=flock, **{name: escape_undecodable(each) for name, each in known.items()}
    ), table
