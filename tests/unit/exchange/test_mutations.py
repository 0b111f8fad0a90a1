"""Damaged and shuffled files of other programs: a configuration or a clear error, never anything else."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import tomli_w

from foreign_sources import Read, list_settled, make_source
from lorabake.errors import RecipeError
from lorabake.exchange.ai_toolkit.reader import read_ai_toolkit
from lorabake.exchange.easy import read_easy
from lorabake.exchange.foreign import ForeignConfig
from lorabake.exchange.kohya_gui.reader import read_kohya_gui
from lorabake.exchange.lora_scripts import read_lora_scripts
from lorabake.exchange.one_trainer.reader import read_one_trainer
from lorabake.exchange.reading import flatten
from lorabake.exchange.sd_toml import read_config_file, read_dataset_config
from lorabake.exchange.shell.reader import read_shell
from lorabake.exchange.to_recipe import make_recipe

JOB: dict[str, Any] = {
    "job": "extension",
    "config": {"name": "x", "process": [{
        "type": "sd_trainer", "trigger_word": "lum", "training_folder": "out",
        "network": {"type": "lora", "linear": 16, "linear_alpha": 8, "conv": 4, "network_kwargs": {"a": 1}},
        "save": {"dtype": "float16", "save_every": 100, "max_step_saves_to_keep": 4},
        "datasets": [{"folder_path": "a", "resolution": [512, 768], "num_repeats": 2, "caption_ext": "txt",
                      "caption_dropout_rate": 0.1, "keep_tokens": 1, "mask_path": "m", "is_reg": False}],
        "train": {"steps": 100, "lr": 1e-4, "optimizer": "adamw", "optimizer_params": {"eps": 1e-8}, "dtype": "bf16",
                  "gradient_accumulation": 2, "lr_scheduler": "cosine", "lr_scheduler_params": {"eta_min": 1e-6}},
        "model": {"name_or_path": "x", "is_xl": True},
        "sample": {"prompts": ["a"], "samples": [{"prompt": "b", "seed": 1}], "seed": 4, "walk_seed": True},
    }]},
}  # fmt: skip
EASY: dict[str, Any] = {
    "subsets": [{"image_dir": "a", "num_repeats": 2, "keep_tokens": 1}, {"image_dir": "b", "is_reg": True}],
    "general_args": {"args": {"seed": 0, "sdxl": True, "max_train_epochs": 2, "xformers": True},
                     "dataset_args": {"resolution": [512, 512], "batch_size": 2}},
    "network_args": {"args": {"network_dim": 8, "network_args": {"algo": "lokr", "down_lr_weight": [1, 0.5]}}},
    "optimizer_args": {"args": {"optimizer_type": "AdamW", "learning_rate": 1e-4, "warmup_ratio": 0.1,
                                "lr_scheduler_type": "x.CosineAnnealingWarmRestarts", "lr_scheduler_num_cycles": 2,
                                "lr_scheduler_args": {"min_lr": 1e-6}, "optimizer_args": {"weight_decay": "0.1"}}},
    "accelerate_args": {"args": {"enabled": True, "num_processes": 2}},
    "saving_args": {"args": {"output_name": "${replace}", "easy_name": "x"}},
    "extra_args": {"args": {"max_grad_norm": "1"}},
}  # fmt: skip
SCRIPTS: dict[str, Any] = {
    "model_train_type": "sd-lora", "learning_rate": "1e-4", "network_module": "lycoris.kohya", "lycoris_algo": "lokr",
    "lokr_factor": 4, "conv_dim": 4, "network_args_custom": ["a=1"], "optimizer_type": "Prodigy", "prodigy_d0": "1e-5",
    "lr_warmup_steps": 10, "optimizer_args_custom": ["b=2"], "enable_preview": True, "positive_prompts": "x",
    "sample_width": 512, "sample_seed": 4, "base_weights": "a\nb", "base_weights_multiplier": "1\n2",
    "enable_base_weight": True, "ui_custom_params": "seed = 4", "gpu_ids": ["0", "1"], "lr_restart_cycles": 1,
    "max_token_length": 255, "resolution": "512,512",
}  # fmt: skip
ONE: dict[str, Any] = {
    "training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE", "__version": 10, "epochs": 10,
    "learning_rate": 1e-4, "learning_rate_scaler": "BOTH", "learning_rate_scheduler": "COSINE_WITH_HARD_RESTARTS",
    "learning_rate_cycles": 2.0, "learning_rate_warmup_steps": 0.1, "batch_size": 2, "resolution": "512,768x512",
    "lora_rank": 8, "lora_alpha": 4, "peft_type": "LOKR", "lokr_decompose_factor": 4, "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 5, "min_noising_strength": 0.1, "optimizer": {"optimizer": "ADAMW", "beta1": 0.9,
    "beta2": 0.99, "eps": 1e-8}, "unet": {"learning_rate": 1e-4}, "text_encoder": {"learning_rate": 1e-5},
    "concepts": [{"path": "a", "balancing": 2.0, "text": {"tag_dropout_enable": True, "tag_dropout_probability": 0.1}},
                 {"path": "b", "image": {"enable_resolution_override": True, "resolution_override": "640"}}],
    "samples": [{"prompt": "a", "seed": 1}], "sample_after": 1, "sample_after_unit": "EPOCH", "multi_gpu": True,
    "device_indexes": "0,1", "save_every": 1, "save_every_unit": "STEP",
    "output_model_destination": "models/x.safetensors", "text_encoder_layer_skip": 1,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "pretrained_model_name_or_path": "m", "train_data_dir": "img", "network_module": "networks.lora", "network_dim": 4,
    "resolution": "512,768", "optimizer_type": "AdamW", "optimizer_args": ["weight_decay=0.1"], "unet_lr": 1e-4,
    "text_encoder_lr": [1e-5], "max_train_epochs": 3, "train_batch_size": 2, "shuffle_caption": True, "seed": 3,
    "network_args": ["conv_dim=4"], "a": {"seed": 4, "caption_extension": ".txt", "flip_aug": True},
}  # fmt: skip
DATASET: dict[str, Any] = {
    "general": {"resolution": 512, "shuffle_caption": True, "caption_extension": ".txt"},
    "datasets": [
        {"resolution": [512, 768], "batch_size": 2, "enable_bucket": True,
         "subsets": [{"image_dir": "a", "num_repeats": 2, "class_tokens": "lum girl", "caption_separator": ","}]},
        {"resolution": [512, 512], "subsets": [{"image_dir": "b", "is_reg": True, "keep_tokens": 1}]},
    ],
}  # fmt: skip
GUI: dict[str, Any] = {
    "LoRA_type": "Standard", "pretrained_model_name_or_path": "m", "train_data_dir": "img", "network_dim": 8,
    "max_resolution": "512,512", "learning_rate": 0.0001, "unet_lr": 0.0001, "text_encoder_lr": 5e-05, "epoch": 3,
    "optimizer": "AdamW", "optimizer_args": "weight_decay=0.1", "lr_scheduler": "cosine", "xformers": "xformers",
    "sdxl": False, "network_alpha": 4, "clip_skip": 1, "caption_extension": ".txt", "additional_parameters": "--seed 3",
}  # fmt: skip
ODD: tuple[Any, ...] = (
    "", "x", "\x1b[31m", "\u202e", 0, -1, 10**30, 1e300, -0.5, True, False, [], ["a"], [1, [2, [3]]], [{}], {},
    [{"a": 1}], {"a": {"b": {}}}, "1e999", "nan", "../../x", "${x}", "a\nb", "9" * 400, [None], "{", "😀",
)  # fmt: skip


def write_json(table: Any) -> str:
    return json.dumps(table)


def write_toml(table: Any) -> str:
    return tomli_w.dumps(remove_null(table))


def remove_null(value: Any) -> Any:
    """Without what TOML cannot have."""
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return {key: remove_null(part) for key, part in pairs if part is not None}
    if isinstance(value, list):
        return [remove_null(part) for part in value if part is not None]  # pyright: ignore[reportUnknownVariableType]
    return value


def is_container(value: object) -> bool:
    return isinstance(value, dict | list)


def list_pairs(part: Any) -> list[tuple[Any, Any]]:
    try:
        return list(part.items())
    except AttributeError:
        return list(enumerate(part))  # pyright: ignore[reportUnknownArgumentType]


def damage(table: Any, chance: random.Random) -> None:
    """Puts an odd value, another place's value or nothing in the place of one."""
    places: list[tuple[Any, Any]] = []
    waiting: list[Any] = [table]
    while waiting:
        part = waiting.pop()
        for key, value in list_pairs(part):
            places.append((part, key))
            if is_container(value):
                waiting.append(value)
    if not places:
        return
    part, key = chance.choice(places)
    other, name = chance.choice(places)
    if chance.random() < 0.2 and isinstance(part, dict):
        del part[key]
    else:
        part[key] = chance.choice([chance.choice(ODD), json.loads(json.dumps(other[name]))])


def try_to_read(read: Read, content: str | bytes) -> ForeignConfig | None:
    """The configuration; None where it is refused, which has to say why."""
    try:
        return read(make_source(content, Path("x")))
    except RecipeError as error:
        if not error.findings:
            raise
        return None


def try_to_make(read: Read, content: str, name: str = "x", *, whole: bool = True) -> bool:
    """Whether there is a configuration, and a recipe of it; what is refused has to say why."""
    source = make_source(content, Path(name))
    try:
        config = read(source)
        if whole:
            make_recipe(config, source)
    except RecipeError:
        return False
    return True


CASES: list[tuple[Read, dict[str, Any], Callable[[Any], str]]] = [
    (read_easy, EASY, write_toml),
    (read_lora_scripts, SCRIPTS, write_toml),
    (read_one_trainer, ONE, write_json),
    (read_ai_toolkit, JOB, write_json),
    (read_dataset_config, DATASET, write_toml),
    (read_config_file, CONFIG, write_toml),
]
NAMES = ["easy", "lora-scripts", "one-trainer", "ai-toolkit", "dataset", "config"]
OF_SECTIONS = (read_lora_scripts, read_config_file)  # which read sections as if they were none


@pytest.mark.parametrize(("read", "table", "write"), CASES, ids=NAMES)
def test_damaged_values_give_a_configuration_or_an_error(
    read: Read, table: dict[str, Any], write: Callable[[Any], str]
) -> None:
    chance = random.Random(12)  # noqa: S311 - the same damage in each run
    read_well = 0
    for _ in range(400):
        copy = json.loads(json.dumps(table))
        for _ in range(chance.choice([1, 1, 2, 5])):
            damage(copy, chance)
        config = try_to_read(read, write(copy))
        read_well += config is not None
        if config is not None and read not in (*OF_SECTIONS, read_dataset_config):
            whole = remove_null(copy) if write is write_toml else copy
            assert list_settled(config) >= set(flatten(make_source(""), whole))
    assert read_well > 100


@pytest.mark.parametrize(("read", "table", "write"), CASES, ids=NAMES)
def test_damaged_text_gives_a_configuration_or_an_error(
    read: Read, table: dict[str, Any], write: Callable[[Any], str]
) -> None:
    chance = random.Random(12)  # noqa: S311 - the same damage in each run
    whole = write(table).encode()
    for _ in range(200):
        start = chance.randrange(len(whole))
        kinds = (whole[:start], whole[:start] + chance.randbytes(3) + whole[start:], whole[:start] + whole[start + 7 :])
        try_to_read(read, chance.choice(kinds))


@pytest.mark.parametrize(
    ("read", "table", "write"), [*CASES, (read_kohya_gui, GUI, write_json)], ids=[*NAMES, "kohya-gui"]
)
def test_damaged_values_become_a_recipe_or_an_error(
    read: Read, table: dict[str, Any], write: Callable[[Any], str]
) -> None:
    chance = random.Random(7)  # noqa: S311 - the same damage in each run
    made = 0
    for _ in range(8):
        copy = json.loads(json.dumps(table))
        for _ in range(chance.choice([1, 2, 5])):
            damage(copy, chance)
        made += try_to_make(read, write(copy))
    assert made > 1


@pytest.mark.parametrize("value", [["x", ["y"]], [[512, 512]], [{"a": 1}], [], {"a": [1]}, 1.5, True, "x"], ids=str)
@pytest.mark.parametrize("name", ["resolution", "caption_separator", "num_repeats", "batch_size", "image_dir", "other"])
@pytest.mark.parametrize("level", ["general", "dataset", "subset"])
def test_a_value_of_another_kind_has_a_line(level: str, name: str, value: Any) -> None:
    copy = json.loads(json.dumps(DATASET))
    block = copy["datasets"][0]
    {"general": copy["general"], "dataset": block, "subset": block["subsets"][0]}[level][name] = value
    place = {"general": "general", "dataset": "datasets[0]", "subset": "datasets[0].subsets[0]"}[level]
    source = make_source(write_toml(copy), Path("x"))
    made = make_recipe(read_dataset_config(source), source)
    assert f"{place}.{name}" in {line.key for line in made.report.keys} or (name in block and level == "general")


LINES = {
    "a.sh": "A=1\nB=(x y)\nif [ $A = 1 ]; then B+=(--seed 3); fi\nfor i in 1 2; do C=$i; done\nf() { D=1; }\nf\n"
    'cat <<E\nx\nE\naccelerate launch train_network.py --network_dim $A --unet_lr 1e-4 --lowram "${B[@]}"\n',
    "a.ps1": "$A = 1\n$B = @('x')\nif ($A -eq 1) { $B += '--seed=3' } else { $A = 2 }\n<# x #>\n"
    "function f($x) { $D = 1 }\nswitch ($A) { 1 { $C = 2 } default { $C = 3 } }\nforeach ($i in 1..2) { $C = 4 }\n"
    '$H = @{ a = 1; b = "x" }\n$T = @"\nx $($H.b) "q"\n"@\n$S = if ($A -eq 1) { "a" } else { "b" }\n'
    "1..2 | ForEach-Object { $C += $_ * 2 }\nStart-Process python -ArgumentList 'x.py', '--a'\n"
    "accelerate launch train_network.py --network_dim $A --unet_lr 1e-4 `\n @B --lowram\n",
    "a.bat": '@echo off\nset A=1\nset /a "B=2*5"\nif "%A%"=="1" (\n  set C=1\n) else (\n  set C=2\n)\n'
    "setlocal enabledelayedexpansion\nfor %%i in (1 2) do set D=!D!%%~i\ncall :f 1\ngoto x\n:f\nset E=%1 ^& %A:~0,1%\n"
    "exit /b\n:x\naccelerate launch train_network.py --network_dim %A% --unet_lr 1e-4 ^\n --lowram\n",
}


@pytest.mark.parametrize("name", LINES)
def test_damaged_scripts_become_a_recipe_or_an_error(name: str) -> None:
    chance = random.Random(3)  # noqa: S311 - the same damage in each run
    signs = [
        "(",
        ")",
        "{",
        "}",
        '"',
        "'",
        "$",
        "%",
        "|",
        "&",
        ";",
        "\n",
        "if",
        "[",
        "]",
        "^",
        "`",
        "\\",
        "#",
        "<<E",
        "=",
        " ",
    ]
    made = 0
    for turn in range(150):
        text = LINES[name]
        for _ in range(chance.choice([1, 2, 4])):
            at = chance.randrange(len(text))
            text = text[:at] + chance.choice(signs) + text[at + chance.choice([0, 1, 5]) :]
        found = try_to_make(read_shell, text, name, whole=turn % 10 == 0)
        made += found
    assert made > 50
