"""What watching a trainer costs: the rehearsal at full speed, alone with its log in a file, and under lorabake.

    python tests/bench/log_overhead.py [PAIRS] [STEPS]

Runs alternate, so that a noisy machine is noisy for both. Prints medians, judges nothing. Full speed is some ten
thousand steps a second; the last lines say what a step costs in microseconds, beside a real step of 50 ms or more.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tomli_w
from PIL import Image

from lorabake.launch import LaunchRequest, launch
from lorabake.process import own_environment
from lorabake.terminal import watching
from lorabake.trainer_command import rehearsal_argv, trainer_env
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Forecast, LaunchPlan, Plan
from lorabake_schemas.record import TrainerRecord


def files(pictures: Path, steps: int) -> dict[str, bytes]:
    """A compiled run of ``steps`` steps over four small pictures."""
    train = {"output_dir": "output", "output_name": "x", "max_train_steps": steps}
    subset = {"image_dir": str(pictures), "num_repeats": 1000, "class_tokens": "x"}
    block = {"resolution": 64, "batch_size": 1, "min_bucket_reso": 64, "max_bucket_reso": 64, "enable_bucket": True}
    data = {"datasets": [{**block, "caption_extension": ".txt", "subsets": [subset]}]}
    return {"train.toml": tomli_w.dumps(train).encode(), "dataset.toml": tomli_w.dumps(data).encode()}


def alone(root: Path, pictures: Path, steps: int) -> None:
    """As a shell would do it: both streams into one file."""
    root.mkdir()
    for name, content in files(pictures, steps).items():
        (root / name).write_bytes(content)
    env = trainer_env(own_environment(), python=Path(sys.executable))
    with (root / "log").open("wb") as log:
        subprocess.run(rehearsal_argv(LaunchPlan()), cwd=root, env=env, stdout=log, stderr=log, check=True)


def watched(root: Path, pictures: Path, steps: int) -> None:
    """The same under lorabake, in a process of its own: parser, events, plain progress lines, record."""
    subprocess.run([sys.executable, __file__, "--child", str(root), str(pictures), str(steps)], check=True)


def child(root: Path, pictures: Path, steps: int) -> None:
    counts = Forecast(
        train_samples=4000, reg_samples=0, batches_per_epoch=4000, steps_per_epoch=4000, epochs=1, steps=steps,
        warmup_steps=0,
    )  # fmt: skip
    plan = Plan(
        name="x", family="sd15", script="train_network.py", train=(), dataset=(), subsets=(), forecast=counts
    )
    request = LaunchRequest(
        root=root,
        files=files(pictures, steps) | {"recipe.toml": b""},
        plan=plan,
        argv=rehearsal_argv(plan.launch),
        env=trainer_env(own_environment(), python=Path(sys.executable)),
        trainer=TrainerRecord(kind="rehearsal", python=sys.executable),
        machine=MachineFacts(system="bench", cpus=1, memory_bytes=1),
    )
    with (root.parent / f"{root.name}.out").open("w") as screen, watching(screen, steps) as watcher:
        record = launch(request, watcher)
    if record.status != "finished" or record.outcome is None or record.outcome.steps != steps:
        raise SystemExit(f"the rehearsal did not finish: {record.outcome}")


def measured(how: object, root: Path, pictures: Path, steps: int) -> tuple[float, float]:
    """Wall and CPU seconds, all processes together."""
    if not callable(how):
        raise TypeError(how)
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    how(root, pictures, steps)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, cpu


def main(pairs: int, steps: int) -> None:
    found: dict[str, list[tuple[float, float]]] = {"alone": [], "under lorabake": []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        pictures.mkdir()
        for number in range(4):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(pictures / f"{number}.png")
            (pictures / f"{number}.txt").write_text("x", "utf-8")
        for pair in range(pairs):
            for name, how in (("alone", alone), ("under lorabake", watched)):
                found[name].append(measured(how, Path(folder, f"{name}-{pair}"), pictures, steps))
    for name, times in found.items():
        wall, cpu = (statistics.median(part) for part in zip(*times, strict=True))
        print(f"{name:<16} {steps / wall:9.0f} steps/s  {wall:6.2f} s wall  {cpu:6.2f} s CPU (medians of {pairs})")
    pairs_of = list(zip(found["alone"], found["under lorabake"], strict=True))
    for name, which in (("wall", 0), ("CPU", 1)):
        ratio = statistics.median(under[which] / bare[which] for bare, under in pairs_of)
        extra = statistics.median((under[which] - bare[which]) / steps for bare, under in pairs_of)
        share = extra / 0.05
        print(f"{name}: {ratio:.2f} times, {extra * 1e6:.1f} us more a step, {share:.4%} of a step of 50 ms")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        given = [int(argument) for argument in sys.argv[1:]]
        main(*(given + [5, 50_000][len(given) :]))
