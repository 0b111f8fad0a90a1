"""A user's own sd-scripts, as far as a run needs one: a git checkout, and a Python with empty packages. Its training
writes a LoRA of as many steps as planned, and says what sd-scripts says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

from trainer_world import git

from lorabake.util import resources

VERSIONS = {"accelerate": "1.6.0", "torch": "2.13.0"}
TRAIN = '''\
"""Stands in for train_network.py."""
import json, os, struct, sys, tomllib
from pathlib import Path
import library.train_util

flags = dict(zip(sys.argv[1:], sys.argv[2:]))
told = tomllib.loads(Path(flags["--config_file"]).read_text("utf-8"))
steps = told["max_train_steps"]
print("accelerator device: cpu\\nrunning training / x")
print("  num train images * repeats / x: 4\\n  num reg images / x: 0\\n  num batches per epoch / x: 4")
print(f"  num epochs / x: 1\\n  total optimization steps / x: {steps}", flush=True)
print("\\nepoch 1/1\\n", flush=True)
for step in range(1, steps + 1):
    bar = f"\\rsteps:  {100 * step // steps}%|##  | {step}/{steps} [00:01<00:06,  3.30it/s, avr_loss=0.1]"
    os.write(2, bar.encode())
data = struct.pack("<4f", 1, 2, 3, 4)
tensor = {"dtype": "F32", "shape": [4], "data_offsets": [0, len(data)]}
header = {"__metadata__": {"ss_steps": str(steps)}, "lora_unet_a.lora_up.weight": tensor}
told_header = json.dumps(header).encode()
path = Path(told["output_dir"]) / f"{told['output_name']}.safetensors"
path.parent.mkdir(exist_ok=True)
path.write_bytes(len(told_header).to_bytes(8, "little") + told_header + data)
print("[11/22/25 10:00:00] INFO     model saved.      train_network.py:1729", file=sys.stderr, flush=True)
'''
LAUNCH = """\
import runpy, sys
at = next(number for number, each in enumerate(sys.argv) if number and each.endswith(".py"))
sys.argv = sys.argv[at:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class OwnTrainer:
    """``checkout`` and ``python`` are what --sd-scripts and --python take."""

    def __init__(self, folder: Path) -> None:
        self.checkout, home = folder / "sd-scripts", folder / "venv"
        venv.create(home, symlinks=True, with_pip=False)
        self.python = home / "bin" / "python"
        self.packages = home / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        pin = resources.load_pin()
        for module in (*pin.modules, *pin.cpu.modules):
            path = self.packages.joinpath(*module.split("."))
            path.mkdir(parents=True, exist_ok=True)
            (path / "__init__.py").touch()
        (self.packages / "accelerate" / "commands").mkdir()
        (self.packages / "accelerate" / "commands" / "__init__.py").touch()
        (self.packages / "accelerate" / "commands" / "launch.py").write_text(LAUNCH)
        for name, version in VERSIONS.items():
            self.install(name, version)
        (self.checkout / "library").mkdir(parents=True)
        (self.checkout / "library" / "__init__.py").touch()
        (self.checkout / "library" / "train_util.py").write_text('"""Nothing yet."""\n')
        (self.checkout / "train_network.py").write_text(TRAIN)
        (self.checkout / "sdxl_train_network.py").write_text(TRAIN)
        (self.checkout / ".gitignore").write_text("__pycache__\n")
        git(self.checkout, "init", "-q", ".")
        git(self.checkout, "add", ".")
        git(self.checkout, "commit", "-qm", "one")

    def install(self, name: str, version: str) -> None:
        """A package by its metadata alone, instead of any other version of it."""
        for old in self.packages.glob(f"{name}-*.dist-info"):
            (old / "METADATA").unlink()
            old.rmdir()
        info = self.packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nWords.\n")

    @property
    def flags(self) -> tuple[str, ...]:
        return ("--sd-scripts", str(self.checkout), "--python", str(self.python))


def environment(home: Path) -> dict[str, str]:
    """This process' environment with separate HOME and LORABAKE_HOME, and without a GPU."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LORABAKE", "GIT_"))}
    return kept | {"HOME": str(home), "LORABAKE_HOME": str(home / "lorabake"), "CUDA_VISIBLE_DEVICES": ""}


def lorabake(folder: Path, home: Path, *args: object) -> subprocess.CompletedProcess[str]:
    """The command line in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "lorabake", *map(str, args)],
        cwd=folder, env=environment(home), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


__all__ = ["VERSIONS", "OwnTrainer", "environment", "lorabake"]
