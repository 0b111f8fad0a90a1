"""The acceptance script for a GPU, without one: its table, its time, what a failing trial leaves, a machine without."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "gpu"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """tests/gpu/acceptance.py with the modules next to it."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("acceptance", FOLDER / "acceptance.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["acceptance"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module


class Clock:
    """A clock that only advances on request."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_table(script: ModuleType) -> None:
    rows = [
        script.Row("sd15 AdamW8bit", "ok", seconds=31.4, per_step=0.25, memory=5012),
        script.Row("sdxl", "FAILED: a | b\nand more"),
    ]
    assert script.table("**GPU**", rows).splitlines() == [
        "**GPU**",
        "",
        "| trial | seconds | s/step | steps/s | peak memory | verdict |",
        "| --- | --: | --: | --: | --: | --- |",
        "| sd15 AdamW8bit | 31 | 0.250 | 4.00 | 5,012 MiB | ok |",
        "| sdxl | - | - | - | - | FAILED: a / b and more |",
    ]


def test_trials_survive_each_other_and_end_with_the_time(script: ModuleType) -> None:
    clock, shown = Clock(), list[object]()

    def takes(seconds: float, error: Exception | None = None) -> object:
        clock.now += seconds
        if error:
            raise error
        return script.Row("", "ok", per_step=1.0)

    trials = [
        script.Trial("first", "sd15", 1, lambda: takes(100)),
        script.Trial("broken", "sd15", 1, lambda: takes(10, KeyError("x"))),
        script.Trial("bad", "sd15", 1, lambda: takes(10, script.TrialError("over its time"))),
        script.Trial("twice", "sd15", 2, lambda: takes(20)),
        script.Trial("large", "sdxl", 1, lambda: takes(1)),
        script.Trial("small", "sd15", 1, lambda: takes(30)),
    ]
    rows = script.tried(trials, script.Budget(260.0, clock), shown.append)
    assert rows == shown
    assert [(row.trial, row.verdict.partition(":")[0], row.seconds) for row in rows] == [
        ("first", "ok", 100.0),
        ("broken", "FAILED", 10.0),
        ("bad", "FAILED", 10.0),
        ("twice", "ok", 20.0),
        ("large", "ok", 1.0),
        ("small", "ok", 30.0),
    ]


def test_a_trial_that_would_take_longer_than_what_is_left_is_not_started(script: ModuleType) -> None:
    clock = Clock()

    def slow() -> object:
        clock.now += 100
        return script.Row("", "ok")

    trials = [script.Trial(name, "sd15", 1, slow) for name in ("one", "two", "three")]
    rows = script.tried([*trials, script.Trial("pair", "sd15", 2, slow)], script.Budget(250.0, clock), print)
    assert [row.verdict for row in rows] == ["ok", "ok", "not tried: time", "not tried: time"]


def test_steps_are_timed_as_the_log_shows_them(script: ModuleType, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with subprocess.Popen(["true"], text=True) as process:
        watched = script.Watched(process, log, float("inf"))
        for step in (1, 2, 3, 5):
            with log.open("ab") as file:
                file.write(f"\rsteps:  20%|##        | {step}/5 [00:01<00:04, 1.00s/it, avr_loss=0.{step}]".encode())
            watched.look()
        assert watched.ended() == 0
    assert (watched.step, watched.loss, set(watched.seen)) == (5, 0.5, {1, 2, 3, 5})
    assert watched.per_step == pytest.approx((watched.seen[5] - watched.seen[2]) / 3)


def test_every_way_is_tried_once_and_the_families_come_early(script: ModuleType, tmp_path: Path) -> None:
    place = script.Place(tmp_path, (), Path(sys.executable), "0", None, None, script.Budget(1.0, Clock()))
    names = [trial.name for trial in script.trials(place, script.GPU_WAYS)]
    assert len(set(names)) == len(names) == len(script.GPU_WAYS) + 4
    assert {way.name for way in script.GPU_WAYS} <= set(names)
    assert {name.split()[0] for name in names[:3]} >= {"sd15", "sdxl"}
    for each in ("optimizer", "precision", "attention", "checkpointing"):
        assert len({getattr(way, each) for way in script.GPU_WAYS}) == 2


def test_without_a_gpu_nothing_is_tried(tmp_path: Path) -> None:
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, str(FOLDER / "acceptance.py"), "--output", str(tmp_path / "table.md")]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was tried" in done.stdout
    assert (tmp_path / "table.md").read_text(encoding="utf-8") == done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["table.md"]
