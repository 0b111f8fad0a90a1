"""Whole plans: the guide's profiles with the value and the source of every setting that is written."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.errors import RecipeError
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin, Plan, Setting
from lorabake_schemas.recipe import Recipe, Train
from situations import (
    CPU,
    GPU,
    XFORMERS,
    base_facts,
    concept,
    dataset,
    folder,
    plan_of,
    recipe,
    sources,
    subset,
    values,
)

Golden = dict[str, tuple[OptionValue, str]]

# What every profile shares (guide rules 3.1), on a machine with a GPU and before xformers was tried.
BLOCK: Golden = {
    "pretrained_model_name_or_path": ("base.safetensors", "recipe:"),
    "max_token_length": (225, "guide:GC.24"),
    "debiased_estimation_loss": (True, "guide:G4.100"),
    "mixed_precision": ("fp16", "guide:G4.14"),
    "save_precision": ("fp16", "guide:G4.14"),
    "sdpa": (True, "machine:"),
    "cache_latents": (True, "guide:G4.39"),
    "max_data_loader_n_workers": (1, "lorabake:"),
    "persistent_data_loader_workers": (True, "lorabake:"),
    "seed": (42, "lorabake:"),
    "output_name": ("hmbrgrlora", "guide:G4.8"),
    "output_dir": ("output", "guide:G4.17"),
    "logging_dir": ("tensorboard", "guide:G4.17"),
    "log_with": ("tensorboard", "guide:G4.17"),
    "save_model_as": ("safetensors", "guide:G4.13"),
    "metadata_trigger_phrase": ("hmbrgrlora", "guide:G4.16"),
}
LORA: Golden = {"network_module": ("networks.lora", "guide:G4.20"), "network_dropout": (0.1, "guide:G4.86")}
PRODIGY: Golden = {
    "optimizer_type": ("Prodigy", "guide:G4.46"),
    "optimizer_args": (("decouple=True", "weight_decay=0.1", "betas=0.9,0.99"), "guide:G4.50"),
    "learning_rate": (1.0, "guide:G4.52"),
    "lr_scheduler": ("cosine", "guide:G4.42"),
}
ADAM: Golden = {
    "optimizer_type": ("AdamW8bit", "recipe:"),
    "optimizer_args": (("weight_decay=0.12", "betas=0.9,0.99"), "guide:G4.51"),
    "lr_scheduler": ("cosine_with_restarts", "guide:G4.43"),
    "lr_scheduler_num_cycles": (3, "guide:G4.56"),
}
SD15: Golden = {
    "lr_warmup_steps": (0.1, "guide:G4.54"),
    "max_train_epochs": (100, "guide:G4.32"),
    "save_every_n_epochs": (11, "guide:G4.37"),
    "resolution": ("768,768", "sd-scripts:S6"),
}
SDXL: Golden = {
    "lr_warmup_steps": (0.2, "guide:G4.55"),
    "max_train_epochs": (50, "guide:G4.33"),
    "save_every_n_epochs": (6, "guide:G4.37"),
    "resolution": ("1024,1024", "sd-scripts:S6"),
    "gradient_checkpointing": (True, "guide:G4.92"),
    "no_half_vae": (True, "sd-scripts:S21"),
}
BUCKETS: Golden = {
    "resolution": (768, "guide:G4.57"),
    "batch_size": (1, "guide:G4.24"),
    "enable_bucket": (True, "guide:G4.62"),
    "bucket_no_upscale": (False, "sd-scripts:S16"),
    "min_bucket_reso": (256, "sd-scripts:S15"),
    "max_bucket_reso": (960, "guide:G4.63"),
    "bucket_reso_steps": (64, "sd-scripts:S15"),
}
SUBSET: Golden = {
    "image_dir": ("pics", "recipe:"),
    "num_repeats": (1, "guide:G2.20"),
    "class_tokens": ("hmbrgrlora, food", "guide:G2.21"),
    "caption_extension": (".txt", "guide:G3.3"),
    "shuffle_caption": (True, "guide:G4.93"),
    "keep_tokens": (2, "guide:G4.90"),
    "flip_aug": (False, "guide:G4.98"),
}
CORE: dict[str, tuple[Recipe, str, Golden]] = {
    "sd15 Prodigy": (
        recipe(),
        "train_network.py",
        LORA | PRODIGY | SD15 | {"network_dim": (32, "guide:G4.70"), "network_alpha": (1.0, "guide:G4.73")},
    ),
    "sd15 AdamW8bit": (
        recipe(train={"optimizer": "AdamW8bit"}),
        "train_network.py",
        LORA
        | ADAM
        | SD15
        | {
            "network_dim": (32, "guide:G4.70"),
            "network_alpha": (32.0, "guide:G4.72"),
            "learning_rate": (1e-4, "guide:GC.23"),
            "unet_lr": (1e-4, "guide:G4.66"),
            "text_encoder_lr": (5e-5, "guide:G4.66"),
        },
    ),
    "sdxl Prodigy": (
        recipe(base={"family": "sdxl"}),
        "sdxl_train_network.py",
        LORA | PRODIGY | SDXL | {"network_dim": (16, "guide:G4.76"), "network_alpha": (1.0, "guide:G4.73")},
    ),
    "sdxl AdamW8bit": (
        recipe(base={"family": "sdxl"}, train={"optimizer": "AdamW8bit"}),
        "sdxl_train_network.py",
        LORA
        | ADAM
        | SDXL
        | {
            "network_dim": (16, "guide:G4.76"),
            "network_alpha": (16.0, "guide:G4.76"),
            "learning_rate": (4e-4, "guide:GC.23"),
            "unet_lr": (4e-4, "guide:G4.67"),
            "text_encoder_lr": (4.5e-4, "guide:G4.67"),
        },
    ),
}


def told(settings: tuple[Setting, ...]) -> Golden:
    found = {s.option: (s.value, f"{s.source.origin}:{s.source.rule}") for s in settings}
    assert len(found) == len(settings), "an option twice"
    return found


def exactly(found: Golden, wanted: Golden) -> None:
    """Equal, and 1 is not 1.0."""
    assert {name: repr(pair) for name, pair in found.items()} == {name: repr(pair) for name, pair in wanted.items()}


@pytest.mark.parametrize("name", CORE)
def test_the_four_core_profiles(name: str) -> None:
    made, script, wanted = CORE[name]
    plan = plan_of(made)
    assert plan.script == script
    exactly(told(plan.train), BLOCK | wanted)
    buckets = {"resolution": (1024, "guide:G4.58"), "max_bucket_reso": (2048, "guide:G4.65")} if "sdxl" in name else {}
    exactly(told(plan.datasets[0].settings), BUCKETS | buckets)
    exactly(told(plan.subsets[0].settings), SUBSET)


def test_adamw_in_32_bits_is_the_same_but_for_its_name() -> None:
    made = told(plan_of(recipe(train={"optimizer": "AdamW"})).train)
    exactly(made, BLOCK | CORE["sd15 AdamW8bit"][2] | {"optimizer_type": ("AdamW", "recipe:")})


def test_dadaptadam_is_treated_as_prodigy() -> None:
    made = told(plan_of(recipe(train={"optimizer": "DAdaptAdam"})).train)
    exactly(made, BLOCK | CORE["sd15 Prodigy"][2] | {"optimizer_type": ("DAdaptAdam", "recipe:")})


LOCON_ARGUMENTS = ("conv_dim=16", "conv_alpha=1.0", "rank_dropout=0.1")
STYLE: Golden = {
    "network_module": ("lycoris.kohya", "guide:G4.21"),
    "network_dim": (32, "guide:G8.2"),
    "network_args": (
        ("algo=locon", "preset=lycoris-preset-full-sd15.toml", *LOCON_ARGUMENTS),
        "guide:G4.21, S35, G4.77, S34",
    ),
    "max_train_epochs": (35, "guide:G8.5"),
    "save_every_n_epochs": (4, "guide:G4.37"),
}


def test_a_style_is_a_locon_with_fewer_exposures() -> None:
    plan = plan_of(recipe(kind="style"))
    exactly(told(plan.train), BLOCK | PRODIGY | SD15 | STYLE | {"network_alpha": (1.0, "guide:G4.73")})
    assert plan.shipped_preset == "lycoris-preset-full-sd15.toml"
    exactly(told(plan.datasets[0].settings), BUCKETS)


def test_a_style_with_adamw_has_half_the_rank_as_alpha() -> None:
    rates = {name: CORE["sd15 AdamW8bit"][2][name] for name in ("learning_rate", "unet_lr", "text_encoder_lr")}
    made = told(plan_of(recipe(kind="style", train={"optimizer": "AdamW8bit"})).train)
    exactly(made, BLOCK | ADAM | SD15 | STYLE | rates | {"network_alpha": (16.0, "guide:G7.15")})


def test_a_style_on_sdxl_needs_no_preset_file() -> None:
    plan = plan_of(recipe(kind="style", base={"family": "sdxl"}))
    assert told(plan.train)["network_args"] == (
        ("algo=locon", "preset=full", *LOCON_ARGUMENTS),
        "guide:G4.21, G4.23, G4.77, S34",
    )
    assert plan.shipped_preset is None
    assert told(plan.train)["max_train_epochs"] == (35, "guide:G8.5")


def test_a_style_may_stay_a_plain_lora() -> None:
    made = told(plan_of(recipe(kind="style", network={"type": "lora"})).train)
    assert made["network_module"][0] == "networks.lora"
    assert made["network_dim"] == (32, "guide:G8.2")


OUTFITS = [
    concept("mizu", "red", outfit="redcoat", **{"class": "anthro"}),
    concept("mizu", "blue", outfit="bluecoat", **{"class": "anthro"}),
    concept("mizu", "plain", outfit="nocoat", **{"class": "anthro"}),
]


def multi(**more: Any) -> Recipe:
    return recipe(kind="character", concepts=OUTFITS, **more)


def test_several_concepts_are_balanced() -> None:
    """T1 through resolve: 51, 43 and 32 images give 5, 6 and 8 repeats, and 20 epochs of 100 exposures."""
    facts = dataset(folder("red", 51), folder("blue", 43), folder("plain", 32))
    plan = plan_of(multi(), facts)
    assert [subset(plan, i)["num_repeats"] for i in range(3)] == [5, 6, 8]
    assert [sources(part.settings)["num_repeats"].rule for part in plan.subsets] == ["G6.11"] * 3
    assert told(plan.train)["max_train_epochs"] == (20, "guide:G4.32")
    assert told(plan.datasets[0].settings)["batch_size"] == (1, "guide:G6.2")
    assert told(plan.train)["network_dim"] == (32, "guide:G6.5")
    assert [share.samples_per_epoch for share in plan.forecast.shares] == [255, 258, 256]
    assert plan.forecast.batches_per_epoch == 769
    assert plan.forecast.steps == 15380
    assert [share.exposures for share in plan.forecast.shares] == [100, 120, 160]


def test_balanced_repeats_round_half_up() -> None:
    """T2: 24 images next to 30 give 12.5, which must become 13."""
    plan = plan_of(multi(), dataset(folder("red", 30), folder("blue", 22), folder("plain", 24)))
    assert [subset(plan, i)["num_repeats"] for i in range(3)] == [10, 14, 13]
    assert told(plan.train)["max_train_epochs"] == (10, "guide:G4.32")


def test_one_concepts_own_repeats_set_the_pace_for_the_others() -> None:
    """T3's trap, chosen by the user: from 1 repeat of the largest the others round badly, but as asked."""
    asked = [OUTFITS[0] | {"num_repeats": 1}, *OUTFITS[1:]]
    facts = dataset(folder("red", 51), folder("blue", 43), folder("plain", 32))
    plan = plan_of(recipe(kind="character", concepts=asked), facts)
    assert [subset(plan, i)["num_repeats"] for i in range(3)] == [1, 1, 2]
    assert sources(plan.subsets[0].settings)["num_repeats"].origin is Origin.RECIPE
    assert sources(plan.subsets[1].settings)["num_repeats"].rule == "G6.11"


def test_an_outfit_stands_between_token_and_class() -> None:
    """T13 and G6.17: three tags are kept, counted in tags."""
    part = subset(plan_of(multi()), 1)
    assert part["class_tokens"] == "mizu, bluecoat, anthro"
    assert part["keep_tokens"] == 3
    assert sources(plan_of(multi()).subsets[1].settings)["class_tokens"].rule == "G6.17"


def test_several_concepts_on_sdxl_take_rank_32_and_50_exposures() -> None:
    made = told(plan_of(multi(base={"family": "sdxl"})).train)
    assert made["network_dim"] == (32, "guide:G6.5")
    assert made["max_train_epochs"] == (50, "guide:G4.33")  # as many pictures each, so one repeat each
    assert made["network_alpha"] == (1.0, "guide:G4.73")


def test_regularization_sits_beside_what_it_regularises() -> None:
    made = recipe(regularization=[{"class": "food", "images": "reg"}])
    plan = plan_of(made)
    exactly(
        told(plan.subsets[1].settings),
        {
            "image_dir": ("reg", "recipe:"),
            "num_repeats": (1, "guide:G35.2"),
            "class_tokens": ("food", "guide:G35.3"),
            "is_reg": (True, "sd-scripts:S13"),
            "caption_extension": (".txt", "guide:G3.3"),
        },
    )
    assert told(plan.train)["prior_loss_weight"] == (1.0, "guide:G4.88")
    assert plan.forecast.batches_per_epoch == 60
    assert "prior_loss_weight" not in told(plan_of(recipe()).train)


@pytest.mark.parametrize(
    ("family", "repeats", "epochs", "pictures", "steps"),
    [("sd15", 1, 100, 30, 3000), ("sd15", 10, 10, 30, 3000), ("sdxl", 1, 50, 20, 1000), ("sdxl", 10, 5, 20, 1000)],
)
def test_default_epochs(family: str, repeats: int, epochs: int, pictures: int, steps: int) -> None:
    """T5."""
    plan = plan_of(recipe(base={"family": family}, concept={"num_repeats": repeats}), dataset(folder(count=pictures)))
    assert plan.value("max_train_epochs") == epochs
    assert plan.forecast.steps == steps


def test_default_epochs_with_regularization_and_with_batches() -> None:
    """T5, derived: regularization doubles the steps, a batch of two halves them."""
    reg = recipe(regularization=[{"class": "food", "images": "reg"}])
    assert plan_of(reg).forecast.steps == 6000
    assert plan_of(recipe(train={"train_batch_size": 2})).forecast.steps == 1500


@pytest.mark.parametrize(
    ("epochs", "every", "numbers"),
    [(10, 3, [3, 6, 9]), (5, 1, [1, 2, 3, 4]), (10, 5, [5]), (15, 5, [5, 10]), (10, 20, [])],
)
def test_saves(epochs: int, every: int, numbers: list[int]) -> None:
    """T6."""
    made = recipe(train={"max_train_epochs": epochs}, save={"save_every_n_epochs": every})
    names = [save.file for save in plan_of(made).forecast.saves]
    assert names == [f"hmbrgrlora-{n:06}.safetensors" for n in numbers] + ["hmbrgrlora.safetensors"]


@pytest.mark.parametrize("epochs", [1, 2, 7, 10, 11, 20, 35, 50, 99, 100, 1000])
def test_default_saves_are_about_ten(epochs: int) -> None:
    plan = plan_of(recipe(train={"max_train_epochs": epochs}))
    assert len(plan.forecast.saves) <= 11
    assert len(plan.forecast.saves) >= min(epochs, 6)


def test_exactly_one_duration_is_written() -> None:
    for train in ({}, {"max_train_steps": 500}, {"max_train_epochs": 5}, {"exposures": 40}):
        made = values(plan_of(recipe(train=train)).train)
        assert ("max_train_steps" in made) + ("max_train_epochs" in made) == 1, train
    assert values(plan_of(recipe(train={"max_train_steps": 500})).train)["max_train_steps"] == 500
    by_exposures = told(plan_of(recipe(train={"exposures": 40}, concept={"num_repeats": 3})).train)
    assert by_exposures["max_train_epochs"] == (14, "recipe:")


def test_saving_by_steps_is_not_saving_by_epochs() -> None:
    made = values(plan_of(recipe(save={"save_every_n_steps": 100})).train)
    assert made["save_every_n_steps"] == 100
    assert "save_every_n_epochs" not in made


def test_one_epoch_needs_no_interval() -> None:
    assert "save_every_n_epochs" not in values(plan_of(recipe(train={"max_train_epochs": 1})).train)


# Every [train] key with a value that is not the guide's, and where it has to arrive.
ASKED: dict[str, tuple[Any, str, OptionValue]] = {
    "optimizer": ("Lion", "optimizer_type", "Lion"),
    "optimizer_args": (
        {"decouple": False, "weight_decay": 0.5, "betas": [0.9, 0.95]},
        "optimizer_args",
        ("decouple=False", "weight_decay=0.5", "betas=0.9,0.95"),
    ),
    "learning_rate": (0.5, "learning_rate", 0.5),
    "unet_lr": (0.25, "unet_lr", 0.25),
    "text_encoder_lr": (0, "text_encoder_lr", 0.0),
    "lr_scheduler": ("linear", "lr_scheduler", "linear"),
    "lr_scheduler_type": ("StepLR", "lr_scheduler_type", "StepLR"),
    "lr_scheduler_args": (
        "step_size=30 milestones=30,80 mode=min last=None",
        "lr_scheduler_args",
        ("step_size=30", "milestones=30,80", "mode='min'", "last=None"),
    ),
    "lr_warmup_steps": (0, "lr_warmup_steps", 0),
    "lr_scheduler_num_cycles": (7, "lr_scheduler_num_cycles", 7),
    "max_train_epochs": (3, "max_train_epochs", 3),
    "max_train_steps": (77, "max_train_steps", 77),
    "exposures": (12, "max_train_epochs", 12),
    "gradient_accumulation_steps": (4, "gradient_accumulation_steps", 4),
    "mixed_precision": ("bf16", "mixed_precision", "bf16"),
    "attention": ("xformers", "xformers", True),
    "gradient_checkpointing": (True, "gradient_checkpointing", True),
    "cache_latents": (True, "cache_latents", True),
    "cache_latents_to_disk": (True, "cache_latents_to_disk", True),
    "seed": (0, "seed", 0),
    "max_data_loader_n_workers": (0, "max_data_loader_n_workers", 0),
    "persistent_data_loader_workers": (True, "persistent_data_loader_workers", True),
    "min_snr_gamma": (7, "min_snr_gamma", 7.0),
    "debiased_estimation_loss": (True, "debiased_estimation_loss", True),
    "noise_offset": (0.05, "noise_offset", 0.05),
    "prior_loss_weight": (0, "prior_loss_weight", 0.0),
    "max_grad_norm": (0, "max_grad_norm", 0.0),
    "max_token_length": (150, "max_token_length", 150),
    "no_half_vae": (True, "no_half_vae", True),
}
ASKED_OF_DATASET: dict[str, tuple[Any, str, OptionValue]] = {
    "train_batch_size": (3, "batch_size", 3),
    "resolution": ([512, 640], "resolution", (512, 640)),
    "enable_bucket": (False, "enable_bucket", False),
    "min_bucket_reso": (320, "min_bucket_reso", 320),
    "max_bucket_reso": (1536, "max_bucket_reso", 1536),
    "bucket_reso_steps": (128, "bucket_reso_steps", 128),
    "bucket_no_upscale": (True, "bucket_no_upscale", True),
}


def arrives(found: Golden, option: str, value: OptionValue) -> None:
    assert option in found
    assert repr(found[option]) == repr((value, "recipe:"))


@pytest.mark.parametrize("key", ASKED)
def test_the_recipe_wins_over_the_guide(key: str) -> None:
    given, option, value = ASKED[key]
    made = recipe(train={key: given}, regularization=[{"class": "food", "images": "reg"}])
    arrives(told(plan_of(made).train), option, value)


@pytest.mark.parametrize("key", ASKED_OF_DATASET)
def test_the_recipe_wins_over_the_guide_in_the_dataset(key: str) -> None:
    given, option, value = ASKED_OF_DATASET[key]
    arrives(told(plan_of(recipe(train={key: given})).datasets[0].settings), option, value)


def test_every_train_key_is_tried_above() -> None:
    assert {*ASKED, *ASKED_OF_DATASET, "resolutions"} == set(Train.model_fields)


FLAGS = (
    "cache_latents", "cache_latents_to_disk", "gradient_checkpointing", "no_half_vae", "persistent_data_loader_workers",
    "debiased_estimation_loss",
)  # fmt: skip


@pytest.mark.parametrize("flag", FLAGS)
def test_a_switch_that_is_off_is_absent(flag: str) -> None:
    assert flag not in values(plan_of(recipe(base={"family": "sdxl"}, train={flag: False})).train)


def test_nothing_left_out_reads_as_the_users() -> None:
    """With a minimal recipe only the model and the folder of the images come from the recipe."""
    for train in ({}, {"optimizer": "AdamW"}):
        plan = plan_of(recipe(train=train))
        own = {
            s.option
            for s in (*plan.train, *plan.datasets[0].settings, *plan.subsets[0].settings)
            if s.source.origin is Origin.RECIPE
        }
        assert own - {"optimizer_type"} == {"pretrained_model_name_or_path", "image_dir"}


def test_a_rate_left_out_is_not_the_users_even_if_another_is() -> None:
    made = told(plan_of(recipe(train={"optimizer": "AdamW", "learning_rate": 2e-4})).train)
    assert made["learning_rate"] == (2e-4, "recipe:")
    assert made["unet_lr"] == (2e-4, "guide:GC.23")
    assert made["text_encoder_lr"] == (2e-4, "guide:GC.23")


def test_xformers_where_it_works_and_sdpa_elsewhere() -> None:
    assert told(plan_of(recipe(), attention=XFORMERS).train)["xformers"] == (True, "guide:G4.96")
    with_sdpa = plan_of(recipe(train={"attention": "sdpa"}), attention=XFORMERS)
    assert "xformers" not in values(with_sdpa.train)
    assert told(with_sdpa.train)["sdpa"] == (True, "recipe:")
    auto = sources(plan_of(recipe(train={"attention": "auto"})).train)["sdpa"]
    assert auto.why


def test_kohya_options_are_passed_through_last_and_by_name() -> None:
    plan = plan_of(recipe(kohya={"loss_type": "huber", "multires_noise_iterations": 6, "huber_c": 0.1}))
    assert [(s.option, s.value) for s in plan.train[-3:]] == [
        ("huber_c", 0.1), ("loss_type", "huber"), ("multires_noise_iterations", 6),
    ]  # fmt: skip
    assert {s.source.origin for s in plan.train[-3:]} == {Origin.RECIPE}


def test_sd2_gets_its_switch_and_the_recipes_clip_skip() -> None:
    plan = plan_of(recipe(base={"family": "sd2", "clip_skip": 2, "v_prediction": True}))
    made = told(plan.train)
    assert plan.script == "train_network.py"
    assert made["v2"] == (True, "guide:G4.10")
    assert made["v_parameterization"] == (True, "recipe:")
    assert made["clip_skip"] == (2, "recipe:")


def test_the_models_own_words_count_when_the_recipe_is_silent() -> None:
    facts = base_facts("sdxl", v_prediction=True, zero_terminal_snr=True)
    plan = plan_of(recipe(base={"family": None}), base=facts)
    made = told(plan.train)
    assert plan.family == "sdxl"
    assert made["v_parameterization"] == (True, "guide:G4.11")
    assert made["zero_terminal_snr"] == (True, "guide:G4.89")
    denied = plan_of(recipe(base={"v_prediction": False, "zero_terminal_snr": False}), base=facts)
    assert {"v_parameterization", "zero_terminal_snr"}.isdisjoint(values(denied.train))


def test_sd_scripts_own_arithmetic_stops_the_plan() -> None:
    with pytest.raises(RecipeError, match="max_bucket_reso"):
        plan_of(recipe(train={"resolution": 1024, "max_bucket_reso": 960}))


def test_the_plan_is_the_same_however_often_it_is_made() -> None:
    made = recipe(regularization=[{"class": "food", "images": "reg"}], sample={"prompts": ["a", "b"]})
    plans = {plan_of(made).model_dump_json() for _ in range(3)}
    assert len(plans) == 1
    assert Plan.model_validate_json(plans.pop()) == plan_of(made).model_copy(update={"fits": ()})  # not in JSON


def test_a_machine_without_gpu_trains_in_full_precision() -> None:
    made = told(plan_of(recipe(), machine=CPU).train)
    assert made["mixed_precision"] == ("no", "machine:")
    assert plan_of(recipe(), machine=CPU).launch.cpu
    assert not plan_of(recipe(), machine=GPU).launch.cpu


@pytest.mark.parametrize(
    ("kohya", "written", "precision"),
    [
        ({"full_bf16": True}, None, "bf16"),
        ({"full_fp16": True}, None, "fp16"),
        ({"full_bf16": True}, "bf16", "bf16"),
        ({"fp8_base": True}, "bf16", "bf16"),
        ({"fp8_base_unet": True}, None, "fp16"),
        ({"full_bf16": False}, None, "fp16"),
    ],
)
def test_the_precision_that_an_option_needs_is_the_default(
    kohya: dict[str, bool], written: str | None, precision: str
) -> None:
    train = {"mixed_precision": written} if written else {}
    assert values(plan_of(recipe(train=train, kohya=kohya)).train)["mixed_precision"] == precision
