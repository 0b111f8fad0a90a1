"""LoRA_Easy_Training_Scripts: what its backend makes of a TOML file, by option and value."""

from __future__ import annotations

import pytest

from foreign_sources import find_repairs, list_lines, list_settled, list_values, make_source
from lorabake.errors import RecipeError
from lorabake.exchange.easy import read_easy
from lorabake.exchange.reading import flatten, parse_toml_table

CURRENT = """
[[subsets]]
caption_extension = ".txt"
image_dir = "C:/sets/lum"
keep_tokens = 1
name = "subset 1"
num_repeats = 4
shuffle_caption = true
flip_aug = false

[[subsets]]
image_dir = "C:/sets/people"
num_repeats = 1
is_reg = true
random_crop_padding_percent = 0.05

[train_mode]
train_mode = "lora"

[noise_args]

[general_args.args]
pretrained_model_name_or_path = "C:/models/xl.safetensors"
sdxl = true
mixed_precision = "bf16"
seed = 0
max_train_epochs = 12
max_token_length = 225
prior_loss_weight = 0.0
xformers = true
keep_tokens_separator = "|||"
vae_reflection = true

[general_args.dataset_args]
resolution = [1024, 768]
batch_size = 2

[network_args.args]
network_dim = 16
network_alpha = 8.0
min_timestep = 0

[network_args.args.network_args]
conv_dim = 8
conv_alpha = 4.0
algo = "lokr"
dora_wd = true
preset = ""

[optimizer_args.args]
optimizer_type = "Came"
lr_scheduler = "cosine"
learning_rate = 0.0002
text_encoder_lr = 0.0
warmup_ratio = 0.05
min_snr_gamma = 5

[optimizer_args.args.optimizer_args]
weight_decay = "0.1"
betas = "0.9,0.99"
decouple = "true"

[saving_args.args]
output_dir = "C:/out/${replace}"
easy_name = "lum"
output_name = "${replace}_v1"
save_every_n_epochs = 1
save_toml = true

[logging_args.args]
log_with = "wandb"
wandb_api_key = "0123456789abcdef"

[bucket_args.dataset_args]
enable_bucket = true
min_bucket_reso = 256
multires_training = true

[extra_args.args]
max_grad_norm = "0.5"
no_such_option = "1"
"""


def test_options_of_the_newest_edition() -> None:
    config = read_easy(make_source(CURRENT))
    assert (config.script, config.name) == ("sdxl_train_network.py", "lum_v1")
    assert list_values(config) == {
        "output_dir": "C:/out/lum",
        "output_name": "lum_v1",
        "network_args": ("conv_dim=8", "conv_alpha=4.0", "algo=lokr", "dora_wd=True"),
        "network_module": "lycoris.kohya",
        "optimizer_args": ("weight_decay=0.1", "betas=0.9,0.99", "decouple=True"),
        "optimizer_type": "pytorch_optimizer.CAME",
        "lr_scheduler": "cosine",
        "lr_warmup_steps": 0.05,
        "pretrained_model_name_or_path": "C:/models/xl.safetensors",
        "mixed_precision": "bf16",
        "seed": 0,
        "max_train_epochs": 12,
        "max_token_length": 225,
        "prior_loss_weight": 0.0,
        "xformers": True,
        "keep_tokens_separator": "|||",
        "network_dim": 16,
        "network_alpha": 8.0,
        "min_timestep": 0,
        "learning_rate": 0.0002,
        "text_encoder_lr": (0.0,),
        "min_snr_gamma": 5,
        "save_every_n_epochs": 1,
        "log_with": "wandb",
        "max_grad_norm": 0.5,
    }


def test_zeros_that_the_backend_loses_are_kept_and_said() -> None:
    assert find_repairs(read_easy(make_source(CURRENT))) == {
        "optimizer_type": None,
        "seed": "unset",
        "prior_loss_weight": "unset",
        "text_encoder_lr": "unset",
    }


def test_folders_and_the_options_that_they_share() -> None:
    (dataset,) = read_easy(make_source(CURRENT)).datasets
    shared = {name: given.value for name, given in dataset.options.items()}
    assert shared == {"resolution": (1024, 768), "batch_size": 2, "enable_bucket": True, "min_bucket_reso": 256}
    folders = [{name: given.value for name, given in subset.options.items()} for subset in dataset.subsets]
    assert folders[0] == {
        "caption_extension": ".txt",
        "image_dir": "C:/sets/lum",
        "keep_tokens": 1,
        "num_repeats": 4,
        "shuffle_caption": True,
    }
    assert folders[1] == {"image_dir": "C:/sets/people", "num_repeats": 1}
    assert [subset.is_reg for subset in dataset.subsets] == [False, True]


def test_every_key_that_is_no_option_has_a_line() -> None:
    config = read_easy(make_source(CURRENT))
    assert list_lines(config) == {
        "train_mode.train_mode": "dropped",
        "noise_args": "off",
        "network_args.args.network_args.preset": "off",
        "logging_args.args.wandb_api_key": "dropped",
        "saving_args.args.save_toml": "dropped",
        "general_args.args.sdxl": "dropped",
        "subsets[0].name": "dropped",
        "subsets[0].flip_aug": "off",
        "subsets[1].is_reg": "computed",
        "subsets[1].random_crop_padding_percent": "dropped",
        "bucket_args.dataset_args.multires_training": "dropped",
        "general_args.args.vae_reflection": "dropped",
        "extra_args.args.no_such_option": "unknown",
    }
    (key,) = (line for line in config.keys if line.key.endswith("wandb_api_key"))
    assert key.value == ""


def test_the_module_follows_from_the_arguments() -> None:
    def module(arguments: str, args: str = "") -> object:
        text = f"[network_args.args]\nnetwork_dim = 8\n{args}\n[network_args.args.network_args]\n{arguments}"
        return list_values(read_easy(make_source(text)))["network_module"]

    assert module("") == "networks.lora"
    assert module("conv_dim = 4") == "networks.lora"
    assert module("unit = 4") == "networks.dylora"
    assert module('algo = "loha"') == "lycoris.kohya"
    assert module("", "fa = true") == "networks.lora_fa"
    assert module('algo = "loha"', "fa = true") == "lycoris.kohya"


def test_lists_of_weights_are_texts_with_commas() -> None:
    text = "[network_args.args.network_args]\ndown_lr_weight = [1, 0.5]\nmid_lr_weight = 1"
    values = list_values(read_easy(make_source(text)))
    assert values["network_args"] == ("down_lr_weight=1,0.5", "mid_lr_weight=1")


REX = "LoraEasyCustomOptimizer.RexAnnealingWarmRestarts.RexAnnealingWarmRestarts"
COSINE = "LoraEasyCustomOptimizer.CosineAnnealingWarmRestarts.CosineAnnealingWarmRestarts"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (f'lr_scheduler_type = "{REX}"', {"lr_scheduler": "polynomial", "lr_scheduler_power": 0.2}),
        (
            'lr_scheduler = "rex_annealing_warm_restarts_(RAWR)"',
            {"lr_scheduler": "polynomial", "lr_scheduler_power": 0.2},
        ),
        (f'lr_scheduler_type = "{COSINE}"', {"lr_scheduler": "cosine"}),
        (
            f'lr_scheduler_type = "{COSINE}"\nlr_scheduler_num_cycles = 3',
            {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3},
        ),
        (
            f'lr_scheduler_type = "{COSINE}"\nlr_scheduler_args = {{ min_lr = 1e-5, gamma = 0.9 }}',
            {"lr_scheduler": "cosine_with_min_lr", "lr_scheduler_min_lr_ratio": 0.1},
        ),
        ('lr_scheduler = "constant with warmup"', {"lr_scheduler": "constant_with_warmup"}),
        (
            'lr_scheduler = "warmup_stable_decay"\nlr_decay_steps = 0.2\nlr_scheduler_args = { decay_type = "linear" }',
            {"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 0.2, "lr_scheduler_args": ("decay_type=linear",)},
        ),
    ],
)
def test_schedulers(lines: str, expected: dict[str, object]) -> None:
    source = make_source(f"[optimizer_args.args]\nlearning_rate = 1e-4\n{lines}")
    config = read_easy(source)
    values = list_values(config)
    assert {name: value for name, value in values.items() if name.startswith("lr_")} == expected
    assert values["learning_rate"] == 1e-4
    assert list_settled(config) >= set(flatten(source, parse_toml_table(source)[1]))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("AdamW8bit", "AdamW8bit"),
        ("adafactor", "Adafactor"),
        ("ProdigyPlusScheduleFree", "prodigyplus.ProdigyPlusScheduleFree"),
        ("LoraEasyCustomOptimizer.came.CAME", "pytorch_optimizer.CAME"),
        ("FishMonger", "FishMonger"),
    ],
)
def test_optimizers(name: str, found: str) -> None:
    config = read_easy(make_source(f'[optimizer_args.args]\noptimizer_type = "{name}"'))
    assert list_values(config)["optimizer_type"] == found


def test_several_gpus_of_the_fork() -> None:
    on = read_easy(make_source("[accelerate_args.args]\nenabled = true\nnum_processes = 2"))
    assert {name: given.value for name, given in on.launch.items()} == {"num_processes": 2}
    off = read_easy(make_source("[accelerate_args.args]\nenabled = false\nnum_processes = 2"))
    assert off.launch == {}
    assert set(list_lines(off).values()) == {"dropped"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[general_args.args]\nseed = ", 2),
        ("a = 1\n[train_mode]\ntrain_mode = 'textual_inversion'\n[general_args.args]\nseed = 1", 2),
        ("[general_args.args]\nseed = 1\n[flux_args.args]\nae = 'x'", 3),
        ("subsets = 3\n[general_args.args]\nseed = 1", 1),
        ("general_args = 3", 1),
        ("title = 'x'", None),
    ],
)
def test_what_cannot_be_imported_says_where(text: str, line: int | None) -> None:
    with pytest.raises(RecipeError) as caught:
        read_easy(make_source(text))
    assert [finding.line for finding in caught.value.findings] == [line]
