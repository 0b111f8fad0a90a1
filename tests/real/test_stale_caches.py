"""Stale caches with the real sd-scripts, which uses them silently where lorabake refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from PIL import Image

from lorabake.analysis.cache_check import CacheContext
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.manifest import ManifestSpec, hash_inputs
from lorabake.jobs.cache_recorder import CacheRecorder, refresh_caches
from lorabake.jobs.run_files import write_compiled
from lorabake.trainer.install import Trainer
from lorabake.util.environment import make_child_env, read_environment
from lorabake.util.hashing import FileHasher
from sample_images import write_lighthouses
from situations import CPU, RECIPE, write_base, write_pictures

pytestmark = pytest.mark.real
LOADER = Path(__file__).with_name("caches_with_sd_scripts.py")


def write_recipe(folder: Path, base: Path) -> Path:
    write_lighthouses(folder / "lighthouse", 4)
    tables = {
        "name": "stale",
        "kind": "object",
        "base": {
            "model": base.as_posix(),
            "family": "sd15",
            "tags": "danbooru",
            "tokenizer_cache_dir": (base / "tokenizers").as_posix(),
        },
        "network": {"network_dim": 4},
        "train": {
            "optimizer": "AdamW",
            "resolution": 64,
            "max_train_steps": 2,
            "lr_warmup_steps": 0,
            "cache_latents_to_disk": True,
        },
        "concept": [{"token": "lumlighthouse", "class": "lighthouse", "images": "lighthouse"}],
    }
    recipe = folder / "recipe.toml"
    recipe.write_text(tomli_w.dumps(tables), encoding="utf-8")
    return recipe


def sd_scripts(trainer: Trainer, run: Path, what: str, dataset: str) -> dict[str, Any]:
    """What sd-scripts makes and loads of caches when it is started bare in a run folder."""
    argv = [str(trainer.python), str(LOADER), str(trainer.checkout), what, dataset, "answer.json"]
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1")
    done = subprocess.run(argv, cwd=run, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads((run / "answer.json").read_text("utf-8")))


def lorabake(cache: Path, *args: object, code: int) -> str:
    env = make_child_env(read_environment(), HF_HUB_OFFLINE="1", LORABAKE_HOME=str(cache))
    argv = [sys.executable, "-m", "lorabake", *map(str, args)]
    done = subprocess.run(argv, env=env, check=False, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-6000:]
    return done.stdout + done.stderr


def test_latents_of_another_resolution_and_of_a_image_that_was_replaced(
    tmp_path: Path, cache: Path, base: Path, trainer: Trainer
) -> None:
    recipe = write_recipe(tmp_path, base)
    first, folder = tmp_path / "runs" / "first", tmp_path / "lighthouse"
    lorabake(cache, "run", recipe, "--run-dir", first, code=0)
    made = {path: path.read_bytes() for path in folder.glob("*.npz")}
    assert len(made) == 4
    assert "S19" not in lorabake(cache, "check", recipe, code=0)

    # what the user changes, and what sd-scripts alone would do about it: nothing
    replaced = folder / "lighthouse03.png"
    with Image.open(replaced) as picture:
        Image.new("RGB", picture.size, (200, 20, 20)).save(replaced)
    said = lorabake(cache, "check", recipe, code=1)
    assert "(the image was replaced or edited since): lighthouse03.png" in said
    larger = (first / "dataset.toml").read_text("utf-8").replace("resolution = 64", "resolution = 128")
    assert "resolution = 128" in larger
    (first / "bare.toml").write_text(larger.replace("max_bucket_reso = 128", "max_bucket_reso = 192"), "utf-8")
    bare = sd_scripts(trainer, first, "latents", "bare.toml")
    assert bare["encoded"] == 0
    for told in bare["loaded"].values():
        width, height = told["bucket"]
        assert width * height > 96 * 96  # a bucket for 128
        channels, *sides = told["latents"]
        assert channels == 4
        assert 64 * sides[0] * sides[1] <= 72 * 72  # latents of a picture of 64
    assert {path: path.read_bytes() for path in made} == made

    # lorabake says so, and trains once the caches are refreshed
    recipe.write_text(recipe.read_text("utf-8").replace("resolution = 64", "resolution = 128"), "utf-8")
    said = lorabake(cache, "run", recipe, "--run-dir", tmp_path / "runs" / "refused", code=1)
    assert (
        "(made with resolution = 64, but this run uses 128): lighthouse01.png, lighthouse02.png, lighthouse04.png"
        in said
    )
    assert not (tmp_path / "runs" / "refused").exists()
    second = tmp_path / "runs" / "second"
    said = lorabake(cache, "run", recipe, "--run-dir", second, "--refresh-cache", code=0)
    assert "deleted 4 outdated caches in " in said
    fresh = sd_scripts(trainer, second, "latents", "dataset.toml")
    assert fresh["encoded"] == 0
    for told in fresh["loaded"].values():
        assert [8 * side for side in told["latents"][:0:-1]] == told["bucket"]
    assert "S19" not in lorabake(cache, "check", recipe, code=0)


TEXT = """
[network]
network_train_unet_only = true
[captions]
shuffle_caption = false
[kohya]
cache_text_encoder_outputs_to_disk = true
cache_text_encoder_outputs = true
"""


def remembered(of: CheckResult, root: Path, scanning: ScanOptions) -> int:
    """What a run does when sd-scripts has made its caches."""
    recipe, plan = of.planned()
    start = hash_inputs(ManifestSpec(recipe, plan, of.dataset, of.loaded.folder, root, {}), FileHasher(scanning.store))
    return CacheRecorder(
        CacheContext(recipe, plan, of.dataset, of.loaded.folder), start, replace(scanning, root=root)
    ).record()


def test_text_encoder_outputs_of_a_caption_that_was_edited(tmp_path: Path, trainer: Trainer) -> None:
    write_base(tmp_path / "base.safetensors", "sdxl")
    shown, root = write_pictures(tmp_path / "pics", 3), tmp_path / "runs" / "one"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace('"sd15"', '"sdxl"') + TEXT, encoding="utf-8")
    scanning = ScanOptions(tmp_path / "cache" / "facts.sqlite3")

    def looked() -> CheckResult:
        return check_recipe(recipe, CPU, scanning=scanning)

    before = looked()
    root.parent.mkdir()
    write_compiled(before, root)
    first = sd_scripts(trainer, root, "text", "dataset.toml")
    old = (shown / "001.txt").read_text("utf-8")
    assert sorted(first["encoded"]) == sorted(first["loaded"].values())
    assert first["loaded"]["001.png"] == old[:77]
    assert remembered(before, root, scanning) == 3
    assert not looked().errors

    (shown / "001.txt").write_text(f"a windmill, {old}", encoding="utf-8")
    bare = sd_scripts(trainer, root, "text", "dataset.toml")
    assert bare["encoded"] == []
    assert bare["loaded"]["001.png"] == old[:77]  # the caption as it was
    edited = looked()
    (error,) = edited.errors
    assert error.rule == "S19"
    assert error.message.endswith("(the caption was edited since): 001.png")

    mended, said = refresh_caches(edited, looked, lambda _: None)
    assert not mended.errors
    assert [path.name for path in shown.glob("*.npz")].count("001_te_outputs.npz") == 0
    assert len(said) == 1
    again = sd_scripts(trainer, root, "text", "dataset.toml")
    assert again["encoded"] == [f"a windmill, {old}"]
    assert again["loaded"]["001.png"].startswith("a windmill")


def test_what_sd_scripts_writes_with_cache_info_is_held_against_the_folder(tmp_path: Path, trainer: Trainer) -> None:
    write_base(tmp_path / "base.safetensors")
    shown, root = write_pictures(tmp_path / "pics", 3), tmp_path / "runs" / "one"
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE + "[kohya]\ncache_info = true\n", encoding="utf-8")
    root.parent.mkdir()
    write_compiled(check_recipe(recipe, CPU), root)
    dataset = (root / "dataset.toml").read_text("utf-8")
    (root / "bare.toml").write_text(dataset.replace("num_repeats", "cache_info = true\nnum_repeats"), "utf-8")
    sd_scripts(trainer, root, "latents", "bare.toml")
    assert (shown / "metadata_cache.json").is_file()
    assert not check_recipe(recipe, CPU).errors
    (shown / "001.txt").write_text("something else entirely", encoding="utf-8")
    (error,) = check_recipe(recipe, CPU).errors
    assert error.message.endswith("captions were edited since then")
    (shown / "001.png").unlink()
    (error,) = check_recipe(recipe, CPU).errors
    assert error.message.endswith("images were added, removed or moved since then")
    mended, _ = refresh_caches(check_recipe(recipe, CPU), lambda: check_recipe(recipe, CPU), lambda _: None)
    assert not mended.errors
    assert not (shown / "metadata_cache.json").exists()
