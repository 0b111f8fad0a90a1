"""Which seat this machine has: by options, or by what Slurm, SkyPilot and dstack tell each of theirs. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from lorabake.errors import MachineError
from lorabake_schemas.messages import msg
from lorabake_schemas.seat import Seat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import LaunchPlan

MAX_MACHINES = 1024
MIN_PORT, MAX_PORT = 1024, 65535


class SeatOptions(NamedTuple):
    """--machines, --machine-rank and --main-address; None for one that was not given."""

    machines: int | None = None
    rank: int | None = None
    address: str | None = None


NO_SEAT_OPTIONS = SeatOptions()


class _Scheduler(NamedTuple):
    """The variables of a scheduler: the rank, the number of machines, and where a list of all machines may be."""

    rank: str
    machines: str
    addresses: tuple[str, ...]


# srun sets the step's variables, sbatch alone does not: its script runs on the first machine only (srun's manual,
# OUTPUT ENVIRONMENT VARIABLES). SkyPilot and dstack list an address on each line (docs.skypilot.co,
# running-jobs/environment-variables; dstack.ai, reference/environment-variables).
SCHEDULERS = (
    _Scheduler("SLURM_NODEID", "SLURM_STEP_NUM_NODES", ("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST")),
    _Scheduler("SKYPILOT_NODE_RANK", "SKYPILOT_NUM_NODES", ("SKYPILOT_NODE_IPS",)),
    _Scheduler("DSTACK_NODE_RANK", "DSTACK_NODES_NUM", ("DSTACK_MASTER_NODE_IP", "DSTACK_NODES_IPS")),
)
TASK_OF_MACHINE, MACHINES_OF_JOB = "SLURM_LOCALID", "SLURM_JOB_NUM_NODES"


def find_seat(options: SeatOptions, env: Mapping[str, str], launch: LaunchPlan, *, detach: bool = False) -> Seat | None:
    """The seat for a training of so many processes; None if this machine trains alone.

    Options count more than the environment; --machines 1 alone means that there is no other machine. A scheduler's
    machines are several workers, not one training, if there is only one process. Raises MachineError if the processes
    cannot be divided among the machines, if something is missing, or if another machine than the first is to
    ``detach``: no run there could be attached to.
    """
    seat = read_seat(options, env)
    if seat is None or (launch.num_processes == 1 and options == NO_SEAT_OPTIONS):
        return None
    if launch.num_processes % seat.machines:
        raise MachineError(
            msg(
                "launch.num_processes = {processes} cannot be divided among {machines} machines",
                processes=launch.num_processes,
                machines=seat.machines,
            ),
            msg("count the processes of all machines together, or add --machines 1 to train on this one alone"),
        )
    if options == NO_SEAT_OPTIONS and env.get(TASK_OF_MACHINE, "0") != "0":
        raise MachineError(
            msg("srun started several tasks on this machine, and a training needs one on each"),
            msg("start it with `srun --ntasks-per-node=1`, or add --machines 1 for trainings of their own"),
        )
    if detach and seat.rank:
        raise MachineError(
            msg("--detach works on the first machine only, which owns the run"),
            msg("start this machine in the background, such as in tmux, or with nohup and &"),
        )
    return seat


def read_seat(options: SeatOptions, env: Mapping[str, str]) -> Seat | None:
    """What options and a scheduler give, whatever is trained. Raises MachineError for options that make no sense."""
    if options == SeatOptions(machines=1):
        return None
    given = read_scheduler(env)
    return given if options == NO_SEAT_OPTIONS else _read_options(options, given)


def _read_options(options: SeatOptions, given: Seat | None) -> Seat:
    """The seat by options; what they leave out is as the scheduler has ``given`` it."""
    machines, rank, address = options
    host, port = split_port(address) if address else (None, None)
    if given is not None:
        machines = given.machines if machines is None else machines
        rank = given.rank if rank is None else rank
        host = host or given.address
    if machines is None or rank is None or not host:
        raise MachineError(
            msg("--machines, --machine-rank and --main-address belong together"),
            msg("give all three on each machine, with the address of the first one"),
        )
    if not (1 < machines <= MAX_MACHINES and 0 <= rank < machines):
        raise MachineError(
            msg("--machine-rank {rank} is not one of {machines} machines", rank=rank, machines=machines),
            msg("the ranks of {machines} machines are 0 to {last}", machines=machines, last=max(machines - 1, 0)),
        )
    return Seat(rank=rank, machines=machines, address=host, port=port)


def split_port(address: str) -> tuple[str, int | None]:
    """HOST or HOST:PORT; an IPv6 address with a port is in brackets. Raises MachineError for an invalid port."""
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d+)", address)
    if match is None:
        return address.strip("[]"), None
    host, digits = match.groups()
    if len(digits) > len(str(MAX_PORT)) or not MIN_PORT <= int(digits) <= MAX_PORT:
        raise MachineError(msg("port {port} is not between {low} and {high}", port=digits, low=MIN_PORT, high=MAX_PORT))
    return host.strip("[]"), int(digits)


def read_scheduler(env: Mapping[str, str]) -> Seat | None:
    """The seat that a scheduler has given; None if there is no other machine or the variables make no sense."""
    for names in SCHEDULERS:
        rank, machines = _read_number(env, names.rank), _read_number(env, names.machines)
        listed = next((env[name] for name in names.addresses if env.get(name)), "")
        address = first_host(listed)
        if machines is not None and rank is not None and address and 1 < machines <= MAX_MACHINES and rank < machines:
            return Seat(rank=rank, machines=machines, address=address)
    return None


def describe_unused_machines(options: SeatOptions, env: Mapping[str, str], launch: LaunchPlan) -> Message | None:
    """That the job has more machines than this one, which trains all processes alone, though nobody asked for that."""
    machines = _read_number(env, MACHINES_OF_JOB) or 1
    is_step = SCHEDULERS[0].machines in env  # srun was asked for these machines
    if launch.num_processes == 1 or machines == 1 or options != NO_SEAT_OPTIONS or is_step:
        return None
    return msg(
        "warning: this job has {n} machines, and all processes start on this one; start lorabake with `srun` to use "
        "all machines, or add --machines 1",
        n=machines,
    )


def _read_number(env: Mapping[str, str], name: str) -> int | None:
    text = env.get(name, "").strip()
    return int(text) if re.fullmatch(r"\d{1,6}", text) else None


def first_host(listed: str) -> str:
    """The first of several addresses, also of Slurm's short form: node[003-007,9],other is node003."""
    match = re.match(r"[\s,]*((?:[^\s,\[\]]|\[[^\]]*\])+)", listed)
    return re.sub(r"\[([^\],-]*)[^\]]*\]", r"\1", match[1]) if match else ""
