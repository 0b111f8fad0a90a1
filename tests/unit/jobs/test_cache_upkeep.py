"""Caches recorded during a run, and checked later: without a trainer, on files as sd-scripts leaves them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorabake.analysis.cache_check import CacheContext
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.errors import MachineError
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.manifest import ManifestSpec, hash_inputs
from lorabake.jobs.cache_recorder import CacheRecorder, refresh_caches
from lorabake.util.hashing import FileHasher
from lorabake_schemas.events import ModelLoaded, ProgressEvent, Saved
from situations import CPU, RECIPE, one_colour, project, write_base

DISK = "\n[train]\nresolution = 256\ncache_latents_to_disk = true\n"


@dataclass
class World:
    """A project, and how lorabake looks at it."""

    recipe: Path
    scanning: ScanOptions

    @property
    def pictures(self) -> Path:
        return self.recipe.parent / "pics"

    def look(self) -> CheckResult:
        return check_recipe(self.recipe, CPU, scanning=self.scanning)

    def keeper(self) -> CacheRecorder:
        """That of a run which starts now."""
        seen, root = self.look(), self.recipe.parent / "runs" / "one"
        recipe, plan = seen.planned()
        start = hash_inputs(ManifestSpec(recipe, plan, seen.dataset, self.recipe.parent, root, {}), FileHasher(None))
        of = CacheContext(recipe, plan, seen.dataset, self.recipe.parent)
        return CacheRecorder(of, start, replace(self.scanning, root=root))

    def cached(self, *names: str, side: int = 256, **more: Any) -> None:
        """The caches that sd-scripts makes of square images of 768."""
        for name in names or ("000", "001", "002"):
            arrays = {
                "latents": np.frombuffer(os.urandom(side * side // 4), np.float32).reshape(4, side // 8, side // 8),
                "original_size": np.array((768, 768)),
                "crop_ltrb": np.zeros(4),
            }
            held: dict[str, Any] = arrays | more
            np.savez(self.pictures / f"{name}_0768x0768_sd.npz", **held)

    def said(self) -> list[str]:
        return [f"{error.rule}: {error.message}" for error in self.look().findings if error.rule.startswith("S19")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(project(tmp_path / "p", DISK), ScanOptions(tmp_path / "home" / "facts.sqlite3"))


def test_caches_are_remembered_as_soon_as_they_are_made(world: World) -> None:
    heard = list[ProgressEvent]()
    watch = world.keeper().watching(heard.append)
    world.cached()
    watch(Saved())
    assert len(world.said()) == 1
    watch(ModelLoaded())
    assert world.said() == []
    assert heard == [Saved(), ModelLoaded()]


def test_a_run_that_ends_anyhow_remembers(world: World) -> None:
    def run() -> None:
        with world.keeper():
            world.cached()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run()
    assert world.said() == []
    assert world.keeper().record() == 0  # nothing is new


def test_what_is_not_what_this_run_would_have_made_is_not_remembered(world: World) -> None:
    keeper = world.keeper()
    world.cached("000", side=512)
    world.cached("001", alpha_mask=np.ones((256, 256)))
    world.cached("002", original_size=np.array((512, 512)))
    assert keeper.record() == 0
    assert "3 images have latent caches of unknown origin" in world.said()[0]


def test_a_image_that_was_edited_meanwhile_is_not_believed(world: World) -> None:
    keeper = world.keeper()
    (world.pictures / "001.png").write_bytes(one_colour((768, 768), (9, 8, 7)))
    world.cached()
    assert keeper.record() == 2


def test_another_vae_is_noticed_and_a_model_that_is_only_renamed_is_none(world: World) -> None:
    keeper = world.keeper()
    world.cached()
    assert keeper.record() == 3
    base = world.recipe.parent / "base.safetensors"
    base.rename(base.with_name("other.safetensors"))
    world.recipe.write_text(world.recipe.read_text("utf-8").replace("base.safetensors", "other.safetensors"), "utf-8")
    assert world.said() == []
    write_base(base)
    with base.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    world.recipe.write_text(world.recipe.read_text("utf-8").replace("other.safetensors", "base.safetensors"), "utf-8")
    (said,) = world.said()
    assert "made with another VAE from a model of the same name, base.safetensors" in said


def test_the_same_cache_made_again_of_something_else_fits_both(world: World) -> None:
    keeper = world.keeper()
    world.cached()
    assert keeper.record() == 3
    assert keeper.record() == 0
    made = {path: path.read_bytes() for path in world.pictures.glob("*.npz")}
    base = world.recipe.parent / "base.safetensors"
    first = base.read_bytes()
    for rounds in range(2):
        base.write_bytes(first[:-1] + bytes([first[-1] ^ 1]))
        if rounds == 0:
            assert len(world.said()) == 1
            refresh_caches(world.look(), world.look, lambda _: None)
            keeper = world.keeper()
            for path, content in made.items():
                path.write_bytes(content)
            assert keeper.record() == 3
        assert world.said() == []
        base.write_bytes(first)
        assert world.said() == []


def test_images_whose_caches_are_alike_fit_each(world: World) -> None:
    keeper = world.keeper()
    world.cached()
    cache = (world.pictures / "000_0768x0768_sd.npz").read_bytes()
    for path in world.pictures.glob("*.npz"):
        path.write_bytes(cache)
    assert len({path.read_bytes() for path in world.pictures.glob("*.png")}) == 3
    assert keeper.record() == 3
    assert world.said() == []
    world.recipe.write_text(world.recipe.read_text("utf-8").replace("resolution = 256", "resolution = 320"), "utf-8")
    (said,) = world.said()
    assert "3 images" in said
    assert "made with resolution = 256, but this run uses 320" in said


def test_the_caches_of_two_recipes_in_one_folder_are_both_remembered(world: World) -> None:
    keeper = world.keeper()
    world.cached("000", "001")
    assert keeper.record() == 2
    keeper = world.keeper()
    world.cached("002")
    assert keeper.record() == 1
    assert world.said() == []


def test_a_cache_that_cannot_be_deleted_stops_the_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cached()

    def unlink(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(MachineError, match=r"cannot delete .*000_0768x0768_sd.npz: Permission denied"):
        refresh_caches(world.look(), world.look, lambda _: None)


def test_a_list_of_images_is_held_against_all_lines_where_wildcards_are_read(world: World) -> None:
    world.recipe.write_text(RECIPE + "[kohya]\ncache_info = true\nenable_wildcard = true\n", "utf-8")
    for path in world.pictures.glob("*.txt"):
        path.write_text("hmbrgrlora, food, bench\n\n hmbrgrlora, food, lamp \n", "utf-8")
    entry = '"../../pics/{name}": {{"caption": "hmbrgrlora, food, bench\\n{last}", "resolution": [768, 768]}}'
    names = ("000.png", "001.png", "002.png")
    info = world.pictures / "metadata_cache.json"
    for last, errors in (("hmbrgrlora, food, lamp", 0), ("hmbrgrlora, food, kite", 1)):
        info.write_text("{" + ",".join(entry.format(name=name, last=last) for name in names) + "}", "utf-8")
        assert len(world.said()) == errors
    info.write_text("[1, 2]", "utf-8")
    (said,) = world.said()
    assert said.endswith(": metadata_cache.json")
    assert refresh_caches(world.look(), world.look, lambda _: None)[1] == ()
    assert info.exists()
