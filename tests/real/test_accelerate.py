"""The real launcher of the pinned trainer: a default configuration of the user's does not reach a run of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from lorabake.runs.command import ACCELERATE_CONFIG, ACCELERATE_FILE, CONFIG_FLAGS, trainer_env, training_argv
from lorabake.util.environment import read_environment
from lorabake.util.process import capture_output
from lorabake_schemas.plan import LaunchPlan

if TYPE_CHECKING:
    from pathlib import Path

    from lorabake.trainer.install import Trainer

pytestmark = pytest.mark.real
HOSTILE = """compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
mixed_precision: fp16
num_processes: 2
num_machines: 1
use_cpu: false
dynamo_config:
  dynamo_backend: INDUCTOR
"""
SCRIPT = "import json, os, sys; print(json.dumps([dict(os.environ), sys.argv[1:], sys.path[0]]))"


def launched(tmp_path: Path, trainer: Trainer, argv: tuple[str, ...]) -> tuple[dict[str, str], list[str], str]:
    """What a script started by the launcher sees, with a hostile default configuration in place."""
    home = tmp_path / "hf"
    (home / "accelerate").mkdir(parents=True)
    (home / "accelerate" / "default_config.yaml").write_text(HOSTILE, "utf-8")
    (tmp_path / ACCELERATE_FILE).write_bytes(ACCELERATE_CONFIG)
    base = dict(read_environment()) | {"HF_HOME": str(home), "ACCELERATE_MIXED_PRECISION": "fp16", "LOCAL_RANK": "1"}
    done = capture_output(
        argv, cwd=tmp_path, env=trainer_env(base, python=trainer.python, checkout=tmp_path / "scripts"), timeout=120
    )
    assert done.ok, done.stderr
    env, arguments, path = json.loads(done.stdout.splitlines()[-1])
    return env, arguments, path


@pytest.mark.parametrize("cpu", [True, False])
def test_a_users_default_configuration_stays_out(tmp_path: Path, trainer: Trainer, *, cpu: bool) -> None:
    (tmp_path / "scripts").mkdir()
    script = tmp_path / "scripts" / "train_network.py"
    script.write_text(SCRIPT, "utf-8")
    argv = training_argv(trainer.python, script, LaunchPlan(cpu=cpu, num_cpu_threads_per_process=3))
    env, arguments, path = launched(tmp_path, trainer, argv)
    assert tuple(arguments) == CONFIG_FLAGS
    assert path == str(script.parent)
    assert env["ACCELERATE_MIXED_PRECISION"] == "no"
    assert env["ACCELERATE_DYNAMO_BACKEND"] == "NO"
    assert env["ACCELERATE_USE_CPU"] == str(cpu)
    assert env["OMP_NUM_THREADS"] == "3"
    assert "LOCAL_RANK" not in env
    assert "WORLD_SIZE" not in env


def test_without_our_file_it_would_come_in(tmp_path: Path, trainer: Trainer) -> None:
    """Why the file is there: every flag is given, and the run is a distributed one all the same."""
    script = tmp_path / "train_network.py"
    script.write_text(SCRIPT, "utf-8")
    argv = training_argv(trainer.python, script, LaunchPlan())
    where = argv.index("--config_file")
    env, _, _ = launched(tmp_path, trainer, argv[:where] + argv[where + 2 :])
    assert env["LOCAL_RANK"] == "0"
