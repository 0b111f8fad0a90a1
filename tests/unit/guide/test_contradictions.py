"""The guide contradicts itself, and sd-scripts, in 31 places: each is resolved, and here is what shows it.

Every test is named by its contradiction, C1 to C31, and drives the code that a user's recipe goes through. Where a
recipe can ask for what is wrong, there is a finding; where the guide's sentence is wrong, the book tells the truth.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from lorabake_schemas.base import OptionValue
from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.book import BookEntry, load_book
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.machine import AttentionProbe
from lorabake_schemas.plan import Plan
from lorabake_schemas.recipe import Recipe
from situations import (
    CPU,
    GPU,
    XFORMERS,
    concept,
    dataset,
    folder,
    pictures_for,
    plan_of,
    recipe,
    situation,
    spoken,
    subset,
    values,
)

BOOK = {entry.id: entry for entry in load_book()}
SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}
ADAM: dict[str, Any] = {"train": {"optimizer": "AdamW"}}
REG: dict[str, Any] = {"regularization": [{"class": "food", "images": "reg"}]}
TWO: dict[str, Any] = {"concepts": [concept("a", "pa"), concept("b", "pb")]}


def set_to(option: str, **tables: Any) -> OptionValue | None:
    """What the plan gives an option of the train file, None when it is not written."""
    return plan_of(recipe(**tables)).value(option)


def told(rule: str, made: Recipe | None = None, **more: Any) -> list[Finding]:
    """The hits of one rule for a recipe with good images, with its plan if the rule needs one."""
    chosen = made or recipe()
    plan = plan_of(chosen)
    before, after = spoken(rule, situation(chosen, **more)), spoken(rule, situation(chosen, plan=plan, **more))
    return after or before


def severity(rule: str, **tables: Any) -> str | None:
    found = told(rule, recipe(**tables))
    return str(found[0].severity) if found else None


def truth(identity: str) -> str:
    entry: BookEntry = BOOK[identity]
    return entry.truth


def test_c1_exposures_are_planned_and_2000_steps_are_a_mark() -> None:
    def plan(**tables: Any) -> Plan:
        return plan_of(recipe(**tables))

    seen = [plan().forecast, plan(**SDXL).forecast, plan(kind="style").forecast]
    assert [forecast.shares[0].exposures for forecast in seen] == [100, 50, 35]
    assert [(mark.guide, mark.planned) for mark in seen[0].marks if mark.rule == "G5.2"] == [(2000, 3000)]
    assert severity("G5.2", train={"max_train_steps": 900}) == "hint"
    assert "exposures" in truth("G4.28")


def test_c2_the_batch_is_one_and_more_is_warned_of_where_it_harms() -> None:
    assert values(plan_of(recipe()).datasets[0].settings)["batch_size"] == 1
    two: dict[str, Any] = {"train": {"train_batch_size": 2}}
    assert severity("G7.24", **two) is None
    assert severity("G7.24", **two, **TWO) == "warning"
    assert severity("G7.24", **two, network={"type": "dylora"}) == "warning"
    assert severity("G7.24", train={"train_batch_size": 5}) == "warning"


@pytest.mark.parametrize(
    ("tables", "alpha"),
    [
        ({}, 1.0),
        ({"network": {"type": "locon"}}, 1.0),
        (ADAM, 32.0),
        (ADAM | SDXL, 16.0),
        (ADAM | {"network": {"type": "locon"}}, 16.0),
        (ADAM | {"network": {"type": "dylora"}}, 64.0),
    ],
)
def test_c3_alpha_by_optimizer_then_by_algorithm(tables: dict[str, Any], alpha: float) -> None:
    assert set_to("network_alpha", **tables) == alpha


def test_c3_any_other_alpha_is_told() -> None:
    assert severity("G4.73", network={"network_alpha": 32}) == "warning"
    assert severity("G5.3", **ADAM, network={"network_alpha": 16}) == "hint"
    assert severity("G4.74", **ADAM, network={"network_alpha": 181.02}) == "hint"


@pytest.mark.parametrize(("kind", "limit"), [("lora", 64), ("locon", 64), ("loha", 32), ("dylora", 128)])
def test_c4_each_algorithm_has_its_limit_of_rank(kind: str, limit: int) -> None:
    assert severity("G4.71", network={"type": kind, "network_dim": limit}) is None
    beyond = severity("G4.71", network={"type": kind, "network_dim": 2 * limit})
    assert beyond == (None if kind == "dylora" else "warning")
    assert severity("G4.71", kind="style", network={"network_dim": 33}) == "warning"


def test_c5_a_plain_lora_by_default_locon_for_styles_and_saved_often() -> None:
    assert set_to("network_module") == "networks.lora"
    assert set_to("network_module", kind="style") == "lycoris.kohya"
    locon: dict[str, Any] = {"network": {"type": "locon"}}
    assert severity("G4.22.saves", **locon, save={"save_every_n_epochs": 60}) == "hint"
    assert len(plan_of(recipe(**locon)).forecast.saves) >= 9


def test_c6_a_lower_prior_loss_weight_is_a_weaker_regularization() -> None:
    assert set_to("prior_loss_weight", **REG) == 1.0
    assert set_to("prior_loss_weight") is None
    weak, strong = (told("G35.12", recipe(**REG, train={"prior_loss_weight": weight}))[0] for weight in (0.5, 2.0))
    assert "weaker" in weak.message
    assert "stronger" in strong.message
    assert "The other way round" in truth("G35.12")


def test_c7_norms_are_not_scaled_unless_asked() -> None:
    assert set_to("scale_weight_norms") is None
    assert set_to("scale_weight_norms", network={"scale_weight_norms": 1.0}) == 1.0
    assert severity("G4.79", network={"scale_weight_norms": 1.0}) == "hint"
    assert severity("G4.83", network={"scale_weight_norms": 2.0}) == "hint"


def test_c8_epochs_would_overrule_steps_so_only_one_is_taken() -> None:
    both = situation(recipe(train={"max_train_epochs": 10, "max_train_steps": 2000}))
    assert [str(each.severity) for each in spoken("G4.36", both)] == ["error"]
    for name in ("max_train_epochs", "max_train_steps"):
        plan = plan_of(recipe(train={name: 10}))
        written = {"max_train_epochs", "max_train_steps"} & values(plan.train).keys()
        assert written == {name}
    assert "The reverse" in truth("G4.36")


def test_c9_the_rates_of_sdxl_are_adams_and_prodigy_has_one() -> None:
    prodigy, adam = (values(plan_of(recipe(**SDXL, **more)).train) for more in ({}, ADAM))
    assert {"unet_lr", "text_encoder_lr"} & prodigy.keys() == set()
    assert (prodigy["learning_rate"], adam["unet_lr"], adam["text_encoder_lr"]) == (1.0, 4e-4, 4.5e-4)


def test_c10_the_main_rate_of_adamw_is_the_unets() -> None:
    for family, rate in (("sd15", 1e-4), ("sdxl", 4e-4)):
        plan = values(plan_of(recipe(base={"family": family}, **ADAM)).train)
        assert plan["learning_rate"] == plan["unet_lr"] == rate


def test_c11_a_text_encoder_above_the_unet_is_told() -> None:
    assert set_to("text_encoder_lr", **ADAM) == 5e-5
    slip = {"optimizer": "AdamW8bit", "text_encoder_lr": 5e-4, "unet_lr": 8.33e-5}
    assert severity("G4.67", train=slip) == "warning"
    assert severity("G4.67", **SDXL, **ADAM) == "hint"
    assert severity("G4.67", **ADAM) is None


def test_c12_the_order_of_tags_is_declared_and_kept() -> None:
    thing = {"token": "hero", "outfit": "armor", "class": "human"}
    part = subset(plan_of(recipe(concept=thing)))
    assert (part["class_tokens"], part["keep_tokens"]) == ("hero, armor, human", 3)
    wrong = dataset(folder(caption="hero, human, forest, armor"))
    assert spoken("G6.17", situation(recipe(concept=thing), wrong))
    right = dataset(folder(caption="hero, armor, human, forest"))
    assert spoken("G6.17", situation(recipe(concept=thing), right)) == []
    first = {"token": "armor", "class": "human"}  # the comment's order: the outfit is the token
    assert subset(plan_of(recipe(concept=first)))["class_tokens"] == "armor, human"


def test_c13_regularization_has_its_class_whatever_its_folder_is_called() -> None:
    sets = [{"class": "food", "images": "Regularization/1_RegConceptName"}]
    part = subset(plan_of(recipe(regularization=sets)), 1)
    assert (part["class_tokens"], part["image_dir"]) == ("food", "Regularization/1_RegConceptName")
    assert "caption_prefix" not in part


def test_c14_fifty_images_are_many_unless_it_is_a_style() -> None:
    def hints(kind: str, count: int) -> list[str]:
        made = recipe(kind=kind)
        return [str(each.severity) for each in spoken("G1.6", situation(made, pictures_for(made, count)))]

    assert (hints("object", 50), hints("object", 51), hints("style", 140)) == ([], ["hint"], [])


@pytest.mark.parametrize(
    ("base", "side"),
    [
        ({}, 768),
        ({"model": "v1-5-pruned.safetensors"}, 512),
        ({"model": "animefull-final-pruned.ckpt"}, 640),
        ({"native_resolution": 640}, 640),
        ({"family": "sdxl"}, 1024),
    ],
)
def test_c15_never_above_the_size_the_model_was_made_for(base: dict[str, Any], side: int) -> None:
    assert values(plan_of(recipe(base=base)).datasets[0].settings)["resolution"] == side
    above = told("G4.59", recipe(base=base, train={"resolution": 1088}))
    assert bool(above) is (side != 768 and base.get("family") != "sdxl")


def test_c16_captions_describe_or_bake() -> None:
    """Which tags are missed follows from captions.tagging, flexible or baked (G5.16)."""
    for tagging in ("flexible", "baked"):
        assert recipe(captions={"tagging": tagging}).captions.tagging == tagging
        assert "tagging" not in subset(plan_of(recipe(captions={"tagging": tagging})))
    assert BOOK["G5.16"].status == "implemented"


def test_c17_twenty_tags_on_average_is_a_warning_on_one_image_a_hint() -> None:
    def captions(*numbers: int) -> list[str]:
        texts = [", ".join(["hmbrgrlora", "food", *(f"tag {at}" for at in range(2, n))]) for n in numbers]
        parts = [folder(f"p{at}", 1, caption=text) for at, text in enumerate(texts)]
        images = tuple(image for part in parts for image in part.images)
        found = collect_findings(situation(recipe(), dataset(folder("pics", images=images))))
        return sorted({str(each.severity) for each in found if each.rule in {"G5.10", "G3.18"}})

    assert captions(10, 10, 10) == []
    assert captions(10, 10, 25) == ["hint"]
    assert "warning" in captions(30, 30, 30)


def test_c18_four_or_six_kept_tokens_mean_two_or_three() -> None:
    assert subset(plan_of(recipe()))["keep_tokens"] == 2
    assert subset(plan_of(recipe(concept={"outfit": "armor"})))["keep_tokens"] == 3
    (found,) = told("G4.90", recipe(captions={"keep_tokens": 4}))
    assert found.fix == "write 2, or remove it"
    assert "counts tags and nothing else" in truth("G4.90")


def test_c19_one_of_the_two_loss_weights() -> None:
    """Both on, Min-SNR would hardly count, and with v-prediction an eighth of the loss would be left (S31)."""
    assert (set_to("min_snr_gamma"), set_to("debiased_estimation_loss")) == (None, True)
    v = {"base": {"v_prediction": True}}
    assert (set_to("min_snr_gamma", **v), set_to("debiased_estimation_loss", **v)) == (5.0, None)
    both = {"train": {"min_snr_gamma": 5, "debiased_estimation_loss": True}}
    assert (set_to("min_snr_gamma", **both), set_to("debiased_estimation_loss", **both)) == (5.0, True)
    assert severity("G4.100", **both) == "warning"


def test_c20_terminal_snr_without_v_prediction_is_a_warning_as_such_models_exist() -> None:
    made = recipe(base={"zero_terminal_snr": True})
    assert severity("G4.89", base={"zero_terminal_snr": True}) == "warning"
    assert plan_of(made).value("zero_terminal_snr") is True
    assert severity("G4.89", base={"zero_terminal_snr": True, "v_prediction": True}) is None


def test_c21_clip_skip_is_nothing_to_sdxl() -> None:
    assert set_to("clip_skip", base={"family": "sdxl", "tags": "danbooru", "clip_skip": 2}) is None
    assert set_to("clip_skip", base={"tags": "danbooru"}) == 2
    assert set_to("clip_skip", base={"tags": "e621"}) is None
    assert severity("S23", base={"family": "sdxl", "clip_skip": 2}) == "hint"


def test_c22_class_tokens_and_first_tag_are_one() -> None:
    assert str(subset(plan_of(recipe()))["class_tokens"]).startswith("hmbrgrlora")
    (found,) = spoken("G3.10", situation(pictures=dataset(folder(caption="burger, food"))))
    assert '"hmbrgrlora"' in found.message
    assert "(30 of 30)" in found.message
    assert 'token = "burger"' in found.fix


def test_c23_repeats_are_not_epochs_where_there_is_regularization() -> None:
    """Fewer repeats use fewer of its images, and that is reported (G35.7)."""

    def used(repeats: int) -> tuple[int | None, int]:
        made = recipe(concept={"num_repeats": repeats}, **REG)
        facts = dataset(folder(), regularization=[folder("reg", 100)])
        plan = plan_of(made, facts)
        found = spoken("G35.7", situation(made, facts, plan=plan))
        return plan.forecast.shares[1].images_used, len(found)

    assert (used(1), used(10)) == ((30, 1), (100, 0))
    assert "Not with regularization" in truth("G4.31")


def test_c24_nothing_that_sd_scripts_would_do_badly_stays_blank() -> None:
    plan = plan_of(recipe())
    written = values(plan.train) | values(plan.datasets[0].settings) | subset(plan)
    blank_would_harm = {
        "learning_rate", "lr_scheduler", "max_train_epochs", "network_module", "network_dim", "network_alpha",
        "mixed_precision", "save_precision", "enable_bucket", "caption_extension", "seed", "max_token_length",
    }  # fmt: skip
    assert blank_would_harm <= written.keys()
    assert "True of the GUI only" in truth("G4.3")


@pytest.mark.parametrize("epochs", [1, 10, 35, 50, 100])
def test_c25_about_ten_files_however_many_epochs(epochs: int) -> None:
    saves = plan_of(recipe(train={"max_train_epochs": epochs})).forecast.saves
    assert len(saves) == epochs if epochs <= 10 else 8 <= len(saves) <= 11


def test_c26_convolutions_only_where_there_are_any() -> None:
    assert "network_args" not in values(plan_of(recipe()).train)
    arguments = set_to("network_args", network={"type": "locon"})
    assert isinstance(arguments, tuple)
    assert {"conv_dim=16", "conv_alpha=1.0"} <= set(arguments)
    assert severity("G4.77.lora", network={"conv_dim": 16}) == "hint"


def test_c27_an_outlier_is_a_risk_in_a_small_set() -> None:
    assert "opposite for small sets" in truth("G2.15")
    assert "the same weight" in truth("G1.9")


def test_c28_what_sdxl_reads_is_said_in_the_recipe() -> None:
    assert subset(plan_of(recipe(base={"family": "sdxl", "tags": "e621"})))["shuffle_caption"] is True
    assert subset(plan_of(recipe(base={"family": "sdxl", "tags": "natural"})))["shuffle_caption"] is False
    plain = "stabilityai/stable-diffusion-xl-base-1.0"
    assert severity("GC.4", base={"family": "sdxl", "tags": "danbooru", "model": plain}) == "warning"
    assert "Out of date for SDXL" in truth("G3.7")


def test_c29_a_style_has_files_to_go_back_to_from_2000_steps_on() -> None:
    made = recipe(kind="style")
    facts = pictures_for(made, 140)
    plan = plan_of(made, facts)
    assert plan.forecast.steps == 4900
    assert [save for save in plan.forecast.saves if 1500 <= save.step <= 2500]
    (found,) = spoken("GC.19", situation(made, facts, plan=plan))
    assert "2000" in found.fix


def test_c30_what_the_guide_says_of_formats_sizes_and_memory() -> None:
    webp = dataset(folder(images=tuple(_renamed())))
    large = dataset(folder(size=(4000, 3000)))
    for facts in (webp, large):
        assert [each for each in collect_findings(situation(pictures=facts)) if each.rule in {"G2.3", "G2.17"}] == []
    assert plan_of(recipe()).value("cache_latents") is True
    for identity, words in (
        ("G2.3", "No longer true"),
        ("G2.17", "does not have this limit"),
        ("G4.39", "main memory"),
        ("G4.95", "main memory"),
        ("G4.96", "Out of date"),
    ):
        assert words in truth(identity), identity


def _renamed() -> list[Any]:
    return [image._replace(name=image.name.replace(".png", ".webp")) for image in folder().images]


def test_c30_xformers_only_where_it_works() -> None:
    works = plan_of(recipe(), machine=GPU, attention=XFORMERS)
    fails = plan_of(recipe(), machine=CPU, attention=AttentionProbe.without_gpu())
    assert (works.value("xformers"), works.value("sdpa")) == (True, None)
    assert (fails.value("xformers"), fails.value("sdpa")) == (None, True)


def test_c31_repeats_start_from_ten() -> None:
    facts = dataset(folder("p0", 51), folder("p1", 43), folder("p2", 32))
    made = recipe(concepts=[concept(f"t{at}", f"p{at}") for at in range(3)])
    plan = plan_of(made, facts)
    assert [subset(plan, at)["num_repeats"] for at in range(3)] == [5, 6, 8]


def test_no_contradiction_is_left_out() -> None:
    names = [name for name in vars(sys.modules[__name__]) if name.startswith("test_c")]
    assert {name.split("_")[1] for name in names} == {f"c{at}" for at in range(1, 32)}
