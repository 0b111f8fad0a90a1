"""Tags, sentences, lines, metadata and masks of one run, as sd-scripts' own datasets hand them to training."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.survey import read_dataset
from lorabake.planning.compile import compile_plan
from lorabake.planning.resolve import resolve_plan
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts
from lorabake_schemas.recipe import Recipe

pytestmark = pytest.mark.real
MACHINE = MachineFacts(system="Linux", cpus=4, memory_bytes=16 * 10**9)
SENTENCE = "A painting of tok, a tall lighthouse with blue stripes, on a cliff above the sea."
TAGS = "tok, lighthouse, blue, cliff, sea, night"
LINES = f"{TAGS}\n\n{SENTENCE}\na tok with {{red|white}} light"
SIDE = 64


def save(folder: Path, name: str, caption: str | None, extension: str = ".txt", mode: str = "RGB") -> None:
    folder.mkdir(exist_ok=True)
    image = Image.new(mode, (SIDE, SIDE), (90, 90, 90, 0)[: len(mode)])
    if mode == "RGBA":  # a quarter is to be learned
        image.paste((200, 0, 0, 255), (0, 0, SIDE // 2, SIDE // 2))
    image.save(folder / f"{name}.png")
    if caption is not None:
        (folder / f"{name}{extension}").write_text(caption, "utf-8")


def make_project(root: Path) -> Recipe:
    """A folder of each kind; masks are white on one half."""
    save(root / "tags", "tags", TAGS)
    save(root / "text", "text", SENTENCE, ".caption")
    save(root / "lines", "lines", LINES)
    save(root / "clear", "clear", TAGS, mode="RGBA")
    save(root / "masked", "masked", TAGS)
    save(root / "listed", "listed", None)
    (root / "masks").mkdir()
    mask = Image.new("L", (SIDE, SIDE))
    mask.paste(255, (0, 0, SIDE // 2, SIDE))
    mask.save(root / "masks" / "masked.png")
    (root / "listed.json").write_text(json.dumps({"listed.png": {"caption": "tok", "tags": "a, b"}}), "utf-8")
    common = {"token": "tok", "class": "lighthouse"}
    concepts: list[dict[str, Any]] = [
        {"images": "tags"},
        {"images": "text", "tags": "natural", "caption_extension": ".caption", "caption_dropout_rate": 0.5},
        {"images": "lines", "enable_wildcard": True, "shuffle_caption": False, "caption_prefix": ""},
        {"images": "clear", "alpha_mask": True, "keep_tokens": 5},
        {"images": "masked", "masks": "masks", "shuffle_caption": False},
        {"images": "listed", "metadata_file": "listed.json", "shuffle_caption": False},
    ]
    table = {
        "name": "tok",
        "kind": "object",
        "base": {"model": "base.safetensors", "family": "sd15", "tags": "danbooru"},
        "concept": [common | each for each in concepts],
        "train": {"resolution": SIDE},
        "captions": {"caption_prefix": "photo,"},
    }
    return Recipe.model_validate(table)


def ask_sd_scripts(root: Path, trainer: Trainer) -> tuple[DatasetFacts, list[dict[str, Any]]]:
    """Our facts, and what sd-scripts has of the compiled file."""
    recipe = make_project(root)
    facts = read_dataset(recipe, root, ScanOptions())
    plan = resolve_plan(recipe, BaseFacts(kind="file"), facts, MACHINE, AttentionProbe.without_gpu())
    made = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
    names = ("tags", "text", "lines", "clear", "masked", "listed", "masks", "listed.json")
    (root / "dataset.toml").write_bytes(made.fill({name: (root / name).as_posix() for name in names})["dataset.toml"])
    script, answer = Path(__file__).with_name("draw_with_sd_scripts.py"), root / "answer.json"
    argv = [str(trainer.python), str(script), str(root / "dataset.toml"), str(answer)]
    env = make_child_env(read_environment(), drop=("PYTHON", "ACCELERATE"), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(answer.read_text("utf-8"))
    return facts, found


def test_each_folder_is_trained_as_the_recipe_means_it(trainer: Trainer, tmp_path: Path) -> None:
    facts, (plain, masked, listed) = ask_sd_scripts(tmp_path, trainer)
    captions = {name: set(draws) for name, draws in (plain["captions"] | listed["captions"]).items()}
    assert len(captions["tags.png"]) > 10
    assert all(each.startswith("photo, tok, lighthouse, ") for each in captions["tags.png"])
    assert captions["text.png"] == {"", f"photo, {SENTENCE}"}
    assert captions["lines.png"] == set(facts.concepts[2].images[0].caption.texts)
    assert captions["lines.png"] == {TAGS, SENTENCE, "a tok with red light", "a tok with white light"}
    kept = {each.split(", ")[:5] == ["photo", *TAGS.split(", ")[:4]] for each in captions["clear.png"]}
    assert (kept, len(captions["clear.png"])) == ({True}, 2)
    assert captions["listed.png"] == {"photo, tok,a, b"}
    assert set(masked["captions"]["masked.png"]) == {f"photo, {TAGS}"}
    assert plain["losses"] == [0.25, 1.0, 1.0, 1.0], "a quarter of one image is opaque"
    assert masked["losses"] == [0.5], "half of the mask is white"
    assert listed["losses"] == [1.0]
