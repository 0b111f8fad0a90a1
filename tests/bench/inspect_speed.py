"""CPU time of `lorabake inspect` beside that of starting lorabake; prints medians, judges nothing.

    python tests/bench/inspect_speed.py [RUNS]

A LoRA of 200 MB whose tensors are a hole: by its header alone, and with --deep, which reads it three times. A small one
is read whole. Then with 2000 runs noted, of which one wrote the file.
"""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lorabake.analysis.estimate import load_layers
from lorabake.lora.metadata import training_comment
from lorabake.runs.index import register_run

DIGEST = "0123456789abcdef" * 4


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        large, small = lora(folder / "large.safetensors", 170), lora(folder / "small.safetensors", 8)
        for number in range(2000):
            root = folder / "runs" / f"x-{number:04}"
            root.mkdir(parents=True)
            (root / "record.json").write_text("{" + " " * 60_000 + "}")
            register_run(folder / "many", root, DIGEST[::-1])
        started = [sys.executable, "-m", "lorabake"]
        commands = {
            "import click; pydantic.BaseModel": [sys.executable, "-c", "import click, pydantic; pydantic.BaseModel"],
            f"{large.stat().st_size / 1e6:.0f} MB": [*started, "inspect", str(large)],
            f"{small.stat().st_size / 1e6:.0f} MB": [*started, "inspect", str(small)],
            "the large one, --deep": [*started, "inspect", str(large), "--deep"],
        }
        timed = {name: (command, folder / "home") for name, command in commands.items()}
        timed["the small one, 2000 runs noted"] = ([*started, "inspect", str(small)], folder / "many")
        times: dict[str, list[float]] = {name: [] for name in timed}
        for number in range(runs + 1):
            for name, (command, home) in timed.items():
                seconds = cpu_seconds(command, home)
                times[name] += [seconds] if number else []  # the first round fills caches
    for name, found in times.items():
        print(f"{name:<34} {statistics.median(found):.3f} s CPU (of {runs}: {min(found):.3f} to {max(found):.3f})")


def cpu_seconds(command: list[str], home: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment | {"LORABAKE_HOME": str(home)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def lora(path: Path, rank: int) -> Path:
    """A LoRA for SD1.5 in 16 bits, with metadata and no bytes on the disk."""
    entries: dict[str, object] = {
        "__metadata__": {"ss_seed": "1", "ss_training_comment": training_comment(None, DIGEST)}
    }
    at = 0
    for layer in load_layers("shapes-sd15.txt"):
        if "lora" not in layer.networks:
            continue
        tensors = {"alpha": [], "lora_up.weight": [layer.outputs, rank], "lora_down.weight": [rank, layer.inputs]}
        for name, shape in tensors.items():
            end = at + 2 * math.prod(shape)
            entries[f"lora_{layer.name}.{name}"] = {"dtype": "F16", "shape": shape, "data_offsets": [at, end]}
            at = end
    header = json.dumps(entries).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(path, path.stat().st_size + at)
    return path


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
