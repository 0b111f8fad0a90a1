"""Rules about duplicate images: each one applies where it should, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorabake_schemas.dataset import DuplicateGroup, FolderFacts, ImageFacts, ImageRef
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, Fires, Misses, concept, dataset, folder, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]
GOOD = ImageFacts("ok.png", 768, 768)


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders, regularization=[reg] if reg else []))


def twin(*where: str, near: bool = False, of: Recipe | None = None) -> RuleContext:
    """A duplicate: ``0a`` is an image of the first concept, ``ra`` one of the regularization."""
    places = tuple(
        ImageRef("regularization", 0, f"{name[1:]}.png")
        if name[0] == "r"
        else ImageRef("concept", int(name[0]), f"{name[1:]}.png")
        for name in where
    )
    made = of or PAIR
    reg = [folder("reg")] if made.regularization else []
    facts = dataset(*(folder(part.images) for part in made.concept), regularization=reg)
    return situation(made, replace(facts, twins=(DuplicateGroup(places, near),)))


IMAGES = "concept[0].images"
PAIR = recipe(concepts=[concept("a", "pa"), concept("b", "pb")])
WITH_REG = recipe(regularization=REG)
DISK = recipe(train={"cache_latents_to_disk": True})
TWINS = folder(images=(GOOD, ImageFacts("ok.jpg", 768, 768)))
FIRES: list[Fires] = [
    ("S12.stem", at(TWINS), IMAGES, "warning"),
    ("S12.stem", at(TWINS, of=DISK), IMAGES, "error"),
    (
        "G35.6",
        at(folder(), of=recipe(regularization=[{"class": TOKEN.upper(), "images": "reg"}]), reg=folder("reg")),
        "regularization[0].class",
        "warning",
    ),
    ("G1.9", twin("0a", "0b"), IMAGES, "warning"),
    ("G1.9", twin("1a", "1b", "1c"), "concept[1].images", "warning"),
    ("G1.9", twin("0a", "0b", near=True), IMAGES, "hint"),
    ("G6.8.pictures", twin("0a", "1a"), "concept[1].images", "warning"),
    ("G6.8.pictures", twin("0a", "0b", "1a", near=True), "concept[1].images", "warning"),
    ("G35.6", twin("0a", "ra", of=WITH_REG), "regularization[0].images", "warning"),
    ("G35.6", twin("0a", "ra", of=WITH_REG, near=True), "regularization[0].images", "warning"),
]
MISSES: list[Misses] = [
    ("S12.stem", at(folder(images=(GOOD, ImageFacts("ok2.png", 768, 768))))),
    ("G35.6", at(folder(), of=recipe(regularization=REG), reg=folder("reg"))),
    ("G1.9", twin("0a", "1a")),
    ("G1.9", twin("ra", "rb", of=WITH_REG)),
    ("G1.9", at(folder())),
    ("G6.8.pictures", twin("0a", "0b")),
    ("G6.8.pictures", twin("0a", "ra", of=WITH_REG)),
    ("G35.6", twin("0a", "0b", of=WITH_REG)),
    ("G35.6", twin("ra", "rb", of=WITH_REG)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("duplicates")
    assert len(topic("duplicates")) >= 4


def test_who_is_whose_twin_is_said() -> None:
    assert "duplicate images: a.png = b.png = c.png (2 of 30)" in (spoken("G1.9", twin("0a", "0b", "0c"))[0].message)
    assert "1 image is also in concept#1: a.png = c.png" in spoken("G6.8.pictures", twin("0a", "1c"))[0].message
    shared = spoken("G35.6", twin("0a", "rx", of=WITH_REG))[0]
    assert (shared.file, "x.png = a.png" in shared.message) == ("x.png", True)
