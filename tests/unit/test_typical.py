"""Values for typical recipes: resolved as for any recipe, and grouped without losing one."""

from __future__ import annotations

import pytest

from lorabake.analysis.default_values import (
    FAMILIES,
    KINDS,
    NETWORK_TYPES,
    RECIPE_VARIANTS,
    ExampleRecipe,
    find_setting,
    list_default_values,
    list_effects,
    option_for_key,
    plan_example,
)
from lorabake_schemas.plan import Origin
from lorabake_schemas.sd_scripts import OPTIMIZERS


def test_every_typical_recipe_has_a_plan() -> None:
    cases = [
        ExampleRecipe(family, kind, also) for family in FAMILIES for kind in KINDS for also in ("", *RECIPE_VARIANTS)
    ]
    assert len(cases) > 300
    assert [case for case in cases if plan_example(case) is None] == []


@pytest.mark.parametrize("option", ["network_dim", "learning_rate", "resolution", "max_train_epochs", "clip_skip"])
def test_what_is_told_is_what_is_resolved(option: str) -> None:
    """Every value of every case again, one by one."""
    found = list_default_values(option)
    seen = {case: typical.value for typical in found for case in typical.cases}
    plain = {case: value for case, value in seen.items() if not case.also}
    assert set(plain) == {ExampleRecipe(family, kind) for family in FAMILIES for kind in KINDS}
    for case, value in seen.items():
        plan = plan_example(case)
        assert plan is not None
        planned = find_setting(plan, option)
        assert (planned.value if planned else None) == value
    assert all(value != plain[ExampleRecipe(case.family, case.kind)] for case, value in seen.items() if case.also)


def test_known_values() -> None:
    ranks = {(each.value, each.source.rule if each.source else "") for each in list_default_values("network_dim")}
    assert {(32, "G4.70"), (16, "G4.76"), (32, "G8.2"), (128, "G7.22"), (None, "")} <= ranks
    assert {each.value for each in list_default_values("conv_dim")} == {None, "16"}
    assert list_default_values("no_such_option") == ()
    assert list_default_values("network_weights") == ()


def test_what_the_recipe_says_itself_is_left_out() -> None:
    assert {each.source.origin for each in list_default_values("optimizer_type") if each.source} == {Origin.GUIDE}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_effects(name: str) -> None:
    found = list_effects("optimizer", name)
    assert found["learning_rate"]
    assert "network_module" not in found


def test_effects_are_what_another_one_would_not_do() -> None:
    found = list_effects("optimizer", "AdamW8bit")
    assert {each.value for each in found["learning_rate"]} == {1e-4, 4e-4}
    assert "resolution" not in found
    assert {each.value for each in list_effects("family", "sdxl")["resolution"]} == {1024}
    assert {each.value for each in list_effects("kind", "style")["max_train_epochs"]} == {35}
    for network in NETWORK_TYPES:
        assert list_effects("network", network)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("train.optimizer", "optimizer_type"), ("concept.images", "image_dir"), ("network_dim", "network_dim"),
        ("train.train_batch_size", "batch_size"), ("train.resolution", "resolution"),
    ],
)  # fmt: skip
def test_recipe_keys_have_their_option(name: str, option: str) -> None:
    assert option_for_key(name) == option
