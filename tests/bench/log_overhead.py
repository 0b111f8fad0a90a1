"""What watching a trainer costs: the rehearsal at full speed, alone with its log in a file, and under lorabake.

    python tests/bench/log_overhead.py [PAIRS] [STEPS]

Runs alternate, so that a noisy machine is noisy for both. Prints medians, judges nothing. The speed is what the
rehearsal itself shows in its last bar, so that lorabake's own start and end do not count as steps.
"""

from __future__ import annotations

import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import tomli_w
from PIL import Image

from lorabake.commands.output.progress import watch_progress
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.command import rehearsal_argv, trainer_env
from lorabake.runs.launch_request import LaunchRequest, Provenance
from lorabake.util.environment import read_environment
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.plan import Forecast, LaunchPlan, Plan
from lorabake_schemas.record import Inputs, TrainerRecord


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
    env = trainer_env(read_environment(), python=Path(sys.executable))
    with (root / "log").open("wb") as log:
        subprocess.run(rehearsal_argv(LaunchPlan()), cwd=root, env=env, stdout=log, stderr=log, check=True)


def watched(root: Path, pictures: Path, steps: int) -> None:
    """The same under lorabake, in a separate process: parser, events, plain progress lines, record."""
    subprocess.run([sys.executable, __file__, "--child", str(root), str(pictures), str(steps)], check=True)


def child(root: Path, pictures: Path, steps: int) -> None:
    counts = Forecast(
        train_samples=4000, reg_samples=0, batches_per_epoch=4000, steps_per_epoch=4000, epochs=1, steps=steps,
        warmup_steps=0,
    )  # fmt: skip
    plan = Plan(name="x", family="sd15", script="train_network.py", train=(), datasets=(), forecast=counts)
    request = LaunchRequest(
        root=root,
        files=files(pictures, steps) | {"recipe.toml": b""},
        plan=plan,
        argv=rehearsal_argv(plan.launch),
        env=trainer_env(read_environment(), python=Path(sys.executable)),
        trainer=TrainerRecord(kind="rehearsal", python=sys.executable),
        machine=MachineFacts(system="bench", cpus=1, memory_bytes=1),
        provenance=Provenance(Inputs(inputs=()), "d" * 64),
        recipe_place="../recipe.toml",
    )
    with (root.parent / f"{root.name}.out").open("w") as screen, watch_progress(screen, steps) as watcher:
        record = launch_run(request, watcher)
    if record.status != "finished" or record.outcome is None or record.outcome.steps != steps:
        raise SystemExit(f"the rehearsal did not finish: {record.outcome}")


def speed(log: Path) -> float:
    """Steps per second as the last bar in a rehearsal's log shows them."""
    return float(re.findall(rb"([\d.]+)it/s", log.read_bytes()[-4096:])[-1])


def cpu_seconds(how: Callable[[Path, Path, int], None], root: Path, pictures: Path, steps: int) -> float:
    """User and system time of one run, all its processes together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    how(root, pictures, steps)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(pairs: int, steps: int) -> None:
    speeds: dict[str, list[float]] = {"alone": [], "under lorabake": []}
    times: dict[str, list[float]] = {"alone": [], "under lorabake": []}
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder, "pictures")
        pictures.mkdir()
        for number in range(4):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(pictures / f"{number}.png")
            (pictures / f"{number}.txt").write_text("x", "utf-8")
        for pair in range(pairs):
            for name, how, log in (("alone", alone, "log"), ("under lorabake", watched, "logs/trainer.log")):
                root = Path(folder, f"{name}-{pair}")
                times[name].append(cpu_seconds(how, root, pictures, steps))
                speeds[name].append(speed(root / log))
    for name, found in speeds.items():
        cpu = statistics.median(times[name])
        print(f"{name:<16} {statistics.median(found):9.0f} steps/s  {cpu:6.2f} s CPU (medians of {pairs})")
    ratios = [under / bare for bare, under in zip(speeds["alone"], speeds["under lorabake"], strict=True)]
    listed = " ".join(f"{ratio:.3f}" for ratio in sorted(ratios))
    print(f"steps per second under lorabake / alone: {statistics.median(ratios):.3f} (pairs: {listed}; wanted: 0.98)")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        given = [int(argument) for argument in sys.argv[1:]]
        main(*(given + [7, 500_000][len(given) :]))
