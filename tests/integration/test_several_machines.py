"""Several machines train together: two commands on this one, with different seats and a trainer of no content."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from own_trainer import LAUNCH, TRAIN, OwnTrainer, environment
from trainer_world import git

from lorabake.errors import MachineError
from lorabake.jobs import join, machines
from lorabake.jobs.run import RunRequest, TrainerChoice, join_first_machine, prepare_run
from lorabake.runs.record import read_record
from lorabake.runs.seat import SeatOptions
from lorabake_schemas.record import Record
from lorabake_schemas.seat import Seat
from situations import project

MORE = """
[train]
resolution = 256
max_train_steps = 4

[launch]
num_processes = 2
"""
RUN_LIMIT_S = 120.0
# As accelerate: only the first machine has a process that saves. The other's ends with ENDS_WITH after ENDS_AFTER.
RANKED = """\
import os, sys, time
at = sys.argv.index("--machine_rank") if "--machine_rank" in sys.argv else 0
if at and sys.argv[at + 1] != "0":
    print("rank", sys.argv[at + 1], "in", os.getcwd(), flush=True)
    time.sleep(float(os.environ.get("ENDS_AFTER", "0.5")))
    sys.exit(int(os.environ.get("ENDS_WITH", "0")))
if {"ENDS_WITH", "ENDS_AFTER"} & os.environ.keys():
    time.sleep(60)
"""

ACCELERATOR = "class Accelerator:\n    prepare_model = None\n"


class World:
    """A project, a copy of it on another disk, and a trainer."""

    def __init__(self, folder: Path) -> None:
        self.home, self.project, self.elsewhere = folder / "home", folder / "project", folder / "elsewhere"
        self.home.mkdir(parents=True)
        self.trainer = OwnTrainer(folder / "trainer")
        (self.trainer.packages / "accelerate" / "commands" / "launch.py").write_text(RANKED + LAUNCH)
        (self.trainer.packages / "accelerate" / "__init__.py").write_text(ACCELERATOR)
        (self.trainer.checkout / "train_network.py").write_text(TRAIN)
        git(self.trainer.checkout, "commit", "--allow-empty", "-qam", "two")
        project(self.project, MORE)
        shutil.copytree(self.project, self.elsewhere)
        with socket.create_server(("", 0)) as probe:
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"

    def start(self, folder: Path, rank: int, **env: str) -> subprocess.Popen[str]:
        argv = [
            sys.executable, "-m", "lorabake", "run", "recipe.toml", *self.trainer.flags,
            "--machines", "2", "--machine-rank", str(rank), "--main-address", self.address,
        ]  # fmt: skip
        return subprocess.Popen(
            argv,
            cwd=folder,
            env=environment(self.home) | env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def train(self, other: Path, **env: str) -> tuple[int, int, str]:
        """Both exit codes, and what the second machine said."""
        with self.start(self.project, 0, **env) as first, self.start(other, 1, **env) as second:
            _, told = second.communicate(timeout=RUN_LIMIT_S)
            first.communicate(timeout=RUN_LIMIT_S)
        return first.returncode, second.returncode, told

    def record(self) -> Record:
        (path,) = self.project.glob("runs/*/record.json")
        return read_record(path)

    @property
    def run(self) -> Path:
        (folder,) = self.project.glob("runs/*/")
        return folder


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_on_a_shared_disk_the_other_machine_adds_its_log(world: World) -> None:
    assert world.train(world.project)[:2] == (0, 0)
    record = world.record()
    host, _, port = world.address.partition(":")
    assert record.status == "finished"
    assert record.seat == Seat(rank=0, machines=2, address=host, port=int(port))
    assert (world.run / "logs" / "machine-1.log").read_text().split() == ["rank", "1", "in", str(world.run)]
    argv = [sys.executable, "-m", "lorabake", "verify", str(world.run), *world.trainer.flags]
    done = subprocess.run(
        argv, cwd=world.project, env=environment(world.home), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_on_a_disk_of_its_own_it_has_a_folder_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "RECORD_LIMIT_S", 0.0)  # as if the first machine's run folder did not appear here
    trainer = TrainerChoice(sd_scripts=world.trainer.checkout, python=world.trainer.python)
    order = RunRequest(world.elsewhere / "recipe.toml", trainer, seat=SeatOptions(2, 1, world.address))
    env = environment(world.home)
    with world.start(world.project, 0) as first:
        prepared = prepare_run(order, env)
        assert prepared.seat is not None
        assert join_first_machine(prepared, prepared.seat, env, print) == 0
        first.communicate(timeout=RUN_LIMIT_S)
    assert first.returncode == 0
    (folder,) = world.elsewhere.glob("runs/*/")
    assert (folder / "logs" / "machine-1.log").read_text().split()[-1] == str(folder)
    assert (folder / "train.toml").read_bytes() == (world.run / "train.toml").read_bytes()
    assert not (folder / "record.json").exists()
    assert not (world.run / "logs" / "machine-1.log").exists()


def test_a_machine_with_another_image_is_refused_and_the_first_waits_on(world: World) -> None:
    image = next((world.elsewhere / "pics").glob("*.txt"))
    image.write_text(image.read_text("utf-8") + ", another tag", "utf-8")
    with world.start(world.project, 0) as first:
        with world.start(world.elsewhere, 1) as wrong:
            _, told = wrong.communicate(timeout=RUN_LIMIT_S)
        assert wrong.returncode == MachineError.exit_code
        assert "concept" in told
        assert not [*world.project.glob("runs/*/")]
        with world.start(world.project, 1) as right:
            right.communicate(timeout=RUN_LIMIT_S)
        _, seen = first.communicate(timeout=RUN_LIMIT_S)
    assert (first.returncode, right.returncode) == (0, 0)
    assert "concept" in seen


def test_processes_that_fail_on_the_other_machine_fail_the_run(world: World) -> None:
    with world.start(world.project, 0, ENDS_WITH="3") as first, world.start(world.project, 1, ENDS_WITH="3") as second:
        _, there = second.communicate(timeout=RUN_LIMIT_S)
        shown, here = first.communicate(timeout=RUN_LIMIT_S)
    assert (first.returncode, second.returncode) == (4, 4)
    record = world.record()
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("interrupted", machines.MACHINE_FAILED)
    assert record.outcome.message in shown + here
    assert "machine-1.log" in there
    last = (world.run / "events.jsonl").read_text("utf-8").splitlines()[-1]
    assert json.loads(last)["code"] == machines.MACHINE_FAILED


@pytest.mark.parametrize("stopped", [0, 1])
def test_ctrl_c_on_one_machine_stops_both(world: World, stopped: int) -> None:
    with (
        world.start(world.project, 0, ENDS_AFTER="60") as first,
        world.start(world.project, 1, ENDS_AFTER="60") as second,
    ):
        deadline = time.monotonic() + RUN_LIMIT_S
        while not [*world.project.glob("runs/*/logs/machine-1.log")] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        (first, second)[stopped].send_signal(signal.SIGINT)
        assert [each.wait(RUN_LIMIT_S) for each in (first, second)] == [130, 130]
    record = world.record()
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("interrupted", "interrupted")
    assert ("machine 1" in record.outcome.message) == (stopped == 1)


def test_a_dry_run_shows_the_seat(world: World) -> None:
    argv = [sys.executable, "-m", "lorabake", "run", "recipe.toml", *world.trainer.flags, "--dry-run", "--json"]
    slurm = {"SLURM_NODEID": "1", "SLURM_STEP_NUM_NODES": "2", "SLURM_STEP_NODELIST": "n[3-4]"}
    done = subprocess.run(
        argv, cwd=world.project, env=environment(world.home) | slurm, capture_output=True, text=True, check=True
    )
    assert "--machine_rank 1 --main_process_ip n3" in " ".join(json.loads(done.stdout)["argv"])
