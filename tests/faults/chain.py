"""The processes of one run, from the terminal to the trainer, and what is true of them.

What is true comes from /proc and from the trainer's own log, not from lorabake. Every process is found by a variable in
its environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import launcher
import without_flock
from own_trainer import OwnTrainer, environment

import fake_sd_scripts
from situations import RECIPE, project

ROLES = ("viewer", "supervisor", "guard", "second guard", "launcher", "trainer")
SLOW, SLOW_STEP_S = "CHAIN_SLOW", 3.0  # names a file; the stand-in's steps take so many seconds while it exists
POLL_S = 0.05
STARTER = "import sys, without_flock; without_flock.patched(); from lorabake.cli import main; sys.exit(main())"
MORE = """
[network]
type = "networks.lora_fa"
[train]
max_train_steps = 15
[save]
save_state = true
save_every_n_steps = 2
save_every_n_epochs = 1
"""


@dataclass(frozen=True)
class World:
    """A recipe and its trainer. The seconds are about what `lorabake run` takes to start a training, what that takes to
    load, and each of its steps.
    """

    name: str
    folder: Path
    env: Mapping[str, str]
    flags: tuple[str, ...]
    steps: int
    start_s: float
    load_s: float
    step_s: float
    is_real: bool = False

    def argv(self, *args: str) -> list[str]:
        starter = ["-c", STARTER] if os.environ.get(without_flock.ERRNO) else ["-m", "lorabake"]
        return [sys.executable, *starter, *args]


def make_fake_world(folder: Path) -> World:
    """The stand-in for sd-scripts that saves states, as a user's own installation."""
    trainer = OwnTrainer(folder / "trainer")
    script = Path(fake_sd_scripts.__file__).read_text("utf-8")
    script = script.replace('"delay": 0.0', '"batches": 5, "delay": 0.1')
    script = script.replace('told["delay"]', f'{SLOW_STEP_S} if Path(os.environ["{SLOW}"]).exists() else told["delay"]')
    (trainer.checkout / "train_network.py").write_text(script)
    launch = trainer.packages / "accelerate" / "commands" / "launch.py"
    launch.write_text(Path(launcher.__file__).read_text("utf-8"))
    (folder / "home").mkdir()
    project(folder / "project", MORE, text=re.sub('name = "[a-z]+"', 'name = "x"', RECIPE, count=1), pictures=5)
    env = environment(folder / "home")
    return World("x", folder / "project", env, trainer.flags, steps=15, start_s=3.0, load_s=0.3, step_s=0.12)


@dataclass(frozen=True)
class Process:
    pid: int
    parent: int
    session: int
    started: int
    words: tuple[bytes, ...]


def read_process(path: Path, mark: bytes) -> Process | None:
    """A living process that has the mark."""
    with suppress(OSError, IndexError):
        if mark not in (path / "environ").read_bytes().split(b"\0"):
            return None
        fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
        words = tuple((path / "cmdline").read_bytes().split(b"\0")[:-1])
        if fields[0] not in b"ZX":
            return Process(int(path.name), int(fields[1]), int(fields[3]), int(fields[19]), words)
    return None


@dataclass(frozen=True)
class Look:
    """The living processes of a chain by their roles; "other" are those of none."""

    roles: Mapping[str, frozenset[int]]

    def of(self, *roles: str) -> frozenset[int]:
        return frozenset[int]().union(*(self.roles.get(role, frozenset()) for role in roles))

    @property
    def is_over(self) -> bool:
        return not self.of(*ROLES[1:])

    @property
    def trains(self) -> bool:
        return bool(self.of("launcher", "trainer"))


@dataclass
class Chain:
    """One run, its terminal and its processes. ``log_from`` is where the log of its last start begins."""

    world: World
    root: Path
    mark: str = field(default_factory=lambda: os.urandom(8).hex())
    viewer: subprocess.Popen[bytes] | None = None
    argv: list[str] = field(default_factory=list[str])
    guards: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])
    log_from: int = 0

    @property
    def env(self) -> dict[str, str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        marks = {launcher.CHAIN: self.mark, launcher.TRAINERS: str(self.root.parent / "trainers"), SLOW: str(self.slow)}
        return {**self.world.env, **marks, "PYTHONPATH": paths}

    @property
    def slow(self) -> Path:
        return self.root.parent / "slow"

    def start(self, *args: str) -> subprocess.Popen[bytes]:
        """`lorabake run` or `resume` in a terminal of its own."""
        self.argv = self.world.argv(*args, *self.world.flags)
        self.log_from += len(self.log)
        self.slow.unlink(missing_ok=True)
        with (self.root.parent / "terminal").open("ab") as said:
            self.viewer = subprocess.Popen(
                self.argv, cwd=self.world.folder, env=self.env, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            )  # fmt: skip
        return self.viewer

    def ask(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Another command of lorabake, from another terminal."""
        env = {**self.world.env, "PYTHONPATH": self.env["PYTHONPATH"]}
        argv = self.world.argv(*args)
        return subprocess.run(argv, cwd=self.world.folder, env=env, capture_output=True, text=True, check=False)

    def look(self) -> Look:
        """Who lives. A process between fork and exec still looks like its parent, so the older one has the role."""
        mark = f"{launcher.CHAIN}={self.mark}".encode()
        found = (read_process(path, mark) for path in Path("/proc").glob("[0-9]*"))
        processes = sorted((each for each in found if each is not None), key=lambda each: (each.started, each.pid))
        roles: dict[str, set[int]] = {}
        for process in processes:
            role = self.role_of(process)
            alone = role in {"supervisor", "guard", "second guard"} and role in roles
            roles.setdefault("other" if alone else role, set()).add(process.pid)
        return Look({role: frozenset(pids) for role, pids in roles.items()})

    def role_of(self, process: Process) -> str:
        words, names = process.words, {Path(os.fsdecode(word)).name for word in process.words}
        if self.viewer is not None and process.pid == self.viewer.pid:
            return "viewer"
        if words == tuple(map(os.fsencode, self.argv)):
            return "supervisor" if process.session == process.pid else "other"
        if {"process_guard.py", "without_flock.py"} & names:
            return self.guard_role(process)
        if b"train.toml" not in words:
            return "other"
        return "launcher" if b"accelerate.commands.launch" in words else "trainer"

    def guard_role(self, process: Process) -> str:
        """Guards of short commands claim no run. The second guard is a child of the first."""
        if not any(b'"claim": {' in word for word in process.words):
            return "other"
        known = {pid for (pid, _), role in self.guards.items() if role == "guard"}
        role = "second guard" if process.parent in known else "guard"
        return self.guards.setdefault((process.pid, process.started), role)

    def until(self, true: Callable[[Look], bool], seconds: float) -> bool:
        """Wait until something is true of the processes; whether it is."""
        deadline = time.monotonic() + seconds
        while not true(self.look()):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def second_trainers(self) -> list[list[int]]:
        """Every start of a trainer while another one lived: its pid, and theirs."""
        notes = self.root.parent / "trainers"
        lines = notes.read_text("utf-8").splitlines() if notes.exists() else []
        return [pids for line in lines if len(pids := [int(word) for word in line.split()]) > 1]

    @property
    def log(self) -> bytes:
        path = self.root / "logs" / "trainer.log"
        return path.read_bytes()[self.log_from :] if path.exists() else b""

    @property
    def step(self) -> int:
        """The last step in the trainer's own log."""
        bars = re.findall(rb"\rsteps:[^|]*\|[^|]*\| (\d+)/", self.log)
        return int(bars[-1]) if bars else 0

    @property
    def has_saved(self) -> bool:
        """Whether the trainer has reported its last file."""
        return b"model saved." in self.log

    @property
    def has_begun(self) -> bool:
        return (self.root / "record.json").exists()
