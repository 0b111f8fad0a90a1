"""Several recipes with one command, from one worker or from several at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from test_kill import until

from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import read_claim
from lorabake.runs.status import read_state

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """name = "{name}"
kind = "character"
[base]
model = "base.safetensors"
family = "sd15"
[[concept]]
images = "data"
token = "lumperson"
class = "girl"
[train]
max_train_epochs = 2
"""


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for n in range(4):
        Image.new("RGB", (64, 64), (40 * n, 90, 7)).save(tmp_path / "data" / f"{n}.png")
        (tmp_path / "data" / f"{n}.txt").write_text(f"lumperson, girl, hat, t{n}", "utf-8")
    return tmp_path


def write_recipes(folder: Path, count: int) -> list[str]:
    names = [f"r{n}.toml" for n in range(count)]
    for name in names:
        (folder / name).write_text(RECIPE.format(name=name.removesuffix(".toml")), "utf-8")
    return names


def start(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "lorabake", "run", "--rehearse", "--json", *arguments]
    env = os.environ | {"LORABAKE_HOME": str(folder / "home")}
    return subprocess.Popen(argv, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def lorabake_run(folder: Path, *arguments: str) -> tuple[int, list[dict[str, Any]]]:
    with start(folder, *arguments) as process:
        said, _ = process.communicate(timeout=120)
    return process.returncode, json.loads(said)["jobs"]


def test_a_failed_recipe_does_not_stop_the_rest(studio: Path) -> None:
    names = write_recipes(studio, 3)
    (studio / names[1]).write_text("name = 3", "utf-8")
    code, jobs = lorabake_run(studio, *names)
    assert code == 1
    assert [(job["state"], job["code"]) for job in jobs] == [("finished", 0), ("failed", 1), ("finished", 0)]
    assert len(list((studio / "runs").glob("*/record.json"))) == 2


def test_errors_of_later_recipes_are_known_before_the_first_training(studio: Path) -> None:
    """A name that an overnight queue would have come to in the morning; and a file that is not there."""
    names = write_recipes(studio, 2)
    recipe = studio / names[1]
    recipe.write_text(recipe.read_text("utf-8").replace("max_train_epochs", "max_train_epoch"), "utf-8")
    with start(studio, *names, "lost.toml") as process:
        _, said = process.communicate(timeout=120)
    lines = said.decode().splitlines()
    begun = next(at for at, line in enumerate(lines) if line.startswith("device:"))
    assert any(f"{names[1]}:" in line and "unknown-key" in line for line in lines[:begun])
    assert any("lost.toml" in line for line in lines[:begun])


def test_once_is_safe_to_repeat(studio: Path) -> None:
    names = write_recipes(studio, 2)
    assert lorabake_run(studio, names[0], "--once")[0] == 0
    code, jobs = lorabake_run(studio, *names, "--once")
    assert (code, [job["state"] for job in jobs]) == (0, ["already-finished", "finished"])
    code, jobs = lorabake_run(studio, *names, "--once", "--set", "train.seed=8")
    assert (code, [job["state"] for job in jobs]) == (0, ["finished", "finished"])
    assert len(list((studio / "runs").glob("*/record.json"))) == 4


def test_workers_share_the_recipes_without_a_double(studio: Path) -> None:
    names = write_recipes(studio, 5)
    workers = [start(studio, *names, "--once"), start(studio, *names[::-1], "--once")]
    states = [json.loads(worker.communicate(timeout=300)[0])["jobs"] for worker in workers]
    made = [job["recipe"] for jobs in states for job in jobs if job["state"] == "finished"]
    assert sorted(made) == names
    runs = [json.loads(path.read_text("utf-8")) for path in (studio / "runs").glob("*/record.json")]
    assert sorted(run["name"] for run in runs) == [name.removesuffix(".toml") for name in names]
    assert len({run["digest"] for run in runs}) == len(names)


def test_a_run_that_is_being_stopped_is_waited_for(studio: Path) -> None:
    """Its trainer is suspended, so that it ends only when it is killed, 15 seconds after the first signal."""
    names = write_recipes(studio, 1)
    long = ("--once", "--set", "train.max_train_epochs=60000")
    paths = RunPaths(studio / "runs" / "r0-rehearsal-001")
    with start(studio, *names, *long) as first:
        until(lambda: paths.events.exists() and b'"step": ' in paths.events.read_bytes(), "a step")
        claim = read_claim(paths)
        assert claim is not None
        os.kill(claim.trainer, signal.SIGSTOP)
        first.send_signal(signal.SIGTERM)
        until(lambda: read_state(paths) == "stopping", "the stop")
        code, jobs = lorabake_run(studio, *names, *long)
        first.communicate(timeout=60)
    assert first.returncode == 130
    assert (code, [job["state"] for job in jobs]) == (0, ["finished"])


def test_a_sweep(studio: Path) -> None:
    names = write_recipes(studio, 1)
    sets = ("--set", "network.network_dim=4,8", "--set", "train.seed=1,2,3")
    code, jobs = lorabake_run(studio, *names, *sets)
    assert (code, {job["state"] for job in jobs}) == (0, {"finished"})
    assert [job["set"] for job in jobs][:2] == [
        ["network.network_dim=4", "train.seed=1"],
        ["network.network_dim=4", "train.seed=2"],
    ]
    runs = {json.loads(path.read_text("utf-8"))["name"] for path in (studio / "runs").glob("*/record.json")}
    assert runs == {f"r0-{dim}-{seed}" for dim in (4, 8) for seed in (1, 2, 3)}
    code, jobs = lorabake_run(studio, *names, *sets, "--once")
    assert (code, {job["state"] for job in jobs}) == (0, {"already-finished"})


def test_options_for_one_recipe(studio: Path) -> None:
    names = write_recipes(studio, 2)
    for option in (("--run-dir", "x"), ("--detach",), ("--dry-run",)):
        with start(studio, *names, *option) as process:
            process.communicate(timeout=60)
        assert process.returncode == 2
