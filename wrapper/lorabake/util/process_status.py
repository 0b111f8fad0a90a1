"""What the processes of a tree are doing, from Linux' /proc; elsewhere nothing is known.

Everything is read without special rights, from processes of the same user. A process may end at any moment.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
TCP_STATES = {"01": "established", "02": "connecting"}
SOCKET_LINK = re.compile(r"socket:\[(\d+)\]")


class Connection(NamedTuple):
    """A socket to another place; ``state`` is established or connecting, ``is_tcp`` False for UDP."""

    address: str
    port: int
    state: str
    is_tcp: bool = True

    @property
    def is_local(self) -> bool:
        return self.address.startswith("127.") or self.address in {"::1", "0.0.0.0", "::"}  # noqa: S104

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process: its name, its state letters (of all its threads) and CPU seconds."""

    pid: int
    name: str
    state: str
    parent: int
    cpu_s: float
    thread_states: frozenset[str] = frozenset()
    connections: tuple[Connection, ...] = ()


@dataclass(frozen=True, slots=True)
class TreeStatus:
    """All processes of a tree, their ended children that nobody has waited for, and free bytes in their /dev/shm."""

    processes: Mapping[int, ProcessStatus] = field(default_factory=dict[int, ProcessStatus])
    zombies: Mapping[int, str] = field(default_factory=dict[int, str])
    shared_memory_free: int | None = None

    @property
    def cpu_s(self) -> float:
        return sum(each.cpu_s for each in self.processes.values())


def read_tree_status(pids: Iterable[int]) -> TreeStatus:
    """The status of these processes."""
    members = {pid: found for pid in sorted(pids) if (found := _read_process(pid)) is not None}
    if not members:
        return TreeStatus()
    zombies = {each.pid: each.name for each in _iter_all_processes() if each.state == "Z" and each.parent in members}
    return TreeStatus(members, zombies, _read_shared_memory_free(next(iter(members))))


def _iter_all_processes() -> Iterator[ProcessStatus]:
    with suppress(OSError):
        for folder in PROC.iterdir():
            if folder.name.isdigit() and (found := _parse_stat(int(folder.name), folder / "stat")) is not None:
                yield found


def _read_process(pid: int) -> ProcessStatus | None:
    folder = PROC / str(pid)
    status = _parse_stat(pid, folder / "stat")
    if status is None or status.state in "ZX":
        return None
    states = {status.state}
    with suppress(OSError):
        for task in (folder / "task").iterdir():
            if (thread := _parse_stat(pid, task / "stat")) is not None:
                states.add(thread.state)
    return ProcessStatus(
        pid, status.name, status.state, status.parent, status.cpu_s, frozenset(states), _read_connections(folder)
    )


def _parse_stat(pid: int, path: Path) -> ProcessStatus | None:
    """proc_pid_stat(5); the name between brackets may contain anything."""
    try:
        head, _, rest = path.read_text("utf-8", "replace").rpartition(")")
        fields = rest.split()
        cpu_s = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return ProcessStatus(pid, head.partition("(")[2], fields[0], int(fields[1]), cpu_s)
    except (OSError, ValueError, IndexError):
        return None


def _read_connections(folder: Path) -> tuple[Connection, ...]:
    """The sockets of a process that lead somewhere (proc_net(5))."""
    own = set[str]()
    with suppress(OSError):
        for entry in (folder / "fd").iterdir():
            with suppress(OSError):
                if found := SOCKET_LINK.match(str(entry.readlink())):
                    own.add(found[1])
    if not own:
        return ()
    tables = (("tcp", True), ("tcp6", True), ("udp", False), ("udp6", False))
    return tuple(
        connection
        for name, is_tcp in tables
        for inode, connection in _iter_sockets(folder / "net" / name, is_tcp=is_tcp)
        if inode in own
    )


def _iter_sockets(path: Path, *, is_tcp: bool) -> Iterator[tuple[str, Connection]]:
    try:
        lines = path.read_text("ascii", "replace").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        with suppress(ValueError, IndexError, OSError, struct.error):
            fields = line.split()
            address, _, port = fields[2].partition(":")
            if (state := TCP_STATES.get(fields[3])) is not None and int(port, 16):
                yield fields[9], Connection(parse_address(address), int(port, 16), state, is_tcp)


def parse_address(text: str) -> str:
    """An address of /proc/net: groups of four bytes as the machine orders them. Raises ValueError, OSError."""
    packed = b"".join(struct.pack("=I", int(text[at : at + 8], 16)) for at in range(0, len(text), 8))
    if len(packed) == 16 and packed.startswith(bytes(10) + b"\xff\xff"):  # an IPv4 address in an IPv6 socket
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def _read_shared_memory_free(pid: int) -> int | None:
    """Free bytes in /dev/shm as this process sees it."""
    for path in (PROC / str(pid) / "root/dev/shm", Path("/dev/shm")):  # noqa: S108
        with suppress(OSError):
            found = os.statvfs(path)
            return found.f_bavail * found.f_frsize if found.f_blocks else None
    return None
