"""What the processes of one training need of each other."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import cast

import pytest

from lorabake.errors import InterruptedRunError, ResourceError
from lorabake.jobs import machines, meeting
from lorabake.jobs.machines import OtherMachines, TrainingSite, ensure_port_free, start_with_others
from lorabake.jobs.meeting import Connection, FailedMachine, Gathering, Meeting
from lorabake.jobs.supervisor import STOPPED_ON_REQUEST
from lorabake.runs.folder import RunPaths
from lorabake.runs.gpu_locks import BusyGpuError, GpuReservation, GpuUse, reserve_gpus
from lorabake.runs.stop_request import StopSchedule, request_stop
from lorabake.util.machine import GpuDevice
from lorabake_schemas.events import Stopping
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import LaunchPlan
from lorabake_schemas.record import Record
from lorabake_schemas.seat import Seat

LIMIT_S = 20.0


def ignore(_said: Message) -> None: ...


@pytest.mark.parametrize("use", ["refuse", "wait"])
def test_the_gpu_of_the_first_machine_is_locked_while_it_waits_for_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: GpuUse
) -> None:
    """With --wait-for-gpu the others are let in meanwhile; else nothing is waited for."""
    gpus, seat = GpuReservation(tmp_path, (GpuDevice("GPU-1"),)), Seat(rank=0, machines=2, address="127.0.0.1")
    asked, trained = list[bool](), cast("Record", object())

    def gather(_meeting: Meeting, is_ready: Callable[[], bool], _tell: object) -> Gathering:
        with reserve_gpus(gpus, tmp_path / "other"):
            asked.append(is_ready())
        asked.append(is_ready())
        assert gpus.find_user() is not None
        return Gathering()

    def train(_others: OtherMachines) -> Record:
        assert gpus.find_user() is None  # the run locks it
        return trained

    monkeypatch.setattr(machines, "gather_machines", gather)
    site, meeting = TrainingSite(tmp_path / "run", gpus, use), Meeting(seat, 1, "d", {})
    if use == "refuse":
        with pytest.raises(BusyGpuError):
            start_with_others(site, meeting, train, ignore)
    else:
        assert start_with_others(site, meeting, train, ignore) is trained
        assert asked == [False, True]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Generator[tuple[Gathering, Connection]]:
    """The first machine's gathering, and the connection of the other one, whose processes have failed."""
    monkeypatch.setattr(meeting, "BEAT_S", 0.05)
    here, there = socket.socketpair()
    gathering, other = Gathering({1: Connection(here)}), Connection(there)
    other.send({"ended": 3})
    yield gathering, other
    gathering.close()
    other.close()


@pytest.mark.parametrize(("reason", "asked"), [("SIGINT", False), (STOPPED_ON_REQUEST, True)])
def test_a_run_that_the_user_stops_here_is_interrupted_though_another_machine_fails(
    tmp_path: Path, failing: tuple[Gathering, Connection], reason: str, *, asked: bool
) -> None:
    gathering, other = failing
    others, paths = OtherMachines(tmp_path, gathering), RunPaths(tmp_path)
    if asked:
        request_stop(paths, "soon")

    def train() -> Record:
        others.watch(Stopping(reason))
        deadline = time.monotonic() + LIMIT_S
        while gathering.failed is None and time.monotonic() < deadline:
            time.sleep(0.02)
        raise InterruptedRunError(msg("interrupted"))

    with pytest.raises(InterruptedRunError, match="interrupted"):
        others.accompany(train, lambda _: 0)
    assert gathering.failed == FailedMachine(1, 3)
    assert StopSchedule(paths).poll() == ("soon",) * (2 if asked else 1)
    while (line := other.receive(LIMIT_S)) == {}:  # signs of life
        pass
    assert line == {"exit": 130}


def test_a_taken_port_names_the_key_and_one_that_is_free() -> None:
    with socket.create_server(("", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ResourceError) as failure:
            ensure_port_free(LaunchPlan(num_processes=2, main_process_port=port))
        assert str(port) in str(failure.value)
        ensure_port_free(LaunchPlan(num_processes=1, main_process_port=port))
        advice = re.search(r"launch\.main_process_port = (\d+)", str(failure.value.hint))
        assert advice
        ensure_port_free(LaunchPlan(num_processes=2, main_process_port=int(advice[1])))
    ensure_port_free(LaunchPlan(num_processes=2, main_process_port=port))


@pytest.mark.parametrize("free", [True, False])
def test_machines_meet_below_the_last_port(monkeypatch: pytest.MonkeyPatch, *, free: bool) -> None:
    asked: list[int] = []

    def is_port_free(port: int) -> bool:
        asked.append(port)
        return free or port < 65_534

    monkeypatch.setattr(machines, "is_port_free", is_port_free)
    seat, launch = Seat(rank=0, machines=2, address="a"), LaunchPlan(num_processes=4, main_process_port=65_535)
    if free:
        ensure_port_free(launch, seat)
        assert asked == [65_535, 65_534] == [65_535, Meeting.next_to_processes(launch, seat, "d", {}).port]
    else:
        with pytest.raises(ResourceError) as failure:
            ensure_port_free(launch, seat)
        assert "65435" in str(failure.value.hint)
