"""A LoRA really trained by the pinned sd-scripts, then verified: untouched, with five faults, untouched again.

The trainer is the real one under a LORABAKE_HOME of its own, its packages and the base's weights as links, so that a
package can be bumped and a model replaced without touching what other tests use.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image

from lorabake.jobs import quickstart_files
from lorabake.trainer import manifest
from lorabake.trainer.install import Trainer
from lorabake.util import locks
from lorabake.util.environment import make_child_env, read_environment
from sample_images import write_lighthouses

ROOT = Path(__file__).parents[2]
BUMPED = "accelerate"


def linked(source: Path, target: Path, *, copied: str = "") -> None:
    """A folder whose files are links; those whose path contains ``copied`` are copies."""
    for path in sorted(source.rglob("*")):
        here = target / path.relative_to(source)
        if path.is_dir() and not path.is_symlink():
            here.mkdir(parents=True, exist_ok=True)
            continue
        here.parent.mkdir(parents=True, exist_ok=True)
        if copied and copied in str(here.relative_to(target)):
            shutil.copy2(path, here)
        else:
            here.symlink_to(path.resolve())


def home_with(trainer: Trainer, home: Path) -> Path:
    """A LORABAKE_HOME that has the trainer. Returns the folder of its packages."""
    store = trainer.checkout.parent.parent
    markers = [path for path in store.glob("*.json") if trainer.checkout.parent.name in path.read_text("utf-8")]
    here = home / "trainers" / trainer.checkout.parent.name
    shutil.copytree(trainer.checkout, here / "sd-scripts", symlinks=True)
    real = trainer.python.parent.parent
    (here / "venv" / "bin").mkdir(parents=True)
    shutil.copy2(real / "pyvenv.cfg", here / "venv")
    (here / "venv" / "bin" / "python").symlink_to(trainer.python.resolve())
    (packages,) = real.glob("lib/python3*/site-packages")
    mine = here / "venv" / packages.relative_to(real)
    mine.mkdir(parents=True)
    for entry in packages.iterdir():
        if entry.name.startswith(f"{BUMPED}-"):
            shutil.copytree(entry, mine / entry.name)
        else:
            (mine / entry.name).symlink_to(entry)
    files_sha256 = manifest.write_file_hashes(here)
    for marker in markers:
        told = json.loads(marker.read_text("utf-8")) | {"files_sha256": files_sha256}
        (home / "trainers" / marker.name).write_text(json.dumps(told), "utf-8")
    return mine


def home_of(packages: Path) -> Path:
    """The trainer's folder, of a path in its virtual environment."""
    return next(folder.parent for folder in packages.parents if folder.name == "venv")


def base_of(trainer: Trainer) -> Path:
    """The base of random weights that other real tests use, too."""
    cache = Path(read_environment().get("LORABAKE_TEST_HOME") or ROOT / ".test-cache").absolute()
    folder = cache / "bases" / "sd15"
    folder.parent.mkdir(exist_ok=True)
    with locks.hold_lock(cache / "bases" / ".lock", lambda _: print("waiting for another session's base")):
        quickstart_files.make_base(folder, "sd15", trainer.python, read_environment(), print)
    return folder


def write_project(folder: Path, base: Path) -> None:
    linked(base, folder / "model")
    write_lighthouses(folder / "lighthouse", 4)
    recipe: dict[str, Any] = {
        "name": "verified",
        "kind": "object",
        "base": {
            "model": "model",
            "family": "sd15",
            "tags": "danbooru",
            "tokenizer_cache_dir": "model/tokenizers",
        },
        "network": {"network_dim": 4},
        "train": {"optimizer": "AdamW", "resolution": 64, "max_train_steps": 4, "lr_warmup_steps": 0},
        "concept": [{"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"}],
    }
    (folder / "recipe.toml").write_text(tomli_w.dumps(recipe), encoding="utf-8")


def lorabake(folder: Path, home: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(home))
    argv = [sys.executable, "-m", "lorabake", *args]
    return subprocess.run(argv, cwd=folder, env=env, check=False, capture_output=True, text=True, encoding="utf-8")


def verify(folder: Path, home: Path, code: int) -> list[str]:
    """The messages of the differences."""
    done = lorabake(folder, home, "verify", "verified-001", "--json")
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["unproven"] == []
    assert told["compared"]["packages"] > 50
    assert told["compared"]["size"] > 10**9
    return [each["message"] for each in told["differences"]]


def flipped(path: Path) -> bytes:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return content


@pytest.mark.real
def test_five_faults_and_nothing_else(tmp_path: Path, trainer: Trainer) -> None:
    home, project = tmp_path / "home", tmp_path / "project"
    packages = home_with(trainer, home)
    write_project(project, base_of(trainer))
    done = lorabake(project, home, "run", "recipe.toml")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    run = project / "runs" / "verified-001"
    assert verify(project, home, 0) == []

    caption = project / "lighthouse" / "lighthouse02.txt"
    picture = project / "lighthouse" / "lighthouse03.png"
    weights = next(project.glob("model/text_encoder/*.safetensors"))
    recipe = run / "recipe.toml"
    (info,) = packages.glob(f"{BUMPED}-*.dist-info")
    version = info.name.removeprefix(f"{BUMPED}-").removesuffix(".dist-info")
    before = {path: path.read_bytes() for path in (caption, picture, recipe, info / "METADATA")}
    real = weights.resolve()

    flipped(caption)
    with Image.open(picture) as image:
        image.load()
        assert image.getpixel((0, 0)) != (9, 8, 7)
        image.putpixel((0, 0), (9, 8, 7))
        image.save(picture)
    metadata = (info / "METADATA").read_text("utf-8").replace(f"Version: {version}\n", "Version: 99.0\n", 1)
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    recipe.write_text(recipe.read_text("utf-8").replace("network_dim = 4", "network_dim = 8"), encoding="utf-8")
    weights.unlink()
    shutil.copyfile(real, weights)
    with weights.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    said = verify(project, home, 1)
    named = ["network.network_dim", f"text_encoder/{weights.name}", caption.stem, picture.name, f"{version} to 99.0"]
    assert [sum(name in each for each in said) for name in named] == [1] * len(named)
    assert str(info.relative_to(home_of(info)) / "METADATA") in said[-1]
    assert len(said) == 6

    for path, content in before.items():
        path.write_bytes(content)
    weights.unlink()
    weights.symlink_to(real)
    assert verify(project, home, 0) == []
