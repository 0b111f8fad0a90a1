"""The shortest recipe that trains what a file trains, and what the report says of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lorabake.exchange.draft import PLACEHOLDER_MODEL, Found, split_class_tokens
from lorabake.exchange.foreign import UNSET, ForeignConfig, ForeignDataset, ForeignSubset, Given, Options, Source
from lorabake.exchange.import_file import format_imported_recipe
from lorabake.exchange.kohya_gui.reader import read_kohya_gui
from lorabake.exchange.stand_ins import read_recipe
from lorabake.exchange.to_recipe import ImportedRecipe, make_recipe
from lorabake.util.i18n import ENGLISH
from lorabake_schemas.base import OptionValue
from lorabake_schemas.import_report import ImportedKey
from lorabake_schemas.messages import literal, msg


def give(**values: OptionValue) -> dict[str, Given]:
    return {name: Given(value=value, keys=(name,)) for name, value in values.items()}


BASICS = give(
    pretrained_model_name_or_path="model.safetensors",
    network_module="networks.lora",
    network_dim=16,
    network_alpha=16,
    learning_rate=1e-4,
    max_train_epochs=10,
    output_name="zork",
)
FOLDER = ForeignSubset(options=give(image_dir="img", class_tokens="zork, girl"))
SOURCE = Source(path=Path("old.toml"), content=b"")


def make(
    options: Options = BASICS,
    *,
    parts: tuple[ForeignSubset, ...] = (FOLDER,),
    script: str | None = "train_network.py",
    faithful: bool = False,
    **more: Any,
) -> ImportedRecipe:
    blocks = (ForeignDataset(options=give(resolution=512), subsets=parts),)
    config = ForeignConfig(
        format="x", program=msg("another program"), script=script, options=options, datasets=blocks, **more
    )
    return make_recipe(config, SOURCE, faithful=faithful)


def lines(made: ImportedRecipe) -> dict[str, ImportedKey]:
    return {line.key: line for line in made.report.keys}


def added(made: ImportedRecipe) -> dict[str, str | None]:
    return {line.key: line.to for line in made.report.added}


def test_what_lorabake_does_anyway_is_left_out() -> None:
    options = {
        **BASICS,
        **give(seed=42, max_data_loader_n_workers=1, save_model_as="safetensors", mixed_precision="fp16"),
    }
    made = make(options)
    assert {lines(made)[name].fate for name in ("seed", "max_data_loader_n_workers", "mixed_precision")} == {"default"}
    assert "seed" not in made.content["train"]


def test_what_is_off_or_follows_another_key_has_its_own_group_or_reason() -> None:
    given = give(network_alpha=16, noise_offset=0, flip_aug=False, debiased_estimation_loss=False, max_grad_norm=1.0)
    found = lines(made := make({**BASICS, **given, **give(unet_lr=1e-4)}))
    assert {name: found[name].fate for name in ("noise_offset", "flip_aug", "max_grad_norm", "unet_lr")} == {
        "noise_offset": "off", "flip_aug": "off", "max_grad_norm": "default", "unet_lr": "default",
    }  # fmt: skip
    assert found["max_grad_norm"].why is None
    assert found["unet_lr"].why is not None
    debiased = found["debiased_estimation_loss"]
    assert (debiased.fate, debiased.to) == ("taken", "train.debiased_estimation_loss")
    assert "debiased_estimation_loss" not in added(made)


def test_defaults_of_sd_scripts_that_lorabake_does_not_share_are_written() -> None:
    made = make()
    assert made.content["train"]["max_token_length"] == 75
    assert made.content["captions"]["caption_extension"] == ".caption"
    assert added(made)["max_token_length"] == "train.max_token_length"  # noqa: S105 - not a password
    assert made.content["train"]["optimizer_args"] == {}
    assert made.content["train"]["lr_scheduler"] == "constant"


def test_an_incomplete_source_adds_nothing() -> None:
    made = make(complete=False)
    assert made.report.added == ()
    assert "lr_scheduler" not in made.content["train"]


@pytest.mark.parametrize(
    ("script", "v2", "family"),
    [("sdxl_train_network.py", False, "sdxl"), ("train_network.py", True, "sd2"), ("train_network.py", False, "sd15")],
)
def test_the_family_is_that_of_the_script(script: str, v2: bool, family: str) -> None:
    assert make({**BASICS, **give(v2=v2)}, script=script).content["base"]["family"] == family


@pytest.mark.parametrize(("model", "family"), [("ponyDiffusionV6XL.safetensors", "sdxl"), ("anything-v3.ckpt", "sd15")])
def test_a_family_that_is_guessed_is_to_be_checked(model: str, family: str) -> None:
    made = make({**BASICS, **give(pretrained_model_name_or_path=model)}, script=None)
    assert made.content["base"]["family"] == family
    assert "base.family" in {line.key for line in made.report.missing}


@pytest.mark.parametrize(
    ("arguments", "network"),
    [
        (("algo=loha", "conv_dim=8", "conv_alpha=4"), {"type": "loha", "conv_dim": 8, "conv_alpha": 4}),
        (("algo=lokr", "factor=8", "full_matrix=True"), {"type": "lokr", "factor": 8, "args": {"full_matrix": True}}),
        (("conv_dim=0",), {"type": "locon", "conv_dim": 0}),
    ],
)
def test_arguments_of_lycoris_have_their_keys(arguments: tuple[str, ...], network: dict[str, object]) -> None:
    made = make({**BASICS, **give(network_module="lycoris.kohya", network_args=arguments)})
    assert network.items() <= made.content["network"].items()


def test_convolutions_of_lycoris_are_as_large_as_the_rest_without_a_word() -> None:
    made = make({**BASICS, **give(network_module="lycoris.kohya", network_dim=24, network_args=("algo=loha",))})
    assert (made.content["network"]["conv_dim"], made.content["network"]["conv_alpha"]) == (24, 16)


def test_arguments_of_an_optimizer_stay_as_they_are() -> None:
    options = give(optimizer_type="Prodigy", optimizer_args=("d_coef=2", "weight_decay=0.01"), learning_rate=1.0)
    made = make({**BASICS, **options})
    given = {"d_coef": 2, "weight_decay": 0.01}
    assert made.content["train"]["optimizer_args"].items() >= given.items()
    assert made.content["train"]["optimizer_args"].keys() - given.keys() <= {"decouple", "betas"}  # the class's own
    recipe, _ = read_recipe(made.content)
    assert recipe is not None


def test_faithful_takes_what_was_trained() -> None:
    given = {
        **BASICS,
        "max_train_epochs": Given(value=5, keys=("epoch",), trained=UNSET),
        "max_train_steps": Given(value=UNSET, keys=("epoch",), trained=1600),
    }
    assert make(given).content["train"]["max_train_epochs"] == 5
    faithful = make(given, faithful=True)
    assert faithful.content["train"]["max_train_steps"] == 1600
    assert "max_train_epochs" not in faithful.content["train"]
    assert faithful.report.faithful


def test_a_repair_is_reported_with_what_was_trained() -> None:
    given = {**BASICS, "network_dim": Given(value=24, keys=("Rank",), repair=msg("a zero was lost"), trained=2)}
    line = lines(make(given))["Rank"]
    assert (line.fate, line.trained, line.to) == ("repaired", "2", "network.network_dim")


def test_a_default_of_the_program_is_added() -> None:
    made = make({**BASICS, "clip_skip": Given(value=2, keys=())})
    assert made.content["base"]["clip_skip"] == 2
    assert added(made)["clip_skip"] == "base.clip_skip"


def test_a_value_that_no_recipe_can_have_is_dropped_with_the_reason() -> None:
    made = make({**BASICS, **give(lr_scheduler="piecewise", min_snr_gamma=-1.0)})
    found = lines(made)
    assert (found["lr_scheduler"].fate, found["min_snr_gamma"].fate) == ("dropped", "dropped")
    assert found["lr_scheduler"].why


def test_an_option_without_effect_says_so() -> None:
    made = make({**BASICS, **give(noise_offset_random_strength=True, lr_scheduler_num_cycles=3)})
    assert {lines(made)[name].fate for name in ("noise_offset_random_strength", "lr_scheduler_num_cycles")} == {
        "dropped"
    }


def test_an_option_without_a_key_is_under_kohya() -> None:
    made = make({**BASICS, **give(ip_noise_gamma=0.1)})
    assert made.content["kohya"] == {"ip_noise_gamma": 0.1}
    assert lines(made)["ip_noise_gamma"].to == "kohya.ip_noise_gamma"


def test_the_rank_of_a_lora_to_continue_from_stays() -> None:
    made = make({**BASICS, **give(network_weights="old.safetensors")})
    assert made.content["network"]["network_dim"] == 16
    assert made.content["network"]["network_weights"] == "old.safetensors"


def test_repeats_of_several_concepts_stay() -> None:
    parts = tuple(ForeignSubset(options=give(image_dir=name, num_repeats=1)) for name in ("a", "b"))
    assert [each["num_repeats"] for each in make(parts=parts).content["concept"]] == [1, 1]


def test_what_only_some_folders_have_is_reported() -> None:
    parts = (ForeignSubset(options=give(image_dir="a", color_aug=True)), ForeignSubset(options=give(image_dir="b")))
    assert lines(make(parts=parts))["color_aug"].fate == "dropped"


def test_what_all_folders_have_without_a_key_is_under_kohya() -> None:
    parts = tuple(ForeignSubset(options=give(image_dir=name, color_aug=True)) for name in ("a", "b"))
    assert make(parts=parts).content["kohya"] == {"color_aug": True}


def test_secrets_are_nowhere() -> None:
    made = make({**BASICS, **give(wandb_api_key="hunter2", huggingface_token="hunter2")})  # noqa: S106 - not one
    assert "hunter2" not in f"{made}{format_imported_recipe(made, ENGLISH)}"


def test_the_text_is_a_recipe_and_always_the_same() -> None:
    one, two = (format_imported_recipe(make(), ENGLISH) for _ in range(2))
    assert one == two
    assert one.startswith("#:schema")


def test_no_secret_reaches_the_recipe_or_the_report() -> None:
    token = "hf_x1y2zghijKLMNOPQRSTuvwxyz01234567"  # noqa: S105 - not one
    options = give(
        pretrained_model_name_or_path="https://me:x1y2z@example.org/m.safetensors?token=x1y2z",
        training_comment=f"my {token}",
        network_args=("conv_dim=4", "api_key=x1y2z"),
        civitai_token="x1y2z",  # noqa: S106 - not one
    )
    folder = ForeignSubset(options=give(image_dir="https://u:x1y2z@example.org/img", class_tokens="zork, girl"))
    made = make({**BASICS, **options}, parts=(folder,), prompts=(f"a {token}", "b"))
    assert "x1y2z" not in format_imported_recipe(made, str)
    assert "x1y2z" not in made.report.model_dump_json()
    assert made.content["sample"]["prompts"] == ["b"]
    removed = {"base.model", "concept.images", "metadata.comment", "sample.prompts"}
    assert removed <= {each.to for each in made.report.missing}


def preset_of_images(tmp_path: Path, images: str, model: str | None = None, **keys: Any) -> ImportedRecipe:
    """A preset of the kohya_ss GUI with the images that the user names: a folder of it, or above it."""
    (tmp_path / "img" / "10_mytok woman").mkdir(parents=True, exist_ok=True)
    source = Source(
        path=tmp_path / "mine.json",
        content=json.dumps({"LoRA_type": "Standard", **keys}).encode(),
        images=tmp_path / images,
        model=Path(model) if model else None,
    )
    return make_recipe(read_kohya_gui(source), source)


@pytest.mark.parametrize("images", [".", "img", "img/10_mytok woman"])
@pytest.mark.parametrize("keys", [{}, {"train_data_dir": "C:/kohya/img"}])
def test_the_folders_in_the_named_one_have_repeats_and_token(tmp_path: Path, images: str, keys: dict[str, Any]) -> None:
    made = preset_of_images(tmp_path, images, **keys)
    (concept,) = made.content["concept"]
    assert (concept["token"], concept["class"], concept["num_repeats"]) == ("mytok", "woman", 10)
    assert Path(concept["images"]) == tmp_path / "img" / "10_mytok woman"
    assert not {"concept.images", "concept.num_repeats"} & {
        key for line in (*made.report.added, *made.report.missing) for key in (line.key, line.to)
    }


def test_folders_of_a_dataset_file_move_to_those_with_repeats(tmp_path: Path) -> None:
    for name in ("3_ab cat", "5_cd dog"):
        (tmp_path / name).mkdir()
    config = ForeignConfig(
        format="x", program=msg("x"), script="train_network.py", options=BASICS,
        datasets=(ForeignDataset(options=give(resolution=512), subsets=(FOLDER,)),),
    )  # fmt: skip
    made = make_recipe(config, replace(SOURCE, images=tmp_path))
    assert [(each["token"], each["num_repeats"]) for each in made.content["concept"]] == [("ab", 3), ("cd", 5)]


def test_what_was_typed_is_neither_added_nor_missing(tmp_path: Path) -> None:
    made = preset_of_images(tmp_path, "img", "models/mine.safetensors")
    assert made.content["base"]["model"] == "models/mine.safetensors"
    assert "base.model" not in {line.to for line in (*made.report.added, *made.report.missing)}
    assert ("base", "model") in made.comments


@pytest.mark.parametrize("keys", [{}, {"pretrained_model_name_or_path": "runwayml/stable-diffusion-v1-5"}])
def test_a_model_that_nobody_chose_is_no_model_of_another_family(tmp_path: Path, keys: dict[str, Any]) -> None:
    made = preset_of_images(tmp_path, "img", sdxl=True, **keys)
    assert made.content["base"]["model"] == PLACEHOLDER_MODEL
    assert "base.model" in {line.to for line in made.report.missing}
    assert preset_of_images(tmp_path, "img", **keys).content["base"]["model"] != PLACEHOLDER_MODEL


def test_a_preset_named_last_is_named_after_its_file(tmp_path: Path) -> None:
    assert preset_of_images(tmp_path, "img", output_name="last").content["name"] == "mine"
    assert preset_of_images(tmp_path, "img", output_name="zork").content["name"] == "zork"


def test_prompts_of_a_preset_have_their_line(tmp_path: Path) -> None:
    made = preset_of_images(tmp_path, "img", sample_prompts="a cat\na dog --w 512")
    assert lines(made)["sample_prompts"].to == "sample.prompts"
    assert not {"sample.prompts", "sample_prompts"} & {line.to for line in made.report.added}


def test_each_argument_that_the_recipe_does_not_have_is_reported() -> None:
    arguments = ("preset=/etc/x.toml", "conv_dim=8", "conv_alpha=4")
    found = lines(make({**BASICS, **give(network_args=arguments)}))
    assert found["network_args"].to is not None
    assert (found["network_args preset"].value, found["network_args preset"].fate) == ("/etc/x.toml", "dropped")
    assert "network_args conv_dim" not in found


def test_arguments_of_the_optimizer_that_are_added_are_named() -> None:
    made = make({**BASICS, **give(optimizer_type="AdamW", optimizer_args=("weight_decay=0.1",))})
    assert made.content["train"]["optimizer_args"].keys() > {"weight_decay"}
    new = made.content["train"]["optimizer_args"].keys() - {"weight_decay"}
    assert new <= added(made).keys()


def test_no_comment_is_long(tmp_path: Path) -> None:
    made = make(
        missing=(
            ImportedKey(key=", ".join(f"train.key_{n}" for n in range(40)), fate="unknown", why=literal("x " * 90)),
        )
    )
    assert max(len(line) for line in format_imported_recipe(made, ENGLISH).splitlines() if line[:1] == "#") <= 120


def test_what_a_searched_folder_has_is_said(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.safetensors").write_bytes(b"x")
    for keys, expected in (
        ({}, str(tmp_path / "models" / "mine.safetensors")),
        ({"pretrained_model_name_or_path": "x.ckpt"}, "x.ckpt"),
    ):
        made = preset_of_images(tmp_path, "img", str(tmp_path / "models"), sdxl=True, **keys)
        assert made.content["base"]["model"] == expected
        (line,) = [line for line in made.report.missing if line.to == "base.model"]
        assert "mine.safetensors" in f"{line.value} {line.why}"
    keys = {"pretrained_model_name_or_path": "D:/sd/mine.ckpt"}
    made = preset_of_images(tmp_path, "img", str(tmp_path / "models"), **keys)
    assert made.content["base"]["model"] == str(tmp_path / "models" / "mine.safetensors")


def test_another_kind_trains_the_same() -> None:
    content = make().content
    recipes = [read_recipe({**content, "kind": kind})[0] for kind in ("character", "style", "object", "clothing")]
    assert {recipe.network.type for recipe in recipes if recipe} == {"lora"}
    assert {recipe.train.max_train_epochs for recipe in recipes if recipe} == {10}


@pytest.mark.parametrize(
    ("text", "token", "class_"), [("sks girl", "sks", "girl"), ("a cat", "", "a cat"), ("the", "the", "")]
)
def test_an_article_is_no_token(text: str, token: str, class_: str) -> None:
    assert split_class_tokens(Found(text, None)) == (token, class_)
