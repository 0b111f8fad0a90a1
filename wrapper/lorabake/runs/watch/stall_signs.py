"""What the processes of a trainer that does not move show: what they wait for, from two looks at them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lorabake.util.process_status import Connection, ProcessStatus, TreeStatus, read_tree_status
from lorabake_schemas.events import Phase, StallSign

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
DEFAULT_PORTS = {"http": 80, "https": 443, "socks4": 1080, "socks5": 1080, "socks5h": 1080}
NAME_SERVER_PORT = 53
FULL_BYTES = 1 << 20  # bytes; with less than that left, /dev/shm is full
BUSY_CORES = 0.5
STOPPED_STATES = frozenset({"T", "t"})
NAMES_SHOWN = 4


@dataclass(slots=True)
class StallExaminer:
    """Looks at the processes; ``pids`` lists them, ``env`` is the trainer's environment."""

    pids: Callable[[], Iterable[int]]
    env: Mapping[str, str]
    clock: Callable[[], float] = time.monotonic
    _before: TreeStatus | None = None
    _looked: float = 0.0
    _proxies: frozenset[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        self._proxies = frozenset(iter_proxies(self.env))

    def __call__(self, phase: Phase, silent_s: float) -> tuple[StallSign, ...]:
        """The signs since the last look, if that was within the ``silent_s`` seconds without movement."""
        now, status = self.clock(), read_tree_status(self.pids())
        before, seconds = self._before, now - self._looked
        self._before, self._looked = status, now
        return tuple(find_signs(before if seconds < silent_s else None, status, seconds, self._proxies, phase))


def iter_proxies(env: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    """Host and port of every proxy that an environment names."""
    for name in PROXY_VARIABLES:
        for value in filter(None, (env.get(name), env.get(name.upper()))):
            try:
                url = urlsplit(value if "//" in value else f"http://{value}")
                if url.hostname:
                    yield url.hostname, url.port or DEFAULT_PORTS.get(url.scheme, 80)
            except ValueError:
                continue


def find_signs(
    before: TreeStatus | None, now: TreeStatus, seconds: float, proxies: frozenset[tuple[str, int]], phase: Phase
) -> Iterator[StallSign]:
    """What lasted from one look to the next; nothing is known from a single one but a full /dev/shm.

    An established connection says something only while files may be downloaded: several processes have them to each
    other all the time, and so have loggers.
    """
    if now.shared_memory_free is not None and now.shared_memory_free < FULL_BYTES:
        yield StallSign("shared-memory")
    if before is None or not now.processes:
        return
    pairs = [(before.processes[pid], each) for pid, each in now.processes.items() if pid in before.processes]
    stopped = [str(each.pid) for then, each in pairs if {then.state, each.state} <= STOPPED_STATES]
    if stopped:
        yield StallSign("stopped", " ".join(stopped))
    if any("D" in then.thread_states and "D" in each.thread_states for then, each in pairs):
        yield StallSign("disk")
    yield from _find_network_signs(pairs, proxies, phase)
    dead = [name for pid, name in now.zombies.items() if pid in before.zombies and name.startswith(("py", "pt_"))]
    if dead:
        yield StallSign("dead", ", ".join(dead[:NAMES_SHOWN]))
    cores = max(now.cpu_s - before.cpu_s, 0.0) / seconds if seconds > 0 else 0.0
    yield StallSign("busy", f"{cores:.1f}") if cores >= BUSY_CORES else StallSign("idle")


def _find_network_signs(
    pairs: Iterable[tuple[ProcessStatus, ProcessStatus]], proxies: frozenset[tuple[str, int]], phase: Phase
) -> Iterator[StallSign]:
    shown = set[str]()
    for then, each in pairs:
        was_waiting = any(_is_waiting(one, proxies, phase) for one in then.connections)
        for connection in each.connections:
            if was_waiting and _is_waiting(connection, proxies, phase) and str(connection) not in shown:
                shown.add(str(connection))
                yield StallSign("proxy" if _is_proxy(connection, proxies) else "network", str(connection))


def _is_waiting(connection: Connection, proxies: frozenset[tuple[str, int]], phase: Phase) -> bool:
    if not connection.is_tcp:
        return connection.port == NAME_SERVER_PORT
    if connection.state == "connecting" or _is_proxy(connection, proxies):
        return True
    return phase.name == "loading" and not connection.is_local


def _is_proxy(connection: Connection, proxies: frozenset[tuple[str, int]]) -> bool:
    """A proxy that is known by its name is recognized by its port."""
    return any(
        connection.port == port and (connection.address == host or not _is_address(host)) for host, port in proxies
    )


def _is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
