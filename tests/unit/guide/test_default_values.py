"""The shipped table of defaults is what the resolve step decides, without values from example recipes."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from lorabake_schemas.guide.default_values import FAMILIES, KINDS, NETWORK_TYPES, list_default_values, list_effects
from lorabake_schemas.plan import Origin
from lorabake_schemas.sd_scripts import OPTIMIZERS

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_defaults", DOCS / "make_defaults.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_up_to_date(maker: ModuleType) -> None:
    assert maker.FILE.read_text("utf-8") == maker.format_table(), "make docs"


@pytest.mark.parametrize("option", ["network_dim", "learning_rate", "resolution", "max_train_epochs", "clip_skip"])
def test_every_value_is_what_the_recipes_plan_has(maker: ModuleType, option: str) -> None:
    defaults = list_default_values(option)
    plain = {
        (family, kind): each.value
        for each in defaults
        if not each.also
        for group in each.recipes
        for family in group.families
        for kind in group.kinds
    }
    assert set(plain) == {(family, kind) for family in FAMILIES for kind in KINDS}
    for each in defaults:
        for group in each.recipes:
            for example in [(f, k, also) for f in group.families for k in group.kinds for also in each.also or ("",)]:
                planned = maker.all_settings(maker.Example(*example)).get(option)
                assert (planned.value if planned else None) == each.value
                assert not example[2] or each.value != plain[example[:2]]


def test_known_values() -> None:
    ranks = {(each.value, each.source.rule if each.source else "") for each in list_default_values("network_dim")}
    assert {(32, "G4.70"), (16, "G4.76"), (32, "G8.2"), (128, "G7.22"), (None, "")} <= ranks
    assert {each.value for each in list_default_values("conv_dim")} == {None, "16"}
    for option in ("no_such_option", "network_weights", "output_name"):
        assert list_default_values(option) == ()


def test_what_an_example_sets_itself_is_left_out() -> None:
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
