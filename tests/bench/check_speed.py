"""CPU time and memory of `lorabake check` on many small pictures, beside Pillow merely opening them; judges nothing.

    python tests/bench/check_speed.py [PICTURES...]      10000 by default

The pictures are made first: small PNG and JPEG files of two shapes, each with a caption. Every measurement is a process
of its own, so that start-up counts. "first": nothing is known; "again": nothing has changed since; "again, one more":
one picture and its caption are new. The store that remembers is a temporary folder.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

RUNS = 5
TAGS = (
    "blue eyes", "white background", "lettuce", "from side", "plate", "smile", "outdoors", "cheese", "close-up",
    "table", "from above", "sesame seeds", "tomato", "holding", "wooden table", "steam", "night", "paper", "napkin",
)  # fmt: skip
RECIPE = """\
name = "hmbrgrlora"
kind = "style"

[base]
model = "base.safetensors"
family = "sd15"
tags = "danbooru"

[[concept]]
token = "hmbrgrlora"
class = "food"
images = "pictures"

[train]
resolution = 64
"""
OPEN_THEM = """
import sys
from pathlib import Path
from PIL import Image
for path in Path(sys.argv[1]).iterdir():
    if path.suffix != ".txt":
        with Image.open(path) as image:
            image.size
"""


@dataclass(frozen=True)
class Cost:
    """User and system time, and the most memory, of one process."""

    cpu_s: float
    memory_mib: float


def make(folder: Path, numbers: range) -> None:
    """Small noise that only its number gives, so that no two files are equal."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        dice = random.Random(number)  # noqa: S311
        size = (64, 64), (64, 80), (80, 64)
        image = Image.frombytes("RGB", (8, 8), dice.randbytes(192)).resize(size[number % 3], Image.Resampling.NEAREST)
        image.save(folder / (f"{number:06}.png" if number % 4 else f"{number:06}.jpg"))
        words = ", ".join(("hmbrgrlora", "food", *dice.sample(TAGS, 9)))
        (folder / f"{number:06}.txt").write_text(words, encoding="utf-8")


def base(path: Path) -> None:
    """The least that is known for an SD 1.5 checkpoint: two of its tensors."""
    shape = {"dtype": "F16", "shape": [1, 768], "data_offsets": [0, 1536]}
    ids = {"dtype": "I64", "shape": [1], "data_offsets": [1536, 1544]}
    layer = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    header = json.dumps({layer: shape, "cond_stage_model.transformer.text_model.embeddings.position_ids": ids}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(1544))


def cost(command: list[str], env: dict[str, str]) -> Cost:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:  # 1: the findings of check
        sys.exit(f"{command} ended with {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def told(what: str, costs: list[Cost], wanted: str = "") -> None:
    times = sorted(one.cpu_s for one in costs)
    memory = max(one.memory_mib for one in costs)
    print(
        f"  {what:<24} {statistics.median(times):7.2f} s CPU (of {len(times)}: {times[0]:.2f} to {times[-1]:.2f}), "
        f"{memory:4.0f} MiB{wanted}"
    )


def measure(project: Path, count: int) -> None:
    made = time.perf_counter()
    make(project / "pictures", range(count))
    size = sum(path.stat().st_size for path in (project / "pictures").iterdir()) / 2**20
    print(f"{count} pictures and captions, {size:.0f} MiB, made in {time.perf_counter() - made:.0f} s")
    time.sleep(3)  # files that were written just now are not remembered
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["LORABAKE_HOME"] = str(project / "home")
    check = [sys.executable, "-m", "lorabake", "check", str(project / "recipe.toml")]
    opening = [sys.executable, "-c", OPEN_THEM, str(project / "pictures")]
    cost(check, env)  # byte code and file cache
    cost(opening, env)
    rounds: dict[str, list[Cost]] = {
        name: [] for name in ("Pillow opens them", "first", "again", "again, one more", "nothing kept")
    }
    for number in range(RUNS if count <= 20_000 else 1):  # in turn, so that a noisy machine is noisy for all
        for path in (project / "home").glob("facts*"):
            path.unlink()
        rounds["Pillow opens them"].append(cost(opening, env))
        rounds["first"].append(cost(check, env))
        rounds["again"].append(cost(check, env))
        make(project / "pictures", range(count + number, count + number + 1))
        time.sleep(3)
        rounds["again, one more"].append(cost(check, env))
        rounds["nothing kept"].append(cost(check, env | {"LORABAKE_SCAN_CACHE": "off"}))
    wanted = {"first": "  (wanted: 2.50)", "again": "  (wanted: 0.80)"} if count == 10_000 else {}
    for name, costs in rounds.items():
        told(name, costs, wanted.get(name, ""))


def main(counts: list[int]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            project = Path(folder)
            (project / "recipe.toml").write_text(RECIPE, encoding="utf-8")
            base(project / "base.safetensors")
            measure(project, count)


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]] or [10_000])
