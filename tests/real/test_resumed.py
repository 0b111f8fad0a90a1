"""A real training is killed and resumed: the states it leaves, the one that is used, and where it ends.

Each training of the pinned sd-scripts takes a minute, with one [[datasets]] and with several: a deterministic one
without a break, the same with SIGKILL to lorabake and a damaged state; and one killed inside an epoch whose last step
is no epoch's end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from lorabake.lora.weights import read_weights
from lorabake.runs.folder import RunPaths
from lorabake.runs.lock import find_active, find_running_trainer, read_claim
from lorabake.runs.record import read_record
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.record import Record
from sample_images import draw_images, write_lighthouses

PATIENCE = 400.0  # seconds for one command; a training takes one minute

pytestmark = pytest.mark.real
SEVERAL = pytest.mark.parametrize("several", [False, True], ids=["one dataset", "several"])


class Project:
    """A recipe whose training draws on chance wherever it can, and lorabake's command line on it."""

    def __init__(
        self, folder: Path, base: Path, cache: Path, train: dict[str, Any], *, several: bool, **more: Any
    ) -> None:
        """An epoch has four batches. ``several``: of two [[datasets]], one folder being trained at both
        resolutions and another one at one of them.
        """
        self.folder, self.cache = folder, cache
        write_lighthouses(folder / "lighthouse", 2 if several else 4)
        concept = {
            "token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse",
            "num_repeats": 1, "flip_aug": True, "shuffle_caption": True,
        }  # fmt: skip
        sizes: dict[str, Any] = {"resolution": 64}
        concepts: list[dict[str, Any]] = [concept]
        if several:
            sizes = {"resolutions": [64, 128], "train_batch_size": [2, 1]}
            draw_images(folder / "drawn", "lumlighthouse, lighthouse", 1)
            concepts.append({**concept, "images": "drawn", "resolution": 64})
        told: dict[str, Any] = {
            "name": "lum",
            "kind": "object",
            "base": {
                "model": base.as_posix(),
                "family": "sd15",
                "tags": "danbooru",
                "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
            },
            "concept": concepts,
            "network": {"network_dim": 4, "network_dropout": 0.1, "network_train_unet_only": True},
            "train": {
                "optimizer": "AdamW",
                "learning_rate": 1e-3,
                **sizes,
                "lr_warmup_steps": 0,
                "max_data_loader_n_workers": 0,
                **train,
            },
            "save": {"save_state": True, "save_precision": "float", "save_every_n_steps": 3},
            **more,
        }
        (folder / "recipe.toml").write_text(tomli_w.dumps(told), encoding="utf-8")

    def lorabake(self, *args: str) -> subprocess.Popen[str]:
        env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(self.cache))
        argv = [sys.executable, "-m", "lorabake", *args]
        return subprocess.Popen(
            argv, cwd=self.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def done(self, *args: str) -> str:
        """Run it to a successful end; returns its output."""
        process = self.lorabake(*args)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, out[-3000:] + err[-6000:]
        return out + err

    def killed(self, run: Path, after: int) -> None:
        """`lorabake run`, whose supervisor gets SIGKILL once that step is reported; its guard stops the trainer."""
        process = self.lorabake("run", "recipe.toml", "--run-dir", str(run))
        until(lambda: process.poll() is not None or last_step(run) >= after, f"step {after}")
        os.kill(supervisor_of(run), signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
        until(
            lambda: (
                read_record(run / "record.json").status == "interrupted" and find_running_trainer(RunPaths(run)) is None
            ),
            "the guard",
        )


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def supervisor_of(run: Path) -> int:
    """The process that owns the run; `lorabake run` only shows its events."""
    active = find_active(RunPaths(run), read_record(run / "record.json"))
    assert active is not None
    assert active.is_supervised
    assert active.owner is not None
    return active.owner.pid


def children_of(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]


def events(run: Path) -> list[dict[str, Any]]:
    path = run / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def last_step(run: Path) -> int:
    return max((each["step"] for each in events(run) if each["event"] == "step"), default=0)


def damaged(run: Path, step: int) -> None:
    """One bit in the middle of the newest state's largest file."""
    path = run / "output" / f"lum-step{step:08d}-state" / "optimizer.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def touched(run: Path, step: int) -> None:
    folder = run / "output" / f"lum-step{step:08d}-state"
    for path in (*folder.iterdir(), folder):
        os.utime(path, (2e9, 2e9))


def assert_numbers(run: Path, record: Record, steps: int) -> None:
    """As many steps as planned, each reported once and in order; every file has the step of its name."""
    assert (record.status, record.planned_steps) == ("finished", steps)
    assert read_weights(run / "output" / "lum.safetensors").steps == steps
    for path in (run / "output").glob("lum-step*.safetensors"):
        assert read_weights(path).steps == int(path.stem.removeprefix("lum-step"))
    for path in (run / "output").glob("lum-step*-state"):
        told = json.loads((path / "train_state.json").read_text(encoding="utf-8"))
        assert told["current_step"] == int(path.name[len("lum-step") : -len("-state")])
    part = record.parts[-1]
    kinds = [(each["event"], each.get("step")) for each in events(run)]
    after = kinds[kinds.index(("resumed", None)) :]
    assert [step for kind, step in after if kind == "step"] == list(range(part.first_step + 1, steps + 1))


@SEVERAL
def test_killed_with_its_newest_state_damaged_it_ends_as_without(
    tmp_path: Path, cache: Path, base: Path, several: bool
) -> None:
    """Three epochs of four steps, deterministic: killed after step 9, whose state is damaged; so it continues after
    8, the end of the second epoch, and the weights are those of the run without a break, bit for bit."""
    save = {"save_state": True, "save_precision": "float", "save_every_n_steps": 3, "save_every_n_epochs": 1}
    project = Project(
        tmp_path, base, cache, {"max_train_epochs": 3}, several=several, save=save, launch={"deterministic": True}
    )
    whole, run = tmp_path / "whole", tmp_path / "run"
    project.done("run", "recipe.toml", "--run-dir", str(whole))
    project.killed(run, 10)
    damaged(run, 9)
    touched(run, 3)
    said = project.done("resume", str(run))
    assert "output/lum-step00000009-state is not used: optimizer.bin: damaged" in said
    record = read_record(run / "record.json")
    assert (record.parts[1].state, record.parts[1].first_step) == ("output/lum-000002-state", 8)
    assert_numbers(run, record, 12)
    for name in ("lum-000001.safetensors", "lum-000002.safetensors", "lum.safetensors"):
        assert (run / "output" / name).read_bytes() == (whole / "output" / name).read_bytes(), name
    again = project.done("resume", str(run))
    assert "is finished" in again


def test_killed_inside_an_epoch_with_a_last_step_that_is_no_epochs_end(tmp_path: Path, cache: Path, base: Path) -> None:
    """Ten steps of four an epoch, of two [[datasets]]: sd-scripts would go on to 12 (or, from inside the first epoch,
    begin it again).
    """
    project = Project(tmp_path, base, cache, {"max_train_steps": 10}, several=True)
    run = tmp_path / "run"
    project.killed(run, 7)
    said = project.done("resume", str(run))
    record = read_record(run / "record.json")
    part = record.parts[1]
    assert (part.first_step, part.offset) == (6, 4)
    assert "--skip_until_initial_step" in part.argv
    assert_numbers(run, record, 10)
    assert record.outcome is not None
    assert "at step 10 and stopped it there" in said


def test_a_trainer_that_outlived_lorabake_and_guard(tmp_path: Path, cache: Path, base: Path) -> None:
    """Supervisor and both guards are killed, accelerate and sd-scripts are still running: they are reported, stopped
    as the hint says, and only then the run is resumed.
    """
    project = Project(tmp_path, base, cache, {"max_train_steps": 300}, several=False)
    run = tmp_path / "run"
    lorabake = project.lorabake("run", "recipe.toml", "--run-dir", str(run))
    until(lambda: lorabake.poll() is not None or last_step(run) >= 4, "step 4")
    claim = read_claim(RunPaths(run))
    assert claim is not None
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # a batch system's warning, to which only lorabake listens
        os.kill(claim.trainer, number)
    for pid in (supervisor_of(run), *(set(children_of(claim.owner.pid)) - {claim.trainer}), claim.owner.pid):
        os.kill(pid, signal.SIGKILL)
    lorabake.communicate(timeout=PATIENCE)
    active = find_running_trainer(RunPaths(run))
    assert active is not None
    assert len(active.pids) >= 2  # accelerate and the training
    for command in (("resume", str(run)), ("run", "recipe.toml", "--run-dir", str(tmp_path / "other"))):
        refused = project.lorabake(*command)
        _, err = refused.communicate(timeout=PATIENCE)
        assert refused.returncode == 5
        assert " ".join(map(str, active.pids)) in err
        assert "lorabake stop" in err
    project.done("stop", str(run))
    until(lambda: find_running_trainer(RunPaths(run)) is None, "the trainer's end")
    verified = project.lorabake("verify", str(run), "--json")
    told = json.loads(verified.communicate(timeout=PATIENCE)[0])
    record = read_record(run / "record.json")
    assert (told["status"], record.status) == ("interrupted", "interrupted")
    assert record.outcome is not None
    assert (record.outcome.steps or 0) >= (record.outcome.resume_step or 0) >= 3
    project.done("resume", str(run), "--dry-run")
