"""Shows `lorabake run --once` as an array job of a real Slurm: three recipes on one machine, each stopped by SIGUSR1
before its time limit and requeued by its own script, one of them also by `scontrol requeue` in mid-run.

    PYTHONPATH=tests:tests/unit:tests/integration python tests/slurm/requeued_array.py NEW_FOLDER

Needs root, five minutes, and Debian's packages slurm-wlm and munge. It starts munged, slurmctld and slurmd on loopback
with their own configuration, and ends them. The trainer is the stand-in of the tests, whose only weight is the number
of steps that were trained into it. Prints the course of the jobs and of the runs; exit code 0 if there are three intact
LoRAs, no step was trained twice beyond the last state, and nothing is left running.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from own_trainer import OwnTrainer

import fake_sd_scripts
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record
from situations import RECIPE, project

RECIPES, STEPS, SAVE_STEPS, DELAY = 3, 90, 2, 0.7
LIMIT_S = 600.0
MORE = f"""
[network]
type = "networks.lora_fa"
[train]
resolutions = [256, 320]
max_train_steps = {STEPS}
[save]
save_state = true
save_every_n_steps = {SAVE_STEPS}
save_every_n_epochs = 1
"""
# Slurm looks at time limits every 30 s, and may send the signal up to a minute early: a part gets 30 to 90 s.
JOB = """\
#!/bin/bash
#SBATCH --array=0-{last} --requeue --time=3 --signal=USR1@90 --open-mode=append --output={folder}/job-%a.txt
cd {folder}/project
srun {python} -m lorabake run r$SLURM_ARRAY_TASK_ID.toml --once {flags} && exit
code=$?
case $code in 130|138) scontrol requeue ${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID;; esac
exit $code
"""
CONFIGURATION = """\
ClusterName=loopback
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort=26817
SlurmdPort=26818
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


@dataclass(frozen=True)
class Course:
    """How one run went: the step after which each part began, and the numbers of all steps in their order."""

    name: str
    status: str
    parts: tuple[int, ...]
    steps: tuple[int, ...]
    weight: float

    @property
    def repeated(self) -> int:
        return len(self.steps) - len(set(self.steps))

    @property
    def is_right(self) -> bool:
        """Every step once, but for those after the last state: at most one for each resume, with a state every two."""
        whole = self.status == "finished" and set(self.steps) == set(range(1, STEPS + 1)) and self.weight == STEPS
        return whole and self.repeated <= (SAVE_STEPS - 1) * (len(self.parts) - 1)


def command(folder: Path, *argv: str) -> str:
    """A command of Slurm; its output."""
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def slurm(folder: Path) -> Generator[None]:
    """munged, slurmctld and slurmd in ``folder`` until this ends."""
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700, parents=True)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    (folder / "slurm.conf").write_text(CONFIGURATION.format(folder=folder, host=host), "utf-8")
    munge = {name: f"--{name}={folder}/munge/{name.removesuffix('-file')}" for name in ("socket", "pid-file")}
    files = [f"--key-file={key}", f"--log-file={folder}/munge/log", f"--seed-file={folder}/munge/seed"]
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    daemons = (
        ["munged", "--foreground", "--force", *munge.values(), *files],
        ["slurmctld", "-D", "-c"],
        ["slurmd", "-D"],
    )
    started: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "daemons.log").open("wb") as log:
            for argv in daemons:
                started.append(subprocess.Popen(argv, env=env, stdout=log, stderr=log))
                time.sleep(1.5)
        yield
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


def make_project(folder: Path) -> list[str]:
    """The recipes and their trainer; the options by which `lorabake run` finds it."""
    trainer = OwnTrainer(folder / "trainer")
    script = Path(fake_sd_scripts.__file__).read_text("utf-8")
    slow = script.replace('"delay": 0.0', f'"batches": 5, "delay": {DELAY}')
    (trainer.checkout / "train_network.py").write_text(slow, "utf-8")
    for number in range(RECIPES):
        text = re.sub('name = "[a-z]+"', f'name = "r{number}"', RECIPE, count=1)
        project(folder / "project", MORE, text=text, pictures=6).rename(folder / "project" / f"r{number}.toml")
    return list(trainer.flags)


def count_steps(paths: RunPaths) -> tuple[int, ...]:
    try:
        told = [json.loads(line) for line in paths.events.read_text("utf-8").splitlines(keepends=True)]
    except (FileNotFoundError, ValueError):
        return ()
    return tuple(event["step"] for event in told if event["event"] == "step")


def watch_queue(folder: Path) -> None:
    """Print every change of the queue until it is empty; requeue the first recipe once, in the middle of its run."""
    before, deadline, is_requeued = "", time.monotonic() + LIMIT_S, False
    while time.monotonic() < deadline:
        now = command(folder, "squeue", "--noheader", "--array", "--sort=i", "--format=%i %T %r")
        if now != before:
            print(time.strftime("%T"), "; ".join(now.splitlines()) or "the queue is empty", flush=True)
        if not now:
            return
        steps = count_steps(RunPaths(folder / "project" / "runs" / "r0-001"))
        if not is_requeued and len(steps) >= STEPS // 4:
            (job,) = re.findall(r"^(\d+_0) ", now, re.MULTILINE)
            print(time.strftime("%T"), f"scontrol requeue {job}, after step {steps[-1]}", flush=True)
            command(folder, "scontrol", "requeue", job)
            is_requeued = True
        before = now
        time.sleep(0.5)
    print(f"not over after {LIMIT_S:.0f} s")


def read_course(root: Path) -> Course:
    paths = RunPaths(root)
    record = read_record(paths.record)
    lora = root / "output" / f"{record.name}.safetensors"
    parts = tuple(part.first_step for part in record.parts) or (0,)
    weight = fake_sd_scripts.weight(lora) if lora.exists() else 0.0
    return Course(root.name, record.status, parts, count_steps(paths), weight)


def find_leftovers(folder: Path) -> list[str]:
    """Processes that name the folder in their arguments, but for this one."""
    said = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if str(folder) in line and int(line.split()[0]) != os.getpid()]


def main() -> int:
    folder = Path(sys.argv[1]).absolute()
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid():
        print(f"nothing was tried: it needs root and {', '.join(missing) or 'Slurm'}")
        return 0
    folder.mkdir(parents=True)
    (folder / "home").mkdir()
    flags = " ".join(make_project(folder))
    job = folder / "job.sh"
    job.write_text(JOB.format(last=RECIPES - 1, folder=folder, python=sys.executable, flags=flags), "utf-8")
    os.environ |= {"HOME": str(folder / "home"), "LORABAKE_HOME": str(folder / "home" / "lorabake")}
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with slurm(folder):
        print(command(folder, "sbatch", str(job)), end="")
        watch_queue(folder)
    for line in (folder / "jobs.txt").read_text("utf-8").splitlines():
        told = dict(pair.split("=", 1) for pair in line.split() if "=" in pair)
        print(*(told.get(key, "?") for key in ("JobId", "JobState", "StartTime", "EndTime", "ExitCode")))
    courses = [read_course(path.parent) for path in sorted((folder / "project" / "runs").glob("*/record.json"))]
    for course in courses:
        print(
            f"{course.name}: {course.status}, parts begin after steps {course.parts}, {len(course.steps)} steps shown,"
        )
        print(f"  {course.repeated} of them twice; {course.weight:.0f} steps are in the LoRA")
    left = find_leftovers(folder)
    print("left running:", *left or ["nothing"])
    right = len(courses) == RECIPES and all(course.is_right for course in courses) and not left
    print("right" if right else "WRONG")
    return 0 if right else 1


if __name__ == "__main__":
    sys.exit(main())
