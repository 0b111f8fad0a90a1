"""The compiled files contain only what the pin knows, or are not made."""

from __future__ import annotations

import pytest

from lorabake.util import resources
from lorabake_schemas.base import OptionValue
from lorabake_schemas.compiled import DatasetConfig, TrainConfig, UnknownOptionError
from lorabake_schemas.plan import Origin, Plan, Setting, Source
from situations import plan_of, recipe

OPTIONS = resources.load_script_options("train_network.py")
DATASET = resources.load_dataset_options()


def setting(option: str, value: OptionValue) -> Setting:
    return Setting(option=option, value=value, source=Source(origin=Origin.RECIPE))


def with_dataset(plan: Plan, *more: Setting) -> Plan:
    block = plan.datasets[0]
    return plan.model_copy(update={"datasets": (block.model_copy(update={"settings": (*block.settings, *more)}),)})


def with_subset(plan: Plan, *settings: Setting) -> Plan:
    part = plan.subsets[0].model_copy(update={"settings": settings})
    return plan.model_copy(update={"datasets": (plan.datasets[0].model_copy(update={"subsets": (part,)}),)})


def test_values_keep_the_plans_order_and_kind() -> None:
    made = TrainConfig.of([setting("seed", 1), setting("learning_rate", 1.0), setting("lowram", value=True)], OPTIONS)
    assert list(made.values.items()) == [("seed", 1), ("learning_rate", 1.0), ("lowram", True)]


@pytest.mark.parametrize(
    "settings",
    [
        [setting("learning_rat", 1.0)],
        [setting("seed", 1), setting("seed", 1)],
        [setting("seed", "1")],
        [setting("save_precision", "fp8")],
        [setting("text_encoder_lr1", 1e-4)],
        [setting("image_dir", "x")],
    ],
)
def test_what_the_parser_does_not_know_is_refused(settings: list[Setting]) -> None:
    with pytest.raises(UnknownOptionError):
        TrainConfig.of(settings, OPTIONS)


def test_a_plans_dataset_becomes_one_block_with_its_subsets() -> None:
    made = DatasetConfig.of(plan_of(recipe(regularization=[{"class": "food", "images": "reg"}])), DATASET)
    assert len(made.datasets) == 1
    assert [part.get("is_reg", False) for part in made.datasets[0].subsets] == [False, True]


def test_a_key_at_the_wrong_level_is_refused() -> None:
    plan = plan_of(recipe())
    for wrong in (setting("image_dir", "x"), setting("prior_loss_weight", 1.0), setting("max_token_length", 225)):
        with pytest.raises(UnknownOptionError, match="does not belong"):
            DatasetConfig.of(with_dataset(plan, wrong), DATASET)
    with pytest.raises(UnknownOptionError, match="does not belong"):
        DatasetConfig.of(with_subset(plan, setting("image_dir", "x"), setting("resolution", 512)), DATASET)


def test_a_wrong_kind_in_the_dataset_is_refused() -> None:
    with pytest.raises(UnknownOptionError, match="num_repeats"):
        DatasetConfig.of(
            with_subset(plan_of(recipe()), setting("image_dir", "x"), setting("num_repeats", 1.0)), DATASET
        )


def test_what_the_dataset_file_needs_must_be_there() -> None:
    with pytest.raises(UnknownOptionError, match="image_dir missing"):
        DatasetConfig.of(with_subset(plan_of(recipe()), setting("num_repeats", 1)), DATASET)
