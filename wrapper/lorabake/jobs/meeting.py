"""How several machines agree to train together: each has a connection to the first, over which lines of JSON go.

The first waits until all have come, would train the same and have their GPUs, then tells them its run folder, and at
the end the exit code of the run. All give a sign of life every few seconds, so that nobody waits for a machine that was
switched off. Nothing else is read from the others than the lines below, whose length is limited. Whoever else reaches
the port is refused; the meeting goes on.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from lorabake.errors import BusyError, MachineError
from lorabake.runs.command import meeting_port, process_port
from lorabake.runs.seat import MAX_MACHINES
from lorabake.util.machine import listen_everywhere
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from typing import Self

    from lorabake_schemas.messages import Message
    from lorabake_schemas.plan import LaunchPlan
    from lorabake_schemas.seat import Seat

Line = dict[str, object]
ARRIVAL_LIMIT_S = 1800.0  # for the slowest machine to install its trainer and hash its images; not for its GPU
GREETING_LIMIT_S = 10.0
RETRY_S = 1.0
BEAT_S = 5.0
SILENCE_LIMIT_S = 60.0
MAX_LINE_BYTES = 1 << 20  # a greeting names every package and every input
MAX_PENDING = 64  # connections at a time that have not sent a greeting
MAX_NAME = 100  # characters of a name from another machine
USER_STOP_CODE = 130  # of a machine whose user stopped it


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where this machine, which has a ``seat``, meets the others, and what all have to train alike: ``digest``, and its
    ``parts`` by name."""

    seat: Seat
    port: int
    digest: str
    parts: Mapping[str, str]

    @classmethod
    def next_to_processes(cls, launch: LaunchPlan, seat: Seat, digest: str, parts: Mapping[str, str]) -> Self:
        """At the port next to that of the processes."""
        return cls(seat, meeting_port(process_port(launch, seat)), digest, parts)


@dataclass(slots=True)
class Connection:
    """One end of a connection: whole lines in both directions.

    ``is_ready`` is whether the other end has its GPUs; None if it has not reported that. ``silent_s`` is for how long
    ``receive`` has not heard it; while this process was stopped, nothing was listened for.
    """

    socket: socket.socket
    _unread: bytes = b""
    is_closed: bool = False
    is_ready: bool | None = None
    silent_s: float = 0.0
    _listened_at: float = field(default_factory=time.monotonic)

    def send(self, line: Mapping[str, object]) -> None:
        """Does nothing if the other end has gone; ``receive`` notices that."""
        with suppress(OSError):
            self.socket.sendall(json.dumps(line).encode() + b"\n")

    def receive(self, seconds: float) -> Line | None:
        """The next line, if one comes in that time; a sign of life is an empty one. Sets ``is_closed`` at the end."""
        now = time.monotonic()
        self.silent_s += min(now - self._listened_at, BEAT_S)
        self._listened_at = now
        if b"\n" not in self._unread and not self.is_closed and select.select([self.socket], [], [], seconds)[0]:
            try:
                piece = self.socket.recv(1 << 16)
            except OSError:
                piece = b""
            self.silent_s = 0.0
            self._unread += piece
            self.is_closed = not piece or len(self._unread) > MAX_LINE_BYTES
        line, end, rest = self._unread.partition(b"\n")
        if not end:
            return None
        self._unread = rest
        return parse_line(line)

    @property
    def is_lost(self) -> bool:
        """Whether the other end has closed it or was silent for too long."""
        return self.is_closed or self.silent_s > SILENCE_LIMIT_S

    def close(self) -> None:
        self.socket.close()


def parse_line(line: bytes) -> Line:
    """A line of the other end; an empty one if it is not a table."""
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return cast("Line", found) if isinstance(found, dict) else {}


class FailedMachine(NamedTuple):
    """A machine that ended badly: how its processes ended; None if it was lost."""

    rank: int
    code: int | None = None


@dataclass(slots=True)
class Gathering:
    """The first machine's connections to all others, by rank. ``failed`` is the one for which the run was stopped."""

    others: dict[int, Connection] = field(default_factory=dict[int, Connection])
    failed: FailedMachine | None = None

    def give_sign(self) -> None:
        """Show all that this machine is alive."""
        for each in self.others.values():
            each.send({})

    def begin(self, root: str, started: str) -> None:
        """Tell all where the run is: now they start their processes, too."""
        for each in self.others.values():
            each.send({"run": root, "started": started})

    @contextmanager
    def watched(self, stop: Callable[[], None]) -> Generator[Self]:
        """Give signs of life, and call ``stop`` if another machine ends badly or is lost. It is called again if it
        raises OSError: there may be no run folder yet, or no space for a request."""
        over = threading.Event()
        watching = threading.Thread(target=self._watch, args=(over, stop), daemon=True)
        watching.start()
        try:
            yield self
        finally:
            over.set()
            watching.join()

    def _watch(self, over: threading.Event, stop: Callable[[], None]) -> None:
        found: FailedMachine | None = None
        while not over.wait(BEAT_S):
            self.give_sign()
            found = found or self._find_failed()
            if found is not None and self.failed is None:
                with suppress(OSError):
                    stop()
                    self.failed = found

    def _find_failed(self) -> FailedMachine | None:
        """One that ended badly or was lost. Reads what they have sent."""
        failed: FailedMachine | None = None
        for rank, each in self.others.items():
            while (line := each.receive(0)) is not None:
                code = line.get("ended")
                if type(code) is int and code:
                    failed = failed or FailedMachine(rank, code)
        lost = (FailedMachine(rank) for rank, each in self.others.items() if each.is_lost)
        return failed or next(lost, None)

    def end(self, code: int) -> None:
        """Tell all how the run has ended."""
        for each in self.others.values():
            each.send({"exit": code})
        self.close()

    def close(self) -> None:
        for each in self.others.values():
            each.close()


def gather_machines(meeting: Meeting, is_ready: Callable[[], bool], tell: Callable[[Message], None]) -> Gathering:
    """Wait for all other machines, and until all are ready: ``is_ready`` is asked for this one, again and again.

    A machine that would train something else is refused, and may come again. Raises MachineError if one does not come,
    BusyError if another program has the port, and what ``is_ready`` raises.
    """
    port = meeting.port
    try:
        listener = listen_everywhere(port)
    except OSError as error:
        said = msg("port {port}, where the machines of this run meet, is used by another program", port=port)
        hint = msg("write --main-address HOST:PORT on all machines, with another port")
        raise BusyError(said, hint) from error
    tell(msg("waiting for {n} more machines on port {port}", n=meeting.seat.machines - 1, port=port))
    gathering = Gathering()
    with listener:
        try:
            _Rendezvous(gathering, meeting, tell).admit_all(listener, is_ready)
        except BaseException:
            gathering.close()
            raise
    return gathering


@dataclass(slots=True)
class _Rendezvous:
    """Where machines meet. Pending connections have not sent a greeting yet, and have until a time to do so."""

    gathering: Gathering
    meeting: Meeting
    tell: Callable[[Message], None]
    _pending: list[tuple[Connection, float]] = field(default_factory=list[tuple[Connection, float]])
    _refused: dict[int, str] = field(default_factory=dict[int, str])
    _deadline: float = 0.0

    def admit_all(self, listener: socket.socket, is_ready: Callable[[], bool]) -> None:
        """The time for the others to come starts when this machine is ready; those that have come may take theirs."""
        beat_at, ready = 0.0, False
        try:
            while not (ready and self._all_ready()):
                if not ready:
                    ready, self._deadline = is_ready(), time.monotonic() + ARRIVAL_LIMIT_S
                if self._find_missing() and time.monotonic() > self._deadline:
                    raise self._missing_error()
                if time.monotonic() >= beat_at:
                    self.gathering.give_sign()
                    beat_at = time.monotonic() + RETRY_S
                self._look(listener)
        finally:
            for connection, _ in self._pending:
                connection.close()

    def _find_missing(self) -> list[int]:
        return sorted({*range(1, self.meeting.seat.machines)} - self.gathering.others.keys())

    def _all_ready(self) -> bool:
        return not self._find_missing() and all(each.is_ready is True for each in self.gathering.others.values())

    def _look(self, listener: socket.socket) -> None:
        """Accept who comes next, and read what the others have sent. Nobody is waited for alone."""
        listeners = [listener] if len(self._pending) < MAX_PENDING else []
        inside = [*(connection for connection, _ in self._pending), *self.gathering.others.values()]
        ready = select.select([*listeners, *(each.socket for each in inside)], [], [], RETRY_S)[0]
        self._hear_others()
        if listener in ready:
            with suppress(OSError):  # it has left
                connection = Connection(listener.accept()[0])
                connection.socket.settimeout(GREETING_LIMIT_S)
                self._pending.append((connection, time.monotonic() + GREETING_LIMIT_S))
        for each in [*self._pending]:
            connection, until = each
            greeting = connection.receive(0)
            if greeting is not None or connection.is_closed or time.monotonic() > until:
                self._pending.remove(each)
                if (rank := self._find_rank(connection, greeting or {})) is None:
                    connection.close()
                else:
                    self._admit(rank, connection)

    def _hear_others(self) -> None:
        """Which machines are ready now, and which have left again."""
        machines = self.meeting.seat.machines
        for rank, each in [*self.gathering.others.items()]:
            while (line := each.receive(0)) is not None:
                if (ready := line.get("ready")) is each.is_ready or not isinstance(ready, bool):
                    continue
                each.is_ready = ready
                if ready:
                    self.tell(msg("machine {rank} of {machines} is ready", rank=rank, machines=machines))
                else:
                    self.tell(msg("machine {rank} of {machines} is waiting for a GPU", rank=rank, machines=machines))
            if each.is_lost:
                each.close()
                del self.gathering.others[rank]
                self._deadline = time.monotonic() + ARRIVAL_LIMIT_S
                self.tell(msg("machine {rank} of {machines} has left", rank=rank, machines=machines))

    def _admit(self, rank: int, connection: Connection) -> None:
        if (before := self.gathering.others.get(rank)) is not None:  # it was started again, or two have one rank
            before.send({"replaced": True})
            before.close()
        self.gathering.others[rank] = connection

    def _find_rank(self, connection: Connection, greeting: Line) -> int | None:
        """The rank of a machine that belongs to this run; None for anybody else. One that would train something else
        hears why it is refused, as does the user here."""
        rank, machines, theirs = greeting.get("rank"), greeting.get("machines"), greeting.get("parts")
        if type(rank) is not int or type(machines) is not int or not 0 < rank < machines <= MAX_MACHINES:
            return None
        if machines != self.meeting.seat.machines:
            named = "--machines"
        elif greeting.get("digest") == self.meeting.digest:
            return rank
        else:
            named = name_differences(self.meeting.parts, cast("Line", theirs) if isinstance(theirs, dict) else {})
        connection.send({"refused": named})
        if self._refused.get(rank) != named:
            self._refused[rank] = named
            self.tell(different_training_error(rank, named).message)
        return None

    def _missing_error(self) -> MachineError:
        return MachineError(
            msg("these machines did not come: {ranks}", ranks=", ".join(map(str, self._find_missing()))),
            msg("see what lorabake says on them, and whether they can reach this machine"),
        )


def name_differences(mine: Mapping[str, str], theirs: Mapping[str, object]) -> str:
    """The first few of the inputs, files and packages that are not the same."""
    names = [name for name in sorted({*mine, *theirs}) if mine.get(name) != theirs.get(name)]
    return ", ".join(name[:MAX_NAME] for name in names[:5]) + (" ..." if len(names) > 5 else "") or "launch"


def different_training_error(rank: int, named: str) -> MachineError:
    return MachineError(
        msg("machine {rank} would train something else than the first: {names} differ", rank=rank, names=named),
        msg("use the same recipe, images, model and trainer on all machines, and the same run folder to resume"),
    )


def meet_first_machine(
    meeting: Meeting, is_ready: Callable[[], bool], tell: Callable[[Message], None]
) -> tuple[Connection, str, str]:
    """Wait for the first machine until it starts its run: the connection, its run folder, and when that began.

    ``is_ready`` is asked again and again, whether this machine can start. Raises MachineError if the first one trains
    something else, cannot be reached in time, or ends before, and what ``is_ready`` raises.
    """
    seat, port = meeting.seat, meeting.port
    tell(msg("waiting for the first machine at {address}, port {port}", address=seat.address, port=port))
    first = _connect(seat, port, time.monotonic() + ARRIVAL_LIMIT_S)
    try:
        first.send(
            {"rank": seat.rank, "machines": seat.machines, "digest": meeting.digest, "parts": dict(meeting.parts)}
        )
        return first, *_await_start(first, seat, is_ready)
    except BaseException:
        first.close()
        raise


def _await_start(first: Connection, seat: Seat, is_ready: Callable[[], bool]) -> tuple[str, str]:
    ready = False
    while not first.is_lost:
        ready = ready or is_ready()
        first.send({"ready": ready})  # a sign of life, too
        line = first.receive(RETRY_S) or {}
        root, started, refused = line.get("run"), line.get("started"), line.get("refused")
        if isinstance(refused, str):
            raise different_training_error(seat.rank, refused)
        if line.get("replaced") is True:
            said = msg("another machine has come as machine {rank}, too", rank=seat.rank)
            raise MachineError(said, msg("give each machine its own --machine-rank"))
        if isinstance(root, str) and isinstance(started, str):
            return root, started
    raise MachineError(
        msg("the first machine ended before the run began"), msg("see what lorabake says on {host}", host=seat.address)
    )


def _connect(seat: Seat, port: int, deadline: float) -> Connection:
    while True:
        try:
            connected = socket.create_connection((seat.address, port), timeout=GREETING_LIMIT_S)
        except OSError as error:
            if time.monotonic() > deadline:
                said = msg("cannot reach the first machine at {address}, port {port}", address=seat.address, port=port)
                raise MachineError(said, msg("start lorabake there, too, and allow connections to it")) from error
            time.sleep(RETRY_S)
        else:
            return Connection(connected)
