"""OneTrainer: its newest configurations and the older ones, with concepts and samples, by option and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from foreign_sources import find_repairs, list_lines, list_settled, list_values, make_source
from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig
from lorabake.exchange.one_trainer.reader import read_one_trainer
from lorabake.exchange.reading import flatten

XL: dict[str, Any] = {"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE"}
CONCEPT: dict[str, Any] = {
    "__version": 2,
    "name": "lum",
    "path": "C:/sets/lum",
    "seed": 12,
    "enabled": True,
    "type": "STANDARD",
    "balancing": 4.0,
    "balancing_strategy": "REPEATS",
    "loss_weight": 1.0,
    "image": {"enable_crop_jitter": True, "enable_random_flip": True, "enable_random_hue": False,
              "random_hue_max_strength": 0.2, "enable_random_rotate": True, "random_rotate_max_angle": 5.0,
              "enable_resolution_override": False, "resolution_override": "512"},
    "text": {"prompt_source": "sample", "prompt_path": "", "enable_tag_shuffling": True, "tag_delimiter": ",",
             "keep_tags_count": 2, "tag_dropout_enable": True, "tag_dropout_mode": "RANDOM",
             "tag_dropout_probability": 0.1, "caps_randomize_enable": False},
}  # fmt: skip
NEWEST: dict[str, Any] = {
    **XL,
    "__version": 11,
    "base_model_name": "C:/models/xl.safetensors",
    "output_model_destination": "C:\\out\\lum_v1.safetensors",
    "output_model_format": "KOHYA_LORA",
    "epochs": 20,
    "batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 0.0002,
    "learning_rate_scheduler": "COSINE",
    "learning_rate_warmup_steps": 100,
    "learning_rate_min_factor": 0.1,
    "resolution": "1024",
    "lora_rank": 32,
    "lora_alpha": 16.0,
    "layer_filter_preset": "attn-mlp",
    "loss_weight_fn": "MIN_SNR_GAMMA",
    "loss_weight_strength": 5.0,
    "offset_noise_weight": 0.03,
    "min_noising_strength": 0.0,
    "max_noising_strength": 0.9,
    "train_dtype": "BFLOAT_16",
    "output_dtype": "BFLOAT_16",
    "ema": "GPU",
    "unet": {"train": True, "learning_rate": 0.0003, "weight_dtype": "BFLOAT_16", "gradient_checkpointing": True},
    "text_encoder": {"train": True, "learning_rate": 0.0001, "stop_training_after": 30},
    "text_encoder_2": {"train": False, "learning_rate": 0.0001},
    "vae": {"model_name": ""},
    "transformer": {"train": True, "learning_rate": 1.0},
    "optimizer": {"__version": 0, "optimizer": "ADAMW_8BIT", "beta1": 0.9, "beta2": 0.99, "eps": 1e-8,
                  "weight_decay": 0.05, "is_paged": True, "fused": True, "momentum": None, "d_coef": 1.0},
    "optimizer_defaults": {"PRODIGY": {"d_coef": 2.0}},
    "concepts": [CONCEPT],
    "samples": [{"prompt": "lum,\n night", "negative_prompt": "blurry", "width": 1024, "height": 768, "seed": 7,
                 "diffusion_steps": 20, "cfg_scale": 7.0, "noise_scheduler": "EULER_A", "enabled": True}],
    "sample_after": 2,
    "sample_after_unit": "EPOCH",
    "save_every": 5,
    "save_every_unit": "EPOCH",
    "backup_after": 30,
    "cloud": {"enabled": False, "host": "10.0.0.1"},
    "secrets": {"huggingface_token": "hf_0123456789abcdef0123456789abcdef"},
    "brand_new": 1,
}  # fmt: skip


def read(table: dict[str, Any], path: Path = Path("config.json")) -> ForeignConfig:
    return read_one_trainer(make_source(json.dumps(table), path))


def test_options_of_the_newest_version() -> None:
    config = read(NEWEST)
    assert (config.script, config.name) == ("sdxl_train_network.py", "lum_v1")
    assert list_values(config) == {
        "pretrained_model_name_or_path": "C:/models/xl.safetensors",
        "max_train_epochs": 20,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 1,
        "learning_rate": 0.0002,
        "text_encoder_lr": (0.0001, 0.0),
        "unet_lr": 0.0003,
        "lr_warmup_steps": 50,
        "lr_scheduler": "cosine_with_min_lr",
        "lr_scheduler_min_lr_ratio": 0.1,
        "optimizer_type": "PagedAdamW8bit",
        "optimizer_args": ("betas=(0.9,0.99)", "eps=1e-08", "weight_decay=0.05"),
        "network_dim": 32,
        "network_alpha": 16.0,
        "network_module": "networks.lora",
        "min_snr_gamma": 5.0,
        "noise_offset": 0.03,
        "max_timestep": 900,
        "mixed_precision": "bf16",
        "save_precision": "bf16",
        "sdpa": True,
        "gradient_checkpointing": True,
        "no_half_vae": True,
        "cache_latents": True,
        "cache_latents_to_disk": True,
        "output_name": "lum_v1",
        "output_dir": "C:\\out",
        "save_model_as": "safetensors",
        "save_every_n_epochs": 5,
        "sample_every_n_epochs": 2,
        "sample_sampler": "euler_a",
    }
    assert config.prompts == ("lum, night --n blurry --w 1024 --h 768 --s 20 --l 7.0 --d 7",)


def test_concepts_are_folders_with_their_captions() -> None:
    (dataset,) = read(NEWEST).datasets
    shared = {name: given.value for name, given in dataset.options.items()}
    assert shared == {"batch_size": 4, "enable_bucket": True, "resolution": 1024, "max_bucket_reso": 2048}
    assert {name: given.value for name, given in dataset.subsets[0].options.items()} == {
        "image_dir": "C:/sets/lum",
        "num_repeats": 4,
        "caption_extension": ".txt",
        "shuffle_caption": True,
        "caption_tag_dropout_rate": 0.1,
        "keep_tokens": 2,
        "flip_aug": True,
    }


def test_every_key_is_settled() -> None:
    config = read(NEWEST)
    assert list_settled(config) >= set(flatten(make_source(""), NEWEST))
    lines = list_lines(config)
    assert lines["brand_new"] == "unknown"
    dropped = ("ema", "transformer.train", "cloud.host", "secrets.huggingface_token", "optimizer.fused",
               "optimizer.d_coef", "optimizer_defaults.PRODIGY.d_coef", "concepts[0].name",
               "concepts[0].image.enable_random_rotate",
               "text_encoder.stop_training_after")  # fmt: skip
    assert {lines[key] for key in dropped} == {"dropped"}
    assert lines["concepts[0].image.enable_random_hue"] == "default"
    assert "hf_" not in str([line.value for line in config.keys])


def test_defaults_of_the_program() -> None:
    values = list_values(read(XL))
    expected = {
        "max_train_epochs": 100,
        "learning_rate": 3e-6,
        "lr_scheduler": "constant_with_warmup",
        "lr_warmup_steps": 200,
        "optimizer_type": "AdamW",
        "network_dim": 16,
        "network_alpha": 1,
        "network_args": ("conv_dim=16", "conv_alpha=1"),
        "mixed_precision": "fp16",
        "save_precision": "float",
    }
    assert {name: values[name] for name in expected} == expected
    assert "network_train_unet_only" not in values


OLDEST: dict[str, Any] = {
    **XL,
    "weight_dtype": "FLOAT_16",
    "unet_weight_dtype": "NONE",
    "vae_model_name": "C:/models/vae.safetensors",
    "train_unet": True,
    "train_text_encoder": False,
    "train_text_encoder_2": False,
    "train_text_encoder_epochs": 30,
    "unet_learning_rate": 0.0004,
    "optimizer": "ADAFACTOR",
    "optimizer_weight_decay": 0.01,
    "optimizer_eps": 1e-30,
    "optimizer_eps2": 0.001,
    "optimizer_scale_parameter": False,
    "optimizer_relative_step": False,
    "min_snr_gamma": 5,
    "gradient_checkpointing": False,
    "save_after": 100,
    "save_after_unit": "STEP",
    "lora_layers": "down,up",
    "token_count": 1,
    "extra_model_name": "",
}


def test_the_oldest_version() -> None:
    config = read(OLDEST)
    values = list_values(config)
    expected = {
        "vae": "C:/models/vae.safetensors",
        "network_train_unet_only": True,
        "unet_lr": 0.0004,
        "optimizer_type": "Adafactor",
        "optimizer_args": ("eps=(1e-30,0.001)", "weight_decay=0.01", "scale_parameter=False", "relative_step=False"),
        "min_snr_gamma": 5,
        "gradient_checkpointing": False,
        "save_every_n_steps": 100,
    }
    assert {name: values[name] for name in expected} == expected
    assert list_settled(config) >= set(OLDEST)
    assert "unknown" not in list_lines(config).values()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"learning_rate_scheduler": "LINEAR", "learning_rate_warmup_steps": 0.1},
         {"lr_scheduler": "linear", "lr_warmup_steps": 0.1}),
        ({"learning_rate_scheduler": "CONSTANT", "learning_rate_warmup_steps": 0},
         {"lr_scheduler": "constant", "lr_warmup_steps": 0.0}),
        ({"learning_rate_scheduler": "COSINE_WITH_RESTARTS", "learning_rate_cycles": 2},
         {"lr_scheduler": "cosine", "lr_scheduler_args": ("num_cycles=2",)}),
        ({"learning_rate_scheduler": "COSINE_WITH_HARD_RESTARTS", "learning_rate_cycles": 3},
         {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3}),
        ({"learning_rate_scheduler": "REX"}, {"lr_scheduler": "polynomial", "lr_scheduler_power": 0.2}),
        ({"learning_rate_scheduler": "ADAFACTOR"}, {"lr_scheduler": "adafactor"}),
        ({"learning_rate_scheduler": "CUSTOM", "custom_learning_rate_scheduler": "torch.optim.lr_scheduler.StepLR",
          "scheduler_params": [{"key": "step_size", "value": "10"}]},
         {"lr_scheduler_type": "torch.optim.lr_scheduler.StepLR", "lr_scheduler_args": ("step_size=10",)}),
        ({"learning_rate": 1e-4, "learning_rate_scaler": "BATCH", "batch_size": 4}, {"learning_rate": 2e-4}),
        ({"optimizer": {"optimizer": "PRODIGY", "d_coef": 0.8, "beta3": None}},
         {"optimizer_type": "Prodigy", "optimizer_args": ("d_coef=0.8",)}),
        ({"optimizer": {"optimizer": "SCHEDULE_FREE_ADAMW"}},
         {"optimizer_type": "AdamWScheduleFree", "lr_scheduler": "constant"}),
        ({"optimizer": {"optimizer": "CAME"}}, {"optimizer_type": "pytorch_optimizer.CAME"}),
        ({"optimizer": {"optimizer": "ADAMW_ADV"}}, {"optimizer_type": "AdamW"}),
        ({"optimizer": {"optimizer": "LION_8BIT"}}, {"optimizer_type": "Lion8bit"}),
        ({"peft_type": "LOHA", "layer_filter_preset": "full"},
         {"network_module": "lycoris.kohya", "network_args": ("algo=loha", "preset=full")}),
        ({"peft_type": "LOKR", "lokr_dim": 8, "lokr_decompose_factor": 4, "lokr_full_matrix": True},
         {"network_dim": 8, "network_args": ("algo=lokr", "preset=full", "full_matrix=True", "factor=4")}),
        ({"lora_decompose": True, "layer_filter_preset": "attn-mlp"},
         {"network_args": ("algo=locon", "preset=attn-mlp", "dora_wd=True")}),
        ({"layer_filter_preset": "attn-only"}, {"network_args": ("algo=locon", "preset=attn-only")}),
        ({"loss_weight_fn": "DEBIASED_ESTIMATION"}, {"debiased_estimation_loss": True}),
        ({"mse_strength": 0, "mae_strength": 1}, {"loss_type": "l1"}),
        ({"mse_strength": 0, "huber_strength": 1, "huber_delta": 0.5},
         {"loss_type": "huber", "huber_c": 0.5, "huber_schedule": "constant"}),
        ({"unet": {"train": False}}, {"network_train_text_encoder_only": True}),
        ({"rescale_noise_scheduler_to_zero_terminal_snr": True, "force_v_prediction": True},
         {"zero_terminal_snr": True, "v_parameterization": True}),
        ({"model_type": "STABLE_DIFFUSION_15", "text_encoder_layer_skip": 1}, {"clip_skip": 2}),
        ({"model_type": "STABLE_DIFFUSION_21"}, {"v2": True, "v_parameterization": True}),
        ({"clip_grad_norm": None}, {"max_grad_norm": 1}),
        ({"dropout_probability": 0.1, "lora_model_name": "a.safetensors"},
         {"network_dropout": 0.1, "network_weights": "a.safetensors"}),
    ],
)  # fmt: skip
def test_rules(changes: dict[str, Any], expected: dict[str, object]) -> None:
    config = read({**XL, **changes})
    values = list_values(config)
    assert {name: values.get(name) for name in expected} == expected
    assert "unknown" not in list_lines(config).values()


def test_one_switch_for_both_text_encoders_and_no_choice_of_layers_in_the_oldest_version() -> None:
    values = list_values(read({**XL, "train_unet": True, "train_text_encoder": False, "weight_decay": 0.05}))
    assert values["network_train_unet_only"] is True
    assert "network_args" not in values
    both = list_values(read({**XL, "train_text_encoder": True, "text_encoder_learning_rate": 1e-5}))
    assert both["text_encoder_lr"] == (1e-5, 1e-5)


def test_masks_are_next_to_the_images_and_have_to_be_moved() -> None:
    config = read({**XL, "masked_training": True, "unmasked_weight": 0.1})
    assert "masked_loss" not in config.options
    assert list_lines(config)["masked_training"] == "dropped"


def test_a_dataset_for_each_resolution() -> None:
    other = {"path": "b", "image": {"enable_resolution_override": True, "resolution_override": "768x512"}}
    config = read({**XL, "resolution": "512,768", "concepts": [{"path": "a"}, other]})
    found = [(each.options["resolution"].value, each.subsets[0].options["image_dir"].value) for each in config.datasets]
    assert found == [(512, "a"), (768, "a"), ((768, 512), "b")]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"balancing": 2.5}, {"num_repeats": 3}),
        ({"balancing": 0.2}, {"num_repeats": 1}),
        ({"balancing": 500, "balancing_strategy": "SAMPLES"}, {"num_repeats": 1}),
        ({"repeats": 3}, {"num_repeats": 3}),
        ({"text": {"tag_dropout_enable": True, "tag_dropout_probability": 0.2}}, {"caption_dropout_rate": 0.2}),
        ({"text": {"enable_tag_shuffling": True, "tag_delimiter": ";"}}, {"caption_separator": ";", "keep_tokens": 1}),
    ],
)
def test_concepts(changes: dict[str, Any], expected: dict[str, object]) -> None:
    (dataset,) = read({**XL, "concepts": [{"path": "a", **changes}]}).datasets
    values = {name: given.value for name, given in dataset.subsets[0].options.items()}
    assert {name: values[name] for name in expected} == expected


@pytest.mark.parametrize("changes", [{"enabled": False}, {"type": "VALIDATION"}, {"validation_concept": True}])
def test_concepts_that_are_not_trained(changes: dict[str, Any]) -> None:
    config = read({**XL, "concepts": [{"path": "a", **changes}]})
    assert not any(dataset.subsets for dataset in config.datasets)
    assert list_lines(config)["concepts[0].path"] == "dropped"


def test_concepts_and_samples_in_files_next_to_the_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "training_concepts"
    folder.mkdir()
    (folder / "lum.json").write_text(json.dumps([{"path": "a", "balancing": 2}]))
    (tmp_path / "samples.json").write_text(json.dumps([{"prompt": "lum"}]))
    named = {"concept_file_name": "training_concepts/lum.json", "sample_definition_file_name": "/x/samples.json"}
    config = read({**XL, **named}, tmp_path / "config.json")
    assert [each.subsets[0].options["image_dir"].value for each in config.datasets] == ["a"]
    assert config.prompts == ("lum",)
    assert find_repairs(config)["sample_every_n_epochs"] is None


def test_nothing_else_of_the_machine_is_opened(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text(json.dumps([{"path": "found"}]))
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    for name in (str(tmp_path / "secret.json"), "../../../secret.json"):
        config = read({**XL, "concept_file_name": name}, folder / "config.json")
        assert not any(dataset.subsets for dataset in config.datasets)
        assert list_lines(config)["concepts"] == "dropped"


def test_the_report_says_which_files_were_read(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps([{"path": "a"}]))
    named = {"concept_file_name": "c.json", "sample_definition_file_name": "c.json"}
    samples = "sample_definition_file_name"
    read_too = {line.key: line.why for line in read({**XL, **named}, tmp_path / "config.json").keys}
    inside = {line.key: line.why for line in read({**XL, **named, "samples": []}, tmp_path / "config.json").keys}
    missing = {line.key: line.why for line in read({**XL, **named}, tmp_path / "x" / "config.json").keys}
    assert read_too["concept_file_name"] == inside["concept_file_name"] == read_too[samples]
    assert len({read_too[samples], inside[samples], missing[samples]}) == 3
    assert missing["concept_file_name"] == missing[samples]


@pytest.mark.parametrize("name", ["other/c.json", "C:c.json", "C:/c.json", "other\\c.json"])
def test_a_folder_next_to_that_of_the_configuration_is_not_opened(name: str, tmp_path: Path) -> None:
    for folder in ("other", "C:", "config"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.json").write_text(json.dumps([{"path": "a"}]))
    (tmp_path / "config" / "c.json").unlink()
    config = read({**XL, "concept_file_name": name}, tmp_path / "config" / "config.json")
    assert list_lines(config)["concepts"] == "dropped"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n"training_method": "FINE_TUNE"}', 2),
        ('{"training_method": "LORA",\n\n"model_type": "FLUX_DEV_1"}', 3),
        ('{"training_method": "LORA", "model_type": "STABLE_DIFFUSION_XL_10_BASE_INPAINTING"}', 1),
        ('{"training_method": "LORA",\n"peft_type": "OFT_2"}', 2),
        ('{"training_method": "LORA",\n', 2),
        ("[1]", 1),
    ],
)
def test_what_cannot_be_imported_says_where(text: str, line: int) -> None:
    with pytest.raises(RecipeError) as caught:
        read_one_trainer(make_source(text))
    assert [finding.line for finding in caught.value.findings] == [line]


def test_without_concepts_the_images_are_still_read_as_there() -> None:
    config = read({**XL, "resolution": "512,768"})
    (dataset,) = config.datasets
    assert dataset.subsets == ()
    assert {name: given.value for name, given in dataset.options.items()} == {
        "batch_size": 1,
        "enable_bucket": True,
        "max_bucket_reso": 1536,
        "resolution": 512,
        "caption_extension": ".txt",
    }
    assert dataset.options["resolution"].repair is not None


@pytest.mark.parametrize(("vae", "whole"), [("FLOAT_32", True), (None, True), ("FLOAT_16", None)])
def test_a_vae_in_whole_precision(vae: str | None, whole: bool | None) -> None:
    config = read({**XL, "vae": {"weight_dtype": vae} if vae else {}})
    assert list_values(config).get("no_half_vae") == whole
