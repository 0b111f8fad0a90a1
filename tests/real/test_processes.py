"""Several processes and machines train one LoRA for real, on the CPU, through lorabake's commands.

The trainer is unchanged; its Python notes what each process loads, draws and trains (watch_processes.py). Two
processes take 7 GB each, or share what they map.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w
from safetensors import safe_open

from lorabake.runs.events import read_last_step
from lorabake.runs.folder import RunPaths
from lorabake.runs.record import read_record
from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.record import Record
from sample_images import write_lighthouses

WATCHER = Path(__file__).with_name("watch_processes.py")
PATIENCE, PORT = 1200.0, 29_650
SAVE_EVERY = 2


def write_recipe(
    folder: Path,
    name: str,
    base: Path,
    *,
    processes: int = 2,
    images: int = 6,
    epochs: int = 2,
    optimizer: tuple[str, float] = ("AdamW", 1e-3),
) -> Path:
    """Images in one bucket, two in each step, and a state after every second step."""
    write_lighthouses(folder / "lighthouse", images)
    recipe: dict[str, Any] = {
        "name": name,
        "kind": "object",
        "base": {
            "model": base.as_posix(),
            "family": "sd15",
            "tags": "danbooru",
            "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
        },
        "concept": [
            {
                "token": "lumlighthouse",
                "class": "lighthouse",
                "images": "lighthouse",
                "num_repeats": 1,
                "shuffle_caption": False,
            }
        ],
        "network": {"network_dim": 4, "network_dropout": 0.0, "network_train_unet_only": True},
        "train": {
            "optimizer": optimizer[0],
            "learning_rate": optimizer[1],
            "resolution": 64,
            "lr_warmup_steps": 0,
            "noise_offset": 0.0,
            "max_data_loader_n_workers": 0,
            "max_train_epochs": epochs,
            "train_batch_size": 2 // processes,
        },
        "save": {"save_state": True, "save_precision": "float", "save_every_n_steps": SAVE_EVERY},
        "launch": {"num_processes": processes, "num_cpu_threads_per_process": 1, "main_process_port": PORT},
    }
    path = folder / f"{name}.toml"
    path.write_text(tomli_w.dumps(recipe), encoding="utf-8")
    return path


class Project:
    """lorabake's command line in a folder, with the trainer's checkout and a Python that watches."""

    def __init__(self, folder: Path, base: Path, cache: Path, trainer: Trainer) -> None:
        self.folder, self.base, self.cache = folder, base, cache
        self.seen = folder / "seen"
        python = make_watching_python(folder / "python", trainer)
        self.trainer = ("--sd-scripts", str(trainer.checkout), "--python", str(python))

    def start(self, command: str, *args: str, **env: str) -> subprocess.Popen[str]:
        env |= {"HF_HUB_OFFLINE": "1", "LORABAKE_HOME": str(self.cache), "LORABAKE_TEST_WATCH": str(self.seen)}
        argv = [sys.executable, "-m", "lorabake", command, *args, *(() if command == "check" else self.trainer)]
        return subprocess.Popen(
            argv,
            cwd=self.folder,
            env=make_child_env(read_environment(), **env),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def done(self, *args: str, **env: str) -> str:
        """What it prints; it exits with 0."""
        return finish([self.start(*args, **env)], 0)

    def stop(self, processes: Sequence[subprocess.Popen[str]], run: str, *, after: int, which: int = 0) -> None:
        """Ctrl-C on one machine once the run has come that far; all of them end with 130."""

        def is_there() -> bool:
            return any(each.poll() is not None for each in processes) or last_step(self.folder / run) >= after

        wait_until(is_there, f"step {after}")
        processes[which].send_signal(signal.SIGINT)
        finish(processes, 130)

    def record(self, run: str) -> Record:
        return read_record(self.folder / run / "record.json")

    def take_seen(self) -> list[dict[str, Any]]:
        """What each process of the last training has noted."""
        found = [json.loads(path.read_text("utf-8")) for path in sorted(self.seen.glob("process-*.json"))]
        shutil.rmtree(self.seen)
        self.seen.mkdir()
        return found


@pytest.fixture
def project(tmp_path: Path, make_base: Callable[..., Path], cache: Path, trainer: Trainer) -> Project:
    (tmp_path / "seen").mkdir()
    return Project(tmp_path, make_base("sd15", trainings=2), cache, trainer)


def make_watching_python(folder: Path, trainer: Trainer) -> Path:
    """A Python with the trainer's packages that runs watch_processes.py before anything else."""
    subprocess.run([str(trainer.python), "-m", "venv", "--without-pip", str(folder)], check=True)
    python, code = folder / "bin" / "python", "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, theirs = (
        subprocess.run([str(each), "-c", code], check=True, capture_output=True, text=True).stdout.strip()
        for each in (python, trainer.python)
    )
    (Path(own) / "trainer.pth").write_text(theirs + "\n", encoding="utf-8")
    shutil.copyfile(WATCHER, Path(own) / "sitecustomize.py")
    return python


def finish(processes: Sequence[subprocess.Popen[str]], code: int) -> str:
    printed = [process.communicate(timeout=PATIENCE) for process in processes]
    codes = [process.returncode for process in processes]
    assert codes == [code] * len(codes), "\n".join(out[-3000:] + err[-6000:] for out, err in printed)
    return printed[0][0]


def wait_until(is_true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def last_step(run: Path) -> int:
    return read_last_step(RunPaths(run))


def read_trained(file: Path) -> dict[str, Any]:
    """The matrices of a LoRA that begin at zero."""
    with cast("Any", safe_open)(file, framework="numpy") as opened:
        names = [name for name in opened.keys() if name.endswith("lora_up.weight")]  # noqa: SIM118 - no dictionary
        return {name: opened.get_tensor(name).astype("float64") for name in names}


def compare(first: Path, second: Path) -> tuple[float, float]:
    """How far two LoRAs are apart, as a share of how far training has moved them; and the cosine between them."""
    one, other = read_trained(first), read_trained(second)
    assert one.keys() == other.keys()
    apart = math.sqrt(sum(((one[name] - other[name]) ** 2).sum() for name in one))
    sizes = [math.sqrt(sum((each**2).sum() for each in lora.values())) for lora in (one, other)]
    assert min(sizes) > 0
    return apart / max(sizes), sum((one[name] * other[name]).sum() for name in one) / (sizes[0] * sizes[1])


def expect_alike(ranks: list[dict[str, Any]], *, steps: int, noise: bool = True) -> None:
    first, second = ranks
    assert first["weights"] == second["weights"]
    assert first["loaded"] == second["loaded"]
    assert [len(each["noise"]) for each in ranks] == [steps, steps]
    assert all(one != other for one, other in zip(first["latents"], second["latents"], strict=True))
    assert (first["noise"] == second["noise"]) == noise


@pytest.mark.real
def test_two_processes_train_one_lora(project: Project) -> None:
    """Two steps, for every commit: what stops, resumes and compares is in the tests below."""
    write_recipe(project.folder, "two", project.base, images=4, epochs=1)
    findings = json.loads(project.done("check", "two.toml", "--json"))["findings"]
    assert {"G4.96.processes", "S51"} <= {finding["rule"] for finding in findings}
    project.done("run", "two.toml", "--run-dir", "runs/two")
    record, ranks = project.record("runs/two"), project.take_seen()
    assert record.outcome is not None
    assert record.outcome.steps == record.planned_steps == 2
    expect_alike(ranks, steps=2)  # S51: the same noise
    print(f"two processes: {record.planned_steps} steps, weights of both {ranks[0]['weights'][:16]}")
    project.done("verify", "runs/two")


@pytest.mark.matrix
def test_two_processes_train_like_one_with_a_batch_of_two(project: Project) -> None:
    """Both images in each step, with the same noise: the gradients are the same but for the order of a sum. AdamW would
    take a gradient of almost 0 for a whole step in either direction.
    """
    for name, processes in {"two": 2, "one": 1}.items():
        optimizer = ("torch.optim.SGD", 1.0)
        write_recipe(project.folder, name, project.base, processes=processes, images=2, optimizer=optimizer)
    seen: dict[str, list[dict[str, Any]]] = {}
    for name in ("two", "one"):
        project.done("run", f"{name}.toml", "--run-dir", f"runs/{name}", LORABAKE_TEST_NOISE="1")
        assert project.record(f"runs/{name}").planned_steps == 2
        seen[name] = project.take_seen()
    expect_alike(seen["two"], steps=2, noise=False)
    dealt = list(zip(*(rank["latents"] for rank in seen["two"]), strict=True))
    alone = seen["one"][0]["latents"]
    assert [{*step} for step in dealt] == [{*alone[:2]}, {*alone[2:]}]
    apart, cosine = compare(*(project.folder / f"runs/{name}/output/{name}.safetensors" for name in seen))
    print(f"two processes beside a batch of two, same noise: apart by {apart:.2e}, cosine {cosine:.9f}")
    assert apart < 1e-2


@pytest.mark.matrix
def test_two_processes_are_stopped_and_resumed(project: Project) -> None:
    write_recipe(project.folder, "two", project.base)
    project.stop([project.start("run", "two.toml", "--run-dir", "runs/two")], "runs/two", after=3)
    assert project.record("runs/two").status == "interrupted"
    project.take_seen()
    project.done("resume", "runs/two")
    expect_resumed(project, "runs/two")


@pytest.mark.matrix
def test_two_machines_train_one_lora_are_stopped_and_resumed(project: Project) -> None:
    """Two commands with different seats on this machine, which share a disk; one process each."""
    write_recipe(project.folder, "two", project.base)
    seats = [("--machines", "2", "--machine-rank", str(rank), "--main-address", "127.0.0.1") for rank in (0, 1)]
    started = [project.start("run", "two.toml", "--run-dir", "runs/two", *seat) for seat in seats]
    project.stop(started, "runs/two", after=3, which=1)
    record = project.record("runs/two")
    assert record.outcome is not None
    assert (record.status, record.outcome.code) == ("interrupted", "interrupted")
    assert record.seat is not None
    project.take_seen()
    finish([project.start("resume", "runs/two", *seat) for seat in seats], 0)
    expect_resumed(project, "runs/two")
    assert [part.seat is not None for part in project.record("runs/two").parts] == [True, True]
    assert (project.folder / "runs/two/logs/machine-1.log").read_text("utf-8").count("accelerator device: cpu") == 2


def expect_resumed(project: Project, run: str) -> None:
    record, ranks = project.record(run), project.take_seen()
    assert record.outcome is not None
    assert (record.status, record.outcome.steps) == ("finished", record.planned_steps)
    assert record.planned_steps == 6
    begun = record.parts[-1].first_step
    assert begun
    assert begun % SAVE_EVERY == 0
    assert ranks[0]["loaded"] is not None
    expect_alike(
        ranks, steps=record.planned_steps - begun, noise=False
    )  # the first process has its random numbers back
    print(
        f"resumed after step {begun} of 6: both loaded {ranks[0]['loaded'][:16]}, ended with {ranks[0]['weights'][:16]}"
    )
    project.done("verify", run)
