"""A recipe that is compiled, and imported from the two files again, trains the same."""

from __future__ import annotations

import random
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.exchange.foreign import Source
from lorabake.exchange.import_file import format_imported_recipe
from lorabake.exchange.readers import read_foreign_file
from lorabake.exchange.stand_ins import list_stand_ins, plan_recipe, read_recipe
from lorabake.exchange.to_recipe import make_recipe
from lorabake.exchange.trained import TrainerFacts, Training, describe_plan, iter_differences
from lorabake.planning.compile import compile_plan
from lorabake.util import resources
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.families.registry import get_family

VALUES: dict[str, dict[str, list[Any]]] = {
    "base": {"clip_skip": [1, 2], "v_prediction": [True], "zero_terminal_snr": [True], "vae": ["v.safetensors"]},
    "network": {
        "type": ["lora", "locon", "loha", "lokr", "networks.dylora", "ia3", "dylora", "full", "diag-oft"],
        "network_dim": [4, 8, 32],
        "network_alpha": [1, 4.5],
        "conv_dim": [4, 16, 0],
        "conv_alpha": [1, 8],
        "network_dropout": [0, 0.1],
        "rank_dropout": [0, 0.1],
        "module_dropout": [0, 0.2],
        "network_train_unet_only": [True, False],
        "scale_weight_norms": [0, 1],
        "args": [{"loraplus_lr_ratio": 16}],
        "preset": ["attn-mlp", "full"],
    },
    "train": {
        "optimizer": ["AdamW8bit", "Prodigy", "Lion", "Adafactor", "DAdaptAdam"],
        "optimizer_args": [{}, {"weight_decay": 0.01}, {"weight_decay": 0.1, "betas": [0.9, 0.999]}],
        "learning_rate": [1e-4, 1.0],
        "unet_lr": [1e-4, 3e-4],
        "text_encoder_lr": [5e-5, 0.0],
        "lr_scheduler": ["cosine", "constant", "cosine_with_restarts", "polynomial"],
        "lr_warmup_steps": [0, 100, 0.1],
        "lr_scheduler_num_cycles": [1, 2],
        "max_train_epochs": [1, 10],
        "train_batch_size": [1, 4],
        "gradient_accumulation_steps": [2],
        "enable_bucket": [True, False],
        "bucket_no_upscale": [True, False],
        "max_bucket_reso": [1024, 1536],
        "mixed_precision": ["fp16", "bf16", "no"],
        "attention": ["xformers", "sdpa"],
        "gradient_checkpointing": [True, False],
        "cache_latents": [True, False],
        "cache_latents_to_disk": [True, False],
        "seed": [1, 42],
        "max_data_loader_n_workers": [0, 8],
        "persistent_data_loader_workers": [True, False],
        "min_snr_gamma": [0, 5],
        "debiased_estimation_loss": [True, False],
        "noise_offset": [0, 0.05],
        "max_token_length": [75, 150, 225],
        "no_half_vae": [True, False],
    },
    "captions": {
        "caption_extension": [".txt", ".caption"],
        "shuffle_caption": [True, False],
        "keep_tokens": [0, 3],
        "caption_dropout_rate": [0, 0.1],
        "caption_prefix": ["x,"],
    },
    "save": {"save_every_n_epochs": [1, 2], "save_precision": ["float", "bf16"], "save_state": [True, False]},
    "validation": {"validation_split": [0.1], "validation_seed": [3]},
    "log": {"log_with": ["wandb"], "wandb_run_name": ["r"]},
    "metadata": {"author": ["me"], "trigger_phrase": ["zz"]},
    "kohya": {"ip_noise_gamma": [0.1], "loss_type": ["huber"], "min_timestep": [100], "weighted_captions": [True]},
}
FOLDER_VALUES: dict[str, list[Any]] = {
    "num_repeats": [1, 10],
    "flip_aug": [True, False],
    "keep_tokens": [0, 2],
    "alpha_mask": [True],
    "caption_prefix": ["p"],
    "resolution": [512, [640, 768]],
}


def draw_recipe(seed: int) -> dict[str, Any]:
    draw = random.Random(seed)  # noqa: S311 - not a secret
    recipe: dict[str, Any] = {
        "name": "n",
        "kind": draw.choice(["character", "style", "object"]),
        "base": {"model": "m.safetensors", "family": draw.choice(["sd15", "sd2", "sdxl"])},
    }
    for table, keys in VALUES.items():
        share = draw.choice([0.1, 0.3, 0.6])
        recipe.setdefault(table, {}).update(
            {key: draw.choice(values) for key, values in keys.items() if draw.random() < share}
        )
    recipe["concept"] = [
        {"images": f"set{at}", "token": f"tok{at}", "class": draw.choice(["girl", "big cat"])}
        | {key: draw.choice(values) for key, values in FOLDER_VALUES.items() if draw.random() < 0.15}
        for at in range(draw.choice([1, 1, 2, 3]))
    ]
    if draw.random() < 0.3:
        recipe["train"]["resolutions"] = [512, 768]
    if draw.random() < 0.3:
        recipe["regularization"] = [{"class": "girl", "images": "reg"}]
    if draw.random() < 0.3:
        recipe["sample"] = {"prompts": ["a"], "sample_every_n_epochs": 2}
    return recipe


def compile_content(content: dict[str, Any]) -> tuple[dict[str, bytes], Training, str]:
    recipe, findings = read_recipe(content)
    assert recipe is not None, [each.message for each in findings]
    snapshot, family = resources.load_snapshot(), get_family(str(recipe.base.family))
    options = snapshot.of(family.script)
    trainer = TrainerFacts({each.name: each for each in options}, snapshot.dataset, snapshot.signatures, family)
    plan = plan_recipe(recipe, list_stand_ins(content)[0], trainer)
    if plan is None:
        pytest.skip("no image fits these buckets")
    files = compile_plan(plan, options, snapshot.dataset).fill({})
    return files, describe_plan(plan, trainer), family.script


@pytest.mark.parametrize("seed", range(30))
def test_what_is_imported_from_the_compiled_files_trains_the_same(seed: int, tmp_path: Path) -> None:
    files, trained, script = compile_content(draw_recipe(seed))
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    source = Source(path=tmp_path / "train.toml", content=b"", dataset=tmp_path / "dataset.toml")
    config = replace(read_foreign_file(source), script=script)
    made = make_recipe(config, source)
    content = tomllib.loads(format_imported_recipe(made, ENGLISH))
    again, trained_again, _ = compile_content(content)
    assert list(iter_differences(trained, trained_again)) == []
    first, second = (tomllib.loads(each["train.toml"].decode()) for each in (files, again))
    named = {line.key for line in (*made.report.keys, *made.report.added)} | {"unet_lr", "text_encoder_lr"}
    assert {name for name in first if first[name] != second.get(name)} <= named
