"""CPU time of starting lorabake, beside what it cannot do without; prints medians, judges nothing.

    python tests/bench/startup.py [RUNS]

`lorabake --help` is measured beside `python -c "import click, pydantic"`, `lorabake check` on the quickstart's
recipe with its pictures and a base whose headers are real. Runs alternate, so that a noisy machine is noisy for all.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lorabake.jobs import quickstart_files as quickstart


def main(runs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recipe = project(Path(folder))
        commands = {
            "import click, pydantic": [sys.executable, "-c", "import click, pydantic"],
            "lorabake --help": [sys.executable, "-m", "lorabake", "--help"],
            "import click; pydantic.BaseModel": [sys.executable, "-c", "import click, pydantic; pydantic.BaseModel"],
            "lorabake check": [sys.executable, "-m", "lorabake", "check", str(recipe)],
        }
        for command in commands.values():
            cpu_seconds(command)  # byte code and file cache
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(runs):
            for name, command in commands.items():
                times[name].append(cpu_seconds(command))
    for name, found in times.items():
        print(f"{name:<34} {statistics.median(found):.3f} s CPU (of {runs}: {min(found):.3f} to {max(found):.3f})")
    ratios = [a / b for a, b in zip(times["lorabake --help"], times["import click, pydantic"], strict=True)]
    print(f"lorabake --help / import click, pydantic: {statistics.median(ratios):.2f} (wanted: at most 1.50)")
    print(f"lorabake check: {statistics.median(times['lorabake check']):.3f} s CPU (wanted: under 0.500)")


def cpu_seconds(command: list[str]) -> float:
    """User and system time of one run. Byte code may be written: that is how an installed program runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def project(folder: Path) -> Path:
    """The quickstart's recipe and images, and a base model folder without weights."""
    quickstart.write_sample_images(folder / quickstart.IMAGES)
    base = folder / "base-sd15"
    for part, config in {
        "unet": {"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768},
        "text_encoder": {},
        "vae": {},
        "scheduler": {"prediction_type": "epsilon"},
    }.items():
        (base / part).mkdir(parents=True)
        (base / part / ("scheduler_config.json" if part == "scheduler" else "config.json")).write_text(
            json.dumps(config)
        )
        (base / part / "diffusion_pytorch_model.safetensors").write_bytes(b"\2\0\0\0\0\0\0\0{}")
    (base / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    (base / "tokenizers").mkdir()
    recipe = folder / quickstart.RECIPE
    recipe.write_text(quickstart.quickstart_recipe("sd15"), encoding="utf-8")
    return recipe


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 11)
