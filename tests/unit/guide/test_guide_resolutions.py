"""Rules about the resolutions of a run: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, base_facts, concept, plan_of, recipe, situation, spoken, topic


def at(facts: dict[str, Any] | None = None, *, train: dict[str, Any] | None = None, **base: Any) -> RuleContext:
    """A recipe with this [base] on a model of which ``facts`` are known."""
    return situation(recipe(base=base, train=train or {}), base=base_facts(**(facts or {})))


def own(*sides: Any, **train: Any) -> RuleContext:
    """A folder for each of these resolutions; None for a folder without its own."""
    return situation(
        recipe(concepts=[concept("a", f"p{at}", resolution=side) for at, side in enumerate(sides)], train=train)
    )


def with_regularization(*sides: Any, train: Any = None, resolution: Any = None) -> RuleContext:
    """A regularization set for each of these resolutions, None for one without."""
    keys = {"resolutions": train} if train else {"resolution": resolution}
    sets = [{"class": "food", "images": f"r{at}", "resolution": side} for at, side in enumerate(sides)]
    return situation(recipe(train=keys, regularization=sets))


def planned(**train: Any) -> RuleContext:
    made = recipe(train=train)
    return situation(made, plan=plan_of(made))


BATCHES = "train.train_batch_size"
FIRES: list[Fires] = [
    ("G2.7", own(700), "concept[0].resolution", "warning"),
    ("G2.7", own(None, [512, 700]), "concept[1].resolution", "warning"),
    ("G2.7", own(576, bucket_reso_steps=128), "concept[0].resolution", "warning"),
    ("G2.7", at(train={"resolution": "512,650"}), "train.resolution", "warning"),
    ("G2.7", at(train={"resolutions": [512, 704], "bucket_reso_steps": [64, 128]}), "train.resolutions[1]", "warning"),
    ("G2.7", at(train={"resolution": 650, "enable_bucket": False}), "train.resolution", "warning"),
    ("G2.7", at(family="sdxl", train={"resolution": 1000, "enable_bucket": False}), "train.resolution", "error"),
    ("G2.7.regularization", with_regularization(768, 640, resolution=768), "regularization[1].resolution", "error"),
    ("G2.7.regularization", with_regularization(512, train=[768, 1024]), "regularization[0].resolution", "error"),
    ("G2.7.both", at(train={"resolution": 512, "resolutions": [512, 768]}), "train.resolution", "error"),
    ("G2.7.twice", at(train={"resolutions": [512, 768, [512, 512]]}), "train.resolutions[2]", "warning"),
    ("G2.7.unused", own(512, resolution=768), "train.resolution", "warning"),
    ("G2.7.unused", own(512, 768, resolutions=[640]), "train.resolutions", "warning"),
    ("G4.24.list", at(train={"train_batch_size": [1, 2]}), BATCHES, "error"),
    ("G4.24.list", at(train={"max_bucket_reso": [768, 1024]}), "train.max_bucket_reso", "error"),
    (
        "G4.24.list",
        at(train={"min_bucket_reso": [256], "resolutions": [512, 768]}),
        "train.min_bucket_reso",
        "error",
    ),
    ("G4.24.list", at(train={"train_batch_size": [1, 2], "resolutions": [512, 640, 768]}), BATCHES, "error"),
    ("G4.24.list", own(512, None, train_batch_size=[1, 2], resolutions=[640, 768]), BATCHES, "error"),
    (
        "S19.resolutions",
        planned(resolutions=[512, 768], cache_latents_to_disk=True),
        "train.cache_latents_to_disk",
        "error",
    ),
    ("G4.59", at(native_resolution=512, train={"resolution": 576}), "train.resolution", "warning"),
    ("G4.59", at(native_resolution=768, train={"resolution": [512, 832]}), "train.resolution", "warning"),
    ("G4.59", at(native_resolution=768, train={"resolutions": [512, 832]}), "train.resolutions[1]", "warning"),
    ("G4.59", at(model="v1-5-pruned.safetensors", train={"resolution": 768}), "train.resolution", "warning"),
    ("G4.61", at({"family": "sdxl"}, family="sdxl", train={"resolution": 768}), "train.resolution", "warning"),
    ("G4.61", at({"family": "sdxl"}, family=None, train={"resolution": [960, 1024]}), "train.resolution", "warning"),
    (
        "G4.61",
        at({"family": "sdxl"}, family="sdxl", train={"resolutions": [512, 768]}),
        "train.resolutions[1]",
        "warning",
    ),
]
MISSES: list[Misses] = [
    ("G2.7", own(704, [512, 768], None)),
    ("G2.7", own(736, bucket_reso_steps=32)),
    ("G2.7", at(train={"resolutions": [512, 736], "bucket_reso_steps": [64, 32]})),
    ("G2.7", at(train={"resolution": 648, "enable_bucket": False})),
    ("G2.7", at(family="sdxl", train={"resolution": 992, "enable_bucket": False})),
    ("G2.7.regularization", with_regularization(512, None, [768, 768], train=[512, 768])),
    ("G2.7.both", at(train={"resolutions": [512, 768]})),
    ("G2.7.twice", at(train={"resolutions": [512, [512, 768]]})),
    ("G2.7.unused", own(512, None, resolution=768)),
    ("G2.7.unused", own(512)),
    ("G4.24.list", at(train={"train_batch_size": [4, 2], "resolutions": [512, 768]})),
    ("G4.24.list", own(768, None, train_batch_size=[4, 2], resolutions=[512, 768])),
    ("G4.24.list", own(768, None, train_batch_size=2)),
    ("G4.24.list", own(640, None, max_bucket_reso=[768, 1024], resolutions=[512, 768])),
    ("S19.resolutions", planned(resolutions=[512, 768])),
    ("S19.resolutions", planned(cache_latents_to_disk=True)),
    ("G4.59", at(native_resolution=768, train={"resolution": 768})),
    ("G4.59", at(native_resolution=512)),
    ("G4.59", at(train={"resolution": 2048})),
    ("G4.59", at(model="v1-5-pruned.safetensors", native_resolution=768, train={"resolution": 768})),
    ("G4.61", at({"family": "sdxl"}, family="sdxl", train={"resolution": 1024})),
    ("G4.61", at({"family": "sdxl"}, family="sdxl", train={"resolutions": [512, 1024]})),
    ("G4.61", at({"family": "sdxl"}, family="sdxl")),
    ("G4.61", at(train={"resolution": 512})),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("resolutions")


def test_the_sizes_that_are_trained_instead_are_offered() -> None:
    (found,) = spoken("G2.7", at(train={"resolution": 700}))
    assert found.fix == "write 640 or 704"


def test_different_folders_may_be_cached_on_disk_at_different_resolutions() -> None:
    made = recipe(
        concepts=[concept("a", "pa", resolution=512), concept("a", "pb")], train={"cache_latents_to_disk": True}
    )
    assert spoken("S19.resolutions", situation(made, plan=plan_of(made))) == []
