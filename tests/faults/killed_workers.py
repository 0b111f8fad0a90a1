"""Several workers on the same recipes with `lorabake run --once`, one of which is killed twice and started again.

    PYTHONPATH=tests/integration:tests/unit python tests/faults/killed_workers.py NEW_FOLDER --rounds 10

Each round has eight recipes and three workers, and kills, at random moments of a training of the first worker, its
terminal's process (viewer), its supervisor, both, or all that it has started, with SIGKILL. The trainer is the stand-in
whose only weight is the number of steps that were trained into it. Exit code 1 unless every round ends with one
finished run and one LoRA with all steps for each recipe, no step trained twice but those after the last state (a run
that is killed before its first state is begun anew), and no process left.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from own_trainer import OwnTrainer

import fake_sd_scripts
from lorabake.runs.events import iter_recorded_steps
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record
from situations import RECIPE, project

RECIPES, WORKERS, KILLS, STEPS, SAVE_STEPS, DELAY_S = "ABCDEFGH", 3, 2, 24, 4, 0.2
TARGETS = ("viewer", "supervisor", "viewer and supervisor", "everything")
LIMIT_S, QUIET_S = 600.0, 30.0
MORE = f"""
[network]
type = "networks.lora_fa"
[train]
resolutions = [256, 320]
max_train_steps = {STEPS}
[save]
save_state = true
save_every_n_steps = {SAVE_STEPS}
"""


def list_processes() -> Iterator[tuple[int, int, int, Path]]:
    """The pid, parent, session and current folder of every process that lives."""
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
            if fields[0] not in b"ZX":
                yield int(path.name), int(fields[1]), int(fields[3]), Path(os.readlink(path / "cwd"))  # noqa: PTH115


def list_descendants(pid: int) -> list[int]:
    """``pid`` and all below it."""
    children: dict[int, list[int]] = {}
    for child, parent, _, _ in list_processes():
        children.setdefault(parent, []).append(child)
    found, waiting = list[int](), [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], [])
    return found


@dataclass
class Worker:
    """One `lorabake run --once` over all recipes, in an order of its own."""

    folder: Path
    recipes: list[str]
    flags: tuple[str, ...]
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        argv = [sys.executable, "-m", "lorabake", "run", "--once", *self.recipes, *self.flags]
        env = os.environ | {"LORABAKE_HOME": str(self.folder.parent / "home"), "CUDA_VISIBLE_DEVICES": ""}
        with (self.folder.parent / "workers.txt").open("ab") as log:
            self.process = subprocess.Popen(
                argv, cwd=self.folder, env=env, stdout=log, stderr=log, start_new_session=True
            )

    def find_supervisor(self) -> int | None:
        """Its child that leads a session: there is one while it trains."""
        mine = self.process.pid
        found = (pid for pid, parent, session, _ in list_processes() if parent == mine and session == pid)
        return next(found, None)

    def kill(self, target: str) -> None:
        supervisor = self.find_supervisor()
        pids: dict[str, list[int | None]] = {
            "viewer": [self.process.pid],
            "supervisor": [supervisor],
            "viewer and supervisor": [self.process.pid, supervisor],
            "everything": [*list_descendants(self.process.pid)],
        }
        for pid in pids[target]:
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def make_project(folder: Path) -> None:
    for name in RECIPES:
        text = re.sub('name = "[a-z]+"', f'name = "{name}"', RECIPE, count=1)
        project(folder, MORE, text=text, pictures=6).rename(folder / f"{name}.toml")


def make_trainer(folder: Path) -> OwnTrainer:
    trainer = OwnTrainer(folder)
    script = Path(fake_sd_scripts.__file__).read_text("utf-8")
    slow = script.replace('"delay": 0.0', f'"batches": 5, "delay": {DELAY_S}')
    (trainer.checkout / "train_network.py").write_text(slow, "utf-8")
    return trainer


def wait_for(worker: Worker, dice: random.Random) -> bool:
    """Until a random moment of a training of this worker; False if it has nothing more to train."""
    while worker.find_supervisor() is None:
        if worker.process.poll() is not None:
            return False
        time.sleep(0.05)
    time.sleep(dice.uniform(0.0, 1.5 * STEPS * DELAY_S))
    return worker.process.poll() is None


def run_round(folder: Path, trainer: OwnTrainer, dice: random.Random) -> tuple[list[str], list[str]]:
    """The kills of one round, and what is wrong after it."""
    make_project(folder / "project")
    orders = [dice.sample(RECIPES, len(RECIPES)) for _ in range(WORKERS)]
    workers = [Worker(folder / "project", [f"{name}.toml" for name in order], trainer.flags) for order in orders]
    for worker in workers:
        worker.start()
    killed, first = list[str](), workers[0]
    while len(killed) < KILLS and wait_for(first, dice):
        target = dice.choice(TARGETS)
        first.kill(target)
        first.process.wait(LIMIT_S)
        killed.append(target)
        first.start()
    codes = [worker.process.wait(LIMIT_S) for worker in workers]
    last = Worker(folder / "project", workers[0].recipes, trainer.flags)  # what a killed viewer's supervisor still does
    last.start()
    codes.append(last.process.wait(LIMIT_S))
    deadline = time.monotonic() + QUIET_S
    while list(find_leftovers(folder)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return killed, [f"exit code {code}" for code in codes if code not in {0, 5}] + list(find_faults(folder))


def find_leftovers(folder: Path) -> Iterator[int]:
    """Processes of this round."""
    return (pid for pid, _, _, place in list_processes() if place.is_relative_to(folder))


def find_faults(folder: Path) -> Iterator[str]:
    runs = [RunPaths(path.parent) for path in sorted((folder / "project" / "runs").glob("*/record.json"))]
    records = [read_record(paths.record) for paths in runs]
    finished = Counter(record.name for record in records if record.status == "finished")
    yield from (f"{name}: {finished[name]} finished runs" for name in RECIPES if finished[name] != 1)
    for paths, record in zip(runs, records, strict=True):
        if record.status != "finished":  # killed before its first state: trained again, from the beginning
            if record.outcome is None or record.outcome.resume_step is not None or list(paths.output.glob("*")):
                yield f"{paths.root.name}: left {record.status}, although it has a state"
            continue
        lora = paths.root / "output" / f"{record.name}.safetensors"
        if not lora.exists() or fake_sd_scripts.weight(lora) != STEPS:
            yield f"{record.name}: its LoRA is missing or has another number of steps"
        steps = [step.number for step in iter_recorded_steps(paths.events, paths.root)]
        # a supervisor that is killed may leave the last steps before a state unwritten; the LoRA has them
        unwritten = {part.first_step - n for part in record.parts for n in range(SAVE_STEPS)}
        if missing := set(range(1, STEPS + 1)) - set(steps) - unwritten:
            yield f"{record.name}: steps {sorted(missing)} were never shown"
        again = len(steps) - len(set(steps))
        if again >= SAVE_STEPS * max(len(record.parts), 1):
            yield f"{record.name}: {again} steps were trained twice in {len(record.parts)} parts"
    yield from (f"left running: {pid}" for pid in find_leftovers(folder))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    told = parser.parse_args()
    root: Path = told.folder.absolute()
    trainer, wrong = make_trainer(root / "trainer"), 0
    for number in range(told.rounds):
        began = time.monotonic()
        killed, faults = run_round(root / str(number), trainer, random.Random(told.seed + number))  # noqa: S311
        wrong += bool(faults)
        again = "; ".join(faults) or "eight LoRAs, one run each"
        print(f"round {number} (seed {told.seed + number}), {time.monotonic() - began:.0f} s: killed {killed}: {again}")
        sys.stdout.flush()
    print(f"{told.rounds} rounds, {wrong} with something wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
