"""accelerate's part in a chain of processes: starts a trainer, waits for it, fails when it fails.

The trainer is the stand-in that saves states; it first notes in the file named by CHAIN_TRAINERS that it started, and
every other trainer of the same chain that lives by then. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHAIN = "CHAIN"  # a variable whose value marks every process of one chain
TRAINERS = "CHAIN_TRAINERS"
AS_TRAINER = "--as-trainer"
FAKE = Path(__file__).parents[1] / "unit" / "fake_sd_scripts.py"


def rivals() -> list[int]:
    """Other trainers of this chain that live."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*"):
        if int(path.name) == os.getpid():
            continue
        try:
            ours = f"{CHAIN}={os.environ[CHAIN]}".encode() in (path / "environ").read_bytes().split(b"\0")
            lives = (path / "stat").read_bytes().rpartition(b")")[2].split()[0] not in b"ZX"
            words = (path / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if ours and lives and AS_TRAINER.encode() in words:
            found.append(int(path.name))
    return found


def main() -> int:
    if sys.argv[1] == AS_TRAINER:
        with Path(os.environ[TRAINERS]).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {' '.join(map(str, rivals()))}\n")
        sys.path.insert(0, str(FAKE.parent))
        import fake_sd_scripts

        del sys.argv[1]
        fake_sd_scripts.Trainer(fake_sd_scripts.parsed()).train()
        return 0
    argv = [sys.executable, __file__, AS_TRAINER, *sys.argv[1:]]
    with subprocess.Popen(argv) as trainer:
        returncode = trainer.wait()
    if returncode:
        raise subprocess.CalledProcessError(returncode, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
