"""Two processes on the CPU train one LoRA: checked, run, stopped, resumed and verified through lorabake's commands.

Four trainings of the pinned sd-scripts, two of them by two processes that take 7 GB each.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from safetensors import safe_open

from lorabake.jobs import quickstart_files
from lorabake.lora.weights import read_weights
from lorabake.runs.command import CPU_PROCESSES_FILE
from lorabake.runs.events import read_last_step
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record
from lorabake.trainer.install import Trainer
from lorabake.util import locks, machine
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.record import Record
from sample_images import write_lighthouses

ROOT = Path(__file__).parents[2]
WATCHER = Path(__file__).with_name("watch_processes.py")
PATIENCE, IMAGES, EPOCHS = 1200.0, 8, 2
STEPS = IMAGES // 2 * EPOCHS

pytestmark = pytest.mark.matrix  # ten minutes on two cores


@pytest.fixture(scope="module")
def cache() -> Path:
    return Path(read_environment().get("LORABAKE_TEST_HOME") or ROOT / ".test-cache").absolute()


@pytest.fixture(scope="module")
def base(cache: Path, trainer: Trainer) -> Path:
    folder = cache / "bases" / "sd15"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold_lock(cache / "bases" / ".lock", lambda _: print("waiting for another session's base")):
        quickstart_files.make_base(folder, "sd15", trainer.python, read_environment(), print)
    wanted, free = 2 * quickstart_files.resource_needs("sd15").memory_bytes, machine.get_available_memory()
    if free is not None and free < wanted:
        pytest.skip(f"two processes need {wanted / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free")
    return folder


def write_recipe(folder: Path, name: str, base: Path, processes: int, batch: int) -> Path:
    """Eight images in one bucket, four steps in each of two epochs, a state after every third step."""
    write_lighthouses(folder / "lighthouse", IMAGES)
    recipe: dict[str, Any] = {
        "name": name,
        "kind": "object",
        "base": {
            "model": base.as_posix(),
            "family": "sd15",
            "tags": "danbooru",
            "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
        },
        "concept": [{"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse", "num_repeats": 1}],
        "network": {"network_dim": 4, "network_train_unet_only": True},
        "train": {
            "optimizer": "AdamW",
            "learning_rate": 1e-3,
            "resolution": 64,
            "lr_warmup_steps": 0,
            "max_data_loader_n_workers": 0,
            "max_train_epochs": EPOCHS,
            "train_batch_size": batch,
        },
        "save": {"save_state": True, "save_precision": "float", "save_every_n_steps": 3},
        "launch": {"num_processes": processes, "num_cpu_threads_per_process": 1, "main_process_port": 29_650},
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


class Project:
    """lorabake's command line in a folder."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache

    def start(self, *args: str) -> subprocess.Popen[str]:
        env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(self.cache))
        argv = [sys.executable, "-m", "lorabake", *args]
        return subprocess.Popen(
            argv, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def done(self, *args: str, code: int = 0) -> str:
        process = self.start(*args)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == code, out[-3000:] + err[-6000:]
        return out

    def record(self, run: str) -> Record:
        return read_record(self.folder / run / "record.json")

    def stopped(self, run: str, recipe: str, after: int) -> None:
        """`lorabake run`, stopped by Ctrl-C once that step is said."""
        process = self.start("run", recipe, "--run-dir", run)
        wait_until(lambda: process.poll() is not None or last_step(self.folder / run) >= after, f"step {after}")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, out[-3000:] + err[-6000:]


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def last_step(run: Path) -> int:
    return read_last_step(RunPaths(run))


def measure_change(file: Path) -> tuple[int, float]:
    """How many matrices that begin at zero have moved, and how far all of them together."""
    grown = list[float]()
    with cast("Any", safe_open)(file, framework="numpy") as opened:
        for name in opened.keys():  # noqa: SIM118 - the file is no dictionary
            if name.endswith("lora_up.weight"):
                grown.append(float((opened.get_tensor(name).astype("float64") ** 2).sum()))
    return sum(each > 0 for each in grown), math.sqrt(sum(grown))


def watch(run: Path, folder: Path) -> list[Mapping[str, Any]]:
    """The run's own command once more, in a copy of its folder, with a look into each process.

    Of a run on several machines all commands are started, with the rank of each.
    """
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("output", "logs", "tensorboard", "parts", "*.json*"))
    told = json.loads((run / "command.json").read_text("utf-8"))
    argv: list[str] = told["argv"]
    own = argv.index(CPU_PROCESSES_FILE)  # then sd-scripts' script
    argv = [*argv[: own + 1], str(WATCHER), ".", *argv[own + 1 :]]
    env = dict(read_environment()) | told["environment"]
    ranks: list[list[str]] = [["--machine_rank", rank] for rank in "01"] if "--machine_rank" in argv else [[]]
    started = [  # what comes last counts
        subprocess.Popen([*argv[:own], *rank, *argv[own:]], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
        for rank in ranks
    ]
    for process in started:
        _, said = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, said[-6000:]
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("process-*.json"))]


def test_two_processes_train_one_lora(tmp_path: Path, base: Path, cache: Path) -> None:
    write_recipe(tmp_path, "two", base, processes=2, batch=1)
    write_recipe(tmp_path, "one", base, processes=1, batch=2)
    project = Project(tmp_path, cache)

    said = json.loads(project.done("check", "two.toml", "--json"))
    assert {"G4.96.processes", "S51"} <= {finding["rule"] for finding in said["findings"]}

    project.stopped("runs/stopped", "two.toml", after=4)
    assert project.record("runs/stopped").status == "interrupted"
    project.done("resume", "runs/stopped")
    resumed = project.record("runs/stopped")
    assert resumed.status == "finished"
    assert resumed.outcome is not None
    assert resumed.outcome.steps == resumed.planned_steps == STEPS
    project.done("verify", "runs/stopped")

    ranks = watch(tmp_path / "runs/stopped", tmp_path / "runs/watched")
    assert len(ranks) == 2
    first, second = ranks
    assert first["weights"] == second["weights"]
    assert first["noise"] == second["noise"]  # S51
    assert len(first["noise"]) == STEPS
    assert set(first["latents"][: IMAGES // 2]).isdisjoint(second["latents"][: IMAGES // 2])

    project.done("run", "one.toml", "--run-dir", "runs/one")
    alone = project.record("runs/one")
    assert alone.planned_steps == STEPS
    two, one = tmp_path / "runs/stopped/output/two.safetensors", tmp_path / "runs/one/output/one.safetensors"
    assert read_weights(two).steps == read_weights(one).steps == STEPS
    (moved, far), (moved_alone, far_alone) = measure_change(two), measure_change(one)
    print(f"two processes: {moved} matrices moved by {far:.4f}; a batch of two: {moved_alone} by {far_alone:.4f}")
    assert moved == moved_alone > 0
    assert 0.5 < far / far_alone < 2


def test_two_machines_train_one_lora(tmp_path: Path, base: Path, cache: Path) -> None:
    """Two commands with different seats on this machine, which share a disk; one process each."""
    write_recipe(tmp_path, "two", base, processes=2, batch=1)
    project = Project(tmp_path, cache)
    seats = [("--machines", "2", "--machine-rank", str(rank), "--main-address", "127.0.0.1") for rank in (0, 1)]
    started = [project.start("run", "two.toml", "--run-dir", "runs/two", *seat) for seat in seats]
    for process in started:
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, out[-3000:] + err[-6000:]
    record, run = project.record("runs/two"), tmp_path / "runs/two"
    assert record.status == "finished"
    assert record.seat is not None
    assert read_weights(run / "output/two.safetensors").steps == record.planned_steps == STEPS
    assert "accelerator device: cpu" in (run / "logs/machine-1.log").read_text("utf-8")
    project.done("verify", "runs/two")
    moved, far = measure_change(run / "output/two.safetensors")
    print(f"two machines: {moved} matrices moved by {far:.6f}")

    first, second = watch(run, tmp_path / "runs/watched")
    assert first["weights"] == second["weights"]
