"""Images that are held out for validation: which ones, what is trained, and the findings about the split."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.sd_scripts import split_validation
from situations import Fires, Misses, pictures_for, plan_of, recipe, situation, spoken, topic, values


def at(
    count: int = 30, kohya: dict[str, Any] | None = None, log: dict[str, Any] | None = None, **split: Any
) -> RuleContext:
    of = recipe(validation=split, kohya=kohya or {}, log=log or {})
    return situation(of, pictures_for(of, count))


def at_concept(count: int = 30, **keys: Any) -> RuleContext:
    of = recipe(validation={"validation_split": 0.1}, concept=keys)
    return situation(of, pictures_for(of, count))


WHERE = "validation.validation_split"
FIRES: list[Fires] = [
    ("S44", at(4, validation_split=0.1), WHERE, "warning"),
    ("S44", at(5, validation_split=0.3), WHERE, "warning"),
    ("S44.cache_info", at(validation_split=0.1, kohya={"cache_info": True}), "kohya.cache_info", "error"),
    ("S44.masks", at_concept(masks="masks"), "concept[0].masks", "error"),
    ("S44.metadata", at_concept(metadata_file="meta.json"), "concept[0].metadata_file", "warning"),
    ("S45", at(log={"log_with": "wandb"}), "log.log_with", "warning"),
]
MISSES: list[Misses] = [
    ("S44", at(30, validation_split=0.1)),
    ("S44", at(5)),
    ("S44.cache_info", at(kohya={"cache_info": True})),
    ("S44.cache_info", at(validation_split=0.1)),
    ("S44", at_concept(4, metadata_file="meta.json")),
    ("S44.masks", at(validation_split=0.1)),
    ("S44.metadata", at(validation_split=0.1)),
    ("S45", at(log={"log_with": "tensorboard"})),
    ("S45", at()),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("validation")


@pytest.mark.parametrize(("count", "share", "seed"), [(10, 0.2, 42), (5, 0.3, 1), (31, 0.5, 7), (3, 0.1, 0)])
def test_the_split_is_the_one_of_python_s_own_shuffle(count: int, share: float, seed: int) -> None:
    random.seed(seed)
    places = list(range(count))
    random.shuffle(places)
    kept = math.ceil(count * (1 - share))
    out, tested = split_validation(count, share, seed)
    assert out == set(places[kept:])
    assert tested == set(places[count - round(count * share) :])


def test_what_is_held_out_is_not_forecast() -> None:
    """Thirty images, of which a tenth is held out; a regularization set stays whole."""
    of = recipe(
        validation={"validation_split": 0.1},
        regularization=[{"class": "food", "images": "reg", "num_repeats": 1}],
        train={"max_train_epochs": 2, "train_batch_size": 1},
    )
    plan = plan_of(of)
    concept, reg = plan.forecast.shares
    assert (concept.images, concept.images_used, concept.samples_per_epoch) == (
        30,
        27,
        27 * concept.folders[0].num_repeats,
    )
    assert (reg.images_used, reg.samples_per_epoch) == (27, 27)
    assert sum(bucket.pictures for bucket in plan.forecast.buckets) == 54
    assert all(fit is not None for fit in plan.fits[0])  # caches are made of held-out images, too
    assert values(plan.train) | {"validation_seed": 42, "validation_split": 0.1} == values(plan.train)


def test_a_seed_is_written_only_with_a_split() -> None:
    assert "validation_seed" not in values(plan_of(recipe()).train)
    assert (
        values(plan_of(recipe(validation={"validation_split": 0.5}, train={"seed": 9})).train)["validation_seed"] == 9
    )
    own = {"validation_split": 0.5, "validation_seed": 3}
    assert values(plan_of(recipe(validation=own)).train)["validation_seed"] == 3


def test_tensorboard_stays_on_with_wandb() -> None:
    written = values(plan_of(recipe(log={"log_with": "wandb", "wandb_run_name": "try"})).train)
    assert (written["log_with"], written["wandb_run_name"]) == ("all", "try")
