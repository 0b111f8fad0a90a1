"""Modules in the current folder or in a run folder are never imported, whatever their names."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from own_trainer import OwnTrainer

from lorabake.runs.command import DETERMINISTIC_FILE, rehearsal_argv, trainer_env, training_argv
from lorabake.trainer import environment, packages, venv
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.hashing import FileHasher
from lorabake.util.process import capture_output
from lorabake_schemas.plan import LaunchPlan

OTHERS = {"accelerate", "library", "networks", "pip", "sitecustomize", "toml", "torch", "train_network"}
# Started by accelerate's launcher in a process of its own, as the real one does (accelerate 1.6.0 utils/launch.py:122).
LAUNCH = """\
import subprocess, sys
at = next(number for number, each in enumerate(sys.argv) if number and each.endswith(".py"))
sys.exit(subprocess.call([sys.executable, *sys.argv[at:]]))
"""
SCRIPT = """\
import argparse, concurrent.futures, json, multiprocessing, platform, random, sqlite3
import library.train_util
import networks.lora
def work(number):
    import wave
    return number + 1
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print("trained", pool.map(work, [1]))
"""
TORCH = """\
import types
use_deterministic_algorithms = print
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(deterministic=False, benchmark=True))
"""
LIBRARY = "class collator_class:\n    def __init__(self, current_epoch, current_step, dataset): ...\n"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a module for every name that anything could import, and what remembers that it was."""
    folder, witness = tmp_path / "hostile", tmp_path / "imported"
    folder.mkdir()
    for name in {*sys.stdlib_module_names, *OTHERS}:
        (folder / f"{name}.py").write_text(f"print({name!r}, file=open({str(witness)!r}, 'a'))\nraise SystemExit(7)\n")
    for name in ("library", "accelerate", "importlib", "json"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text((folder / f"{name}.py").read_text())
    monkeypatch.chdir(folder)
    return folder


def imported(folder: Path) -> list[str]:
    witness = folder.with_name("imported")
    return witness.read_text().split() if witness.exists() else []


@pytest.fixture
def own(tmp_path: Path) -> OwnTrainer:
    own = OwnTrainer(tmp_path)
    (own.packages / "accelerate" / "commands" / "launch.py").write_text(LAUNCH)
    (own.packages / "torch" / "__init__.py").write_text(TORCH)
    (own.checkout / "train_network.py").write_text(SCRIPT)
    (own.checkout / "library").mkdir(exist_ok=True)
    (own.checkout / "library" / "train_util.py").write_text(LIBRARY)
    (own.checkout / "networks").mkdir(exist_ok=True)
    (own.checkout / "networks" / "lora.py").touch()
    return own


@pytest.mark.parametrize("way", ["plain", "deterministic", "resumed"])
def test_a_training_imports_nothing_from_its_run_folder(hostile: Path, own: OwnTrainer, way: str) -> None:
    launch = LaunchPlan(deterministic=way != "plain")
    argv = training_argv(own.python, own.checkout / "train_network.py", launch)
    for name in (DETERMINISTIC_FILE, "resume_epoch.py"):
        (hostile / name).write_text(resources.trainer_script_text(name))
    if way == "resumed":
        at = argv.index(DETERMINISTIC_FILE) + 1
        argv = (*argv[:at], "resume_epoch.py", "1", *argv[at:])
    env = trainer_env(os.environ, python=own.python, checkout=own.checkout, launch=launch)
    done = capture_output(argv, cwd=hostile, env=env, timeout=60)
    assert (done.returncode, imported(hostile)) == (0, []), done.stderr
    assert "trained [2]" in done.stdout


def test_the_rehearsal_imports_nothing_from_its_run_folder(hostile: Path) -> None:
    done = capture_output(
        rehearsal_argv(LaunchPlan()), cwd=hostile, env=trainer_env(os.environ, python=Path(sys.executable))
    )
    assert imported(hostile) == []
    assert (done.returncode, "train.toml" in done.stderr) == (1, True)  # what it looks for is not there


def test_helpers_import_nothing_from_the_current_folder(hostile: Path, own: OwnTrainer, tmp_path: Path) -> None:
    env = dict(os.environ)
    assert venv.read_python_version(own.python, env) == f"{sys.version_info[0]}.{sys.version_info[1]}"
    made = venv.create_venv(tmp_path / "made", Path(sys.executable), env)
    assert venv.check_health(made, ("json", "argparse"), env).failed == ()
    assert not venv.has_cpu_torch(made, "", env | {"PIP_NO_INDEX": "1"})
    trainer = Trainer("own", own.checkout, own.python, None, None, None, {})
    assert environment.read_trainer_contents(trainer, env, FileHasher(None)).python_version.startswith(
        f"{sys.version_info[0]}."
    )
    for name in ("probe_attention.py", "dump_options.py", "random_base.py"):
        with resources.trainer_script(name) as script:
            capture_output(
                [str(own.python), str(script)], cwd=hostile, env=packages.script_environment(env), timeout=60
            )
    assert imported(hostile) == []


def test_packages_in_the_users_own_folder_count(tmp_path: Path) -> None:
    """For a Python that is no virtual environment's: in health check and training alike."""
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONNOUSERSITE": "1"}
    seen = [packages.script_environment(env), trainer_env(env, python=Path(sys.executable))]
    assert [each.get("PYTHONNOUSERSITE", "") for each in seen] == ["", ""]
