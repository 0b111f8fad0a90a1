"""Tries lorabake with real trainings on a machine with an NVIDIA GPU, and prints one Markdown table of what came out.

    python tests/gpu/acceptance.py                                        with lorabake's own trainer
    python tests/gpu/acceptance.py --sd-scripts PATH --python PATH        with an installation of your own
    python tests/gpu/acceptance.py --device cpu --resolution 64 --steps 6 --minutes 15

No network is needed once the trainer is there: images are drawn, base models have random weights at their real sizes.
It stops to start trials when its time is used up (--minutes, 8 by default) and names those it did not get to. A trial
that fails leaves the others alone. Exit code 0, or 1 when a trial failed. Where no GPU is at hand, nothing is tried.

A training sees no packages that only PYTHONPATH leads to: put such a folder into a .pth file of --python's.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
from PIL import Image
from rows import FAILED, Budget, Row, Trial, TrialError, table, tried
from watching import Memory, Watched

from lorabake.jobs import quickstart_files
from lorabake.trainer import install as trainers
from lorabake.util import machine, paths, resources
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.machine import Family, MachineFacts
from lorabake_schemas.record import Record

IMAGES = 4
FULL_SIZE: Mapping[Family, int] = {"sd15": 512, "sdxl": 1024}
STEPS: Mapping[Family, int] = {"sd15": 24, "sdxl": 12}


@dataclass(frozen=True)
class Place:
    """Where trials work: with which trainer, on which device, until when."""

    folder: Path
    trainer: tuple[str, ...]
    python: Path
    gpu: str | None
    resolution: int | None
    steps: int | None
    budget: Budget
    started: list[Watched] = field(default_factory=list[Watched])

    @property
    def env(self) -> dict[str, str]:
        hidden = {} if self.gpu else {"CUDA_VISIBLE_DEVICES": ""}
        return make_child_env(read_environment(), HF_HUB_OFFLINE="1", **hidden)

    def size(self, family: Family) -> int:
        return self.resolution or FULL_SIZE[family]

    def length(self, family: Family) -> int:
        return self.steps or STEPS[family]

    def start(self, argv: Sequence[str], log: Path, cwd: Path, env: Mapping[str, str], out: Path) -> Watched:
        """A process in a separate group; its output goes to ``out``."""
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, text=True,
                start_new_session=True,
            )  # fmt: skip
        watched = Watched(process, log, time.monotonic() + max(30.0, self.budget.left()))
        self.started.append(watched)
        return watched

    def alone(self, trial: Callable[[Place, Way], Row], way: Way) -> Row:
        """A trial that leaves nothing running, however it ends."""
        try:
            return trial(self, way)
        finally:
            while self.started:
                self.started.pop().stop()

    def lorabake(self, command: str, *args: str, run: Path) -> Watched:
        argv = [sys.executable, "-P", "-m", "lorabake", command, *args]
        return self.start(argv, run / "logs" / "trainer.log", self.folder, self.env, said(run, command))

    def run(self, recipe: Path, run: Path) -> Watched:
        return self.lorabake("run", str(recipe), "--run-dir", str(run), *self.trainer, run=run)

    def resume(self, run: Path) -> Watched:
        """The trainer is named again where `resume` takes it."""
        argv = [sys.executable, "-P", "-m", "lorabake", "resume", "--help"]
        shown_help = subprocess.run(argv, env=self.env, capture_output=True, text=True, check=False).stdout
        named = self.trainer if "--sd-scripts" in self.trainer and "--sd-scripts" in shown_help else ()
        return self.lorabake("resume", str(run), *named, run=run)


def said(run: Path, command: str) -> Path:
    """The file for the output of a command about a run."""
    return run.with_name(f"{run.name}.{command}.txt")


def record(run: Path) -> Record:
    return Record.model_validate_json((run / "record.json").read_bytes())


def must(code: int, run: Path, command: str) -> None:
    """Raises TrialError with the last lines of a command's output if it failed."""
    if code != 0:
        words = [line for line in said(run, command).read_text("utf-8", "replace").splitlines() if line.strip()]
        raise TrialError(f"{command} ended with {code}: {' / '.join(words[-2:]) or 'no words'}"[:400])


def recipe_of(place: Place, family: Family, file: str, train: Mapping[str, Any], **more: Any) -> Path:
    """A separate recipe for each trial; base model and images are shared."""
    base, size = place.folder / f"base-{family}", place.size(family)
    content: dict[str, Any] = {
        "name": "lum",
        "kind": "object",
        "base": {
            "model": base.as_posix(),
            "family": family,
            "tags": "danbooru",
            "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
        },
        "concept": [{"token": "lumlighthouse", "class": "lighthouse", "images": images(place.folder, size).as_posix()}],
        "network": {"network_dim": 16},
        "train": {
            "resolution": size,
            "max_train_steps": place.length(family),
            "lr_warmup_steps": 0,
            "cache_latents": True,
            **train,
        },
        **more,
    }
    path = place.folder / f"{file}.toml"
    path.write_text(tomli_w.dumps(content), encoding="utf-8")
    return path


def images(folder: Path, size: int) -> Path:
    """Drawn images that are large enough for a training at ``size``."""
    place = folder / f"images-{size}"
    if not place.exists():
        place.mkdir()
        for name, content in list(resources.read_sample_images().items())[: 2 * IMAGES]:
            (place / name).write_bytes(content)
        for path in place.glob("*.png"):
            with Image.open(path) as drawn:
                factor = max(1, math.ceil(size / min(drawn.size)))
                larger = drawn.resize((drawn.width * factor, drawn.height * factor))
            larger.save(path)
    return place


@dataclass(frozen=True)
class Way:
    """How a training goes: what the rows of the matrix differ in."""

    family: Family
    optimizer: str
    precision: str
    attention: str
    checkpointing: bool

    @property
    def name(self) -> str:
        checkpointing = "gradient checkpointing" if self.checkpointing else "no checkpointing"
        return f"{self.family} {self.optimizer} {self.precision} {self.attention}, {checkpointing}, cached latents"

    @property
    def train(self) -> dict[str, Any]:
        rate = {} if self.optimizer == "Prodigy" else {"learning_rate": 1e-4}
        return rate | {
            "optimizer": self.optimizer,
            "mixed_precision": self.precision,
            "attention": self.attention,
            "gradient_checkpointing": self.checkpointing,
        }


GPU_WAYS = (
    Way("sd15", "AdamW8bit", "bf16", "sdpa", checkpointing=False),
    Way("sdxl", "AdamW8bit", "bf16", "sdpa", checkpointing=True),
    Way("sdxl", "Prodigy", "bf16", "xformers", checkpointing=True),
    Way("sd15", "Prodigy", "fp16", "xformers", checkpointing=True),
    Way("sdxl", "AdamW8bit", "fp16", "sdpa", checkpointing=False),
    Way("sd15", "AdamW8bit", "fp16", "xformers", checkpointing=False),
)
CPU_WAYS = (  # what a CPU can do: no 8-bit optimizer, no xformers, no fp16
    Way("sd15", "AdamW", "no", "sdpa", checkpointing=False),
    Way("sd15", "Prodigy", "bf16", "sdpa", checkpointing=True),
)


def train(place: Place, way: Way) -> Row:
    """One training of the matrix."""
    run = place.folder / "runs" / re.sub(r"[^\w]+", "-", way.name)
    with_base(place, way.family)
    recipe, memory = recipe_of(place, way.family, run.name, way.train), Memory(place.gpu)
    try:
        watched = place.run(recipe, run)
        must(watched.ended(), run, "run")
    finally:
        memory.close()
    if watched.loss is None or not math.isfinite(watched.loss):
        raise TrialError(f"the loss is {watched.loss}")
    verdict = f"ok, {watched.step} steps, average loss {watched.loss:.3f}"
    return Row(way.name, verdict, per_step=watched.per_step, memory=memory.most)


def bare(place: Place, way: Way) -> Row:
    """The command and the files of lorabake's run of the same way, started without lorabake."""
    run = place.folder / "runs" / re.sub(r"[^\w]+", "-", way.name)
    if not (run / "command.json").exists():
        raise TrialError("there is no run of lorabake's to compare with")
    ours = Watched(subprocess.Popen(["true"], text=True), run / "logs" / "trainer.log", math.inf)
    ours.process.wait()
    command, folder = json.loads((run / "command.json").read_text(encoding="utf-8")), run.with_name("bare")
    folder.mkdir(parents=True)
    for path in run.iterdir():
        if path.is_file() and path.suffix in {".toml", ".txt", ".yaml", ".py"}:
            shutil.copy(path, folder)
    log = folder / "log.txt"
    env = {name: value for name, value in place.env.items() if not name.startswith("PYTHON")} | command["environment"]
    watched, memory = place.start(command["argv"], log, folder, env, log), Memory(place.gpu)
    try:
        code = watched.ended()
    finally:
        memory.close()
    if code != 0:
        raise TrialError(f"it ended with {code}; see {log}")
    return Row("", f"ok, {watched.step} steps", per_step=watched.per_step, memory=memory.most)


def twice(place: Place, way: Way) -> Row:
    """Two runs with `deterministic = true`: the same file or not."""
    runs = [place.folder / "runs" / f"deterministic-{number}" for number in (1, 2)]
    recipe = recipe_of(place, way.family, "deterministic", way.train, launch={"deterministic": True})
    with_base(place, way.family)
    for run in runs:
        must(place.run(recipe, run).ended(), run, "run")
    first, second = ((run / "output" / "lum.safetensors").read_bytes() for run in runs)
    return Row("", f"equal, byte for byte ({len(first):,} bytes)" if first == second else "the files are NOT equal")


def killed(place: Place, way: Way) -> Row:
    """SIGKILL to lorabake in the middle of a training, then `resume`."""
    run, steps = place.folder / "runs" / "killed", place.length(way.family)
    every = max(1, steps // 4)
    recipe = recipe_of(place, way.family, "killed", way.train, save={"save_state": True, "save_every_n_steps": every})
    with_base(place, way.family)
    watched = place.run(recipe, run)
    watched.until(lambda: watched.step > every and any(run.rglob("*-state/train_state.json")))
    if watched.process.poll() is not None:
        must(watched.process.wait(), run, "run")
        raise TrialError("the training had ended before it could be killed: give it more --steps")
    watched.process.kill()
    watched.process.wait()
    at, status = watched.step, guarded(run)
    again = place.resume(run)
    must(again.ended(), run, "resume")
    outcome = record(run).outcome
    reached = outcome.steps if outcome else 0
    words = f"killed after step {at} (recorded as {status}), resumed to step {reached} of {steps}"
    return Row("", f"ok, {words}" if reached == steps else f"{FAILED}: {words}")


def guarded(run: Path) -> str:
    """The record after the guard has stopped the trainer."""
    deadline = time.monotonic() + 60
    while (status := record(run).status) == "started" and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(2.0)  # the memory of the GPU comes back after the process is gone
    return status


def at_once(place: Place, way: Way) -> Row:
    """While one run trains: the same recipe is refused, a recipe with another name is trained at the same time."""
    runs = [place.folder / "runs" / f"at-once-{number}" for number in (1, 2, 3)]
    recipe = recipe_of(place, way.family, "at-once", way.train)
    other = recipe_of(place, way.family, "another", way.train, name="another")
    with_base(place, way.family)
    memory = Memory(place.gpu)
    try:
        one = place.run(recipe, runs[0])
        one.until(lambda: one.step >= 1)
        others = (place.run(recipe, runs[1]), place.run(other, runs[2]))
        codes = [each.ended() for each in others]
        must(one.ended(), runs[0], "run")
    finally:
        memory.close()
    verdicts = [became(code, run) for code, run in zip(codes, runs[1:], strict=True)]
    return Row("", f"the same recipe: {verdicts[0]}; one of another name: {verdicts[1]}", memory=memory.most)


def became(code: int, run: Path) -> str:
    """What became of a run that another was in the way of."""
    try:
        must(code, run, "run")
    except TrialError as error:
        return f"refused or failed ({error})"
    return "not refused, trained"


_MAKING: dict[Family, threading.Thread] = {}
_NOT_MADE: dict[Family, Exception] = {}


def make_bases(place: Place, families: Sequence[Family]) -> None:
    """Begin to write each family's base; SDXL's takes a minute, in which others can train."""
    for family in families:
        _MAKING[family] = threading.Thread(target=_make_base, args=(place, family), daemon=True)
        _MAKING[family].start()


def _make_base(place: Place, family: Family) -> None:
    try:
        base = place.folder / f"base-{family}"
        quickstart_files.make_base(base, family, place.python, place.env, lambda _: None, "--full-size")
    except Exception as error:  # noqa: BLE001 - told by each row that needs it
        _NOT_MADE[family] = error


def with_base(place: Place, family: Family) -> None:
    _MAKING[family].join(max(1.0, place.budget.left()))
    if family in _NOT_MADE:
        raise TrialError(f"the base could not be made: {_NOT_MADE[family]}")
    if _MAKING[family].is_alive():
        raise TrialError("the base was not made in time")


def trials(place: Place, ways: Sequence[Way]) -> list[Trial]:
    """In the order of what matters most, should the time not suffice for all."""
    first, *others = ways
    matrix = [Trial(way.name, way.family, 1, partial(place.alone, train, way)) for way in ways]
    beside = Trial(
        "bare accelerate launch of the first row's files", first.family, 1, partial(place.alone, bare, first)
    )
    special = [
        Trial("deterministic = true, twice", first.family, 2, partial(place.alone, twice, first)),
        Trial("SIGKILL, then resume", first.family, 2, partial(place.alone, killed, first)),
        Trial("two runs at once", first.family, 2, partial(place.alone, at_once, first)),
    ]
    half = len(others) // 2
    return [matrix[0], beside, *matrix[1 : 1 + half], *special, *matrix[1 + half :]]


def title(facts: MachineFacts, gpu: str | None, minutes: float, took: float) -> str:
    device = facts.gpus[0].name if gpu is not None else f"CPU: {facts.processor}"
    return f"**{device}**, {facts.system}, {took / 60:.1f} of {minutes:g} minutes"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    about, _, usage = str(__doc__).partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, epilog=usage, formatter_class=form)
    parser.add_argument("--sd-scripts", type=Path, help="a checkout of sd-scripts, instead of lorabake's own trainer")
    parser.add_argument("--python", type=Path, help="the Python to run it with")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    parser.add_argument("--resolution", type=int, help="instead of 512 (SD1.5) and 1024 (SDXL)")
    parser.add_argument("--steps", type=int, help="of each training")
    parser.add_argument("--minutes", type=float, default=8.0, help="no trial is started that would need more")
    parser.add_argument("--folder", type=Path, default=Path("gpu-acceptance"), help="a new folder to work in")
    parser.add_argument("--output", type=Path, default=Path("gpu-acceptance.md"), help="the file for the table")
    return parser.parse_args(argv)


def found_trainer(asked: argparse.Namespace, env: Mapping[str, str]) -> tuple[tuple[str, ...], Path]:
    """lorabake's options for the trainer, and its Python; lorabake's own is installed first if need be."""
    pin, home = resources.load_pin(), paths.lorabake_home(env)
    if asked.sd_scripts is None:
        return (), trainers.ensure_installed(pin, home, "auto", env, print, python=asked.python).python
    own = trainers.check_user_trainer(asked.sd_scripts, asked.python, pin, print, env)
    return ("--sd-scripts", str(own.checkout), "--python", str(own.python)), own.python


def report(text: str, output: Path) -> None:
    print(text, end="", flush=True)
    output.write_text(text, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    asked = arguments(argv)
    facts, on_cpu = machine.detect_machine(read_environment()), asked.device == "cpu"
    if not facts.gpus and not on_cpu:
        report("No NVIDIA GPU was found on this machine: nothing was tried.\n", asked.output)
        return 0
    if asked.folder.exists():
        print(f"{asked.folder} exists: name another one with --folder, or remove it", file=sys.stderr)
        return 2
    folder = asked.folder.absolute()
    folder.mkdir(parents=True)
    gpu = None if on_cpu else read_environment().get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    trainer, python = found_trainer(asked, read_environment())
    budget = Budget(asked.minutes * 60)
    place = Place(folder, trainer, python, gpu, asked.resolution, asked.steps, budget)
    ways = CPU_WAYS if on_cpu else GPU_WAYS
    make_bases(place, sorted({way.family for way in ways}))
    rows = tried(trials(place, ways), budget, lambda row: print(" | ".join(row.cells()), flush=True))
    report(table(title(facts, gpu, asked.minutes, asked.minutes * 60 - budget.left()), rows), asked.output)
    return 1 if any(row.verdict.startswith(FAILED) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
