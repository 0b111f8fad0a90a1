"""Runs between lorabake and the trainer, so that no trainer outlives lorabake, not even after SIGKILL.

It is a script in a separate session (``python -I -S process_guard.py SETTINGS COMMAND...``), standard library only. Its
standard input is a pipe that only lorabake can write to: ``stop`` asks for the next rung of the shutdown ladder,
``done`` means that the run has been judged, and the end of the pipe without ``done`` means that lorabake has ended. It
answers on standard output with ``pid N``, ``error TEXT`` and ``exit N``. A second guard, forked from it, only ends the
trainer when the first one is killed, so that no trainer stays when lorabake and its guard are killed together.

The trainer's tree is its process group, and on Linux also every process that has the run's mark in its environment:
torch's elastic launcher, which accelerate uses for several GPUs, starts each worker in a separate session (torch 2.13
distributed/elastic/multiprocessing/subprocess_handler/subprocess_handler.py:66).
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

RUN_MARK_VARIABLE = "LORABAKE_RUN_MARK"
NO_FLOCK_ERRNOS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL, errno.EBADF, errno.EIO}
BUSY_MESSAGE = "its trainer is running already"
POLL_S = 0.05  # how often a tree that was asked to stop is checked
LAST_LOOK_S = 1.0
ECHO_S = 5.0  # within which a signal to the guard and a request of lorabake are one
POLITE_SIGNALS = (
    (signal.SIGINT, signal.SIGTERM)
    if sys.platform == "win32"
    else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
)


def has_run_mark(pid: int, mark: str) -> bool:
    """Whether a process of Linux was started with the run's mark in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{RUN_MARK_VARIABLE}={mark}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def read_process_stat(pid: int) -> tuple[str, int, str]:
    """A process' state letter, process group and start time; ("X", 0, "") if it has ended.

    The name between brackets in /proc/PID/stat may contain anything, brackets included.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[2]), fields[19].decode()
    except (OSError, IndexError):
        return "X", 0, ""


def flock(descriptor: int, *, shared: bool = False) -> bool | None:
    """Lock an open file without waiting: whether that went well; None where the file system or Windows has no flock.

    Over NFS only a file that is open for writing can be locked exclusively (EBADF).
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}:
            return False
        if error.errno in NO_FLOCK_ERRNOS:
            return None
        raise
    return True


class ProcessTree:
    """Everything that a trainer has started; ``group`` is 0 if its process group is unknown. This process and the one
    ``spared`` are not in it.

    A process that is dying has lost its environment, and with it the mark, some time before it counts as dead. So a
    process that was found once is identified by its pid and start time until it has ended.
    """

    def __init__(self, group: int, mark: str, spared: int = 0) -> None:
        self.group, self.mark, self.spared = group, mark, {os.getpid(), spared}
        self.known: dict[int, str] = {}

    def members(self) -> set[int]:
        """The living processes of the tree; without /proc (macOS) only the group."""
        if not os.path.exists("/proc/self/stat"):
            with suppress(OSError):
                if self.group:
                    os.killpg(self.group, 0)
                    return {self.group}
            return set()
        found: dict[int, str] = {}
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            state, group, started = read_process_stat(pid)
            known = self.known.get(pid) == started or group == (self.group or None)
            if state not in "ZX" and (known or (pid not in self.spared and has_run_mark(pid, self.mark))):
                found[pid] = started
        self.known = found
        return set(found)

    def signal(self, number: int) -> None:
        """Send a signal to every member, those outside the group included."""
        outside = {pid for pid in self.members() if pid != self.group and read_process_stat(pid)[1] != self.group}
        if self.group:  # 0 would mean the caller's own group
            with suppress(OSError):  # the group may be empty already
                os.killpg(self.group, number)
        for pid in outside:
            with suppress(OSError):  # it may have ended meanwhile
                os.kill(pid, number)

    def kill(self, patience: float = 10.0) -> None:
        """SIGKILL until nothing is left: a member may have been forking while the first round went out.

        Gives up after ``patience`` seconds: a process inside a hung driver call cannot be killed.
        """
        deadline = time.monotonic() + patience
        while self.members() and time.monotonic() < deadline:
            self.signal(signal.SIGKILL)
            time.sleep(POLL_S)


class SignalEscalation:
    """Which signal comes next, and when: SIGINT, then SIGTERM, then SIGKILL until the tree has ended."""

    def __init__(self, tree: ProcessTree, waits: list[float]) -> None:
        self.tree, self.waits = tree, waits
        self.rungs = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
        self.rung = -1
        self.deadline = float("inf")

    @property
    def is_escalating(self) -> bool:
        return self.rung >= 0

    def escalate(self, *, at_least: int = 0) -> None:
        """Go to the next rung immediately."""
        self.rung = max(min(self.rung + 1, len(self.rungs) - 1), at_least)
        self.tree.signal(self.rungs[self.rung])
        wait = self.waits[self.rung] if self.rung < len(self.waits) else POLL_S
        self.deadline = time.monotonic() + wait

    def escalate_if_due(self) -> None:
        if time.monotonic() >= self.deadline:
            self.escalate()


class Guard:
    """One trainer and the pipe to lorabake."""

    def __init__(self, child: subprocess.Popen[bytes], settings: dict[str, Any], bell: int, second: int) -> None:
        self.child, self.wakeup_descriptor = child, bell
        self.tree = ProcessTree(child.pid, settings["mark"], second)
        self.ladder = SignalEscalation(self.tree, settings["waits"])
        self.watched_descriptors = [0, bell]
        self.orphaned = False
        self.done = False
        self.over = False
        self.signaled_at = -ECHO_S  # when a signal came that lorabake has not yet passed on

    def wait_event(self, timeout: float | None) -> None:
        """Wait for a request of lorabake, a child's end or ``timeout`` seconds, and act on the request.

        A batch system sends SIGTERM to every process of a job: that and lorabake's request are one.
        """
        ready = select.select(self.watched_descriptors, [], [], timeout)[0]
        wanted = 0
        heard = os.read(self.wakeup_descriptor, 512) if self.wakeup_descriptor in ready else b""
        if signal.SIGTERM in heard and (self.orphaned or not self.ladder.is_escalating):
            wanted, self.signaled_at = 1, time.monotonic()  # someone stops the guard: stop what it guards
        if 0 in ready:
            said = os.read(0, 4096)
            if not said:
                self.watched_descriptors.remove(0)
            self.done = self.done or b"done" in said
            asked = said.count(b"stop") + (not said and not self.done)
            self.orphaned = not said and not self.done
            if asked and time.monotonic() - self.signaled_at < ECHO_S:
                asked, self.signaled_at = asked - 1, -ECHO_S
            wanted += asked
        for _ in range(0 if self.over else wanted):
            self.ladder.escalate()

    def supervise(self) -> int:
        """Run until the trainer and everything it started have ended. Processes that it leaves behind are ended."""
        while True:
            ended = self.child.poll() is not None
            if ended and not self.tree.members():
                self.over = True
                return exit_status(self.child)
            if ended and not self.ladder.is_escalating:
                self.ladder.escalate(at_least=1)
            self.wait_event(POLL_S if self.ladder.is_escalating else None)
            self.ladder.escalate_if_due()

    def wait_until_judged(self) -> None:
        """lorabake still has to look at the weights and finish the record; it may be killed while it does."""
        while not self.done and not self.orphaned:
            self.wait_event(None)


class SecondGuard:
    """Another process that ends the trainer's tree if this one is killed before ``release``."""

    def __init__(self, mark: str) -> None:
        reading, self._writing = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                guard_the_guard(reading, mark)
            finally:
                os._exit(0)
        os.close(reading)

    def watch(self, group: int) -> None:
        """The trainer has started, in this process group."""
        self._tell(f"{group}\n")

    def release(self) -> None:
        """Nothing is left to be ended."""
        self._tell("over\n")
        os.close(self._writing)
        with suppress(OSError):
            os.waitpid(self.pid, 0)

    def _tell(self, words: str) -> None:
        with suppress(OSError):  # it was killed
            os.write(self._writing, words.encode())


def guard_the_guard(reading: int, mark: str) -> None:
    """The second guard's life: wait for the first one's end, which is the end of the pipe.

    It has nothing open that anybody waits for: neither the guard's pipes to lorabake nor the trainer's log. A trainer
    that was started in the last moment may not have its mark yet, so it is looked for during ``LAST_LOOK_S``.
    """
    signal.set_wakeup_fd(-1)
    for number in POLITE_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    os.setsid()
    empty = os.open(os.devnull, os.O_RDWR)
    for each in (0, 1, 2):
        os.dup2(empty, each)
    for name in os.listdir("/dev/fd"):
        if int(name) > 2 and int(name) != reading:
            with suppress(OSError):  # that of the list itself
                os.close(int(name))
    said = b""
    while heard := os.read(reading, 4096):
        said += heard
    if said.endswith(b"over\n"):
        return
    tree, deadline = ProcessTree(int(said or b"0"), mark), time.monotonic() + LAST_LOOK_S
    while time.monotonic() < deadline:
        tree.kill()
        time.sleep(POLL_S)


def exit_status(child: subprocess.Popen[bytes]) -> int:
    """The exit status as a shell would give it: 128 + n for a signal."""
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def format_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_interruption(settings: dict[str, Any], returncode: int, *, stopped: bool) -> None:
    """Write into the record and the events what happened, since no other process is left to do it."""
    does = "its guard stopped the trainer" if stopped else "the trainer had ended but was not judged"
    message = f"lorabake was killed or crashed; {does}"
    outcome = {"code": "lorabake-killed", "message": message, "returncode": returncode}
    if settings["room"]:
        with suppress(OSError):
            os.remove(settings["room"])
    if settings["record"]:
        with suppress(OSError, ValueError, LookupError):  # somebody took the run folder away
            with open(settings["record"], encoding="utf-8", opener=open_without_links) as file:
                record = json.load(file)
            if record["status"] != "started":  # lorabake was killed right after its verdict
                return
            ended = {"status": "interrupted", "ended": format_now(), "outcome": outcome}
            record |= ended
            if record.get("parts"):
                record["parts"][-1] |= ended
            replace_text(settings["record"], json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    if settings["events"]:
        with suppress(OSError):
            append_event_line(settings["events"], json.dumps({"time": format_now(), "event": "interrupted"} | outcome))


def open_without_links(path: str, flags: int) -> int:
    """Nothing in a run folder may be a link: the folder may come from a stranger."""
    return os.open(path, flags | os.O_NOFOLLOW)


def append_event_line(path: str, line: str) -> None:
    """Add a line to the events, after the end of one that lorabake was killed in the middle of."""
    with open(path, "r+b", opener=open_without_links) as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            line = line if file.read() == b"\n" else f"\n{line}"
        file.write(f"{line}\n".encode())


def replace_text(path: str, text: str) -> None:
    """Write a file so that a reader sees the old text or the new one, never a part."""
    aside = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.part")
    try:
        with suppress(FileNotFoundError):  # left by a kill
            os.remove(aside)
        with open(aside, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError:
        with suppress(OSError):
            os.remove(aside)


def claim_run(settings: dict[str, Any], log: int) -> str | None:
    """Claim the run for this guard until the last process of its trainer ends (runs/lock.py); returns why it cannot.

    The lock on the open log is inherited by everything that inherits the trainer's output, so it outlives the guard.
    The file, which is never made twice, replaces it where there are no locks, and shows how to find the processes.
    """
    if settings["claim"] is None:
        return None
    try:
        locked = flock(log)
        for _ in range(20):  # a second, since somebody may only be looking
            if locked is not False:
                break
            time.sleep(POLL_S)
            locked = flock(log)
        if locked is False:
            return BUSY_MESSAGE
        settings["claim"]["told"] |= {
            "pid": os.getpid(),
            "started": read_process_stat(os.getpid())[2],
            "flock": bool(locked),
        }
        write_claim(settings, os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return BUSY_MESSAGE
    except OSError as error:
        return error.strerror or str(error)
    return None


def write_claim(settings: dict[str, Any], how: int = 0) -> None:
    """One short line, so that who reads it meanwhile sees the one before or this one."""
    descriptor = os.open(settings["claim"]["path"], os.O_WRONLY | os.O_NOFOLLOW | how, 0o666)
    try:
        os.ftruncate(descriptor, os.write(descriptor, (json.dumps(settings["claim"]["told"]) + "\n").encode()))
    finally:
        os.close(descriptor)


def release_claim(settings: dict[str, Any]) -> None:
    if settings["claim"] is not None:
        with suppress(OSError):
            os.remove(settings["claim"]["path"])


def is_parent_gone() -> bool:
    """Whether lorabake ended before anything was started."""
    pipe = select.poll()
    pipe.register(0, 0)
    return any(what & select.POLLHUP for _, what in pipe.poll(0))


def install_handlers() -> int:
    """Keep the guard alive through every polite signal; returns a pipe on which each one is announced.

    Handlers and not SIG_IGN: a handler is reset when the trainer is started, an ignored signal would stay ignored. The
    trainer is to ignore SIGUSR1 and SIGUSR2: a batch system may send its warning to every process of a job, and it
    would kill the trainer while lorabake has just begun to stop it.
    """
    bell, rope = os.pipe()
    os.set_blocking(rope, False)
    signal.set_wakeup_fd(rope, warn_on_full_buffer=False)

    def heard(_number: int, _frame: FrameType | None) -> None: ...

    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, heard)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return bell


def notify(words: str) -> None:
    with suppress(OSError):  # lorabake may have ended; standard input shows it
        os.write(1, words.encode("utf-8", "replace") + b"\n")


def start_trainer(settings: dict[str, Any], argv: list[str], out: int, err: int) -> subprocess.Popen[bytes]:
    """Start the trainer in a separate process group."""
    environment = os.environ | {RUN_MARK_VARIABLE: settings["mark"]}
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, process_group=0)


def main() -> int:
    settings, argv = json.loads(sys.argv[1]), sys.argv[2:]
    bell = install_handlers()
    try:
        how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        out, err = settings["streams"] or [os.open(settings["log"], how, 0o666)] * 2
    except OSError as error:
        notify(f"error {error.strerror or error}")
        return 127
    if (why := claim_run(settings, out)) is not None:
        notify(f"error {why}")
        return 127
    try:
        return run_guarded(settings, argv, bell, (out, err))
    finally:
        release_claim(settings)


def run_guarded(settings: dict[str, Any], argv: list[str], bell: int, streams: tuple[int, int]) -> int:
    """The trainer from its start to its verdict; its exit status."""
    if is_parent_gone():
        return 127
    second = SecondGuard(settings["mark"])
    try:
        child = start_trainer(settings, argv, *streams)
    except OSError as error:
        second.release()
        notify(f"error {error.strerror or error}")
        return 127
    second.watch(child.pid)
    if settings["claim"] is not None:
        settings["claim"]["told"]["trainer"] = child.pid
        with suppress(OSError):  # its mark, too, leads to it
            write_claim(settings)
    notify(f"pid {child.pid}")
    guard = Guard(child, settings, bell, second.pid)
    returncode = guard.supervise()
    second.release()
    stopped = guard.orphaned
    notify(f"exit {returncode}")
    guard.wait_until_judged()
    if guard.orphaned:
        write_interruption(settings, returncode, stopped=stopped)
    return returncode


if __name__ == "__main__":
    sys.exit(main())
