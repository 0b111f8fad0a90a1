"""accelerate's launcher as far as a run needs it: starts a trainer, waits for it, fails when it fails.

It first notes in the file named by CHAIN_TRAINERS that it started, and every other launcher or trainer of the same
chain that lives by then. Standard library only: it takes the place of accelerate/commands/launch.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHAIN = "CHAIN"  # a variable whose value marks every process of one chain
TRAINERS = "CHAIN_TRAINERS"
SCRIPT = b"train_network.py"


def rivals() -> list[int]:
    """Other launchers and trainers of this chain that live."""
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
        if ours and lives and any(word.endswith(SCRIPT) for word in words) and b"-I" not in words:  # as guards are
            found.append(int(path.name))
    return found


def main() -> int:
    with Path(os.environ[TRAINERS]).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {' '.join(map(str, rivals()))}\n")
    script = next(number for number, each in enumerate(sys.argv) if number and each.endswith(".py"))
    argv = [sys.executable, *sys.argv[script:]]
    with subprocess.Popen(argv) as trainer:
        returncode = trainer.wait()
    if returncode:
        raise subprocess.CalledProcessError(returncode, argv)
    return 0


if __name__ == "__main__":
    sys.exit(main())
