"""Rules about the number of images: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.dataset import FolderFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.recipe import Recipe
from situations import Fires, Misses, concept, dataset, folder, plan_of, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders, regularization=[reg] if reg else []))


def two(first: dict[str, Any], second: dict[str, Any]) -> Recipe:
    return recipe(concepts=[first, second])


def regularised(count: int, reg: int) -> RuleContext:
    made, facts = recipe(regularization=REG), dataset(folder(count=count), regularization=[folder("reg", reg)])
    return situation(made, facts, plan=plan_of(made, facts))


def many(count: int, kind: str = "object", **concept_: Any) -> RuleContext:
    return at(folder(count=count), of=recipe(kind=kind, concept=concept_))


IMAGES = "concept[0].images"
PAIR = two(concept("a", "pa"), concept("b", "pb"))
FIRES: list[Fires] = [
    (
        "G6.8",
        at(folder("pa"), folder("pb"), of=two(concept("a", "pa"), concept("A", "pb", **{"class": "tower"}))),
        "concept[1].class",
        "warning",
    ),
    (
        "G6.8",
        situation(two(concept("a", "pa", outfit="red"), concept("a", "pb", outfit="Red", **{"class": "tower"}))),
        "concept[1].class",
        "warning",
    ),
    ("G2.19", at(of=recipe(concept={"flip_aug": True, "asymmetric": True})), "concept[0].flip_aug", "error"),
    ("G35.7", regularised(30, 100), "regularization[0].images", "hint"),
    ("G1.2", at(folder(count=14)), IMAGES, "warning"),
    ("G1.2", at(folder(count=15)), IMAGES, "hint"),
    ("G1.2", at(folder(count=29)), IMAGES, "hint"),
    ("G1.2", at(folder(count=11), of=recipe(base={"family": "sdxl"})), IMAGES, "warning"),
    ("G1.2", at(folder(count=19), of=recipe(base={"family": "sdxl"})), IMAGES, "hint"),
    ("G6.16", at(folder("pa", 31), folder("pb", 10), of=PAIR), "concept[1].images", "warning"),
    ("G1.6", many(51), IMAGES, "hint"),
    ("G8.3", many(49, "style"), IMAGES, "warning"),
    ("G8.3", many(60, "style"), IMAGES, "hint"),
    ("G8.3", many(201, "style"), IMAGES, "hint"),
    ("G1.7", many(20, asymmetric=False), "concept[0].flip_aug", "hint"),
]
MISSES: list[Misses] = [
    ("G6.8", situation(PAIR)),
    ("G6.8", situation(two(concept("a", "pa"), concept("A", "pb")))),
    ("G6.8", situation(two(concept(None, "pa"), concept(None, "pb", **{"class": "tower"})))),
    ("G6.8", situation(two(concept("a", "pa", outfit="red"), concept("a", "pb", outfit="blue")))),
    ("G6.8", situation(two(concept("armortagm", "pa"), concept("armortagf", "pb")))),
    ("G2.19", at(of=recipe(concept={"flip_aug": True}))),
    ("G2.19", at(of=recipe(concept={"asymmetric": True}))),
    ("G2.19", at(of=recipe(concept={"flip_aug": False, "asymmetric": True}))),
    ("G35.7", regularised(30, 30)),
    ("G35.7", regularised(30, 10)),
    ("G1.2", at(folder(count=30))),
    ("G1.2", at(folder(count=20), of=recipe(base={"family": "sdxl"}))),
    ("G1.2", at(folder("pa"), folder("pb"), of=PAIR)),
    ("G1.2", at(FolderFacts("pics"))),
    ("G6.16", at(folder("pa"), folder("pb", 10), of=PAIR)),
    ("G6.16", at(folder("pa"), FolderFacts("pb"), of=PAIR)),
    ("G1.2", many(5, "style")),
    ("G1.6", many(50)),
    ("G1.6", many(140, "style")),
    ("G8.3", many(140, "style")),
    ("G8.3", many(10)),
    ("G1.7", many(20)),
    ("G1.7", many(20, asymmetric=True)),
    ("G1.7", many(20, asymmetric=False, flip_aug=False)),
    ("G1.7", many(30, asymmetric=False)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("dataset_size")
    assert len(topic("dataset_size")) >= 8


# T21 of the guide's worked examples
@pytest.mark.parametrize(
    ("family", "kind", "count", "said"),
    [
        ("sd15", "object", 30, None),
        ("sd15", "object", 20, "hint"),
        ("sd15", "object", 12, "warning"),
        ("sd15", "object", 7, "warning"),
        ("sdxl", "object", 20, None),
        ("sdxl", "object", 13, "hint"),
        ("sdxl", "object", 11, "warning"),
        ("sdxl", "object", 1, "warning"),
        ("sd15", "style", 140, None),
        ("sd15", "style", 60, "hint"),
        ("sd15", "style", 40, "warning"),
        ("sd15", "style", 220, "hint"),
    ],
)
def test_counts_of_the_guide(family: str, kind: str, count: int, said: str | None) -> None:
    case = at(folder(count=count), of=recipe(kind=kind, base={"family": family}))
    found = [finding.severity for rule in ("G1.2", "G1.6", "G8.3") for finding in spoken(rule, case)]
    assert found == ([said] if said else [])
    if count < 8:
        assert "fewer than 8" in spoken("G1.2", case)[0].fix


def test_the_images_of_several_folders_are_not_said_to_be_in_the_first() -> None:
    (finding,) = (
        each for each in collect_findings(at(folder("pa", 6), folder("pb", 5), of=PAIR)) if each.rule == "G1.2"
    )
    assert "11 images in 2 folders" in str(finding.message)
