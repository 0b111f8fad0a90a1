"""Presets by subject: one word in a recipe, and every value follows from the guide's rules, for each family."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.dataset import DatasetFacts
from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.defaults import list_leading_tags
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.machine import Family
from lorabake_schemas.recipe import Recipe
from situations import concept, dataset, folder, plan_of, recipe, situation, sources, subset, values

OUTFITS = [concept("hero", "armor", outfit="armoroutfit"), concept("hero", "casual", outfit="casualoutfit")]
FAMILIES: tuple[Family, ...] = ("sd15", "sdxl")
ONE_THING = ("character", "object", "clothing", "concept")
Wanted = dict[str, tuple[OptionValue, str]]

# What a kind changes beside its family, by optimizer: the value and the rule that gives it.
PLAIN: dict[tuple[Family, str], Wanted] = {
    ("sd15", "Prodigy"): {
        "network_dim": (32, "G4.70"), "network_alpha": (1.0, "G4.73"), "max_train_epochs": (100, "G4.32"),
        "lr_warmup_steps": (0.1, "G4.54"), "learning_rate": (1.0, "G4.52"), "lr_scheduler": ("cosine", "G4.42"),
    },
    ("sdxl", "Prodigy"): {
        "network_dim": (16, "G4.76"), "network_alpha": (1.0, "G4.73"), "max_train_epochs": (50, "G4.33"),
        "lr_warmup_steps": (0.2, "G4.55"), "learning_rate": (1.0, "G4.52"), "lr_scheduler": ("cosine", "G4.42"),
    },
    ("sd15", "AdamW"): {
        "network_dim": (32, "G4.70"), "network_alpha": (32.0, "G4.72"), "max_train_epochs": (100, "G4.32"),
        "unet_lr": (1e-4, "G4.66"), "text_encoder_lr": (5e-5, "G4.66"),
        "lr_scheduler": ("cosine_with_restarts", "G4.43"), "lr_scheduler_num_cycles": (3, "G4.56"),
    },
    ("sdxl", "AdamW"): {
        "network_dim": (16, "G4.76"), "network_alpha": (16.0, "G4.76"), "max_train_epochs": (50, "G4.33"),
        "unet_lr": (4e-4, "G4.67"), "text_encoder_lr": (4.5e-4, "G4.67"),
        "lr_scheduler": ("cosine_with_restarts", "G4.43"), "lr_scheduler_num_cycles": (3, "G4.56"),
    },
}  # fmt: skip


def chosen(kind: str, family: str, optimizer: str = "Prodigy", **more: Any) -> Recipe:
    concepts: dict[str, Any] = {"concepts": OUTFITS} if kind == "outfits" else {}
    return recipe(kind=kind, base={"family": family}, train={"optimizer": optimizer}, **concepts, **more)


def holds(made: Recipe, wanted: Wanted) -> None:
    plan = plan_of(made)
    found, why = values(plan.train), sources(plan.train)
    assert {name: (found.get(name), why[name].rule) for name in wanted} == wanted


@pytest.mark.parametrize(("family", "optimizer"), PLAIN)
@pytest.mark.parametrize("kind", ONE_THING)
def test_one_thing_is_a_plain_lora_with_the_values_of_its_family(kind: str, family: Family, optimizer: str) -> None:
    made = chosen(kind, family, optimizer)
    holds(made, PLAIN[family, optimizer] | {"network_module": ("networks.lora", "G4.20")})
    assert values(plan_of(made).datasets[0].settings)["resolution"] == (1024 if family == "sdxl" else 768)


@pytest.mark.parametrize("optimizer", ["Prodigy", "AdamW"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_is_a_locon_of_rank_32_that_sees_each_image_35_times(family: Family, optimizer: str) -> None:
    alpha: tuple[OptionValue, str] = (1.0, "G4.73") if optimizer == "Prodigy" else (16.0, "G7.15")
    made = chosen("style", family, optimizer)
    holds(
        made,
        {
            "network_module": ("lycoris.kohya", "G4.21"),
            "network_dim": (32, "G8.2"),
            "network_alpha": alpha,
            "max_train_epochs": (35, "G8.5"),
        },
    )
    arguments = values(plan_of(made).train)["network_args"]
    assert isinstance(arguments, tuple)
    assert {"algo=locon", "conv_dim=16", "conv_alpha=1.0", "rank_dropout=0.1"} <= set(arguments)


@pytest.mark.parametrize("optimizer", ["Prodigy", "AdamW"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_may_leave_the_text_encoder_alone(family: Family, optimizer: str) -> None:
    """The comments' most asked question (GC.20): then the text encoder has no rate either."""
    both, alone = (
        values(plan_of(chosen("style", family, optimizer, network=network)).train)
        for network in ({}, {"network_train_unet_only": True})
    )
    assert alone["network_train_unet_only"] is True
    assert "text_encoder_lr" not in alone
    rest = {name: value for name, value in both.items() if name != "text_encoder_lr"}
    assert {name: value for name, value in alone.items() if name != "network_train_unet_only"} == rest


@pytest.mark.parametrize("family", FAMILIES)
def test_outfits_are_kept_apart(family: Family) -> None:
    """Rank 32 for either family (G6.5), one image at a time (G6.2), outfit after the token (G6.17)."""
    made = chosen("outfits", family)
    plan = plan_of(made)
    assert (values(plan.train)["network_dim"], sources(plan.train)["network_dim"].rule) == (32, "G6.5")
    block = plan.datasets[0]
    assert (block.value("batch_size"), sources(block.settings)["batch_size"].rule) == (1, "G6.2")
    assert [subset(plan, at)["class_tokens"] for at in (0, 1)] == [
        "hero, armoroutfit, food",
        "hero, casualoutfit, food",
    ]
    assert [subset(plan, at)["keep_tokens"] for at in (0, 1)] == [3, 3]


def test_no_kind_copies_a_value_into_its_recipe() -> None:
    """The shipped recipes of a subject set what is trained and with which optimizer; the rest is resolved."""
    subjects = (*ONE_THING, "person", "style", "outfits")
    for name in (each for each in resources.list_recipe_names() if each.startswith(subjects)):
        made = shipped(name)
        given = made.train.model_dump(exclude_none=True)
        assert given.keys() <= {"optimizer", "max_token_length"}, name
        assert made.network.model_dump(exclude_none=True).keys() <= {"network_train_unet_only"}, name


def shipped(name: str) -> Recipe:
    return Recipe.model_validate(tomllib.loads(resources.read_recipe_text(name)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", [*ONE_THING, "style", "outfits"])
def test_every_subject_has_a_recipe_for_each_family(kind: str, family: Family) -> None:
    assert [name for name in resources.list_recipe_names() if name.startswith(f"{kind}-{family}")]
    made = {shipped(name).kind for name in resources.list_recipe_names() if name.startswith(f"{kind}-{family}")}
    assert made == {kind}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_without_the_text_encoder_has_a_recipe_for_each_family(family: Family) -> None:
    made = shipped(f"style-{family}-unet-only")
    assert (made.kind, made.base.family, made.network.network_train_unet_only) == ("style", family, True)


def test_pony_is_sdxl_with_e621_tags_long_captions_and_no_v_prediction() -> None:
    """GC.25."""
    made = shipped("character-pony")
    plan = plan_of(made)
    assert (plan.script, made.base.tags) == ("sdxl_train_network.py", "e621")
    assert "v_parameterization" not in values(plan.train)
    assert values(plan.train)["max_token_length"] == 225
    assert values(plan.datasets[0].settings)["resolution"] == 1024
    assert plan.prompts[0].startswith("score_9, ")


def test_noobai_predicts_v_on_a_schedule_that_ends_in_noise() -> None:
    made = plan_of(shipped("character-noobai-vpred"))
    found = values(made.train)
    assert (found["v_parameterization"], found["zero_terminal_snr"]) == (True, True)
    assert "debiased_estimation_loss" not in found
    assert {"v_parameterization", "zero_terminal_snr"} & values(
        plan_of(shipped("character-illustrious")).train
    ).keys() == set()


@pytest.mark.parametrize("family", FAMILIES)
def test_photographs_of_a_person_have_sentences_that_stay_in_order(family: Family) -> None:
    made = plan_of(shipped(f"person-{family}"))
    first = subset(made)
    assert (first["shuffle_caption"], first["class_tokens"], first.get("keep_tokens")) == (
        False,
        "ohwxlena woman",
        None,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_style_without_a_trigger_pins_nothing(family: Family) -> None:
    made = plan_of(shipped(f"style-{family}-no-trigger"))
    first = subset(made)
    assert (first["shuffle_caption"], first.get("keep_tokens", 0), first.get("class_tokens")) == (True, 0, None)
    assert "metadata_trigger_phrase" not in values(made.train)


def test_little_memory_on_sdxl_leaves_the_text_encoders_out() -> None:
    """S41: their cached outputs fit captions that never change."""
    made = plan_of(shipped("low-vram-sdxl"))
    found = values(made.train)
    wanted = ("cache_text_encoder_outputs", "network_train_unet_only", "gradient_checkpointing", "cache_latents")
    assert {name: found.get(name) for name in wanted} == dict.fromkeys(wanted, True)
    assert (found["optimizer_type"], subset(made)["shuffle_caption"]) == ("Adafactor", False)


def test_loraplus_is_an_argument_of_the_network() -> None:
    arguments = values(plan_of(shipped("loraplus")).train)["network_args"]
    assert isinstance(arguments, tuple)
    assert "loraplus_lr_ratio=16" in arguments


def tagged(made: Recipe) -> DatasetFacts:
    """Sixty images of each concept with captions as the guide recommends."""
    return dataset(
        *(
            folder(
                part.images,
                60,
                size=(1024, 1024),
                caption=", ".join((*list_leading_tags(part), "sitting", "forest", "side view", "smile")),
            )
            for part in made.concept
        )
    )


@pytest.mark.parametrize("kind", [*ONE_THING, "style", "outfits"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_preset_by_itself_draws_no_warning(kind: str, family: Family) -> None:
    made = chosen(kind, family)
    facts = tagged(made)
    seen = [
        *collect_findings(situation(made, facts)),
        *collect_findings(situation(made, facts, plan=plan_of(made, facts))),
    ]
    assert [(each.rule, each.message) for each in seen if each.severity is not Severity.HINT] == []
