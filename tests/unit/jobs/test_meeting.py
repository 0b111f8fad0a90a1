"""Machines that meet over loopback: who is let in, what they hear, and what happens when one is lost."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from lorabake.errors import BusyError, MachineError
from lorabake.jobs import meeting
from lorabake.jobs.meeting import Connection, FailedMachine, Gathering, Meeting, gather_machines, meet_first_machine
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.seat import Seat

PARTS = {"train.toml": "a", "base 1": "b"}
LIMIT_S = 20.0


OPEN: list[Connection | Gathering] = []


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    for name in ("RETRY_S", "BEAT_S"):
        monkeypatch.setattr(meeting, name, 0.05)
    monkeypatch.setattr(meeting, "ARRIVAL_LIMIT_S", LIMIT_S)
    yield
    while OPEN:
        OPEN.pop().close()


def free_port() -> int:
    with socket.create_server(("", 0)) as probe:
        return int(probe.getsockname()[1])


def connect(port: int) -> socket.socket:
    """As soon as somebody listens."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def ignore(_said: Message) -> None: ...


def at_once_ready() -> bool:
    return True


def first(
    port: int,
    machines: int = 2,
    tell: Callable[[Message], None] = ignore,
    is_ready: Callable[[], bool] = at_once_ready,
) -> Gathering:
    seat = Seat(rank=0, machines=machines, address="127.0.0.1")
    led = gather_machines(Meeting(seat, port, "d", PARTS), is_ready, tell)
    OPEN.append(led)
    return led


def other(
    port: int,
    rank: int = 1,
    machines: int = 2,
    digest: str = "d",
    parts: dict[str, str] | None = None,
    address: str = "127.0.0.1",
    is_ready: Callable[[], bool] = at_once_ready,
) -> tuple[Connection, str, str]:
    seat = Seat(rank=rank, machines=machines, address=address)
    found = meet_first_machine(Meeting(seat, port, digest, parts or PARTS), is_ready, ignore)
    OPEN.append(found[0])
    return found


def at_once(*calls: Callable[[], Any]) -> list[Future[Any]]:
    with ThreadPoolExecutor(len(calls)) as pool:
        return [pool.submit(call) for call in calls]


def begin(
    port: int,
    machines: int = 2,
    tell: Callable[[Message], None] = ignore,
    is_ready: Callable[[], bool] = at_once_ready,
) -> Gathering:
    gathering = first(port, machines, tell, is_ready)
    gathering.begin("/runs/a-001", "now")
    return gathering


def test_all_hear_where_the_run_is_and_how_it_ended() -> None:
    port = free_port()
    led, *joined = at_once(
        lambda: begin(port, 3),
        *(lambda rank=rank: other(port, rank, 3) for rank in (2, 1)),
    )
    gathering: Gathering = led.result(LIMIT_S)
    assert [each.result()[1:] for each in joined] == [("/runs/a-001", "now")] * 2
    gathering.end(7)
    for each in joined:
        connection: Connection = each.result()[0]
        assert connection.receive(LIMIT_S) == {"exit": 7}
        assert connection.receive(LIMIT_S) is None
        assert connection.is_lost


@pytest.mark.parametrize(
    ("machines", "parts", "named"), [(2, PARTS | {"base 1": "c"}, "base 1"), (3, PARTS, "--machines")]
)
def test_a_machine_that_would_train_something_else_is_refused_and_may_come_again(
    machines: int, parts: dict[str, str], named: str
) -> None:
    port, said = free_port(), list[Message]()

    def come_twice() -> tuple[Connection, str, str]:
        for _ in range(2):
            with pytest.raises(MachineError, match=named):
                other(port, 1, machines, "e", parts)
        return other(port)

    led, joined = at_once(lambda: begin(port, tell=said.append), come_twice)
    assert joined.result(LIMIT_S)[1] == "/runs/a-001"
    assert sorted(led.result().others) == [1]
    assert len([each for each in said if named in each]) == 1  # at the first machine, too


@pytest.mark.parametrize(
    "greeting",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"[1]\n",
        b'{"rank": 5, "machines": 2, "digest": "d"}\n',
        b'{"rank": true, "machines": 2}\n',
        b'{"rank": 1, "machines": 1e9, "digest": []}\n',
    ],
)
def test_strangers_are_not_let_in(greeting: bytes) -> None:
    port = free_port()

    def knock() -> bytes:
        with connect(port) as stranger:
            stranger.sendall(greeting)
            try:
                return stranger.recv(100)
            except ConnectionResetError:
                return b""

    def join_later() -> tuple[Connection, str, str]:
        assert knock() == b""
        return other(port)

    led, joined = at_once(lambda: begin(port), join_later)
    assert joined.result(LIMIT_S)[1] == "/runs/a-001"
    led.result().end(0)


@pytest.mark.parametrize(("silent", "pending", "patience_s"), [(3, 64, LIMIT_S * 2), (4, 2, 0.3)])
def test_strangers_who_say_nothing_keep_nobody_out(
    monkeypatch: pytest.MonkeyPatch, silent: int, pending: int, patience_s: float
) -> None:
    monkeypatch.setattr(meeting, "MAX_PENDING", pending)
    monkeypatch.setattr(meeting, "GREETING_LIMIT_S", patience_s)
    port = free_port()

    def come_among_strangers() -> tuple[Connection, str, str]:
        strangers = [connect(port) for _ in range(silent)]
        try:
            return other(port)
        finally:
            for each in strangers:
                each.close()

    led, joined = at_once(lambda: begin(port), come_among_strangers)
    assert joined.result(LIMIT_S)[1] == "/runs/a-001"
    led.result().end(0)


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_machines_meet_at_an_ipv6_address() -> None:
    port = free_port()
    led, *joined = at_once(
        lambda: begin(port, 3),
        lambda: other(port, 1, 3, address="::1"),
        lambda: other(port, 2, 3, address="127.0.0.1"),
    )
    assert [each.result(LIMIT_S)[1] for each in joined] == ["/runs/a-001"] * 2
    led.result().end(0)


def test_one_that_is_started_again_takes_its_place() -> None:
    port, said = free_port(), list[Message]()

    def join_twice() -> str:
        with connect(port) as early:
            early.sendall(json.dumps({"rank": 1, "machines": 3, "digest": "d"}).encode() + b'\n{"ready": true}\n')
            again = threading.Thread(target=lambda: other(port, 1, 3))
            again.start()
            deadline = time.monotonic() + LIMIT_S
            while len(said) < 3 and time.monotonic() < deadline:  # that it waits, and twice that the machine is ready
                time.sleep(0.02)
            found = other(port, 2, 3)[1]
            again.join(LIMIT_S)
            assert b'{"replaced": true}' in early.recv(1 << 16)  # so it can say that its rank was given twice
            return found

    led, joined = at_once(lambda: begin(port, 3, said.append), join_twice)
    assert joined.result(LIMIT_S) == "/runs/a-001"
    assert sorted(led.result().others) == [1, 2]


@pytest.mark.parametrize("bad_end", [True, False])
def test_the_run_is_stopped_when_a_machine_fails_or_is_lost(*, bad_end: bool) -> None:
    port, stopped = free_port(), threading.Event()
    led, joined = at_once(lambda: begin(port), lambda: other(port))
    gathering: Gathering = led.result(LIMIT_S)
    connection: Connection = joined.result()[0]
    with gathering.watched(stopped.set):
        assert connection.receive(LIMIT_S) == {}  # a sign of life
        assert not stopped.is_set()
        if bad_end:
            connection.send({"ended": 3})
        else:
            connection.close()
        assert stopped.wait(LIMIT_S)
    assert gathering.failed == FailedMachine(1, 3 if bad_end else None)


@pytest.mark.parametrize("line", [{"ended": 0}, {"ended": []}, {"ended": True}, {"ended": "3"}, {"ended": None}, {}])
def test_other_ends_and_silence_stop_nothing(line: dict[str, object]) -> None:
    port, stopped = free_port(), threading.Event()
    led, joined = at_once(lambda: begin(port), lambda: other(port))
    connection: Connection = joined.result()[0]
    with led.result(LIMIT_S).watched(stopped.set):
        connection.send(line)
        assert not stopped.wait(0.5)
        connection.send({"ended": 3})  # it is heard after that, too
        assert stopped.wait(LIMIT_S)


def test_a_stop_that_cannot_be_asked_for_yet_is_tried_again() -> None:
    port, tries, stopped = free_port(), list[int](), threading.Event()
    led, joined = at_once(lambda: begin(port), lambda: other(port))
    gathering: Gathering = led.result(LIMIT_S)

    def stop() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise FileNotFoundError
        stopped.set()

    with gathering.watched(stop):
        joined.result()[0].send({"ended": 3})
        assert stopped.wait(LIMIT_S)
        while joined.result()[0].receive(0.01) is not None:  # signs of life
            pass
        assert joined.result()[0].receive(LIMIT_S) == {}
    assert gathering.failed == FailedMachine(1, 3)
    assert len(tries) == 3


def test_who_does_not_come_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "ARRIVAL_LIMIT_S", 0.2)
    port = free_port()
    with pytest.raises(MachineError, match="1, 2"):
        first(port, 3)
    with pytest.raises(MachineError, match=str(port)):
        other(port)


def test_a_taken_port_is_busy() -> None:
    with socket.create_server(("", 0)) as taken, pytest.raises(BusyError):
        first(int(taken.getsockname()[1]))


def test_a_first_machine_that_ends_before_the_run_leaves_nobody_waiting() -> None:
    port = free_port()

    def leave() -> None:
        first(port).others[1].close()

    _, joined = at_once(leave, lambda: other(port))
    with pytest.raises(MachineError):
        joined.result(LIMIT_S)


def after(count: int) -> Callable[[], bool]:
    """Ready when it is asked for the third time, for example."""
    asked = list[int]()

    def is_ready() -> bool:
        asked.append(1)
        return len(asked) >= count

    return is_ready


@pytest.mark.parametrize(("here", "there"), [(20, 1), (1, 20), (12, 20)])
def test_waiting_for_a_gpu_is_not_limited(monkeypatch: pytest.MonkeyPatch, here: int, there: int) -> None:
    """Neither on the first machine nor on another one: the time to come is for those that are not there."""
    monkeypatch.setattr(meeting, "ARRIVAL_LIMIT_S", 0.2)
    port, said = free_port(), list[Message]()
    monkeypatch.setattr(meeting, "SILENCE_LIMIT_S", 0.5)
    led, joined = at_once(
        lambda: begin(port, tell=said.append, is_ready=after(here)), lambda: other(port, is_ready=after(there))
    )
    assert joined.result(LIMIT_S)[1] == "/runs/a-001"
    assert led.result().others[1].is_ready is True
    assert len([each for each in said if "GPU" in each]) == (there > 1)


def test_a_gpu_that_is_not_waited_for_ends_the_meeting() -> None:
    def refuse() -> bool:
        raise BusyError(msg("busy"))

    with pytest.raises(BusyError):
        first(free_port(), is_ready=refuse)


def test_one_that_leaves_before_the_run_begins_may_come_again() -> None:
    port, said = free_port(), list[Message]()

    def leave_and_come() -> tuple[Connection, str, str]:
        with connect(port) as early:
            early.sendall(json.dumps({"rank": 1, "machines": 3, "digest": "d"}).encode() + b"\n" + b'{"ready": true}\n')
            wait_for(said, 2)  # that it waits, and that the machine is ready
        wait_for(said, 3)
        other_one = threading.Thread(target=lambda: other(port, 2, 3))
        other_one.start()
        found = other(port, 1, 3)
        other_one.join(LIMIT_S)
        return found

    led, joined = at_once(lambda: begin(port, 3, said.append), leave_and_come)
    assert joined.result(LIMIT_S)[1] == "/runs/a-001"
    assert sorted(led.result().others) == [1, 2]


def wait_for(said: list[Message], count: int) -> None:
    deadline = time.monotonic() + LIMIT_S
    while len(said) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_machine_that_says_nothing_any_more_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that was switched off: its connection stays open."""
    port, stopped = free_port(), threading.Event()
    led, joined = at_once(lambda: begin(port), lambda: other(port))
    gathering: Gathering = led.result(LIMIT_S)
    monkeypatch.setattr(meeting, "SILENCE_LIMIT_S", 0.3)
    with gathering.watched(stopped.set):
        assert stopped.wait(LIMIT_S)
    assert gathering.failed == FailedMachine(1)
    joined.result()[0].close()


def test_a_pause_of_this_process_is_not_the_silence_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a scheduler suspends a job and resumes it."""
    here, there = socket.socketpair()
    connection, now = Connection(here), time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10_000)
    assert connection.receive(0) is None
    assert not connection.is_lost
    here.close()
    there.close()
