"""CPU time of hashing what a run is made from, the first time and again; judges 10 GB again only.

    python tests/bench/hash_speed.py [PICTURES]      20000 by default

Two folders: ten sparse files of 1 GB, as checkpoints are in size, and small pictures with their captions. Every
measurement is a process of its own, start-up included; "start-up" is the same process with nothing to hash, and
"listed" with names and stamps only. "torn": the store's file cut in half, then written over with noise. Whatever the
store is like, the digests have to be the same.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from check_speed import make

RUNS = 5
GIGABYTE, MEGABYTE = 10**9, 10**6
WANTED_S = 0.3
HASH_THEM = """
import sys
from pathlib import Path
from lorabake.util.hashing import FileHasher
from lorabake.inputs.folders import GLOB_EXTENSIONS
from lorabake.inputs.manifest import rehash_inputs
from lorabake_schemas.record import Input
role, place, store = sys.argv[1:]
endings = (*GLOB_EXTENSIONS, ".txt") if role == "concept" else None
asked = [Input(role=role, name=place, place=place, kind="missing", endings=endings)] if place else []
for found in rehash_inputs(asked, Path.cwd(), FileHasher(Path(store)), {}):
    print(found.digest().sha256, found.digest().size)
"""
LIST_THEM = """
import sys
import lorabake.inputs.manifest
from lorabake.inputs.folders import list_folder
list_folder(sys.argv[1], ".txt")
"""


@dataclass(frozen=True)
class Cost:
    """CPU time, elapsed time and output of one process."""

    cpu_s: float
    wall_s: float
    said: str


def cost(*arguments: str, code: str = HASH_THEM) -> Cost:
    began = time.perf_counter()
    command = [sys.executable, "-c", code, *arguments]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        said = process.stdout.read() if process.stdout else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"hashing ended with {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - began, said)


def told(what: str, costs: list[Cost], size: int = 0) -> float:
    times = sorted(one.cpu_s for one in costs)
    speed = f", {size / MEGABYTE / statistics.median(one.wall_s for one in costs):6.0f} MB/s" if size else ""
    print(
        f"  {what:<12} {statistics.median(times):7.3f} s CPU "
        f"(of {len(times)}: {times[0]:.3f} to {times[-1]:.3f}){speed}"
    )
    return times[0]


def tear(store: Path, number: int) -> None:
    """Half of the file, and noise over the first of that every other time."""
    data = store.read_bytes()[: store.stat().st_size // 2]
    noise = random.Random(number).randbytes(min(4096, len(data))) if number % 2 else b""  # noqa: S311
    store.write_bytes(noise + data[len(noise) :])


def measure(role: str, folder: Path, store: Path) -> float:
    """Prints all, and returns what it costs again at least: what comes on top is the machine's noise."""
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{len(os.listdir(folder))} files, {size / MEGABYTE:.0f} MB")  # noqa: PTH208
    arguments = role, str(folder), str(store)
    cost(role, "", str(store))  # byte code
    rounds: dict[str, list[Cost]] = {name: [] for name in ("start-up", "listed", "first", "again", "torn")}
    for number in range(RUNS):
        store.unlink(missing_ok=True)
        rounds["start-up"].append(cost(role, "", str(store)))
        rounds["listed"].append(cost(str(folder), code=LIST_THEM))
        rounds["first"].append(cost(*arguments))
        rounds["again"].append(cost(*arguments))
        tear(store, number)
        rounds["torn"].append(cost(*arguments))
    said = {one.said for name in ("first", "again", "torn") for one in rounds[name]}
    if len(said) != 1:
        sys.exit(f"not the same digests: {said}")
    for name in ("start-up", "listed"):
        told(name, rounds[name])
    told("first", rounds["first"], size)
    again = told("again", rounds["again"])
    told("torn", rounds["torn"], size)
    return again


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "models").mkdir()
        for number in range(10):
            with (folder / "models" / f"{number}.safetensors").open("wb") as file:
                file.write(number.to_bytes(8, "little"))
                file.truncate(GIGABYTE)
        make(folder / "pictures", range(count))
        time.sleep(3)  # files that were written just now are not remembered
        again = measure("base", folder / "models", folder / "facts.sqlite3")
        print(f"10 GB again: {again:.3f} s CPU, start-up included (wanted: under {WANTED_S})")
        measure("concept", folder / "pictures", folder / "facts.sqlite3")
    if again >= WANTED_S:
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
