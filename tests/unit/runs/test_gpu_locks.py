"""A GPU is one run's at a time: refused, waited for or shared; also after its supervisor was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest

from lorabake.jobs import gpus
from lorabake.jobs.gpus import choose_gpus, start_on_free_gpus
from lorabake.runs.folder import RunPaths
from lorabake.runs.gpu_locks import BusyGpuError, GpuReservation, lock_path, reserve_gpus
from lorabake.util.machine import GpuDevice, list_gpus
from lorabake.util.process import capture_output
from lorabake_schemas.messages import Message
from lorabake_schemas.plan import LaunchPlan

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake_schemas.record import Record

TABLE = "0, GPU-aaaa-1, NVIDIA A10, 23028, 560.35\n1, GPU-bbbb-2, NVIDIA A10, 23028, 560.35\n"
MIG = "MIG-GPU-cccc/1/0"
ONE = LaunchPlan()


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Two GPUs, by a fake nvidia-smi."""
    tool = tmp_path / "bin/nvidia-smi"
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\ncat <<END\n{TABLE}END\n")
    tool.chmod(0o755)
    return {"PATH": f"{tool.parent}:{os.environ['PATH']}", "LORABAKE_HOME": str(tmp_path / "home")}


def uuids(wanted: GpuReservation) -> list[str]:
    return [gpu.uuid for gpu in wanted.gpus]


@pytest.mark.parametrize(
    ("launch", "visible", "expected"),
    [
        (ONE, None, ["GPU-aaaa-1"]),
        (ONE, "1", ["GPU-bbbb-2"]),
        (ONE, "GPU-bbbb", ["GPU-bbbb-2"]),
        (ONE, "1,0", ["GPU-bbbb-2"]),
        (LaunchPlan(gpu_ids="1"), None, ["GPU-bbbb-2"]),
        (LaunchPlan(gpu_ids="1"), "1,0", ["GPU-aaaa-1"]),
        (LaunchPlan(num_processes=2), None, ["GPU-aaaa-1", "GPU-bbbb-2"]),
        (ONE, MIG, [MIG]),
        (LaunchPlan(cpu=True), None, []),
        (ONE, "", []),
    ],
)
def test_the_gpus_that_a_training_uses(
    env: dict[str, str], launch: LaunchPlan, visible: str | None, expected: list[str]
) -> None:
    seen = env if visible is None else {**env, "CUDA_VISIBLE_DEVICES": visible}
    assert uuids(choose_gpus(launch, seen, "refuse")) == expected


def test_a_gpu_that_is_used_is_refused_and_names_the_run(env: dict[str, str], tmp_path: Path) -> None:
    wanted = choose_gpus(ONE, env, "refuse")
    with reserve_gpus(wanted, tmp_path / "runs/first-001"):
        with pytest.raises(BusyGpuError) as refused, reserve_gpus(wanted, tmp_path / "runs/second-001"):
            pytest.fail("a GPU was shared")
        with pytest.raises(BusyGpuError):
            choose_gpus(ONE, env, "refuse")
        assert "GPU 0 (NVIDIA A10)" in str(refused.value)
        assert "runs/first-001" in str(refused.value)
        assert str(os.getpid()) in str(refused.value)
        assert refused.value.exit_code == 5
        with reserve_gpus(choose_gpus(ONE, {**env, "CUDA_VISIBLE_DEVICES": "1"}, "refuse"), tmp_path / "x"):
            pass  # the other one is free
        with reserve_gpus(choose_gpus(ONE, env, "share"), tmp_path / "x"):
            pass
    with reserve_gpus(choose_gpus(ONE, env, "refuse"), tmp_path / "runs/second-001"):
        pass


def test_of_two_gpus_none_stays_locked_when_one_is_used(env: dict[str, str], tmp_path: Path) -> None:
    both, second = GpuReservation(tmp_path / "home", list_gpus(env)), tmp_path / "second"
    with (
        reserve_gpus(GpuReservation(both.home, both.gpus[1:]), tmp_path / "first"),
        pytest.raises(BusyGpuError),
        reserve_gpus(both, second),
    ):
        pytest.fail("a GPU was shared")
    with reserve_gpus(GpuReservation(both.home, both.gpus[:1]), second):
        pass


def test_a_gpu_is_waited_for(env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when another run is quicker once it is free."""
    record = cast("Record", object())
    monkeypatch.setattr(gpus, "GPU_POLL_S", 0.01)
    with ExitStack() as first, ExitStack() as quicker:
        first.enter_context(reserve_gpus(choose_gpus(ONE, env, "refuse"), tmp_path / "first"))
        wanted, reported = choose_gpus(ONE, env, "wait"), list[Message]()

        def tell(line: Message) -> None:
            reported.append(line)
            (first if len(reported) == 1 else quicker).close()

        starts = list[bool]()

        def start() -> Record:
            if not starts:
                quicker.enter_context(reserve_gpus(wanted, tmp_path / "quicker"))
            starts.append(True)
            with reserve_gpus(wanted, tmp_path / "second"):
                return record

        assert start_on_free_gpus(wanted, "wait", start, tell) is record
        assert len(starts) == 2
    assert len(reported) == 2
    assert str(tmp_path / "first") in str(reported[0])
    assert str(tmp_path / "quicker") in str(reported[1])


def test_ctrl_c_leaves_while_a_gpu_is_waited_for(env: dict[str, str], tmp_path: Path) -> None:
    def interrupt(_line: Message) -> None:
        raise KeyboardInterrupt

    wanted = choose_gpus(ONE, env, "wait")
    with reserve_gpus(wanted, tmp_path / "first"), pytest.raises(KeyboardInterrupt):
        start_on_free_gpus(wanted, "wait", partial(pytest.fail, "started"), interrupt)


def test_a_trainer_that_outlives_its_supervisor_keeps_the_gpu(env: dict[str, str], tmp_path: Path) -> None:
    """The lock file of a killed supervisor is free, but leads to the run."""
    run = RunPaths(tmp_path / "runs/killed-001")
    run.log.parent.mkdir(parents=True)
    wanted = choose_gpus(ONE, env, "refuse")
    script = (
        "import os, sys; from pathlib import Path; from lorabake.runs.gpu_locks import *\n"
        "from lorabake.util.machine import GpuDevice\n"
        "stack = reserve_gpus(GpuReservation(Path(sys.argv[1]), (GpuDevice(sys.argv[2]),)), Path(sys.argv[3]))\n"
        "stack.__enter__(); os.kill(os.getpid(), 9)\n"
    )
    capture_output(
        [sys.executable, "-c", script, str(wanted.home), wanted.gpus[0].uuid, str(run.root)], env=dict(os.environ)
    )
    assert lock_path(wanted.home, wanted.gpus[0]).is_file()
    assert wanted.find_user() is None
    with run.log.open("ab") as log:
        trainer = subprocess.Popen(
            [sys.executable, "-c", "import fcntl, time; fcntl.flock(1, 2); print(1, flush=True); time.sleep(99)"],
            stdout=log,
        )
        try:
            while not run.log.stat().st_size:
                time.sleep(0.01)
            assert (busy := wanted.find_user()) is not None
            assert str(run.root) in str(busy)
            with pytest.raises(BusyGpuError), reserve_gpus(wanted, tmp_path / "second"):
                pytest.fail("a GPU was shared")
        finally:
            trainer.kill()
            trainer.wait()
    with reserve_gpus(wanted, tmp_path / "second"):
        pass


def test_a_home_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    with reserve_gpus(GpuReservation(tmp_path / "home", (GpuDevice("GPU-aaaa"),)), tmp_path / "run"):
        pass
