"""Optimizer, learning rates, scheduler and loss weights (guide rules 3.2, S3, S26, S27, S31)."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from lorabake.planning.profile import Profile, build_profile
from lorabake.planning.settings_optimizer import format_python_literal, optimizer_settings
from lorabake_schemas.base import OptionValue
from lorabake_schemas.plan import Origin
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.sd_scripts import OPTIMIZERS, is_adaptive
from lorabake_schemas.values import ClassArgument
from situations import GPU, base_facts, plan_of, recipe, sources, values


def settings(made: Recipe, **facts: Any) -> dict[str, OptionValue]:
    return values(optimizer_settings(made.train, profile(made, **facts)))


def profile(made: Recipe, **facts: Any) -> Profile:
    return build_profile(made, base_facts(made.base.family, **facts), GPU)


def train(**given: Any) -> dict[str, OptionValue]:
    return settings(recipe(train=given))


def test_a_class_of_a_package_is_written_with_its_whole_path() -> None:
    made = plan_of(recipe(train={"optimizer": "CAME", "learning_rate": 1e-4})).train
    assert values(made)["optimizer_type"] == "pytorch_optimizer.CAME"
    assert sources(made)["optimizer_type"].why
    for name in ("AdamW", "NAdam", "prodigyplus.ProdigyPlusScheduleFree"):
        assert values(plan_of(recipe(train={"optimizer": name, "learning_rate": 1e-4})).train)["optimizer_type"] == name


def test_adaptive_optimizers_get_one_rate() -> None:
    for name in ("Prodigy", "DAdaptAdam", "DAdaptLion"):
        made = train(optimizer=name)
        assert made["learning_rate"] == 1.0
        assert {"unet_lr", "text_encoder_lr"}.isdisjoint(made)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if is_adaptive(name)])
def test_arguments_go_only_to_optimizers_that_take_them(name: str) -> None:
    """DAdaptSGD, DAdaptAdaGrad, DAdaptAdan, DAdaptAdanIP and DAdaptLion have no decouple: a TypeError at the start."""
    takes = name in {"Prodigy", "DAdaptAdam", "DAdaptation", "DAdaptAdamPreprint"}
    assert ("optimizer_args" in train(optimizer=name)) is takes


def test_adam_writes_all_three_rates() -> None:
    """S26: an unset one would fall back to 2e-6."""
    for name in ("AdamW", "AdamW8bit", "PagedAdamW8bit"):
        made = train(optimizer=name)
        assert [made[key] for key in ("learning_rate", "unet_lr", "text_encoder_lr")] == [1e-4, 1e-4, 5e-5]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"learning_rate": 2e-4}, (2e-4, 2e-4, 2e-4)),
        ({"unet_lr": 3e-4}, (3e-4, 3e-4, 1.5e-4)),
        ({"text_encoder_lr": 1e-5}, (1e-4, 1e-4, 1e-5)),
        ({"text_encoder_lr": 0}, (1e-4, 1e-4, 0.0)),
        ({"unet_lr": 0}, (1e-4, 0.0, 5e-5)),
        ({"learning_rate": 2e-4, "unet_lr": 0}, (2e-4, 0.0, 2e-4)),
        ({"text_encoder_lr": [1e-5, 1e-5]}, (1e-4, 1e-4, 1e-5)),
        ({"learning_rate": 1, "unet_lr": 2, "text_encoder_lr": 3}, (1.0, 2.0, 3.0)),
    ],
)
def test_adam_rates_of_the_recipe(given: dict[str, float], wanted: tuple[float, float, float]) -> None:
    made = train(optimizer="AdamW", **given)
    assert repr(tuple(made[key] for key in ("learning_rate", "unet_lr", "text_encoder_lr"))) == repr(wanted)


def test_a_text_encoder_never_learns_faster_than_the_unet_that_a_recipe_sets() -> None:
    """The guide's pair for SDXL does."""
    of = recipe(base={"family": "sdxl"}, train={"optimizer": "AdamW", "unet_lr": 1e-4})
    assert settings(of)["text_encoder_lr"] == 5e-5


def test_ia3_wants_high_rates_with_adam_and_one_with_prodigy() -> None:
    made = settings(recipe(network={"type": "ia3"}, train={"optimizer": "AdamW"}))
    assert [made[key] for key in ("learning_rate", "unet_lr", "text_encoder_lr")] == [5e-3] * 3
    assert settings(recipe(network={"type": "ia3"}))["learning_rate"] == 1.0


def test_other_optimizers_get_nothing_of_the_guides_but_a_schedule() -> None:
    assert train(optimizer="Lion", learning_rate=1e-5) == {
        "optimizer_type": "Lion",
        "learning_rate": 1e-5,
        "lr_scheduler": "cosine_with_restarts",
        "lr_warmup_steps": 0.1,
        "lr_scheduler_num_cycles": 3,
        "debiased_estimation_loss": True,
    }


@pytest.mark.parametrize("name", ["Adafactor", "AdamWScheduleFree", "RAdamScheduleFree", "SGDScheduleFree"])
def test_optimizers_with_a_schedule_of_their_own_get_none(name: str) -> None:
    made = train(optimizer=name)
    assert {"lr_scheduler", "lr_warmup_steps", "lr_scheduler_num_cycles"}.isdisjoint(made)
    asked = train(optimizer=name, lr_warmup_steps=10, lr_scheduler_num_cycles=2)
    assert (asked["lr_warmup_steps"], asked["lr_scheduler_num_cycles"]) == (10, 2)
    assert train(optimizer=name, lr_scheduler="linear")["lr_scheduler"] == "linear"


def test_a_schedule_that_takes_no_warm_up_gets_none() -> None:
    """sd-scripts stops at any warm-up there (TU:5294), the guide's own included."""
    typed = settings(recipe(train={"optimizer": "AdamW"}, kohya={"lr_scheduler_type": "LinearLR"}))
    own = train(optimizer="Adafactor", lr_scheduler="adafactor")
    for made in (typed, own):
        assert {"lr_warmup_steps", "lr_scheduler_num_cycles"}.isdisjoint(made)
    assert "lr_scheduler" not in typed
    assert "lr_warmup_steps" not in train(optimizer="DAdaptSGD")  # divides by the rate, which begins at 0
    assert "lr_warmup_steps" not in train(optimizer="AdamW", lr_scheduler="piecewise_constant")


@pytest.mark.parametrize(("arguments", "has"), [({"relative_step": False}, True), ({"scale_parameter": False}, False)])
def test_adafactor_gets_a_schedule_only_where_it_has_none(arguments: dict[str, bool], *, has: bool) -> None:
    made = train(optimizer="Adafactor", optimizer_args=arguments, learning_rate=1e-4)
    assert ("lr_scheduler" in made, "lr_warmup_steps" in made) == (has, has)


@pytest.mark.parametrize(
    ("scheduler", "warm_up", "cycles"),
    [
        ("constant", None, None),
        ("constant_with_warmup", 0.1, None),
        ("cosine", 0.1, None),
        ("cosine_with_restarts", 0.1, 3),
        ("linear", 0.1, None),
    ],
)
def test_warm_up_and_cycles_follow_the_scheduler(scheduler: str, warm_up: float | None, cycles: int | None) -> None:
    made = train(optimizer="AdamW", lr_scheduler=scheduler)
    assert made.get("lr_warmup_steps") == warm_up
    assert made.get("lr_scheduler_num_cycles") == cycles


@pytest.mark.parametrize("given", [0, 100, 0.05, 0.0])
def test_warm_up_keeps_its_kind(given: float) -> None:
    assert repr(train(lr_warmup_steps=given)["lr_warmup_steps"]) == repr(given)


# v-prediction, the recipe's Min-SNR and debiased: what is written of the two (S31; both only when both are asked for)
LOSS: list[tuple[bool, float | None, bool | None, float | None, bool]] = [
    (False, None, None, None, True),
    (False, 5, None, 5.0, False),
    (False, 0, None, None, True),
    (False, None, False, None, False),
    (False, 5, True, 5.0, True),
    (True, None, None, 5.0, False),
    (True, 0, None, None, False),
    (True, None, True, None, True),
    (True, 5, True, 5.0, True),
    (True, 3, None, 3.0, False),
    (True, None, False, 5.0, False),
]


@pytest.mark.parametrize(("v_prediction", "gamma", "debiased", "gamma_out", "debiased_out"), LOSS)
def test_one_loss_weight_unless_both_are_asked_for(
    *, v_prediction: bool, gamma: float | None, debiased: bool | None, gamma_out: float | None, debiased_out: bool
) -> None:
    given = {"min_snr_gamma": gamma, "debiased_estimation_loss": debiased}
    made = settings(
        recipe(base={"v_prediction": v_prediction}, train={k: v for k, v in given.items() if v is not None})
    )
    assert repr(made.get("min_snr_gamma")) == repr(gamma_out)
    assert made.get("debiased_estimation_loss", False) is debiased_out


def test_the_deviation_from_the_guide_says_why() -> None:
    made = recipe()
    assert "S31" in sources(optimizer_settings(made.train, profile(made)))["debiased_estimation_loss"].why
    with_v = recipe(base={"v_prediction": True})
    assert "S31" in sources(optimizer_settings(with_v.train, profile(with_v)))["min_snr_gamma"].why


def test_noise_offset_and_gradient_norm() -> None:
    assert {"noise_offset", "max_grad_norm"}.isdisjoint(train())
    assert "noise_offset" not in train(noise_offset=0)  # 0 is off (G4.102)
    assert repr(train(noise_offset=0.1)["noise_offset"]) == "0.1"
    assert repr(train(max_grad_norm=0)["max_grad_norm"]) == "0.0"  # 0 means no clipping, unlike the default of 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "True"),
        (0.1, "0.1"),
        (1e-8, "1e-08"),
        (3, "3"),
        ("both", "'both'"),
        ((0.9, 0.99), "0.9,0.99"),
        ((0.9,), "0.9,"),
        ("it's", '"it\'s"'),
    ],
)
def test_arguments_are_python_literals(value: ClassArgument, text: str) -> None:
    """sd-scripts evaluates what follows the ``=`` (S3, TU:4861)."""
    assert format_python_literal(value) == text
    assert ast.literal_eval(text) == value


def test_arguments_of_the_recipe_replace_the_guides() -> None:
    made = train(optimizer_args={"betas": [0.9, 0.95], "decouple": False, "d_coef": 2})
    assert made["optimizer_args"] == ("decouple=False", "weight_decay=0.1", "betas=0.9,0.95", "d_coef=2")
    assert "optimizer_args" not in train(optimizer_args={})


def test_a_class_path_gets_no_guessed_arguments() -> None:
    assert "optimizer_args" not in train(optimizer="prodigyopt.Prodigy")
    assert "optimizer_args" not in train(optimizer="my.AdamW", learning_rate=1e-4)


def test_an_argument_of_the_recipe_is_added_to_the_guides_and_the_source_says_so() -> None:
    made = train(optimizer_args={"d_coef": 2})
    assert made["optimizer_args"] == ("decouple=True", "weight_decay=0.1", "betas=0.9,0.99", "d_coef=2")
    plan = plan_of(recipe(train={"optimizer_args": {"d_coef": 2}}))
    source = sources(plan.train)["optimizer_args"]
    assert (source.origin, source.rule) == (Origin.GUIDE, "G4.50")
    assert "d_coef" in source.why


def test_each_argument_has_its_own_source_where_the_recipe_adds_some() -> None:
    made = plan_of(recipe(train={"optimizer_args": ["weight_decay=0.2", "d_coef=2"]})).train
    (setting,) = (each for each in made if each.option == "optimizer_args")
    assert setting.value == ("decouple=True", "weight_decay=0.2", "betas=0.9,0.99", "d_coef=2")
    assert [(each.origin.value, each.rule) for each in setting.parts] == [
        ("guide", "G4.50"), ("recipe", ""), ("guide", "G4.50"), ("recipe", ""),
    ]  # fmt: skip
    (plain,) = (each for each in plan_of(recipe()).train if each.option == "optimizer_args")
    assert plain.parts == ()
    assert "parts" not in plain.model_dump()


@pytest.mark.parametrize("given", [["d_coef=2"], "d_coef=2", {"d_coef": 2}])
def test_three_ways_to_write_arguments_are_one(given: object) -> None:
    assert values(plan_of(recipe(train={"optimizer_args": given})).train)["optimizer_args"][-1:] == ("d_coef=2",)  # type: ignore[index]
