"""Several machines train together: two commands on this one, with different seats and a trainer of no content."""

from __future__ import annotations

import copy
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

import fake_sd_scripts
from fake_sd_scripts import weight, write_state
from lorabake.errors import MachineError
from lorabake.jobs import join, machines
from lorabake.jobs.run import RunRequest, TrainerChoice, join_first_machine, make_request, prepare_run
from lorabake.runs.record import read_record
from lorabake.runs.seat import MAX_PORT, SeatOptions
from lorabake.util.machine import is_port_free
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
    state = sys.argv[sys.argv.index("--resume") + 1] if "--resume" in sys.argv else None
    print("rank", sys.argv[at + 1], "in", os.getcwd(), flush=True)
    if state is not None:
        print("resumes", state, os.path.isdir(state), os.path.isfile("accelerate.yaml"), flush=True)
    time.sleep(float(os.environ.get("ENDS_AFTER", "0.5")))
    sys.exit(int(os.environ.get("ENDS_WITH", "0")))
if {"ENDS_WITH", "ENDS_AFTER"} & os.environ.keys():
    time.sleep(60)
"""

ACCELERATOR = "class Accelerator:\n    prepare_model = None\n"


def find_free_address() -> str:
    """A port that is free, as is the next one, where machines meet."""
    while True:
        with socket.create_server(("", 0)) as probe:
            port = probe.getsockname()[1]
        if port < MAX_PORT and is_port_free(port) and is_port_free(port + 1):
            return f"127.0.0.1:{port}"


class World:
    """A project, a copy of it on another disk, and a trainer."""

    def __init__(self, folder: Path, more: str = MORE, train: str = TRAIN) -> None:
        self.home, self.project, self.elsewhere = folder / "home", folder / "project", folder / "elsewhere"
        self.home.mkdir(parents=True)
        self.trainer = OwnTrainer(folder / "trainer")
        (self.trainer.packages / "accelerate" / "commands" / "launch.py").write_text(RANKED + LAUNCH)
        (self.trainer.packages / "accelerate" / "__init__.py").write_text(ACCELERATOR)
        (self.trainer.checkout / "train_network.py").write_text(train)
        git(self.trainer.checkout, "commit", "--allow-empty", "-qam", "two")
        project(self.project, more)
        shutil.copytree(self.project, self.elsewhere)
        self.address = find_free_address()

    def start(self, folder: Path, rank: int, *command: str, **env: str) -> subprocess.Popen[str]:
        argv = [
            sys.executable, "-m", "lorabake", *(command or ("run", "recipe.toml")), *self.trainer.flags,
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

    def train(self, other: Path, *command: str, **env: str) -> tuple[int, int, str]:
        """Both exit codes, and what the second machine wrote."""
        with self.start(self.project, 0, *command, **env) as first, self.start(other, 1, *command, **env) as second:
            shown, reported = second.communicate(timeout=RUN_LIMIT_S)
            if second.returncode:  # the first one may wait for it to come again
                first.terminate()
            first.communicate(timeout=RUN_LIMIT_S)
        return first.returncode, second.returncode, shown + reported

    def verify(self) -> None:
        argv = [sys.executable, "-m", "lorabake", "verify", str(self.run), *self.trainer.flags]
        done = subprocess.run(
            argv, cwd=self.project, env=environment(self.home), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

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
    world.verify()


def test_on_a_disk_of_its_own_it_has_a_folder_of_its_own(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(join, "RECORD_LIMIT_S", 0.0)  # as if the first machine's run folder did not appear here
    trainer = TrainerChoice(sd_scripts=world.trainer.checkout, python=world.trainer.python)
    order = RunRequest(world.elsewhere / "recipe.toml", trainer, seat=SeatOptions(2, 1, world.address))
    env = environment(world.home)
    with world.start(world.project, 0) as first:
        prepared = prepare_run(order, env)
        assert prepared.seat is not None
        assert join_first_machine(prepared, make_request(prepared, env, print), prepared.seat, print) == 0
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
            _, reported = wrong.communicate(timeout=RUN_LIMIT_S)
        assert wrong.returncode == MachineError.exit_code
        assert "concept" in reported
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


# The size of this network is not planned: the stand-in's has 64 weights.
WITH_STATES = """
[network]
type = "networks.lora_fa"

[train]
resolution = 256
max_train_steps = 6

[save]
save_state = true
save_every_n_steps = 2

[launch]
num_processes = 2
"""


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A run on two machines that share a disk, interrupted after its state of step 4."""
    fake = Path(fake_sd_scripts.__file__).read_text("utf-8").replace('"delay": 0.0', '"batches": 4, "delay": 0.0')
    world = World(tmp_path_factory.mktemp("interrupted"), WITH_STATES, fake)
    assert world.train(world.project)[:2] == (0, 0)
    name = world.record().name
    for path in world.run.glob(f"output/{name}*"):
        if "step" not in path.name or "06" in path.name:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    record = json.loads((world.run / "record.json").read_text("utf-8"))
    (world.run / "record.json").write_text(json.dumps(record | {"status": "interrupted", "outcome": None}), "utf-8")
    return world


@pytest.fixture
def stopped(interrupted: World, tmp_path: Path) -> World:
    """A copy of it, with the same trainer."""
    world = copy.copy(interrupted)
    world.home, world.project, world.elsewhere = (tmp_path / name for name in ("home", "project", "elsewhere"))
    world.home.mkdir()
    shutil.copytree(interrupted.project, world.project)
    shutil.copytree(interrupted.elsewhere, world.elsewhere)
    world.address = find_free_address()
    return world


def expect_resumed(world: World, log: Path) -> None:
    record = world.record()
    assert (record.status, [part.first_step for part in record.parts]) == ("finished", [0, 4])
    assert [part.seat and (part.seat.rank, part.seat.machines) for part in record.parts] == [(0, 2), (0, 2)]
    assert weight(world.run / "output" / f"{record.name}.safetensors") == 6
    last = log.read_text("utf-8").splitlines()[-2:]
    assert last == [f"rank 1 in {log.parents[1]}", f"resumes output/{record.name}-step00000004-state True True"]
    world.verify()


@pytest.mark.parametrize("command", [("resume",), ("run", "recipe.toml", "--once")])
def test_machines_that_share_a_disk_resume_their_run(stopped: World, command: tuple[str, ...]) -> None:
    command = (*command, str(stopped.run)) if command == ("resume",) else command
    assert stopped.train(stopped.project, *command)[:2] == (0, 0)
    expect_resumed(stopped, stopped.run / "logs" / "machine-1.log")
    assert stopped.train(stopped.project, *command)[:2] == (0, 0)  # nothing is left to do on either
    assert len(stopped.record().parts) == 2


def test_a_machine_with_a_copy_of_the_run_folder_resumes_in_it(stopped: World) -> None:
    shutil.copytree(stopped.run, stopped.elsewhere / "runs" / stopped.run.name)
    copied = stopped.elsewhere / "runs" / stopped.run.name
    before = (copied / "record.json").read_bytes()
    assert stopped.train(stopped.elsewhere, "resume", stopped.run.name)[:2] == (0, 0)
    expect_resumed(stopped, copied / "logs" / "machine-1.log")
    assert (copied / "record.json").read_bytes() == before


def test_a_machine_with_another_state_is_refused(stopped: World) -> None:
    """It would load other weights than the first, and nobody would notice."""
    copied = stopped.elsewhere / "runs" / stopped.run.name
    shutil.copytree(stopped.run, copied)
    name = stopped.record().name
    write_state(copied / "output" / f"{name}-step00000004-state", 4.5, 0, 4)
    with stopped.start(stopped.project, 0, "resume", stopped.run.name) as first:
        with stopped.start(stopped.elsewhere, 1, "resume", stopped.run.name) as second:
            _, reported = second.communicate(timeout=RUN_LIMIT_S)
        assert second.returncode == MachineError.exit_code
        assert "state model.safetensors" in reported
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=RUN_LIMIT_S)
    assert first.returncode == 130
    assert (stopped.record().status, stopped.record().parts) == ("interrupted", ())


def test_a_machine_without_the_run_folder_is_told_to_copy_it(stopped: World) -> None:
    with stopped.start(stopped.elsewhere, 1, "resume", stopped.run.name) as second:
        _, reported = second.communicate(timeout=RUN_LIMIT_S)
    assert second.returncode == MachineError.exit_code
    assert stopped.run.name in reported


@pytest.mark.parametrize("command", [("run", "recipe.toml", "--detach"), ("resume", "RUN", "--detach")])
def test_only_the_first_machine_can_be_left_alone(stopped: World, command: tuple[str, ...]) -> None:
    argv = [str(stopped.run) if each == "RUN" else each for each in command]
    with stopped.start(stopped.project, 1, *argv) as second:
        _, reported = second.communicate(timeout=RUN_LIMIT_S)
    assert second.returncode == MachineError.exit_code
    assert "--detach" in reported
