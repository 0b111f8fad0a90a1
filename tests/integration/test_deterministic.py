"""The script that runs before the trainer's own: what it switches, and that sd-scripts cannot detect it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lorabake.util import resources

TORCH = """\
import types
calls = []
def use_deterministic_algorithms(mode, *, warn_only=False):
    calls.append((mode, warn_only))
backends = types.SimpleNamespace(cudnn=types.SimpleNamespace(deterministic=False, benchmark=True))
"""
SCRIPT = """\
import json, os, sys, library
def inner():
    return __name__
if __name__ == "__main__":
    seen = {
        "argv": sys.argv, "first": sys.path[0], "file": os.path.abspath(__file__), "cwd": os.getcwd(),
        "library": os.path.abspath(library.__file__), "inner": inner(),
        "main": sys.modules["__main__"].inner.__name__,
    }
    if "torch" in sys.modules:
        import torch
        flags = torch.backends.cudnn
        seen["torch"] = [torch.calls, flags.deterministic, flags.benchmark]
    print(json.dumps(seen))
    sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A run folder, an sd-scripts elsewhere, and a torch that only listens."""
    for name, content in {
        "run/deterministic.py": resources.trainer_script_text("deterministic.py"),
        "sds/train_network.py": SCRIPT,
        "sds/library/__init__.py": "",
        "packages/torch.py": TORCH,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, "utf-8")
    return tmp_path


def started(world: Path, *argv: str) -> tuple[int, dict[str, Any]]:
    folders = os.pathsep.join((str(world / "sds"), str(world / "packages")))
    env = {"PYTHONPATH": folders, "PYTHONSAFEPATH": "1", "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *argv], cwd=world / "run", env=env, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("script", ["absolute", "relative"])
def test_the_script_starts_as_if_nothing_stood_before_it(world: Path, script: str) -> None:
    path = str(world / "sds" / "train_network.py") if script == "absolute" else "../sds/train_network.py"
    bare = started(world, path, "--config_file", "train.toml", "3")
    code, seen = started(world, "deterministic.py", path, "--config_file", "train.toml", "3")
    switched = seen.pop("torch")
    assert (code, seen) == bare
    assert code == 3
    assert switched == [[[True, False]], True, False]


def test_rich_draws_its_numbers_from_elsewhere(world: Path) -> None:
    """A stand-in for rich.style, which takes randint from Python's own random numbers at import."""
    (world / "packages" / "rich").mkdir()
    (world / "packages" / "rich" / "__init__.py").write_text("")
    (world / "packages" / "rich" / "style.py").write_text("from random import randint\n")
    script = "import json, random, rich.style\nrandom.seed(5)\n{}print(json.dumps({{'drawn': random.random()}}))\n"
    drawn: list[object] = []
    for line in ("", "rich.style.randint(0, 9)\n"):
        (world / "sds" / "train_network.py").write_text(script.format(line))
        drawn.append(started(world, "deterministic.py", str(world / "sds" / "train_network.py")))
    assert drawn[0] == drawn[1]


def test_a_script_of_ours_may_stand_between(world: Path) -> None:
    """As in a run that is resumed."""
    between = "import runpy, sys\nsys.argv = sys.argv[1:]\n"
    (world / "run" / "between.py").write_text(between + "runpy.run_path(sys.argv[0], run_name='__main__')\n")
    path = str(world / "sds" / "train_network.py")
    bare = started(world, path, "0")
    code, seen = started(world, "deterministic.py", "between.py", path, "0")
    assert seen.pop("torch")
    assert (code, seen) == bare
