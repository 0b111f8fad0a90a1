"""What it costs to compare every file of the installed trainer with what it should be: CPU seconds, first and again.

    LORABAKE_HOME=... python tests/bench/trainer_check.py

The first check reads every file and keeps what it found aside; the others only look at sizes and times.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from lorabake.trainer import manifest
from lorabake.trainer.environment import read_trainer_contents
from lorabake.trainer.install import list_trainers
from lorabake.util.environment import read_environment
from lorabake.util.hashing import FileHasher
from lorabake.util.paths import lorabake_home


def cpu_s() -> float:
    """Of this process and those that it waited for."""
    mine, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def main() -> int:
    env = read_environment()
    trainers = list_trainers(lorabake_home(env))
    if not trainers:
        print("no trainer is installed: nothing was measured")
        return 0
    trainer = trainers[0]
    print(
        f"{trainer.checkout.parent}: "
        f"{len(manifest.list_trainer_files(trainer.checkout.parent).names)} files and folders"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name in ("first", "again", "again", "again"):
            cpu, wall = cpu_s(), time.perf_counter()
            found = read_trainer_contents(trainer, env, FileHasher(Path(folder) / "facts.sqlite3"))
            cpu, wall = cpu_s() - cpu, time.perf_counter() - wall
            print(f"{name}: {cpu:.2f} s CPU, {wall:.2f} s, {len(found.changed)} files differ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
