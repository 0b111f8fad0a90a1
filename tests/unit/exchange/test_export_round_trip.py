"""A recipe that is exported, and imported from the export again: the same training, and the same keys."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import pytest

from drawn_recipes import draw_recipe
from lorabake.exchange.compiled_source import CompiledSource, take_compiled
from lorabake.exchange.draft import iter_leaf_paths
from lorabake.exchange.export import list_own_keys, write_export
from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import format_imported_recipe, import_file
from lorabake.exchange.simplify import get_value
from lorabake.exchange.stand_ins import list_stand_ins, plan_recipe, read_recipe
from lorabake.exchange.trained import TrainerFacts, Training, describe_plan, iter_differences
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.export_report import ExportFormat, ExportReport
from lorabake_schemas.families.registry import get_family

# What no other program has a place for; the export's report lists it.
UNKNOWABLE = {"base.tags", "captions.tagging", "concept.0.asymmetric", "watch.nan_steps"}
RICH = """\
name = "rich"
kind = "style"

[base]
model = "/m/base.safetensors"
family = "sd15"
tags = "danbooru"
clip_skip = 2
vae = "/m/vae.safetensors"

[[concept]]
token = "zzstyle"
class = "art"
images = "/set/a"
num_repeats = 3
asymmetric = true
caption_tag_dropout_rate = 0.05

[[concept]]
token = "zzother"
class = "art"
images = "/set/b"
num_repeats = 5

[[regularization]]
class = "art"
images = "/set/reg"
num_repeats = 2

[network]
type = "loha"
network_dim = 24
network_alpha = 9
conv_dim = 6
conv_alpha = 3
network_dropout = 0.15
rank_dropout = 0.25
module_dropout = 0.05
preset = "attn-mlp"
use_tucker = true
train_norm = true
scale_weight_norms = 2
args = { loraplus_lr_ratio = 8 }

[train]
optimizer = "Lion"
optimizer_args = { weight_decay = 0.03 }
unet_lr = 2e-5
text_encoder_lr = 7e-6
lr_scheduler = "polynomial"
lr_warmup_steps = 77
max_train_epochs = 13
train_batch_size = 3
gradient_accumulation_steps = 2
resolution = [640, 512]
min_bucket_reso = 320
max_bucket_reso = 1280
bucket_reso_steps = 32
mixed_precision = "bf16"
attention = "sdpa"
gradient_checkpointing = true
cache_latents_to_disk = true
seed = 1234
max_data_loader_n_workers = 3
min_snr_gamma = 7
noise_offset = 0.04
prior_loss_weight = 0.6
max_grad_norm = 0
max_token_length = 150
no_half_vae = true

[captions]
caption_extension = ".caption"
keep_tokens = 2
caption_dropout_rate = 0.1
caption_prefix = "pre, "
tagging = "flexible"

[save]
save_every_n_epochs = 4
save_last_n_epochs = 8
save_precision = "bf16"
save_state_on_train_end = true

[sample]
prompts = ["zzstyle, art --w 512", "another one"]
sample_every_n_epochs = 2
sample_sampler = "euler"

[metadata]
author = "me"
title = "Two words"

[launch]
num_cpu_threads_per_process = 4

[watch]
nan_steps = 9

[kohya]
ip_noise_gamma = 0.1
"""


def plan_content(content: dict[str, Any], root: Path) -> tuple[CompiledSource, Training]:
    recipe, findings = read_recipe(content)
    assert recipe is not None, [each.message for each in findings]
    snapshot, family = resources.load_snapshot(), get_family(str(recipe.base.family))
    options = snapshot.of(family.script)
    trainer = TrainerFacts({each.name: each for each in options}, snapshot.dataset, snapshot.signatures, family)
    plan = plan_recipe(recipe, list_stand_ins(content)[0], trainer)
    if plan is None:
        pytest.skip("no image fits these buckets")
    files = compile_plan(plan, options, snapshot.dataset).fill({})
    return take_compiled(files, plan, root), describe_plan(plan, trainer)


def export_and_import(
    content: dict[str, Any], to: ExportFormat, folder: Path
) -> tuple[ExportReport, Training, dict[str, Any]]:
    """The report, what was to be trained, and the recipe that comes back."""
    source, wanted = plan_content(content, folder)
    recipe, _ = read_recipe(content)
    assert recipe is not None
    report = write_export(source, to, folder, "recipe.toml", list_own_keys(recipe))
    made = import_file(Source(path=folder / ("train.sh" if to == "sd-scripts" else report.files[0]), content=b""))
    return report, wanted, tomllib.loads(format_imported_recipe(made, ENGLISH))


def name_paths(training: Training) -> Training:
    """Without folders, which an export writes as they are seen from elsewhere."""
    images = tuple({name: _name(value) for name, value in each.items()} for each in training.images)
    return Training({name: _name(value) for name, value in training.train.items()}, images)


def _name(value: object) -> object:
    return PurePath(value).name if isinstance(value, str) else value


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
@pytest.mark.parametrize("seed", range(100, 108))
def test_the_export_of_any_recipe_trains_the_same_when_it_is_imported(
    seed: int, to: ExportFormat, tmp_path: Path
) -> None:
    report, wanted, back = export_and_import(draw_recipe(seed), to, tmp_path / "out")
    _, found = plan_content(back, tmp_path / "out")
    lost = {each.key for each in report.lost}
    lost |= {"text_encoder_lr"} if "network_train_unet_only" in lost else set()
    different = {name for name, *_ in iter_differences(name_paths(wanted), name_paths(found))}
    assert different <= lost


def list_leaves(content: Mapping[str, Any], folder: Path) -> Iterator[tuple[str, object]]:
    """Each key with its value, paths as seen from anywhere and prompts as they are in their file."""
    for path in iter_leaf_paths(content):
        value = get_value(content, path)
        if path[-1] in ("model", "vae", "images"):
            value = os.path.normpath(folder / str(value))
        if path[-1] == "prompts" and isinstance(value, str):
            value = (folder / value).read_text("utf-8").splitlines()
        yield ".".join(map(str, path)), value


@pytest.mark.parametrize("to", ["kohya_ss", "sd-scripts"])
def test_every_setting_of_a_rich_recipe_comes_back(to: ExportFormat, tmp_path: Path) -> None:
    content = tomllib.loads(RICH)
    report, _, back = export_and_import(content, to, tmp_path / "out")
    said, found = (dict(list_leaves(each, tmp_path / "out")) for each in (content, back))
    recovered = {key for key, value in said.items() if found.get(key) == value}
    assert len(recovered) >= 65
    assert said.keys() - recovered == UNKNOWABLE
    assert {key.replace(".0.", ".") for key in UNKNOWABLE} <= {each.key for each in report.lost}
