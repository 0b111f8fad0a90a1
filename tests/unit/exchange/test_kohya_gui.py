"""Presets of the kohya_ss GUI: what their author meant, and what the GUI trains."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorabake.errors import RecipeError
from lorabake.exchange.foreign import ForeignConfig, Given, Source, Unset
from lorabake.exchange.import_file import import_file
from lorabake.exchange.kohya_gui.fields import COPIED, FAMILY_FIELDS, FRESH, LORA_TYPES
from lorabake.exchange.kohya_gui.reader import read_kohya_gui
from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.import_report import ImportedKey

MODEL = "models/base.safetensors"


def read(**keys: object) -> ForeignConfig:
    return read_at(Path("/presets"), **keys)


def read_at(folder: Path, /, **keys: object) -> ForeignConfig:
    preset = {"LoRA_type": "Standard", "pretrained_model_name_or_path": MODEL, "train_data_dir": "img"} | keys
    return read_kohya_gui(Source(path=folder / "preset.json", content=json.dumps(preset).encode()))


def meant(config: ForeignConfig) -> Mapping[str, OptionValue]:
    return {name: given.value for name, given in config.options.items() if not isinstance(given.value, Unset)}


def trained(config: ForeignConfig) -> Mapping[str, OptionValue]:
    found = {name: given.value if given.trained is None else given.trained for name, given in config.options.items()}
    return {name: value for name, value in found.items() if not isinstance(value, Unset)}


def both(config: ForeignConfig, option: str) -> tuple[OptionValue | None, OptionValue | None]:
    return meant(config).get(option), trained(config).get(option)


def line(config: ForeignConfig, key: str) -> ImportedKey:
    return next(each for each in config.keys if each.key == key)


def test_there_are_287_fields_and_every_one_that_is_copied_is_an_option() -> None:
    assert len(FRESH) == 287
    assert sum(map(len, FAMILY_FIELDS.values())) == 111
    options = {option.name for option in resources.load_snapshot().merge_scripts()}
    renamed = {"max_resolution", "optimizer"}
    assert {field for field in COPIED if field not in options} == renamed
    assert {field for kind in LORA_TYPES.values() for field in (*kind.always, *kind.filled)} < set(FRESH)


@pytest.mark.parametrize("field", FRESH)
def test_every_field_becomes_an_option_or_a_line(field: str) -> None:
    config = read(**{field: FRESH[field]})
    given = [*config.options.values(), *config.launch.values()]
    used = {key for each in given for key in each.keys}
    assert field in used | {each.key for each in config.keys} | {"sample_prompts", "additional_parameters"}


@pytest.mark.parametrize("field", sorted({field for fields in FAMILY_FIELDS.values() for field in fields}))
def test_fields_of_other_families_have_no_effect(field: str) -> None:
    if field.endswith("checkbox"):
        with pytest.raises(RecipeError):
            read(**{field: True})
        return
    value = True if FRESH[field] is False else 7 if isinstance(FRESH[field], int | float) else "something"
    assert line(read(**{field: value}), field).fate == "dropped"


@pytest.mark.parametrize("kind", ["Flux1", "Flux1 OFT", "Anima", "Lumina", "HunyuanImage-2.1", "NoSuch"])
def test_types_of_other_families_are_refused(kind: str) -> None:
    with pytest.raises(RecipeError):
        read(LoRA_type=kind)


@pytest.mark.parametrize(
    ("key", "option", "zero"),
    [("max_grad_norm", "max_grad_norm", 0), ("prior_loss_weight", "prior_loss_weight", 0.0),
     ("lr_scheduler_power", "lr_scheduler_power", 0)],
)  # fmt: skip
def test_zeros_that_the_gui_loses(key: str, option: str, zero: float) -> None:
    config = read(**{key: zero})
    assert both(config, option) == (0, None)
    assert isinstance(config.options[option].trained, Unset)


def test_alpha_0_is_the_rank_for_sd_scripts_though_the_gui_makes_it_1() -> None:
    config = read(network_dim=32, network_alpha=0)
    assert both(config, "network_alpha") == (32, None)
    assert config.options["network_alpha"].repair


def test_a_preset_without_max_train_steps_means_its_epochs_and_trains_1600() -> None:
    config = read(epoch=5)
    assert both(config, "max_train_epochs") == (5, None)
    assert both(config, "max_train_steps") == (None, 1600)
    assert config.options["max_train_epochs"].keys == ("epoch",)


def test_max_train_epochs_wins() -> None:
    config = read(epoch=5, max_train_epochs="3", max_train_steps=700)
    assert both(config, "max_train_epochs") == (3, 3)
    assert "max_train_steps" not in config.options
    assert line(config, "max_train_steps").fate == line(config, "epoch").fate == "dropped"


def test_steps_are_computed_from_the_folders_as_the_gui_does(tmp_path: Path) -> None:
    for name, count in (("10_a woman", 6), ("3_b", 4), ("notes", 2)):
        (tmp_path / "img" / name).mkdir(parents=True)
        for index in range(count):
            (tmp_path / "img" / name / f"{index}.PNG").touch()
        (tmp_path / "img" / name / "0.txt").touch()
    config = read_at(tmp_path, epoch=3, max_train_steps="", train_batch_size=2, gradient_accumulation_steps="2")
    assert both(config, "max_train_epochs") == (3, None)
    assert both(config, "max_train_steps") == (None, 54)
    regularized = read_at(tmp_path, epoch=3, max_train_steps=0, reg_data_dir="reg", train_batch_size=5)
    assert trained(regularized)["max_train_steps"] == 87
    assert both(read(epoch=3, max_train_steps=0), "max_train_epochs") == (3, 3)


def test_a_dataset_file_makes_the_gui_forget_epochs_and_absolute_warmup() -> None:
    config = read(dataset_config="d.toml", epoch=4, max_train_steps=0, lr_warmup_steps=50, lr_warmup=10)
    assert both(config, "max_train_epochs") == (4, None)
    assert both(config, "lr_warmup_steps") == (50, 0.1)
    config = read(dataset_config="d.toml", max_train_steps=800, lr_warmup=10, lr_warmup_steps=0)
    assert both(config, "lr_warmup_steps") == (80, 80)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [({"lr_warmup": 10}, (0.1, 0.1)), ({"lr_warmup": "2.5"}, (0.025, None)), ({"lr_warmup": 2.5}, (0.025, 0.02)),
     ({"lr_warmup": 10, "lr_warmup_steps": 100.0}, (100, 100)), ({"lr_warmup": ""}, (None, None)),
     ({"lr_warmup": 10, "lr_scheduler": "constant"}, (None, 0.1))],
)  # fmt: skip
def test_warmup(keys: dict[str, object], expected: tuple[object, object]) -> None:
    assert both(read(**keys), "lr_warmup_steps") == expected


def test_numbers_in_text() -> None:
    config = read(learning_rate="2e-4", seed="7", max_token_length="", clip_skip="2", keep_tokens="1.0")
    assert both(config, "learning_rate") == (0.0002, 0.0002)
    assert both(config, "seed") == (7, 7)
    assert both(config, "keep_tokens") == (1, None)
    assert config.options["keep_tokens"].repair
    assert both(read(unet_lr="", text_encoder_lr=1e-4), "network_train_text_encoder_only") == (None, True)


@pytest.mark.parametrize(
    "keys",
    [{"learning_rate": "1e-4x"}, {"seed": "abc"}, {"network_dim": [8]}, {"network_dim": {"a": 1}}, {"sdxl": "maybe"},
     {"train_batch_size": 1.5}, {"unet_lr": float("nan")}, {"max_train_steps": 10**30}, {"output_name": "a\0b"},
     {"optimizer": True}, {"t5xxl_lr": 1e-4, "text_encoder_lr": 0},
     {"learning_rate": 0, "unet_lr": 0, "text_encoder_lr": 0}],
)  # fmt: skip
def test_values_that_are_wrong_are_errors(keys: dict[str, object]) -> None:
    with pytest.raises(RecipeError) as raised:
        read(**keys)
    assert next(iter(keys)) in str(raised.value)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"seed": ' + b"1" * 5000 + b"}",
        b" " * (5 << 20),
        b'{"LoRA_type": "Standard", "output_name": "\\ud800"}',
        b'{"LoRA_type": "S",}',
    ],
)
def test_damaged_files_are_errors(content: bytes) -> None:
    with pytest.raises(RecipeError):
        read_kohya_gui(Source(path=Path("preset.json"), content=content))


def test_the_line_of_a_wrong_value_is_named() -> None:
    content = b'{\n  "LoRA_type": "Standard",\n  "seed": "abc"\n}'
    with pytest.raises(RecipeError, match="line 3"):
        read_kohya_gui(Source(path=Path("preset.json"), content=content))


def test_keys_of_older_editions() -> None:
    config = read(use_8bit_adam=True, lora_network_weights="a.safetensors", use_wandb="True", xformers=False,
                  LoRA_type="LoCon", no_token_padding=True, conv_dims="4,4", save_model_as="diffusers")  # fmt: skip
    assert both(config, "optimizer_type") == ("AdamW8bit", "AdamW8bit")
    assert config.options["network_weights"].keys == ("lora_network_weights",)
    assert both(config, "log_with") == ("wandb", "wandb")
    assert "xformers" not in config.options
    assert both(config, "network_module") == ("lycoris.kohya", "lycoris.kohya")
    assert line(config, "no_token_padding").fate == "dropped"
    assert both(config, "save_model_as") == ("safetensors", "safetensors")
    locon = read(LoRA_type="Kohya LoCon", conv_dims="4,4", conv_block_dims="")
    said, done = both(locon, "network_args")
    assert isinstance(said, tuple)
    assert isinstance(done, tuple)
    assert set(said) - set(done) == {"conv_block_dims=4,4"}
    assert both(read(optimizer=None), "optimizer_type") == ("AdamW", "AdamW8bit")


def test_unknown_keys_and_secrets() -> None:
    config = read(some_new_key=[1, {"a": 2}], wandb_api_key="sk-123", huggingface_token="hf_456")  # noqa: S106 - no password
    assert line(config, "some_new_key").fate == "unknown"
    assert line(config, "wandb_api_key").fate == line(config, "huggingface_token").fate == "dropped"
    assert "sk-123" not in repr(config)
    assert "hf_456" not in repr(config)


@pytest.mark.parametrize(
    ("encoder", "unet", "expected"),
    [(0, 1e-4, {"unet_lr": 1e-4, "network_train_unet_only": True}),
     (1e-5, 0, {"text_encoder_lr": 1e-5, "network_train_text_encoder_only": True}),
     (0, 0, {}), (1e-5, 1e-4, {"text_encoder_lr": 1e-5, "unet_lr": 1e-4})],
)  # fmt: skip
def test_a_rate_of_0_is_a_part_that_is_not_trained(encoder: float, unet: float, expected: dict[str, object]) -> None:
    config = read(text_encoder_lr=encoder, unet_lr=unet)
    rates = ("unet_lr", "text_encoder_lr", "network_train_unet_only", "network_train_text_encoder_only")
    assert {name: value for name, value in meant(config).items() if name in rates} == expected
    assert trained(config).get("unet_lr") == expected.get("unet_lr")


def test_lora_types() -> None:
    lokr = read(LoRA_type="LyCORIS/LoKr", factor=8, conv_dim=4, unit=3, dora_wd=True, use_tucker=True)
    args = meant(lokr)["network_args"]
    assert isinstance(args, tuple)
    assert {"algo=lokr", "preset=full", "factor=8", "conv_dim=4", "use_tucker=True"} <= set(args)
    assert "decompose_both=False" not in args
    assert {"decompose_both=True", "use_tucker=False"} <= set(str(trained(lokr)["network_args"]).split("'"))
    assert line(lokr, "unit").fate == "dropped"
    assert line(read(LoRA_type="LyCORIS/LoKr", decompose_both=False), "decompose_both").fate == "repaired"
    dylora = read(LoRA_type="LyCORIS/DyLoRA", unit=4)
    assert "block_size=4" in str(meant(dylora)["network_args"])
    standard = read(down_lr_weight="1, 1, 0.5", loraplus_lr_ratio=4, conv_dim=9)
    assert meant(standard)["network_args"] == ("down_lr_weight=1,1,0.5", "loraplus_lr_ratio=4")
    assert trained(standard)["network_args"] == ("down_lr_weight=1,", "1,", "0.5", "loraplus_lr_ratio=4")
    native = read(LoRA_type="Kohya LoKr", sdxl=True, factor=-1, conv_dim=4, conv_alpha=2.0)
    assert meant(native)["network_args"] == ("conv_dim=4", "conv_alpha=2")


def test_text_of_arguments() -> None:
    config = read(optimizer_args='"decouple=True"  betas=0.9, 0.99', additional_parameters='--max_grad_norm "0.5"')
    assert both(config, "optimizer_args")[0] == ("decouple=True", "betas=0.9,0.99")
    assert both(config, "max_grad_norm") == (0.5, 0.5)
    assert config.options["max_grad_norm"] == Given(value=0.5, keys=("additional_parameters --max_grad_norm",))


def test_spaces_around_the_equals_sign_are_no_argument() -> None:
    config = read(optimizer_args="weight_decay = 0.1 betas=0.9, 0.99 eps =1e-6")
    assert both(config, "optimizer_args")[0] == ("weight_decay=0.1", "betas=0.9,0.99", "eps=1e-6")
    assert "optimizer_args" not in read(optimizer_args=[]).options


def test_comments_are_no_prompts() -> None:
    config = read(sample_prompts="# a comment\n  a cat --w 512 \n\n#b\n")
    assert config.prompts == ("a cat --w 512",)
    assert config.options["sample_prompts"].value == "a cat --w 512"
    assert "sample_prompts" not in read(sample_prompts="# a comment").options


@pytest.mark.parametrize(
    ("keys", "tab"),
    [({"num_vectors_per_token": 4, "train_data_dir": "img"}, "Textual Inversion"),
     ({"image_folder": "img", "max_resolution": "512,512"}, "Finetuning"), ({"full_path": True}, "Finetuning"),
     ({"train_data_dir": "img", "learning_rate_te": 1e-5}, "Dreambooth"),
     ({"leco_denoise_guidance_scale": 3, "network_dim": 4}, "LECO")],
)  # fmt: skip
def test_other_tabs_are_refused_by_name(keys: dict[str, object], tab: str) -> None:
    content = json.dumps(keys, indent=1).encode()
    with pytest.raises(RecipeError, match=f"line [23].*{tab}"):
        read_kohya_gui(Source(path=Path("preset.json"), content=content))


def test_what_is_left_of_additional_parameters_is_named(tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    text = "--training_comment 'two words' --nope 3 --seed=9"
    path.write_text(json.dumps({"LoRA_type": "Standard", "train_data_dir": "img", "additional_parameters": text}))
    report = import_file(Source(path=path, content=b"")).report
    found = {each.key: each.fate for each in report.keys if each.key.startswith("additional_parameters")}
    assert found["additional_parameters --nope"] == found["additional_parameters words'"] == "unknown"
    assert found["additional_parameters --seed"] == "renamed"


def test_a_dataset_file_that_is_missing_did_not_become_concepts(tmp_path: Path) -> None:
    path = tmp_path / "preset.json"
    path.write_text(json.dumps({"LoRA_type": "Standard", "dataset_config": "C:\\data\\d.toml"}))
    report = import_file(Source(path=path, content=b"")).report
    assert [each.fate for each in report.keys if each.key == "dataset_config"] == ["dropped"]
    assert "dataset_config" in {each.key for each in report.missing}


def test_choices_and_launch() -> None:
    config = read(xformers="sdpa", sdxl=True, sdxl_no_half_vae=True, noise_offset=0.1, noise_offset_type="Multires",
                  multires_noise_iterations=6, num_processes=2, gpu_ids="0,1", dynamo_backend="no",
                  sample_prompts="a cat\n\na dog --w 512\n", train_inpainting=True, seed=0)  # fmt: skip
    assert config.script == "sdxl_train_network.py"
    assert {"sdpa", "no_half_vae", "multires_noise_iterations"} <= meant(config).keys()
    assert not {"noise_offset", "dynamo_backend", "seed"} & config.options.keys()
    assert both(config, "cache_latents") == (True, None)
    assert {name: given.value for name, given in config.launch.items()} == {"num_processes": 2, "gpu_ids": "0,1"}
    assert config.prompts == ("a cat", "a dog --w 512")
    assert line(config, "noise_offset").fate == line(config, "train_inpainting").fate == "dropped"


def test_what_additional_parameters_set_has_that_as_its_reason() -> None:
    config = read(
        additional_parameters="--lr_scheduler constant --network_args a=1 --seed 5", seed="1234", lr_scheduler="cosine",
        LoRA_type="Kohya LoCon", conv_dim=8,
    )  # fmt: skip
    reasons = {line(config, key).why for key in ("seed", "lr_scheduler", "conv_dim")}
    assert len(reasons) == 1
    assert "additional_parameters" in str(reasons.pop())
    assert line(read(seed=""), "seed").fate == "off"


def test_sd_scripts_own_names_are_meant_though_the_gui_ignores_them() -> None:
    config = read(optimizer_type="Lion", resolution=[768, 512], sdxl=True, no_half_vae=True)
    assert both(config, "optimizer_type") == ("Lion", "AdamW")
    assert both(config, "resolution") == ("768,512", "512,512")
    assert both(config, "no_half_vae") == (True, None)
    assert both(read(optimizer_type="Lion", optimizer="Prodigy"), "optimizer_type") == ("Prodigy", "Prodigy")
    preset = {"train_data_dir": "img", "network_dim": 8, "network_module": "networks.dylora"}
    config = read_kohya_gui(Source(path=Path("preset.json"), content=json.dumps(preset).encode()))
    assert both(config, "network_module") == ("networks.dylora", "networks.lora")


def test_without_a_box_the_name_of_the_base_model_shows_the_family() -> None:
    model = "stabilityai/stable-diffusion-xl-base-1.0"
    config = read(pretrained_model_name_or_path=model, sdxl_no_half_vae=True)
    assert (config.script, meant(config)["no_half_vae"]) == ("sdxl_train_network.py", True)
    assert [each.to for each in config.missing] == ["base.family"]
    assert read(pretrained_model_name_or_path=model, sdxl=False).script == "train_network.py"
    assert not read(pretrained_model_name_or_path=model, sdxl=True).missing


def test_a_preset_without_a_folder_of_images_still_has_their_settings() -> None:
    assert read(train_data_dir="", dataset_config="").knows_images
    assert not read(dataset_config="lost.toml").knows_images
