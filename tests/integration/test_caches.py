"""Latent caches from run to run, with an sd-scripts of one's own that keeps them as sd-scripts does."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from own_trainer import TRAIN, OwnTrainer, environment, lorabake
from trainer_world import git

from situations import one_colour, project

MORE = """
[train]
resolution = 256
max_train_steps = 4
cache_latents_to_disk = true
"""
# Caches only what is not there; 7 steps: a picture is edited in the middle; 13: it breaks off after caching;
# 17: it waits then.
CACHING = """\
import zipfile
def npy(kind, shape, data):
    head = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode()
    head += b" " * (-(len(head) + 11) % 64) + b"\\n"
    return b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(head)) + head + data
data = tomllib.loads(Path(flags["--dataset_config"]).read_text("utf-8"))["datasets"][0]
for subset in data["subsets"] if told.get("cache_latents_to_disk") else ():
    for picture in sorted(Path(subset["image_dir"]).glob("*.png")):
        width, height = struct.unpack(">II", picture.read_bytes()[16:24])
        cache = picture.with_name(f"{picture.stem}_{width:04d}x{height:04d}_sd.npz")
        side = data["resolution"] // 8
        if not cache.exists():
            with zipfile.ZipFile(cache, "w") as archive:
                archive.writestr("latents.npy", npy("<f4", (4, side, side), os.urandom(16 * side * side)))
                archive.writestr("original_size.npy", npy("<i8", (2,), struct.pack("<2q", width, height)))
                archive.writestr("crop_ltrb.npy", npy("<i8", (4,), bytes(32)))
    if told["max_train_steps"] == 7:
        picture.write_bytes(picture.read_bytes() + b"edited")
if told["max_train_steps"] == 17:
    import time
    picture.with_name("waiting").touch()
    while picture.with_name("waiting").exists():
        time.sleep(0.05)
if told["max_train_steps"] == 13:
    raise SystemExit("out of luck")
"""


class World:
    """A project with three images, and a trainer that writes caches."""

    def __init__(self, folder: Path, trainer: OwnTrainer) -> None:
        self.home, self.project, self.trainer = folder / "home", folder / "project", trainer
        self.home.mkdir(parents=True)
        project(self.project, MORE, pictures=3)
        self.pictures = self.project / "pics"

    def call(self, *flags: object) -> subprocess.CompletedProcess[str]:
        return lorabake(self.project, self.home, *flags)

    def train(self, *flags: object, code: int = 0) -> str:
        done = self.call("run", "recipe.toml", *self.trainer.flags, *flags)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def change(self, old: str, new: str) -> None:
        recipe = self.project / "recipe.toml"
        text = recipe.read_text("utf-8")
        assert old in text
        recipe.write_text(text.replace(old, new), "utf-8")

    @property
    def caches(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.pictures.glob("*.npz"))}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> OwnTrainer:
    made = OwnTrainer(tmp_path_factory.mktemp("trainer"))
    head, mark, tail = TRAIN.partition('print("accelerator')
    (made.checkout / "train_network.py").write_text(head + CACHING + mark + tail)
    git(made.checkout, "commit", "-qam", "caching")
    return made


@pytest.fixture
def world(tmp_path: Path, trainer: OwnTrainer) -> World:
    return World(tmp_path, trainer)


def test_a_second_run_takes_up_the_caches_of_the_first(world: World) -> None:
    world.train()
    made = world.caches
    assert len(made) == 3
    assert "S19" not in world.train()
    assert world.caches == made


def test_another_resolution_is_refused_until_the_caches_are_refreshed(world: World) -> None:
    world.train()
    made = world.caches
    world.change("resolution = 256", "resolution = 320")
    said = world.train(code=1)
    assert "error[S19]" in said
    assert "made with resolution = 256, but this run uses 320" in said
    assert "000.png, 001.png, 002.png" in said
    assert "--refresh-cache" in said
    assert world.caches == made
    said = world.train("--refresh-cache")
    (deleted,) = (line for line in said.splitlines() if "outdated caches in " in line)
    assert "deleted 3 " in deleted
    assert set(world.caches) == set(made)
    assert all(world.caches[name] != made[name] for name in made)
    assert "S19" not in world.train()
    assert "deleted" not in world.train("--refresh-cache")


def test_only_the_image_that_was_replaced_is_cached_anew(world: World) -> None:
    world.train()
    made = world.caches
    (world.pictures / "001.png").write_bytes(one_colour((768, 768), (9, 9, 9)))
    said = world.train(code=1)
    assert "1 image has an outdated latent cache" in said
    assert "the image was replaced or edited since): 001.png" in said
    world.train("--refresh-cache")
    assert [name for name in made if world.caches[name] != made[name]] == ["001_0768x0768_sd.npz"]


def test_a_image_of_another_size_and_the_old_cache_s_name(world: World) -> None:
    world.train()
    (world.pictures / "001.png").write_bytes(one_colour((512, 640), (9, 9, 9)))
    said = world.train(code=1)
    assert "error[S19.sizes]" in said
    world.change("cache_latents_to_disk = true", "")  # it does harm without caching, too
    assert "error[S19.sizes]" in world.train(code=1)
    assert "001_0768x0768_sd.npz" in world.train("--refresh-cache")
    assert set(world.caches) == {"000_0768x0768_sd.npz", "002_0768x0768_sd.npz"}


def test_caches_of_a_run_that_failed_are_known_and_those_of_a_image_edited_meanwhile_are_not(world: World) -> None:
    world.change("max_train_steps = 4", "max_train_steps = 13")
    world.train(code=4)
    assert len(world.caches) == 3
    world.change("max_train_steps = 13", "max_train_steps = 4")
    assert "S19" not in world.train()
    for name in world.caches:
        (world.pictures / name).unlink()
    world.change("max_train_steps = 4", "max_train_steps = 7")
    world.train(code=7)
    assert "1 image has a latent cache of unknown origin: 002.png" in world.train("--dry-run")


def test_caches_of_another_program_are_reported_and_what_is_none_is_never_touched(world: World) -> None:
    arrays = {"latents": np.zeros((4, 32, 32)), "original_size": np.array((768, 768)), "crop_ltrb": np.zeros(4)}
    np.savez(world.pictures / "000.npz", **arrays)  # type: ignore[arg-type]
    said = world.train("--dry-run")
    assert "1 image has a latent cache of unknown origin: 000.png" in said
    assert "warning[S19]" in said
    np.savez(world.pictures / "001.npz", pose=np.zeros(9))
    mine = world.caches
    said = world.train("--refresh-cache", code=1)
    assert "error[S19]" in said
    assert "overwrite it or stop: 001.npz" in said
    assert world.caches == mine
    (world.pictures / "001.npz").unlink()
    (world.pictures / "pose_of_nobody.npz").write_bytes(mine["001.npz"])
    world.train("--refresh-cache")
    assert "000.npz" not in world.caches
    assert world.caches["pose_of_nobody.npz"] == mine["001.npz"]


def test_a_cache_that_was_written_over_is_unknown_and_a_torn_one_is_told(world: World) -> None:
    world.train()
    first, second, _ = (world.pictures / name for name in world.caches)
    first.write_bytes(second.read_bytes()[:-1] + b"\x01")
    second.write_bytes(second.read_bytes()[:99])
    said = world.train(code=1)
    assert "of unknown origin: 000.png" in said
    assert "it is incomplete): 001.png" in said
    assert "000_0768x0768_sd.npz, 001_0768x0768_sd.npz" in world.train("--refresh-cache")
    assert "S19" not in world.train()


def test_a_project_that_is_copied_takes_its_caches_along(world: World) -> None:
    world.train()
    shutil.copytree(world.project, world.project.with_name("copy"))
    world.project, world.home = world.project.with_name("copy"), world.home.with_name("another")
    world.home.mkdir()
    assert "S19" not in world.train()


def test_nothing_is_deleted_where_nothing_is_trained(world: World) -> None:
    world.train()
    made = world.caches
    world.change("resolution = 256", "resolution = 320")
    for flag in ("--dry-run", "--rehearse"):
        assert "--refresh-cache deletes files" in world.train("--refresh-cache", flag, code=2)
    world.change('class = "food"', 'class = "food"\nflip = true')  # an error that no deleting mends
    assert "unknown-key" in world.train("--refresh-cache", code=1)
    assert world.caches == made


def test_nothing_is_deleted_for_a_run_that_is_refused(world: World) -> None:
    world.train()
    made = world.caches
    world.change("resolution = 256", "resolution = 320")
    (world.project / "mine").mkdir()
    assert "mine already exists" in world.train("--refresh-cache", "--run-dir", "mine", code=1)
    (world.project / "file").write_text("", "utf-8")
    assert "cannot write to" in world.train("--refresh-cache", "--run-dir", "file/run", code=1)
    done = world.call("run", "recipe.toml", "--refresh-cache", "--sd-scripts", world.project)
    assert done.returncode == 4, done.stderr
    assert world.caches == made


def test_the_caches_of_a_training_in_progress_are_left_alone(world: World) -> None:
    world.change("max_train_steps = 4", "max_train_steps = 17")
    shutil.copytree(world.project, world.project.with_name("other"))
    other = world.project.with_name("other")
    shutil.rmtree(other / "pics")
    (other / "pics").symlink_to(world.pictures)
    command = [sys.executable, "-m", "lorabake", "run", "recipe.toml", *map(str, world.trainer.flags)]
    with subprocess.Popen(command, cwd=world.project, env=environment(world.home), stderr=subprocess.DEVNULL) as going:
        try:
            wait_for(world.pictures / "waiting")
            made = world.caches
            world.change("resolution = 256", "resolution = 320")
            said = world.train("--refresh-cache", code=5)
            assert "hmbrgrlora-001 is in progress" in said
            world.project = other
            world.change("resolution = 256", "resolution = 320")
            world.change('name = "hmbrgrlora"', 'name = "another"')
            said = world.train("--refresh-cache", code=5)
            assert "hmbrgrlora-001 is in progress and reads the caches in " in said
            assert world.caches == made
        finally:
            (world.pictures / "waiting").unlink(missing_ok=True)
        assert going.wait(60) == 0
    world.change("max_train_steps = 17", "max_train_steps = 4")
    assert "002_0768x0768_sd.npz" in world.train("--refresh-cache")


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.05)


def test_without_their_origins_no_caches_are_taken_to_fit(world: World) -> None:
    world.train()
    origins = world.pictures / "lorabake-caches.json"
    origins.write_bytes(origins.read_bytes()[:-9])
    assert "3 images have latent caches of unknown origin" in world.train("--dry-run")
