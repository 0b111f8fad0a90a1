"""Kills every subset of {lorabake, guard, launcher, trainer} at random moments, and asks lorabake for the state of the
run.

``PYTHONPATH=tests/integration:tests/unit python tests/faults/kill_subsets.py`` prints a table of ``--kills 200``, and
exits with 1 when anything was wrong: a state that is not the true one, a second trainer, a process that runs and that
no command reports, a run that cannot be resumed. What is true comes from /proc and the trainer's own log, not from
lorabake. With ``--errno ENOLCK`` the file system has no flock. ``kill_subsets.py lorabake run|resume FOLDER`` is the
lorabake of one chain.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import launcher
import resume_runner
import without_flock
from launch_runner import request

from fake_sd_scripts import weight
from lorabake.analysis.verify import describe_unfinished  # the sentence of `lorabake verify`
from lorabake.errors import LorabakeError, MachineError
from lorabake.jobs.resume.prepare import prepare_resume
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.index import find_run
from lorabake_schemas.record import Record

ROLES = ("lorabake", "guard", "launcher", "trainer")
SUBSETS = [subset for size in range(1, 5) for subset in combinations(ROLES, size)]
STEPS, PATIENCE, SETTLED_S = 25, 60.0, 5.0
resume_runner.FAKE = Path(launcher.__file__)


@dataclass
class Chain:
    """One run and its processes, by the variable that marks them all."""

    root: Path
    mark: str = field(default_factory=lambda: os.urandom(8).hex())

    @property
    def env(self) -> dict[str, str]:
        notes = str(self.root.parent / "trainers")
        paths = os.pathsep.join(path for path in sys.path if path)
        return {**os.environ, launcher.CHAIN: self.mark, launcher.TRAINERS: notes, "PYTHONPATH": paths}

    def start(self, what: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, __file__, "lorabake", what, str(self.root)]
        return subprocess.Popen(argv, env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def living(self) -> dict[int, str]:
        """Every process of the chain that lives, by its part."""
        found: dict[int, str] = {}
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                ours = f"{launcher.CHAIN}={self.mark}".encode() in (path / "environ").read_bytes().split(b"\0")
                state = (path / "stat").read_bytes().rpartition(b")")[2].split()[0]
                if ours and state not in b"ZX":
                    found[int(path.name)] = self.part((path / "cmdline").read_bytes().split(b"\0"))
        return found

    @staticmethod
    def part(words: list[bytes]) -> str:
        names = [Path(os.fsdecode(word)).name for word in words]
        if "lorabake" in names:
            return "lorabake"
        if launcher.AS_TRAINER in names:
            return "trainer"
        return "guard" if {"process_guard.py", "without_flock.py"} & set(names) else "launcher"

    def until_quiet(self, parts: set[str]) -> None:
        """Until none of these lives."""
        deadline = time.monotonic() + PATIENCE
        while parts & set(self.living().values()) and time.monotonic() < deadline:
            time.sleep(0.02)

    @property
    def trainers(self) -> list[list[int]]:
        """Every start of a trainer: its pid and those of its rivals."""
        notes = self.root.parent / "trainers"
        lines = notes.read_text("utf-8").splitlines() if notes.exists() else []
        return [[int(word) for word in line.split()] for line in lines]

    @property
    def steps(self) -> int:
        """The last step in the trainer's own log."""
        log = self.root / "logs" / "trainer.log"
        bars = re.findall(rb"\rsteps:[^|]*\|[^|]*\| (\d+)/", log.read_bytes()) if log.exists() else []
        return int(bars[-1]) if bars else 0


def wait_for_the_moment(chain: Chain, dice: random.Random) -> None:
    """A random moment between start and end of a run, most often while it trains."""
    if dice.random() < 0.3:
        time.sleep(dice.uniform(0.0, 1.5))
        return
    deadline = time.monotonic() + PATIENCE
    while not chain.trainers and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(dice.uniform(0.0, 1.3))


def killed(chain: Chain, subset: tuple[str, ...], dice: random.Random) -> None:
    """A run some way on, with the processes of a subset killed, all at once."""
    with chain.start("run") as lorabake:
        wait_for_the_moment(chain, dice)
        pids = [pid for pid, part in chain.living().items() if part in subset]
        dice.shuffle(pids)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if "lorabake" in subset:
            lorabake.kill()  # whom the first look may have missed
        deadline = time.monotonic() + PATIENCE
        while lorabake.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
    chain.until_quiet({"lorabake", "guard"})


def refusals(chain: Chain) -> list[str]:
    """The refusals of resume and of a new run with the same name; "" if one would start a trainer."""
    said: list[str] = []
    try:
        prepare_resume(find_run(chain.root, chain.root.parent))
        said.append("")
    except MachineError as error:
        said.append(f"{error.message} {error.hint}")
    try:
        launch_run(request(chain.root.with_name("x-002"), "--steps", "1"), lambda _: None)
        said.append("")
    except LorabakeError as error:
        said.append(f"{error.message} {error.hint}")
    return said


def while_it_lives(chain: Chain, faults: list[str], dice: random.Random) -> None:
    """Only the trainer is still running: every command reports it, and how to stop it."""
    alone = chain.living()
    found = find_run(chain.root, chain.root.parent)
    said = [
        found.record.status,
        *((describe_unfinished(found),) if found.record.outcome is None else ()),
        *refusals(chain),
    ]
    still = chain.living()
    if not still:
        return  # it ended meanwhile: nothing can be asked of what was said
    if said[0] != "started":
        faults.append(f"lives as {sorted(alone)}, told as {said[0]}")
    for words in said[1:]:
        named = {int(number) for number in re.findall(r"\d+", words.rpartition("`kill ")[2] or words)}
        if not still.keys() <= named:
            faults.append(f"{sorted(still)} live, said: {words}")
    if dice.random() < 0.5:
        for pid in sorted(still):  # as the hint says
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def settled_record(chain: Chain) -> Record:
    """The record, as soon as it is complete: a trainer that is dying holds its log for a moment."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        record = find_run(chain.root, chain.root.parent).record
        is_complete = record.outcome is not None and record.outcome.steps is not None
        if record.status != "interrupted" or is_complete or time.monotonic() > deadline:
            return record
        time.sleep(0.05)


def when_it_is_over(chain: Chain, subset: tuple[str, ...], faults: list[str]) -> str:
    """What is reported about the run, which has to be correct, and whether it can be resumed to its end."""
    if not (chain.root / "record.json").exists():
        return "not begun"
    record = settled_record(chain)
    told, outcome, steps = record.status, record.outcome, chain.steps
    right = {"interrupted"} if "lorabake" in subset else {"failed", "finished"}
    if chain_ended_well(chain):
        right = {"finished", "interrupted"} if "lorabake" in subset else {"finished", "failed"}
    if told not in right or outcome is None:
        faults.append(f"told as {told}, true: {right}")
    elif told == "interrupted" and outcome.steps != steps:
        faults.append(f"told {outcome.steps} steps, the log has {steps}")
    elif told == "interrupted" and not record.ended:
        faults.append("no end")
    goes_on(chain, told, outcome.resume_step if outcome else None, faults)
    return told


def chain_ended_well(chain: Chain) -> bool:
    log = chain.root / "logs" / "trainer.log"
    return log.exists() and b"model saved." in log.read_bytes()


def goes_on(chain: Chain, told: str, resume_step: int | None, faults: list[str]) -> None:
    """`resume` trains the rest, where there is a state, to as many steps as in one piece."""
    with chain.start("resume") as lorabake:
        lorabake.wait()
    record = find_run(chain.root, chain.root.parent).record
    final = chain.root / "output" / "x.safetensors"
    whole = final.exists() and weight(final) == STEPS
    if (resume_step is not None or told == "finished") and not (record.status == "finished" and whole):
        faults.append(f"resume from step {resume_step} left it {record.status}, {record.outcome}")


def one(subset: tuple[str, ...], dice: random.Random, folder: Path) -> tuple[str, list[str]]:
    """One kill: what was reported, and what was wrong."""
    chain, faults = Chain(folder / "x-001"), list[str]()
    killed(chain, subset, dice)
    alone = set(chain.living().values())
    if alone:
        while_it_lives(chain, faults, dice)
        chain.until_quiet(set(ROLES))
    told = when_it_is_over(chain, subset, faults)
    faults += [f"a second trainer: {pid} beside {others}" for pid, *others in chain.trainers if others]
    left = chain.living()
    if left:
        faults.append(f"left running: {left}")
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    hidden = [path.name for path in (*folder.glob(".*"), *folder.glob("x-001/.*"))]
    if hidden:
        faults.append(f"left lying: {hidden}")
    return (f"alone, then {told}" if alone else told), faults


def main(argv: list[str]) -> int:
    without_flock.patched()
    if argv[:1] == ["lorabake"]:
        return lorabake_of_a_chain(argv[1], Path(argv[2]))
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--errno", default="", help="what flock fails with, such as ENOLCK")
    told = parser.parse_args(argv)
    if told.errno:
        os.environ[without_flock.ERRNO] = told.errno
        without_flock.patched()
    dice, wrong = random.Random(told.seed), 0  # noqa: S311 - the same kills again
    table = dict[tuple[str, ...], Counter[str]]()
    for number in range(told.kills):
        subset = SUBSETS[number % len(SUBSETS)]
        with tempfile.TemporaryDirectory() as folder:
            state, faults = one(subset, dice, Path(folder))
        table.setdefault(subset, Counter())[state] += 1
        wrong += bool(faults)
        for fault in faults:
            sys.stderr.write(f"kill {number}, {'+'.join(subset)}: {fault}\n")
    sys.stdout.write("| killed | kills | told |\n|---|--:|---|\n")
    for subset, states in table.items():
        told_of = ", ".join(f"{state} {count}" for state, count in sorted(states.items()))
        sys.stdout.write(f"| {' + '.join(subset)} | {states.total()} | {told_of} |\n")
    sys.stdout.write(f"\n{told.kills} kills, {wrong} with something wrong\n")
    return 1 if wrong else 0


def lorabake_of_a_chain(what: str, root: Path) -> int:
    try:
        if what == "run":
            resume_runner.run(root, max_train_steps=STEPS, delay=0.03)
        else:
            resume_runner.go_on(root)
    except LorabakeError as error:
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
