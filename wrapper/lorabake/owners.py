"""Who holds a lock, as its file says it, and whether that process is provably gone."""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lorabake.guard import stat
from lorabake.process import own_environment
from lorabake_schemas.words import Said, joined, legible, say

if TYPE_CHECKING:
    from collections.abc import Mapping

JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "OAR_JOB_ID", "FLUX_JOB_ID", "JOB_ID")  # the last is Grid Engine's
NO_NAMES = frozenset({"", "localhost", "localhost.localdomain"})  # as which many hosts are known
BOOT, SPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True, slots=True)
class Owner:
    """A process that holds a lock.

    ``boot`` is the id of its system's start, ``space`` of the pid namespace, ``started`` the start time of the process
    in it; all three are empty where there is no /proc. ``flock`` is whether it holds the file by flock as well, ``use``
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

    def described(self) -> Said:
        """Host, pid, job and since when."""
        parts = [say("process {pid} on {host}", pid=str(self.pid), host=self.host or "?")]
        parts += [say("job {job}", job=self.job)] if self.job else []
        parts += [say("since {time}", time=self.since)] if self.since else []
        return joined(parts)


def this_process(use: str = "", *, flock: bool = False) -> Owner:
    env = own_environment()
    return Owner(
        host=legible(socket.gethostname()),
        pid=os.getpid(),
        boot=_boot(),
        space=_space(),
        started=stat(os.getpid())[2],
        job=legible(next((env[name] for name in JOBS if env.get(name)), "")),
        since=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        use=legible(use),
        flock=flock,
    )


def _boot() -> str:
    with suppress(OSError):
        return BOOT.read_text("ascii").strip()
    return ""


def _space() -> str:
    with suppress(OSError):
        return str(SPACE.readlink())
    return ""


def is_here(owner: Owner) -> bool:
    """Whether its pid can be looked up: the same start of the same system, and the same pid namespace."""
    here = this_process()
    if owner.boot or here.boot:
        return (owner.boot, owner.space) == (here.boot, here.space)
    return owner.host == here.host and owner.host not in NO_NAMES


def lives(owner: Owner) -> bool:
    """Whether the process of an owner that ``is_here`` lives; another one with its pid is told by its start time."""
    if stat(os.getpid())[2]:
        state, _, started = stat(owner.pid)
        return state not in "ZX" and started == owner.started
    with suppress(PermissionError):  # it is another user's
        try:
            os.kill(owner.pid, 0)
        except ProcessLookupError:
            return False
    return True


def is_gone(owner: Owner, *, unlocked: bool) -> bool:
    """Whether an owner has provably ended; ``unlocked`` says that nobody holds the file by flock.

    The kernel frees what its own processes hold by flock, and some network file systems lock within one machine only:
    of another host's process nothing is ever proven. A host that has started again has lost all its processes.
    """
    here = this_process()
    if owner.boot == here.boot and unlocked and owner.flock and (here.boot or owner.host == here.host):
        return True
    if is_here(owner):
        return not lives(owner)
    return bool(owner.host == here.host and owner.host not in NO_NAMES and owner.boot and owner.boot != here.boot)


def written(owner: Owner, **further: object) -> bytes:
    """One line of JSON."""
    return (json.dumps(asdict(owner) | further, ensure_ascii=True) + "\n").encode()


def understood(content: bytes) -> tuple[Owner, Mapping[str, Any]] | None:
    """An owner and everything that is said along with it; None for anything else. Reads the first line only."""
    try:
        told: object = json.loads(content.split(b"\n", 1)[0])
        table = cast("dict[str, Any]", told) if isinstance(told, dict) else {}
        known = {each.name: table[each.name] for each in fields(Owner)}
    except (ValueError, RecursionError, KeyError):
        return None
    numbers, flock = known.pop("pid"), known.pop("flock")
    if type(numbers) is not int or not 0 < numbers < 1 << 31 or type(flock) is not bool:
        return None
    if not all(isinstance(each, str) for each in known.values()):
        return None
    return Owner(pid=numbers, flock=flock, **{name: legible(each) for name, each in known.items()}), table
