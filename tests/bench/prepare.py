"""How fast `lorabake prepare` is next to Pillow alone: the same photographs decoded, resized and encoded by a process
on each core.

    python tests/bench/prepare.py [IMAGES] [PAIRS] [FOLDER]      2000 photographs of 12 megapixels in one pair

The photographs are 40 different ones, each with another comment in every copy, so that all files differ. `prepare` also
reads headers and captions, hashes, waits for the disk, and checks the new recipe; its start-up is included. Each pair
measures both, in turn first. CPU time is that of all processes, and counts where the machine has other work.
"""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, DIFFERENT, WANTED = (4000, 3000), 40, 0.9
RECIPE = """\
name = "photos"
kind = "character"
[base]
model = "base.safetensors"
family = "sd15"
[[concept]]
token = "lum"
class = "woman"
images = "photos"
[train]
resolution = 1024
max_bucket_reso = 2048
"""
# The whole of it: as many processes as cores, and nothing but Pillow.
BARE = """
import os, sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from PIL import Image
source, target, size = Path(sys.argv[1]), Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4]))
def make(path):
    with Image.open(path) as image:
        image.load()
        image.resize(size, Image.Resampling.LANCZOS).save(target / path.name, quality=95, subsampling=0)
if __name__ == "__main__":
    target.mkdir()
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(make, sorted(source.glob("*.jpg")), chunksize=4))
"""


def make_photograph(number: int) -> bytes:
    """Shapes and grain, as fine as a camera's: about 3 MB."""
    chance = np.random.default_rng(number)
    coarse = Image.fromarray(chance.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize(
        SIZE, Image.Resampling.BICUBIC
    )
    grain = chance.integers(0, 24, (SIZE[1], SIZE[0], 1), dtype=np.uint8)
    pixels = np.clip(np.asarray(coarse).astype(np.int16) + grain - 12, 0, 255).astype(np.uint8)
    into = io.BytesIO()
    Image.fromarray(pixels).save(into, "JPEG", quality=90)
    return into.getvalue()


def write_project(folder: Path, count: int) -> None:
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for number in range(min(DIFFERENT, count)):
        data = make_photograph(number)
        for copy in range(number, count, DIFFERENT):
            text = f"{copy:06}".encode()
            comment = b"\xff\xfe" + (len(text) + 2).to_bytes(2) + text
            (photos / f"{copy:06}.jpg").write_bytes(data[:2] + comment + data[2:])
            (photos / f"{copy:06}.txt").write_text(f"lum, woman, photograph {copy}", "utf-8")
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")


def measure(command: list[str], home: Path) -> tuple[float, float]:
    """Elapsed and CPU time in seconds, of it and all it starts."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, env={**os.environ, "LORABAKE_HOME": str(home)}
    ) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in {0, 1}:  # 1: there is no base model
        sys.exit(f"{command[1:3]} ended with {process.returncode}")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def main(count: int, pairs: int, place: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        write_project(folder / "project", count)
        size = sum(path.stat().st_size for path in (folder / "project" / "photos").iterdir())
        print(f"{count} photographs of {SIZE[0]} x {SIZE[1]}, {size / 1e9:.1f} GB")
        ratios = [measure_pair(folder, number) for number in range(pairs)]
    elapsed, cpu = (statistics.median(values) for values in zip(*ratios, strict=True))
    print(f"speed of Pillow alone that is reached: {elapsed:.2f} elapsed, {cpu:.2f} CPU (wanted: {WANTED})")
    if cpu < WANTED:
        sys.exit(1)


def measure_pair(folder: Path, number: int) -> tuple[float, float]:
    (folder / "bare.py").write_text(BARE, "utf-8")
    project, clean, bare = folder / "project", folder / "clean", folder / "bare"
    ours = [sys.executable, "-m", "lorabake", "prepare", str(project / "recipe.toml"), "--to", str(clean), "--yes"]
    theirs = [sys.executable, str(folder / "bare.py"), str(project / "photos"), str(bare), *map(str, target_size())]
    found: dict[str, tuple[float, float]] = {}
    for what in ("prepare", "Pillow") if number % 2 else ("Pillow", "prepare"):
        found[what] = measure(ours if what == "prepare" else theirs, folder / f"home-{number}")
        print(f"  {what:<8} {found[what][0]:8.1f} s elapsed {found[what][1]:8.1f} s CPU", flush=True)
    sizes = {Image.open(path).size for path in sorted((clean / "photos").glob("*.jpg"))[:20]}
    if sizes != {target_size()} or len(list((clean / "photos").glob("*.jpg"))) != len(list(bare.glob("*.jpg"))):
        sys.exit(f"not the same work: {sizes}")
    for made in (clean, bare):
        shutil.rmtree(made)
    return found["Pillow"][0] / found["prepare"][0], found["Pillow"][1] / found["prepare"][1]


def target_size() -> tuple[int, int]:
    """1.5 times the 1195 x 896 that the bucket of 1152 x 896 needs."""
    return 1793, 1345


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 2000, int(given[1]) if len(given) > 1 else 1, given[2] if len(given) > 2 else None)
