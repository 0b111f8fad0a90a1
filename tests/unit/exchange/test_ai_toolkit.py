"""ai-toolkit: jobs in YAML and JSON, by option and value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foreign_sources import find_repairs, list_lines, list_settled, list_values, make_source
from lorabake.errors import RecipeError
from lorabake.exchange.ai_toolkit.reader import read_ai_toolkit
from lorabake.exchange.reading import flatten
from lorabake.exchange.yaml_reading import parse_yaml_table

JOB = """---
job: extension
config:
  name: "lum_v1"
  process:
    - type: 'sd_trainer'
      training_folder: "output"
      device: cuda:0
      trigger_word: "lum"
      network:
        type: "lora"
        linear: 16
        linear_alpha: 8
        conv: 8
        conv_alpha: 4
        dropout: 0.1
      save:
        dtype: float16
        save_every: 250
        max_step_saves_to_keep: 4
        push_to_hub: true
        hf_token: "hf_abcdefghijklmnopqrstuvwxyz0123456789"
      datasets:
        - folder_path: "/sets/lum"   # the person
          caption_ext: "txt"
          caption_dropout_rate: 0.05
          shuffle_tokens: true
          keep_tokens: 1
          cache_latents_to_disk: true
          num_repeats: 2
          flip_x: true
          mask_path: "/sets/masks"
          resolution: [ 512, 768 ]
        - folder_path: "/sets/people"
          default_caption: "person"
          is_reg: true
          cache_latents: true
          resolution: 512
      train:
        batch_size: 2
        steps: 2000
        gradient_accumulation: 2
        train_unet: true
        train_text_encoder: true
        text_encoder_lr: 5e-5
        noise_scheduler: "ddpm"
        optimizer: "adamw8bit"
        optimizer_params:
          weight_decay: 1e-2
        lr_scheduler: "constant_with_warmup"
        lr_scheduler_params:
          num_warmup_steps: 100
        lr: 1e-4
        min_snr_gamma: 5.0
        noise_offset: 0.05
        ema_config:
          use_ema: true
        dtype: bf16
        sdp: true
        unheard_of: 3
      model:
        name_or_path: "https://example.org/xl.safetensors?token=abcdefghij"
        is_xl: true
        quantize: false
      sample:
        sampler: "ddpm"
        sample_every: 250
        width: 1024
        height: 768
        prompts:
          - "a photo of [trigger]"
          - "[trigger], night --w 512 --d 7"
        neg: "blurry"
        seed: 42
        walk_seed: true
        guidance_scale: 7
        sample_steps: 20
meta:
  name: "[name]"
"""


def test_options() -> None:
    config = read_ai_toolkit(make_source(JOB))
    assert (config.script, config.name) == ("sdxl_train_network.py", "lum_v1")
    assert list_values(config) == {
        "pretrained_model_name_or_path": "https://example.org/xl.safetensors?token=abcdefghij",
        "max_train_steps": 2000,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 1,
        "learning_rate": 0.0001,
        "text_encoder_lr": (5e-05,),
        "optimizer_type": "AdamW8bit",
        "optimizer_args": ("eps=1e-06", "weight_decay=1e-2"),
        "lr_warmup_steps": 100,
        "lr_scheduler": "constant_with_warmup",
        "network_module": "networks.lora",
        "network_dim": 16,
        "network_alpha": 8,
        "network_args": ("conv_dim=8", "conv_alpha=4"),
        "network_dropout": 0.1,
        "min_snr_gamma": 5.0,
        "noise_offset": 0.05,
        "mixed_precision": "bf16",
        "sdpa": True,
        "gradient_checkpointing": True,
        "output_name": "lum_v1",
        "output_dir": "output",
        "save_every_n_steps": 250,
        "save_last_n_steps": 750,
        "save_precision": "fp16",
        "sample_every_n_steps": 250,
        "sample_at_first": True,
        "masked_loss": True,
        "cache_latents": True,
        "cache_latents_to_disk": False,
    }


def test_a_dataset_for_each_folder_and_resolution() -> None:
    config = read_ai_toolkit(make_source(JOB))
    shared = [{name: given.value for name, given in dataset.options.items()} for dataset in config.datasets]
    both = {"batch_size": 2, "enable_bucket": True, "bucket_no_upscale": True}
    assert shared == [{**both, "resolution": side} for side in (512, 768, 512)]
    folders = [{name: given.value for name, given in each.subsets[0].options.items()} for each in config.datasets]
    person = {
        "image_dir": "/sets/lum",
        "num_repeats": 2,
        "caption_extension": ".txt",
        "class_tokens": "lum",
        "caption_dropout_rate": 0.05,
        "shuffle_caption": True,
        "keep_tokens": 1,
        "flip_aug": True,
        "conditioning_data_dir": "/sets/masks",
    }
    people = {"image_dir": "/sets/people", "num_repeats": 1, "caption_extension": ".txt", "class_tokens": "person"}
    assert folders == [person, person, people]
    assert [each.subsets[0].is_reg for each in config.datasets] == [False, False, True]
    assert find_repairs(config) == {"class_tokens": None}


def test_prompts_have_their_trigger_and_settings() -> None:
    assert read_ai_toolkit(make_source(JOB)).prompts == (
        "a photo of lum --n blurry --d 42 --w 1024 --h 768 --l 7 --s 20",
        "lum, night --w 512 --d 7 --n blurry --h 768 --l 7 --s 20",
    )


def test_every_key_is_settled() -> None:
    source = make_source(JOB)
    config = read_ai_toolkit(source)
    assert list_settled(config) == set(flatten(source, parse_yaml_table(source)[1]))
    lines = list_lines(config)
    start = "config.process[0]."
    assert lines[start + "train.unheard_of"] == "unknown"
    dropped = ("device", "save.push_to_hub", "save.hf_token", "train.ema_config.use_ema", "model.is_xl")
    assert {lines[start + key] for key in dropped} == {"dropped"}
    assert lines["meta.name"] == "dropped"
    assert "hf_" not in str([line.value for line in config.keys])


def change(**changes: Any) -> dict[str, object]:
    """Values of a small job with these keys of its process changed, ``train__lr=1`` for one of a table."""
    process: dict[str, Any] = {"type": "sd_trainer", "network": {"type": "lora"}, "train": {}, "model": {"arch": "sd1"}}
    for key, value in changes.items():
        table, _, inner = key.partition("__")
        if inner:
            process.setdefault(table, {})[inner] = value
        else:
            process[table] = value
    job = {"job": "extension", "config": {"name": "x", "process": [process]}}
    config = read_ai_toolkit(make_source(json.dumps(job)))
    return {"script": config.script, **list_values(config)}


def test_defaults_of_the_program() -> None:
    values = change()
    expected = {
        "script": "train_network.py",
        "max_train_steps": 1000,
        "learning_rate": 1e-6,
        "network_train_unet_only": True,
        "optimizer_type": "AdamW",
        "lr_scheduler": "constant",
        "network_dim": 4,
        "network_alpha": 1,
        "mixed_precision": "no",
        "save_every_n_steps": 1000,
        "save_last_n_steps": 4000,
        "save_precision": "fp16",
    }
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": {"is_v2": True, "is_v_pred": True}}, {"v2": True, "v_parameterization": True}),
        ({"model": {"arch": "sdxl:pony"}}, {"script": "sdxl_train_network.py"}),
        ({"model": {"is_sdxl": True}}, {"script": "sdxl_train_network.py"}),
        ({"train__gradient_accumulation_steps": 4}, {"max_train_steps": 250, "gradient_accumulation_steps": 4}),
        ({"train__optimizer": "prodigy", "train__lr": 1e-4}, {"optimizer_type": "Prodigy", "learning_rate": 1.0}),
        ({"train__optimizer": "adafactor"},
         {"optimizer_args": ("relative_step=False", "scale_parameter=False", "warmup_init=False")}),
        ({"train__lr_scheduler": "cosine", "train__lr": 1e-4, "train__lr_scheduler_params": {"eta_min": 1e-5}},
         {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1}),
        ({"train__train_text_encoder": True, "train__train_unet": False}, {"network_train_text_encoder_only": True}),
        ({"train__loss_type": "mae"}, {"loss_type": "l1"}),
        ({"train__min_denoising_steps": 100, "train__max_denoising_steps": 800},
         {"min_timestep": 100, "max_timestep": 800}),
        ({"train__reg_weight": 0.5}, {"prior_loss_weight": 0.5}),
        ({"network": {"type": "lokr", "lokr_factor": 8}},
         {"network_module": "lycoris.kohya", "network_args": ("algo=lokr", "factor=8", "full_matrix=True")}),
        ({"network": {"type": "dora", "rank": 32, "alpha": 16}},
         {"network_dim": 32, "network_alpha": 16, "network_args": ("algo=locon", "dora_wd=True")}),
        ({"network__pretrained_lora_path": "a.safetensors"}, {"network_weights": "a.safetensors"}),
        ({"save__max_step_saves_to_keep": 1, "save__save_every": 100}, {"save_last_n_steps": 1}),
        ({"logging": {"use_wandb": True, "project_name": "p"}}, {"log_with": "wandb", "log_tracker_name": "p"}),
    ],
)  # fmt: skip
def test_rules(changes: dict[str, Any], expected: dict[str, object]) -> None:
    values = change(**changes)
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("job: extension\nconfig:\n  name: x\n", 2),
        (JOB.replace("is_xl: true", "is_flux: true"), 63),
        (JOB.replace("is_xl: true", "arch: wan21"), 63),
        (JOB.replace("'sd_trainer'", "'concept_slider'"), 6),
        (JOB.replace('type: "lora"', 'type: "lorm"'), 10),
        (JOB.replace("      network:", "      embedding:"), 5),
        ("job: extension\nconfig:\n  name: [x\n", 4),
        ("- a\n- b\n", 1),
        ("job: !!python/object/apply:os.system ['true']\n", 1),
        ('{"job": "extension", \n "config": }', 2),
    ],
)
def test_what_cannot_be_imported_says_where(text: str, line: int) -> None:
    with pytest.raises(RecipeError) as caught:
        read_ai_toolkit(make_source(text))
    assert [finding.line for finding in caught.value.findings] == [line]


def test_yaml_that_would_grow_is_refused() -> None:
    bomb = "a: &a [1,1,1,1,1,1,1,1,1]\n" + "".join(
        f"{name}: &{name} [{','.join(['*' + last] * 9)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
    )
    nested = "config: " + "[" * 5000
    for text in (bomb, nested, "a: &a\n  - *a\njob: 1\nconfig: *a", "x: " + "a" * 300_000):
        with pytest.raises(RecipeError):
            read_ai_toolkit(make_source(text))


@pytest.mark.parametrize("old", ['noise_scheduler: "ddpm"', 'sampler: "ddpm"'])
def test_flow_matching_without_a_known_model_is_refused(old: str) -> None:
    job = JOB.replace("        is_xl: true\n", "")
    assert read_ai_toolkit(make_source(job)).script == "train_network.py"
    with pytest.raises(RecipeError):
        read_ai_toolkit(make_source(job.replace(old, old.replace('"ddpm"', '"flowmatch"'))))
