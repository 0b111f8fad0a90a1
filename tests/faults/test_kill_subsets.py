"""A few of the kills of kill_subsets.py (300 if started by hand), with and without flock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("kill_subsets.py")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="what is true is read from /proc")
@pytest.mark.parametrize(
    ("error", "seed", "kills"), [("", "11", "2"), ("ENOTSUP", "12", "1")], ids=["flock", "no flock"]
)
def test_the_state_is_told_rightly_after_every_kind_of_kill(error: str, seed: str, kills: str) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    argv = [sys.executable, str(SCRIPT), "--kills", kills, "--seed", seed, "--errno", error]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
