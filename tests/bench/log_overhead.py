"""What watching a trainer costs: the rehearsal at full speed, alone with its log in a file, and under `lorabake run`.

    python tests/bench/log_overhead.py [PAIRS] [STEPS]

Each pair runs both, the next one in the other order, so that a noisy machine is noisy for both. Speed and CPU time are
measured between a fifth and four fifths of the steps, so that nobody's start and end count. The clock of a busy machine
decides little, so two ratios come from CPU time: that of the trainer's steps (as if lorabake had a core to itself), and
that of all processes together (as if all had to share one core). The interval contains 95 % of the medians of resampled
pairs. Memory is the largest that was seen; PSS divides pages among the processes that share them, and is what goes if
all of them end. Prints, judges nothing.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from check_speed import base, make

RECIPE = """\
name = "x"
kind = "style"
[base]
model = "base.safetensors"
family = "sd15"
[[concept]]
token = "hmbrgrlora"
class = "food"
images = "pictures"
num_repeats = 1000
[train]
resolution = 64
max_train_steps = {steps}
"""
LORABAKE = (sys.executable, "-m", "lorabake")
TRAINER, SUPERVISOR, TERMINAL, GUARDS = "trainer", "supervisor", "terminal", "guards"
WATCHERS = (SUPERVISOR, TERMINAL, GUARDS)
NOTHING = (0.0, 0.0)
FROM, TO, LOOK_S = 0.2, 0.8, 0.05
TICKS = os.sysconf("SC_CLK_TCK")
RESAMPLES = 10_000


@dataclass(frozen=True)
class Sample:
    """A moment of a run: seconds, steps done, and the CPU seconds of each part until then."""

    moment: float
    step: int
    cpu: Mapping[str, float]


@dataclass
class Course:
    """One run between two moments of it. Memory is in MB by part, PSS and RSS."""

    samples: list[Sample] = field(default_factory=list)
    memory: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        return self.samples[-1].step - self.samples[0].step

    @property
    def speed(self) -> float:
        """Steps per second."""
        return self.steps / (self.samples[-1].moment - self.samples[0].moment)

    def cpu(self, *parts: str) -> float:
        """CPU seconds for a million steps."""
        first, last = self.samples[0].cpu, self.samples[-1].cpu
        return 1e6 * sum(last[part] - first[part] for part in parts) / self.steps


def list_processes(below: int) -> Iterator[tuple[int, str]]:
    """``below`` and every process that it started, with its command line."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(path.name)] = int((path / "stat").read_bytes().rpartition(b")")[2].split()[1])
    waiting = [below]
    while waiting:
        pid = waiting.pop()
        with suppress(OSError):
            yield pid, Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        waiting += [child for child, parent in parents.items() if parent == pid]


def name_part(pid: int, below: int, command: str) -> str:
    if "process_guard" in command:  # first: it has the trainer's command among its arguments
        return GUARDS
    if "lorabake.jobs.rehearsal" in command:
        return TRAINER
    return TERMINAL if pid == below else SUPERVISOR


def read_cpu(pid: int) -> float:
    """User and system time so far."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def read_memory(pid: int) -> tuple[float, float]:
    """PSS and RSS in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    found = {name: int(kilobytes) for name, kilobytes in re.findall(r"^(Pss|Rss): +(\d+) kB", text, re.MULTILINE)}
    return found["Pss"] * 1024 / 1e6, found["Rss"] * 1024 / 1e6


def read_step(log: Path) -> int:
    """The last step in the trainer's log."""
    with suppress(FileNotFoundError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        if found := re.findall(rb"\| (\d+)/\d+ \[", file.read()):
            return int(found[-1])
    return 0


def measure_parts(below: int) -> dict[str, tuple[float, float]]:
    """PSS and RSS of the parts of a run, of those processes that still live."""
    found: dict[str, tuple[float, float]] = {}
    for pid, command in list_processes(below):
        part = name_part(pid, below, command)
        with suppress(OSError):
            pss, rss = read_memory(pid)
            before = found.get(part, (0.0, 0.0))
            found[part] = before[0] + pss, before[1] + rss
    return found


def follow(process: subprocess.Popen[bytes], log: Path, steps: int) -> Course:
    """The course of a run that ``process`` began, until it has ended."""
    course = Course()
    while process.poll() is None:
        if FROM * steps <= read_step(log) <= TO * steps:
            cpu: dict[str, float] = dict.fromkeys((TRAINER, *WATCHERS), 0.0)
            for pid, command in list_processes(process.pid):
                with suppress(OSError):
                    cpu[name_part(pid, process.pid, command)] += read_cpu(pid)
            course.samples[1:] = [Sample(time.monotonic(), read_step(log), cpu)]
            course.memory = find_largest(course.memory, measure_parts(process.pid))
        time.sleep(LOOK_S)
    if process.returncode or len(course.samples) < 2:
        raise SystemExit(f"a rehearsal ended with {process.returncode} after {len(course.samples)} looks")
    return course


def find_largest(
    one: dict[str, tuple[float, float]], other: dict[str, tuple[float, float]]
) -> dict[str, tuple[float, float]]:
    return {part: max(one.get(part, NOTHING), other.get(part, NOTHING)) for part in {**one, **other}}


def run_alone(project: Path, root: Path, steps: int) -> Course:
    """As a shell would do it: both streams into one file."""
    compiled = [*LORABAKE, "compile", "recipe.toml", "--output", str(root)]
    subprocess.run(compiled, cwd=project, check=True, capture_output=True)
    argv = [sys.executable, "-P", "-m", "lorabake.jobs.rehearsal"]
    argv += ["--config_file", "train.toml", "--dataset_config", "dataset.toml"]
    with (root / "log").open("wb") as log:
        # in a session of its own, as under lorabake: on a busy machine Linux divides its time among sessions
        process = subprocess.Popen(argv, cwd=root, stdout=log, stderr=log, start_new_session=True)
        return follow(process, root / "log", steps)


def run_watched(project: Path, root: Path, steps: int) -> Course:
    """The same under lorabake, whose lines go into a file."""
    argv = [*LORABAKE, "run", "recipe.toml", "--rehearse", "--run-dir", str(root)]
    with root.with_suffix(".txt").open("wb") as log:
        process = subprocess.Popen(argv, cwd=project, stdout=log, stderr=log)
        return follow(process, root / "logs" / "trainer.log", steps)


def measure_detached(project: Path, root: Path) -> dict[str, tuple[float, float]]:
    """The memory of a run without a terminal, which shares no pages with anybody."""
    argv = [*LORABAKE, "run", "recipe.toml", "--rehearse", "--detach", "--run-dir", str(root)]
    subprocess.run(argv, cwd=project, check=True, capture_output=True)
    largest: dict[str, tuple[float, float]] = {}
    supervisor = int(json.loads((root / "record.json").read_text("utf-8"))["pid"])
    while found := measure_parts(supervisor):
        largest = find_largest(largest, {SUPERVISOR if part == TERMINAL else part: at for part, at in found.items()})
        time.sleep(LOOK_S)
    return largest


def describe_ratio(name: str, ratios: Sequence[float]) -> str:
    """The median with its interval."""
    dice = random.Random(1)  # noqa: S311
    medians = sorted(statistics.median(dice.choices(ratios, k=len(ratios))) for _ in range(RESAMPLES))
    low, high = medians[RESAMPLES // 40], medians[-RESAMPLES // 40]
    return f"  {name:<42} {statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def median(courses: Sequence[Course], value: Callable[[Course], float]) -> float:
    return statistics.median(map(value, courses))


def report_speed(alone: Sequence[Course], watched: Sequence[Course]) -> None:
    pairs = list(zip(alone, watched, strict=True))
    print(f"alone: {median(alone, lambda one: one.speed):.0f} steps/s")
    print(f"under lorabake: {median(watched, lambda one: one.speed):.0f} steps/s")
    print("CPU seconds for a million steps:")
    print(f"  alone: trainer {median(alone, lambda one: one.cpu(TRAINER)):.2f}")
    shares = [f"{part} {statistics.median(one.cpu(part) for one in watched):.2f}" for part in (TRAINER, *WATCHERS)]
    print(f"  under lorabake: {', '.join(shares)}")
    print(f"speed under lorabake / alone, medians of {len(pairs)} pairs (95 %; wanted: 0.98):")
    print(describe_ratio("by the clock", [under.speed / bare.speed for bare, under in pairs]))
    print(
        describe_ratio("by the trainer's CPU time", [bare.cpu(TRAINER) / under.cpu(TRAINER) for bare, under in pairs])
    )
    shared = [bare.cpu(TRAINER) / under.cpu(TRAINER, *WATCHERS) for bare, under in pairs]
    print(describe_ratio("by the CPU time of all, on one core", shared))


def report_memory(name: str, memory: dict[str, tuple[float, float]]) -> None:
    print(f"memory, {name}:")
    both = [memory.get(part, NOTHING) for part in (SUPERVISOR, GUARDS)]
    rows = {part: memory[part] for part in WATCHERS if part in memory}
    rows["supervisor and guards"] = sum(pss for pss, _ in both), sum(rss for _, rss in both)
    for part, (pss, rss) in rows.items():
        print(f"  {part:<21} PSS {pss:5.1f} MB, RSS {rss:5.1f} MB")


def main(pairs: int, steps: int) -> None:
    alone: list[Course] = []
    watched: list[Course] = []
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        make(project / "pictures", range(4))
        base(project / "base.safetensors")
        (project / "recipe.toml").write_text(RECIPE.format(steps=steps), "utf-8")
        os.environ["LORABAKE_HOME"] = str(Path(folder, "home"))
        for pair in range(pairs):
            for is_watched in (False, True) if pair % 2 else (True, False):
                if is_watched:
                    watched.append(run_watched(project, Path(folder, f"watched-{pair}"), steps))
                else:
                    alone.append(run_alone(project, Path(folder, f"alone-{pair}"), steps))
        report_speed(alone, watched)
        report_memory("attached", watched[-1].memory)
        report_memory("detached (wanted: PSS under 80 MB)", measure_detached(project, Path(folder, "detached")))


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*(given + [9, 1_000_000][len(given) :]))
