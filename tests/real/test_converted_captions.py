"""The metadata files that init makes of captions in other forms, as sd-scripts' own datasets read them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dataset_layouts import LAYOUTS
from lorabake.analysis.draft_concepts import Answers
from lorabake.inputs.dataset import ScanOptions
from lorabake.inputs.survey import read_dataset
from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft
from lorabake.planning.compile import compile_plan
from lorabake.planning.resolve import resolve_plan
from lorabake.recipe.load import load_recipe
from lorabake.trainer.install import Trainer
from lorabake.util import resources
from lorabake.util.environment import make_child_env, read_environment
from lorabake_schemas.machine import AttentionProbe, BaseFacts, MachineFacts
from lorabake_schemas.recipe import Recipe

pytestmark = pytest.mark.real
MACHINE = MachineFacts(system="Linux", cpus=4, memory_bytes=16 * 10**9)
NAMES = ("downloaded", "tags_in_lines", "hugging_face", "a_table", "captions_in_a_folder", "metadata_by_stems",
         "generation_parameters", "placeholders")  # fmt: skip


def draft_recipe(folder: Path, here: Path) -> Recipe:
    order = InitOrder(folder, None, here)
    draft = make_draft(order, look_around(order, ScanOptions()), Answers(model="base.safetensors", family="sd15"))
    recipe = load_recipe(here / write_draft(order, draft)).recipe
    assert recipe
    return recipe


def compile_dataset(recipe: Recipe, here: Path) -> Path:
    facts = read_dataset(recipe, here, ScanOptions())
    plan = resolve_plan(recipe, BaseFacts(kind="file"), facts, MACHINE, AttentionProbe.without_gpu())
    made = compile_plan(plan, resources.load_script_options(plan.script), resources.load_dataset_options())
    paths = [path for each in recipe.concept for path in (each.images, each.metadata_file) if path]
    file = here / "dataset.toml"
    file.write_bytes(made.fill({path: (here / path).as_posix() for path in paths})["dataset.toml"])
    return file


def ask_sd_scripts(dataset: Path, trainer: Trainer) -> list[dict[str, Any]]:
    script, answer = Path(__file__).with_name("draw_with_sd_scripts.py"), dataset.with_name("answer.json")
    argv = [str(trainer.python), str(script), str(dataset), str(answer)]
    env = make_child_env(read_environment(), drop=("PYTHON", "ACCELERATE"), HF_HUB_OFFLINE="1", PYTHONUTF8="1")
    done = subprocess.run(argv, cwd=trainer.checkout, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(answer.read_text("utf-8"))
    return found


def test_sd_scripts_trains_the_captions_that_init_writes(trainer: Trainer, tmp_path: Path) -> None:
    """All forms in one dataset file, with equal names of images in several folders."""
    blocks, expected = list[str](), list[dict[str, str]]()
    for name in NAMES:
        here = tmp_path / name
        recipe = draft_recipe(LAYOUTS[name](here / "data"), here)
        (concept,) = recipe.concept
        table = json.loads((here / str(concept.metadata_file)).read_text("utf-8"))
        images = {path.name for path in (here / concept.images).iterdir() if path.suffix == ".png"}
        assert set(table) == images
        prefix = f"{concept.caption_prefix} " if concept.caption_prefix else ""
        expected.append({image: prefix + entry["caption"] for image, entry in table.items()})
        blocks.append(compile_dataset(recipe, here).read_text("utf-8"))
    general, *_ = blocks[0].partition("[[datasets]]")
    whole = tmp_path / "dataset.toml"
    whole.write_text(general + "".join(f"[[datasets]]{block.partition('[[datasets]]')[2]}\n" for block in blocks))
    for found, wanted in zip(ask_sd_scripts(whole, trainer), expected, strict=True):
        drawn = {image: {_sort_tags(text) for text in texts} for image, texts in found["captions"].items()}
        assert drawn == {image: {_sort_tags(text)} for image, text in wanted.items()}
        assert found["losses"] == [1.0] * len(found["losses"])
        assert found["losses"]


def _sort_tags(text: str) -> tuple[str, ...]:
    """What shuffle_caption leaves alone: the first tag, and which the others are."""
    first, *others = text.split(", ")
    return first, *sorted(others)
