"""The pinned trainer in a run folder full of modules that it must not import: accelerate, torch, the whole library."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lorabake.runs.command import (
    ACCELERATE_CONFIG,
    ACCELERATE_FILE,
    CONFIG_FLAGS,
    DETERMINISTIC_FILE,
    trainer_env,
    training_argv,
)
from lorabake.trainer.environment import read_trainer_contents
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.hashing import FileHasher
from lorabake.util.process import capture_output
from lorabake_schemas.plan import LaunchPlan

pytestmark = pytest.mark.real
OTHERS = {"accelerate", "library", "networks", "sitecustomize", "toml", "torch", "train_network", "transformers"}


@pytest.mark.parametrize("way", ["plain", "deterministic", "resumed"])
def test_sd_scripts_imports_nothing_from_its_run_folder(tmp_path: Path, trainer: Trainer, way: str) -> None:
    """As far as its parser's help: by then it has imported all that a training needs."""
    run, witness = tmp_path / "run", tmp_path / "imported"
    run.mkdir()
    for name in {*sys.stdlib_module_names, *OTHERS}:
        (run / f"{name}.py").write_text(f"print({name!r}, file=open({str(witness)!r}, 'a'))\nraise SystemExit(7)\n")
    (run / ACCELERATE_FILE).write_bytes(ACCELERATE_CONFIG)
    for name in (DETERMINISTIC_FILE, "resume_epoch.py"):
        (run / name).write_text(resources.trainer_script_text(name))
    launch = LaunchPlan(cpu=True, deterministic=way != "plain")
    argv = [
        *training_argv(trainer.python, trainer.checkout / "train_network.py", launch)[: -len(CONFIG_FLAGS)],
        "--help",
    ]
    if way == "resumed":
        at = argv.index(DETERMINISTIC_FILE) + 1
        argv[at:at] = ["resume_epoch.py", "1"]
    env = trainer_env(
        os.environ, python=trainer.python, checkout=trainer.checkout, launch=launch, offline=True, complete=True,
    )  # fmt: skip
    done = capture_output(argv, cwd=run, env=env, timeout=300)
    assert (done.returncode, witness.exists()) == (0, False), done.stderr
    assert "--network_module" in done.stdout
    assert (
        read_trainer_contents(trainer, os.environ, FileHasher(None)).changed == ()
    )  # and nothing was added to the trainer
