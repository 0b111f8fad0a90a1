"""Rules about single pictures: each one applies where it should, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.dataset import FolderFacts, ImageFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.recipe import Recipe
from situations import Fires, Misses, dataset, folder, plan_of, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]
GOOD = ImageFacts("ok.png", 768, 768, mode="RGB", format="PNG")


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders, regularization=[reg] if reg else []))


def one(deep: bool = False, of: Recipe | None = None, **changes: Any) -> RuleContext:
    """A folder with a good image and one that differs from it."""
    facts = dataset(folder(images=(GOOD, GOOD._replace(**changes))))
    return situation(of or recipe(), replace(facts, deep=deep))


def sized(width: int, height: int, *, reg: tuple[int, int] | None = None, **train: Any) -> RuleContext:
    """Thirty images that fit and one of this size, with the plan; 768 x 768 is the resolution."""
    made = recipe(train={"resolution": 768} | train, regularization=REG if reg else [])
    images = (*folder().images, ImageFacts("x.png", width, height))
    facts = dataset(folder(images=images), regularization=[folder("reg", size=reg)] if reg else [])
    return situation(made, facts, plan=plan_of(made, facts))


def unbucketed(size: tuple[int, int] = (768, 768), *, reg: tuple[int, int] | None = None, **train: Any) -> RuleContext:
    """Without buckets and cached latents, unless ``train`` sets them; 768 x 768 is the resolution."""
    off = {"enable_bucket": False, "cache_latents": False, "resolution": 768}
    kohya = {"random_crop": True} if train.pop("random_crop", False) else {}
    made = recipe(train=off | train, kohya=kohya, regularization=REG if reg else [])
    facts = dataset(folder(size=size), regularization=[folder("reg", size=reg)] if reg else [])
    return situation(made, facts, plan=plan_of(made, facts))


IMAGES = "concept[0].images"
MASKED = recipe(kohya={"alpha_mask": True})
FIRES: list[Fires] = [
    # 000 takes what is 0001's
    ("S15.sizes", unbucketed((768, 767)), IMAGES, "error"),
    ("S15.sizes", unbucketed((1024, 1024)), IMAGES, "error"),
    ("S15.sizes", unbucketed((1024, 700), random_crop=True), IMAGES, "error"),
    ("S15.sizes", unbucketed(reg=(512, 512)), "regularization[0].images", "error"),
    ("G2.2", at(folder(images=(GOOD, ImageFacts("bad.png", problem="the file is empty")))), IMAGES, "error"),
    ("G2.2.turned", one(orientation=6), IMAGES, "warning"),
    ("G2.2.turned", one(orientation=2), IMAGES, "warning"),
    ("G2.2.depth", one(mode="I;16"), IMAGES, "warning"),
    ("G2.2.depth", one(mode="F"), IMAGES, "warning"),
    ("G2.2.cmyk", one(mode="CMYK"), IMAGES, "hint"),
    ("G2.2.moving", one(moving=True), IMAGES, "hint"),
    ("G2.3.content", one(format="JPEG"), IMAGES, "hint"),
    ("G2.3.content", one(name="x.JPEG", format="GIF"), IMAGES, "hint"),
    ("G2.4", one(alpha=True), IMAGES, "warning"),
    ("G2.4", one(deep=True, alpha=True), IMAGES, "warning"),
    ("G2.16", sized(690, 690), IMAGES, "warning"),
    ("G2.16", sized(768, 768, reg=(100, 100)), "regularization[0].images", "warning"),
    ("G2.10", sized(3000, 400), IMAGES, "hint"),
]
MISSES: list[Misses] = [
    ("S15.sizes", unbucketed()),
    ("S15.sizes", unbucketed((1024, 1024), random_crop=True)),
    ("S15.sizes", unbucketed((640, 640), cache_latents=True)),
    ("S15.sizes", unbucketed((640, 640), cache_latents_to_disk=True)),
    ("S15.sizes", unbucketed((640, 640), enable_bucket=True)),
    ("G2.2", at(folder())),
    ("G2.2.turned", one()),
    ("G2.2.turned", one(orientation=6, problem="broken")),
    ("G2.2.depth", one(mode="L")),
    ("G2.2.cmyk", one(mode="RGBA")),
    ("G2.2.moving", one()),
    ("G2.3.content", one()),
    ("G2.3.content", one(format="")),
    ("G2.3.content", one(name="x.jpg", format="JPEG")),
    ("G2.4", one()),
    ("G2.4", one(alpha=True, of=MASKED)),
    ("G2.4", one(deep=True, alpha=True, opaque=True)),
    ("G2.16", sized(700, 768)),
    ("G2.16", sized(200, 200, bucket_no_upscale=True)),
    ("G2.16", sized(4000, 3000)),
    ("G2.10", sized(800, 700)),
    ("G2.10", sized(3000, 700)),
    ("G2.10", sized(600, 900)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("images")
    assert len(topic("images")) >= 10


def test_the_worst_come_first_with_how_bad_they_are() -> None:
    images = tuple(ImageFacts(f"{side}.png", side, side) for side in (600, 100, 300))
    made, facts = recipe(train={"resolution": 768}), dataset(folder(images=images))
    found = spoken("G2.16", situation(made, facts, plan=plan_of(made, facts)))[0]
    assert found.message.endswith("100.png (7.7x), 300.png (2.6x), 600.png (1.3x)")
    assert found.file == "100.png"
    cut = spoken("G2.10", sized(3000, 400))[0]
    assert "x.png (50%)" in cut.message


def test_a_look_at_the_pixels_is_offered_where_it_was_not_taken() -> None:
    assert "check --deep" in spoken("G2.4", one(alpha=True))[0].fix
    assert "check --deep" not in spoken("G2.4", one(deep=True, alpha=True))[0].fix


@pytest.mark.parametrize("rule", ["G2.2", "G2.2.turned", "G2.2.depth", "G2.2.cmyk", "G2.3.content", "G2.4", "G2.16"])
def test_the_fix_of_what_a_copy_does_not_have_names_prepare(rule: str) -> None:
    fixes = [str(finding.fix) for name, case, *_ in FIRES if name == rule for finding in spoken(rule, case)]
    assert fixes
    assert all(f"{PREPARE} --upscaler" in fix if rule == "G2.16" else PREPARE in fix for fix in fixes)


PREPARE = "lorabake prepare RECIPE --to FOLDER"


@pytest.mark.parametrize(("readable", "copied"), [((), False), ((GOOD,), True)])
def test_a_copy_is_offered_where_an_image_can_be_read(readable: tuple[ImageFacts, ...], *, copied: bool) -> None:
    (found,) = spoken("G2.2", at(folder(images=(*readable, ImageFacts("bad.png", problem="the file is empty")))))
    assert ("lorabake prepare" in found.fix) is copied
