"""A small world to install a trainer in: a git repository that stands in for sd-scripts, one tiny wheel, a lock.

As a script it runs one installation in a process of its own (``python trainer_world.py FOLDER STEP PYTHON``): it
prints what ``say`` gets, and stops after the line that starts with STEP until its standard input says to go on.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from lorabake.errors import LorabakeError
from lorabake.trainer import install as trainer
from lorabake.trainer.build import BuildEnv
from lorabake_schemas.pin import PackageLock, Pin

SPARSE = ("/*", "!/bitsandbytes_windows/")
FILES = {
    "train_network.py": "print('a stand-in')\n",
    "sdxl_train_network.py": "print('a stand-in')\n",
    "library/train_util.py": "",
    "bitsandbytes_windows/big.dll": "x" * 1000,
    ".gitignore": "__pycache__\n",
}

TINY = """
import os, pathlib, sys
cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")), "tiny")
cache.mkdir(parents=True, exist_ok=True)
(cache / "kept").write_text("kept")
if "TINY_STRAYS" in os.environ:
    for n in range(7):
        pathlib.Path(os.environ["TINY_STRAYS"].format(n=n, prefix=sys.prefix)).write_text("stray")
"""


def git(folder: Path, *args: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main")
    env = environment(folder) | {"GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(["git", *who, *args], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    """No network, no configuration of this machine: pip knows the folder of wheels, git nothing."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GIT_CONFIG_NOSYSTEM": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(folder / "wheels"),
        "PIP_NO_CACHE_DIR": "1",
    }


def make(folder: Path) -> None:
    """Everything an installation needs, under ``folder``."""
    repo = folder / "origin"
    for name, content in FILES.items():
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(content, encoding="utf-8")
    git(repo, "init", "-q", ".")
    git(repo, "config", "uploadpack.allowFilter", "true")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "one")
    git(repo, "tag", "-a", "v1", "-m", "a tag is an object of its own")
    (repo / "train_network.py").write_text("print('later')\n", encoding="utf-8")
    git(repo, "commit", "-qam", "two: not the pin")
    wheel(folder)


def wheel(folder: Path) -> None:
    """tiny 1.0: one module, which keeps something in a cache as it is imported."""
    (folder / "wheels").mkdir()
    info = "tiny-1.0.dist-info"
    with zipfile.ZipFile(folder / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as file:
        file.writestr("tiny.py", TINY)
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"tiny.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def lock_text(folder: Path) -> str:
    digest = hashlib.sha256((folder / "wheels" / "tiny-1.0-py3-none-any.whl").read_bytes()).hexdigest()
    return f"tiny==1.0 \\\n    --hash=sha256:{digest}\n"


def pin(folder: Path, commit: str = "HEAD~1") -> Pin:
    lock = PackageLock(file="tiny.txt", download_bytes=1, disk_bytes=1, modules=("tiny",))
    return Pin(
        url=(folder / "origin").as_uri(),
        commit=git(folder / "origin", "rev-parse", commit),
        sparse=SPARSE,
        python_min="3.11",
        python_max="3.99",
        cuda=lock,
        cpu=lock,
    )


def world(folder: Path) -> BuildEnv:
    text = lock_text(folder)

    def lock(name: str) -> str:
        return {"tiny.txt": text}[name]

    def gpu(env: Mapping[str, str]) -> bool:
        return "NO_SUCH_GPU" in env

    return BuildEnv(lock_text=lock, gpu=gpu)


def quick_python(folder: Path, ready: Path) -> Path:
    """A Python whose ``-m venv`` copies a ready virtual environment: making one takes seconds, and only one test is
    about that."""
    script = folder / "python"
    script.write_text(
        f'#!/bin/sh\nif [ "$3" = venv ]; then exec cp -R "{ready}" "$4"; fi\nexec "{sys.executable}" "$@"\n',
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def main() -> int:
    folder, step = Path(sys.argv[1]), sys.argv[2]

    def say(line: str) -> None:
        print(line, flush=True)
        if line.startswith(step):
            sys.stdin.readline()

    try:
        home = folder / "home"
        found = trainer.ensure_installed(
            pin(folder), home, "cuda", environment(folder), say, python=Path(sys.argv[3]), world=world(folder)
        )
    except LorabakeError as error:
        print(f"error {error.exit_code} {error.message}", flush=True)
        return error.exit_code
    print(f"done {found.checkout}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
