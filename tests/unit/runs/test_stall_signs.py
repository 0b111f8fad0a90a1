"""What processes show while nothing moves: made-up ones, and real ones of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lorabake.runs.watch.stall_signs import StallExaminer, find_signs, iter_proxies
from lorabake.util.process_status import Connection, ProcessStatus, TreeStatus, parse_address, read_tree_status
from lorabake_schemas.events import Phase

TRAINING, LOADING = Phase("training"), Phase("loading")
Proxies = frozenset[tuple[str, int]]
NO_PROXIES: Proxies = frozenset()
PROXY = Connection("10.0.0.1", 3128, "established")


def tree(
    state: str = "S", cpu_s: float = 0.0, *connections: Connection, threads: str = "", free: int | None = 1 << 30
) -> TreeStatus:
    one = ProcessStatus(7, "python3", state, 1, cpu_s, frozenset({state, *threads}), connections)
    return TreeStatus({7: one}, {}, free)


def signs(
    before: TreeStatus | None, now: TreeStatus, proxies: Proxies = NO_PROXIES, phase: Phase = TRAINING
) -> dict[str, str]:
    return {sign.kind: sign.detail for sign in find_signs(before, now, 10.0, proxies, phase)}


def test_a_single_look_shows_only_a_full_shared_memory() -> None:
    assert signs(None, tree("T")) == {}
    assert signs(None, tree(free=4096)) == {"shared-memory": ""}
    assert signs(None, tree(free=None)) == {}


def test_states_have_to_last() -> None:
    assert signs(tree("T"), tree("T")) == {"stopped": "7", "idle": ""}
    assert signs(tree("S"), tree("T")) == {"idle": ""}
    assert signs(tree(threads="D"), tree(threads="D")) == {"disk": "", "idle": ""}
    assert signs(tree(threads="D"), tree()) == {"idle": ""}


def test_computing_is_measured_between_two_looks() -> None:
    assert signs(tree(cpu_s=100.0), tree("R", 138.0)) == {"busy": "3.8"}
    assert signs(tree(cpu_s=100.0), tree(cpu_s=101.0)) == {"idle": ""}


@pytest.mark.parametrize(
    ("connection", "phase", "found"),
    [
        (Connection("93.184.216.34", 443, "connecting"), TRAINING, {"network": "93.184.216.34:443"}),
        (Connection("93.184.216.34", 443, "established"), TRAINING, {}),
        (Connection("93.184.216.34", 443, "established"), LOADING, {"network": "93.184.216.34:443"}),
        (Connection("127.0.0.1", 40000, "established"), LOADING, {}),
        (Connection("127.0.0.1", 40000, "connecting"), TRAINING, {"network": "127.0.0.1:40000"}),
        (Connection("2001:db8::1", 443, "connecting"), TRAINING, {"network": "[2001:db8::1]:443"}),
        (Connection("10.0.0.2", 53, "established", is_tcp=False), TRAINING, {"network": "10.0.0.2:53"}),
        (Connection("10.0.0.2", 123, "established", is_tcp=False), TRAINING, {}),
        (PROXY, TRAINING, {"proxy": "10.0.0.1:3128"}),
        (PROXY._replace(state="connecting"), LOADING, {"proxy": "10.0.0.1:3128"}),
    ],
)
def test_connections(connection: Connection, phase: Phase, found: dict[str, str]) -> None:
    proxies = frozenset({("10.0.0.1", 3128)})
    assert signs(tree("S", 0.0, connection), tree("S", 0.0, connection), proxies, phase) == {**found, "idle": ""}


def test_a_new_attempt_after_another_is_still_waiting() -> None:
    first = Connection("93.184.216.34", 443, "connecting")
    assert "network" in signs(tree("S", 0.0, first), tree("S", 0.0, first._replace(address="93.184.216.35")))
    assert "network" not in signs(tree(), tree("S", 0.0, first))


def test_a_worker_that_ended_and_was_not_noticed() -> None:
    before, now = tree(), tree()
    dead = TreeStatus(now.processes, {8: "pt_data_worker", 9: "git"}, now.shared_memory_free)
    assert signs(dead, dead)["dead"] == "pt_data_worker"
    assert "dead" not in signs(before, dead)


def test_proxies_of_an_environment() -> None:
    env = {
        "HTTPS_PROXY": "http://user:secret@proxy.example:3128",
        "http_proxy": "10.0.0.1:8080",
        "all_proxy": "socks5://[::1]",
        "HTTP_PROXY": "http://x:notaport",
        "NO_PROXY": "localhost",
    }
    assert set(iter_proxies(env)) == {("proxy.example", 3128), ("10.0.0.1", 8080), ("::1", 1080)}


def test_addresses_of_proc() -> None:
    """As a little-endian machine writes them."""
    assert parse_address(f"{int.from_bytes(bytes([127, 0, 0, 1]), sys.byteorder):08X}") == "127.0.0.1"
    words = (int.from_bytes(bytes(word), sys.byteorder) for word in ([0], [0], [0, 0, 255, 255], [10, 0, 0, 1]))
    assert parse_address("".join(f"{word:08X}" for word in words)) == "10.0.0.1"
    with pytest.raises(ValueError, match="invalid literal"):
        parse_address("no number")


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@needs_proc
def test_a_real_process_that_is_stopped() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as sleeper:
        try:
            os.kill(sleeper.pid, signal.SIGSTOP)
            clock = iter((100.0, 130.0, 1000.0, 1030.0))
            examine = StallExaminer(lambda: {sleeper.pid}, {}, lambda: next(clock))
            while read_tree_status({sleeper.pid}).processes[sleeper.pid].state != "T":
                time.sleep(0.01)
            assert not {sign.kind for sign in examine(TRAINING, 30.0)} & {"stopped"}
            assert ("stopped", str(sleeper.pid)) in {(sign.kind, sign.detail) for sign in examine(TRAINING, 60.0)}
            assert "stopped" not in {sign.kind for sign in examine(TRAINING, 30.0)}  # another standstill, much later
        finally:
            sleeper.kill()


@needs_proc
def test_a_real_connection_to_a_proxy_that_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        port = server.getsockname()[1]
        clock = iter((0.0, 30.0))
        examine = StallExaminer(lambda: {os.getpid()}, {"https_proxy": f"http://127.0.0.1:{port}"}, lambda: next(clock))
        examine(LOADING, 30.0)
        assert ("proxy", f"127.0.0.1:{port}") in {(sign.kind, sign.detail) for sign in examine(LOADING, 60.0)}


def test_processes_that_have_ended_show_nothing() -> None:
    assert read_tree_status({0, 1 << 30}) == TreeStatus()
