"""Which machine of several this is: options, Slurm, SkyPilot, dstack."""

from __future__ import annotations

import pytest

from lorabake.errors import MachineError
from lorabake.runs.seat import NO_SEAT_OPTIONS, SeatOptions, describe_unused_machines, find_seat, first_host, split_port
from lorabake_schemas.plan import LaunchPlan
from lorabake_schemas.seat import Seat

FOUR = LaunchPlan(num_processes=4)
SRUN = {
    "SLURM_JOB_NODELIST": "gnode[10,20,25]",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NODELIST": "gnode[20,25]",
    "SLURM_STEP_NUM_NODES": "2",
}
SKYPILOT = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5"}
DSTACK = {
    "DSTACK_NODE_RANK": "0",
    "DSTACK_NODES_NUM": "2",
    "DSTACK_MASTER_NODE_IP": "10.128.0.47",
    "DSTACK_NODES_IPS": "10.128.0.47\n10.128.0.48",
}


@pytest.mark.parametrize(
    ("env", "seat"),
    [
        (SRUN, Seat(rank=1, machines=2, address="gnode20")),
        (SKYPILOT, Seat(rank=1, machines=2, address="10.0.0.4")),
        (DSTACK, Seat(rank=0, machines=2, address="10.128.0.47")),
        ({}, None),
        ({name: value for name, value in SRUN.items() if "STEP" not in name}, None),  # sbatch without srun
        (SRUN | {"SLURM_STEP_NUM_NODES": "1"}, None),
        (SKYPILOT | {"SKYPILOT_NODE_RANK": "two"}, None),
        (SKYPILOT | {"SKYPILOT_NODE_RANK": "2"}, None),
        (SKYPILOT | {"SKYPILOT_NODE_IPS": ""}, None),
    ],
)
def test_what_a_scheduler_tells_each_machine(env: dict[str, str], seat: Seat | None) -> None:
    assert find_seat(NO_SEAT_OPTIONS, env, FOUR) == seat


def test_workers_of_a_queue_train_alone() -> None:
    assert find_seat(NO_SEAT_OPTIONS, SRUN, LaunchPlan()) is None
    assert find_seat(SeatOptions(machines=1), SRUN, FOUR) is None


def test_options_count_more_than_the_environment() -> None:
    given = SeatOptions(4, 3, "a.example:4000")
    assert find_seat(given, SRUN, FOUR) == Seat(rank=3, machines=4, address="a.example", port=4000)


@pytest.mark.parametrize(
    ("options", "seat"),
    [
        (SeatOptions(address="10.1.0.4:4000"), Seat(rank=1, machines=2, address="10.1.0.4", port=4000)),
        (SeatOptions(rank=0), Seat(rank=0, machines=2, address="gnode20")),
        (SeatOptions(machines=4), Seat(rank=1, machines=4, address="gnode20")),
    ],
)
def test_options_leave_the_rest_to_the_scheduler(options: SeatOptions, seat: Seat) -> None:
    assert find_seat(options, SRUN, FOUR) == seat


@pytest.mark.parametrize(
    ("options", "env", "launch"),
    [
        (SeatOptions(2, 1), {}, FOUR),
        (SeatOptions(rank=0), {}, FOUR),
        (SeatOptions(2, 2, "a"), {}, FOUR),
        (SeatOptions(2, -1, "a"), {}, FOUR),
        (SeatOptions(2, 0, "a:80"), {}, FOUR),
        (SeatOptions(3, 0, "a"), {}, FOUR),
        (SeatOptions(2, 0, "a"), {}, LaunchPlan()),
        (SeatOptions(machines=1, rank=1), SRUN, FOUR),
        (NO_SEAT_OPTIONS, SRUN, LaunchPlan(num_processes=3)),
        (NO_SEAT_OPTIONS, SRUN | {"SLURM_LOCALID": "1"}, FOUR),
    ],
)
def test_what_cannot_be(options: SeatOptions, env: dict[str, str], launch: LaunchPlan) -> None:
    with pytest.raises(MachineError):
        find_seat(options, env, launch)


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("node7", "node7"),
        ("node-a,node-b", "node-a"),
        ("n[001-004]", "n001"),
        ("n[7,9-12]-gpu,m3", "n7-gpu"),
        ("rack[0-1]-n[00-03]", "rack0-n00"),
        ("10.0.0.4\n10.0.0.5\n", "10.0.0.4"),
        ("fe80::1 fe80::2", "fe80::1"),
        ("", ""),
    ],
)
def test_the_first_of_a_list(listed: str, first: str) -> None:
    assert first_host(listed) == first


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("a", ("a", None)),
        ("a:29500", ("a", 29500)),
        ("fe80::1", ("fe80::1", None)),
        ("[fe80::1]:2000", ("fe80::1", 2000)),
        (":29500", ("", 29500)),
    ],
)
def test_an_address_with_a_port(address: str, parts: tuple[str, int | None]) -> None:
    assert split_port(address) == parts


@pytest.mark.parametrize("port", ["80", "65536", "99999999", "9" * 5000])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(MachineError):
        split_port(f"10.0.0.4:{port}")


def test_a_script_without_srun_learns_that_other_machines_are_idle() -> None:
    job = {name: value for name, value in SRUN.items() if "STEP" not in name}
    assert describe_unused_machines(NO_SEAT_OPTIONS, job, FOUR) is not None
    assert describe_unused_machines(NO_SEAT_OPTIONS, job, LaunchPlan()) is None
    assert describe_unused_machines(SeatOptions(machines=1), job, FOUR) is None
    assert describe_unused_machines(NO_SEAT_OPTIONS, SRUN, FOUR) is None
    assert describe_unused_machines(NO_SEAT_OPTIONS, SRUN | {"SLURM_STEP_NUM_NODES": "1"}, FOUR) is None
    assert describe_unused_machines(NO_SEAT_OPTIONS, {}, FOUR) is None
