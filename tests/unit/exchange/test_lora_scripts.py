"""lora-scripts (SD-trainer): exported files, drafts with the window's fields, presets, and the older sections."""

from __future__ import annotations

import pytest

from foreign_sources import find_repairs, list_lines, list_settled, list_values, make_source
from lorabake.errors import RecipeError
from lorabake.exchange.lora_scripts import read_lora_scripts
from lorabake.exchange.reading import parse_toml_table

EXPORTED = """
model_train_type = "sdxl-lora"
pretrained_model_name_or_path = "./sd-models/xl.safetensors"
vae = ""
train_data_dir = "./train/aki"
prior_loss_weight = 1
resolution = "1024,1024"
enable_bucket = true
max_train_epochs = 10
train_batch_size = 2
network_module = "lycoris.kohya"
network_dim = 32
network_alpha = 16
network_args = ["conv_dim=4", "conv_alpha=1", "dropout=0", "algo=lokr", "factor=-1"]
learning_rate = "1e-4"
unet_lr = 0.0001
text_encoder_lr = "1e-5"
lr_scheduler = "cosine_with_restarts"
lr_scheduler_num_cycles = 1
optimizer_type = "pytorch_optimizer.CAME"
optimizer_args = ["weight_decay=0.01"]
positive_prompts = "masterpiece, 1girl,\\n solo"
negative_prompts = "lowres"
sample_width = 768
sample_seed = 7
sample_sampler = "euler_a"
sample_every_n_epochs = 2
max_token_length = 255
log_with = "wandb"
wandb_api_key = "0123456789abcdef"
gpu_ids = ["0", "1"]
new_option = 3
"""


def test_an_exported_file_has_options_already() -> None:
    config = read_lora_scripts(make_source(EXPORTED))
    assert (config.script, config.name) == ("sdxl_train_network.py", None)
    assert list_values(config) == {
        "network_args": ("conv_dim=4", "conv_alpha=1", "dropout=0", "algo=lokr", "factor=-1"),
        "optimizer_args": ("weight_decay=0.01",),
        "optimizer_type": "pytorch_optimizer.CAME",
        "pretrained_model_name_or_path": "./sd-models/xl.safetensors",
        "train_data_dir": "./train/aki",
        "prior_loss_weight": 1,
        "resolution": "1024,1024",
        "enable_bucket": True,
        "max_train_epochs": 10,
        "train_batch_size": 2,
        "network_module": "lycoris.kohya",
        "network_dim": 32,
        "network_alpha": 16,
        "learning_rate": 0.0001,
        "unet_lr": 0.0001,
        "text_encoder_lr": (1e-05,),
        "lr_scheduler": "cosine_with_restarts",
        "lr_scheduler_num_cycles": 1,
        "sample_sampler": "euler_a",
        "sample_every_n_epochs": 2,
        "max_token_length": 225,
        "log_with": "wandb",
    }
    assert {name: given.value for name, given in config.launch.items()} == {"gpu_ids": "0,1", "num_processes": 2}
    assert find_repairs(config) == {"max_token_length": None}


def test_the_prompt_is_one_line_with_its_settings() -> None:
    config = read_lora_scripts(make_source(EXPORTED))
    assert config.prompts == ("masterpiece, 1girl, solo --n lowres --w 768 --h 512 --l 7 --s 24 --d 7",)


def test_every_key_is_settled() -> None:
    source = make_source(EXPORTED)
    config = read_lora_scripts(source)
    assert list_settled(config) == set(parse_toml_table(source)[1])
    assert list_lines(config) == {
        "vae": "off",
        "wandb_api_key": "dropped",
        "model_train_type": "dropped",
        "positive_prompts": "computed",
        "negative_prompts": "computed",
        "sample_width": "computed",
        "sample_seed": "computed",
        "new_option": "unknown",
    }


DRAFT = """
model_train_type = "{kind}"
pretrained_model_name_or_path = "./sd-models/model.safetensors"
clip_skip = 2
learning_rate = "1e-4"
unet_lr = "1e-4"
network_module = "{module}"
lycoris_algo = "lokr"
lokr_factor = 8
conv_dim = 4
conv_alpha = 1
dropout = 0
train_norm = true
dylora_unit = 4
network_args_custom = ["rank_dropout=0.1", "dropout=0.2"]
enable_block_weights = {blocks}
down_lr_weight = "1,1,1,1,1,1,1,1,1,1,1,1"
mid_lr_weight = "1"
up_lr_weight = "1,1,1,1,1,1,1,1,1,1,1,1"
block_lr_zero_threshold = 0.1
enable_base_weight = true
base_weights = "a.safetensors\\nb.safetensors"
base_weights_multiplier = "0.5\\n1"
optimizer_type = "{optimizer}"
prodigy_d0 = "1e-5"
prodigy_d_coef = "2.0"
lr_warmup_steps = 100
optimizer_args_custom = ["weight_decay=0.05"]
enable_preview = false
positive_prompts = "1girl"
sample_every_n_epochs = 2
"""


def read_draft(
    kind: str = "sd-lora", module: str = "networks.lora", blocks: str = "false", optimizer: str = "AdamW"
) -> dict[str, object]:
    text = DRAFT.format(kind=kind, module=module, blocks=blocks, optimizer=optimizer)
    return list_values(read_lora_scripts(make_source(text)))


def test_fields_of_lycoris_become_arguments() -> None:
    assert read_draft(module="lycoris.kohya")["network_args"] == (
        "conv_dim=4",
        "conv_alpha=1",
        "dropout=0.2",
        "algo=lokr",
        "factor=8",
        "train_norm=True",
        "rank_dropout=0.1",
    )
    assert read_draft(module="networks.dylora")["network_args"] == ("unit=4", "rank_dropout=0.1", "dropout=0.2")
    assert read_draft()["network_args"] == ("rank_dropout=0.1", "dropout=0.2")


def test_weights_of_blocks_only_where_they_are_on() -> None:
    ones = "1,1,1,1,1,1,1,1,1,1,1,1"
    assert read_draft(blocks="true")["network_args"] == (
        f"down_lr_weight={ones}",
        "mid_lr_weight=1",
        f"up_lr_weight={ones}",
        "block_lr_zero_threshold=0.1",
        "rank_dropout=0.1",
        "dropout=0.2",
    )


def test_loras_that_are_merged_first() -> None:
    values = read_draft()
    assert values["base_weights"] == ("a.safetensors", "b.safetensors")
    assert values["base_weights_multiplier"] == (0.5, 1)


def test_arguments_that_the_window_adds_for_some_optimizers() -> None:
    assert read_draft()["optimizer_args"] == ("weight_decay=0.05",)
    assert read_draft(optimizer="Prodigy")["optimizer_args"] == (
        "decouple=True",
        "weight_decay=0.05",
        "use_bias_correction=True",
        "d_coef=2.0",
        "safeguard_warmup=True",
        "d0=1e-5",
    )
    adapt = read_draft(optimizer="DAdaptation")
    assert adapt["optimizer_args"] == ("decouple=True", "weight_decay=0.05")
    assert (adapt["learning_rate"], adapt["unet_lr"]) == (1.0, 1.0)


def test_samples_that_are_off_are_left_out() -> None:
    config = read_lora_scripts(make_source(DRAFT.format(kind="sd-lora", module="x", blocks="false", optimizer="Lion")))
    assert config.prompts == ()
    assert "sample_every_n_epochs" not in config.options
    assert list_lines(config)["positive_prompts"] == "dropped"


def test_what_the_window_leaves_out_for_sdxl() -> None:
    assert "clip_skip" not in read_draft(kind="sdxl-lora")
    assert read_draft()["clip_skip"] == 2
    text = DRAFT.format(kind="sdxl-lora", module="networks.lora", blocks="false", optimizer="Lion")
    config = read_lora_scripts(make_source(text + "v_parameterization = true"))
    assert config.options["v_parameterization"].value is True
    assert find_repairs(config)["v_parameterization"] == "unset"


def test_the_text_field_replaces_other_fields() -> None:
    text = 'seed = 1\nui_custom_params = "seed = 5\\nmin_snr_gamma = 5"\nnetwork_dim = 8'
    config = read_lora_scripts(make_source(text))
    assert list_values(config) == {"seed": 5, "network_dim": 8, "min_snr_gamma": 5}
    assert list_lines(config) == {"ui_custom_params": "computed"}
    broken = read_lora_scripts(make_source('seed = 1\nui_custom_params = "seed = "'))
    assert list_values(broken) == {"seed": 1}
    assert list_lines(broken) == {"ui_custom_params": "dropped"}


def test_prompts_from_a_file_or_from_a_caption() -> None:
    file = read_lora_scripts(make_source('prompt_file = "p.txt"\npositive_prompts = "1girl"'))
    assert list_values(file) == {"sample_prompts": "p.txt"}
    drawn = read_lora_scripts(make_source('randomly_choice_prompt = true\npositive_prompts = "1girl"'))
    assert (drawn.prompts, list_values(drawn)) == ((), {})
    assert set(list_lines(drawn).values()) == {"dropped"}


def test_the_older_files_have_sections() -> None:
    text = """
[model_arguments]
pretrained_model_name_or_path = "./sd-models/model.ckpt"
[additional_network_arguments]
network_dim = 32
network_args = []
[optimizer_arguments]
lr_scheduler = "cosine_with_restarts"
lr_restart_cycles = 2
[others]
cache_latents = true
"""
    config = read_lora_scripts(make_source(text))
    assert list_values(config) == {
        "pretrained_model_name_or_path": "./sd-models/model.ckpt",
        "network_dim": 32,
        "lr_scheduler": "cosine_with_restarts",
        "lr_scheduler_num_cycles": 2,
        "cache_latents": True,
    }
    assert find_repairs(config) == {"lr_scheduler_num_cycles": "unset"}


def test_a_preset_describes_itself() -> None:
    text = '[metadata]\nname = "mid"\ntrain_type = "lora-master"\n[data]\nresolution = "768,768"'
    config = read_lora_scripts(make_source(text))
    assert list_values(config) == {"resolution": "768,768"}
    assert list_lines(config) == {"metadata.name": "dropped", "metadata.train_type": "dropped"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('seed = 1\nmodel_train_type = "flux-lora"', 2),
        ('model_train_type = "sdxl-finetune"', 1),
        ('[metadata]\ntrain_type = "sd3-lora"', 1),
        ("seed = \n", 1),
    ],
)
def test_what_cannot_be_imported_says_where(text: str, line: int) -> None:
    with pytest.raises(RecipeError) as caught:
        read_lora_scripts(make_source(text))
    assert [finding.line for finding in caught.value.findings] == [line]
