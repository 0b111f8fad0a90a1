"""Rules about folders, captions and subsets: each fires where it should and stays silent beside it."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide import Situation
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, Fires, Misses, concept, dataset, folder, plan_of, recipe, situation, spoken, topic

GOOD = ImageFacts("ok.png", 768, 768, caption=CaptionFacts(f"{TOKEN}, food"))
EMPTY: dict[str, Any] = {"images": ()}
REG = [{"class": "food", "images": "reg"}]


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> Situation:
    return situation(of or recipe(), dataset(*folders, regularisation=[reg] if reg else []))


def pictures(*problems: CaptionProblem | None, text: str = f"{TOKEN}, food") -> FolderFacts:
    """A folder with one picture per caption problem."""
    made = [ImageFacts(f"{i}.png", 768, 768, caption=CaptionFacts(text, p)) for i, p in enumerate(problems)]
    return folder(images=tuple(made))


def captioned(*texts: str) -> FolderFacts:
    return folder(images=tuple(ImageFacts(f"{i}.png", 8, 8, caption=CaptionFacts(t)) for i, t in enumerate(texts)))


def two(first: dict[str, Any], second: dict[str, Any]) -> Recipe:
    return recipe(concepts=[first, second])


def regularised(count: int, reg: int) -> Situation:
    made, facts = recipe(regularisation=REG), dataset(folder(count=count), regularisation=[folder("reg", reg)])
    return situation(made, facts, plan=plan_of(made, facts))


MISSING, BLANK, P = CaptionProblem.MISSING, CaptionProblem.BLANK, CaptionProblem
IMAGES = "concept[0].images"
PAIR = two(concept("a", "pa"), concept("b", "pb"))
WITH_REG = recipe(regularisation=REG)
DISK = recipe(train={"cache_latents_to_disk": True})
OLD = ("001_0768x0768_sd.npz",)
TWINS = folder(images=(GOOD, ImageFacts("ok.jpg", 768, 768)))


def unbucketed(size: tuple[int, int] = (768, 768), *, reg: tuple[int, int] | None = None, **train: Any) -> Situation:
    """Without buckets and cached latents, unless ``train`` says otherwise; 768 x 768 is the resolution."""
    off = {"enable_bucket": False, "cache_latents": False, "resolution": 768}
    kohya = {"random_crop": True} if train.pop("random_crop", False) else {}
    made = recipe(train=off | train, kohya=kohya, regularisation=REG if reg else [])
    facts = dataset(folder(size=size), regularisation=[folder("reg", size=reg)] if reg else [])
    return situation(made, facts, plan=plan_of(made, facts))


FIRES: list[Fires] = [
    ("G4.9.repeats", at(folder("ds/10_tok")), IMAGES, "hint"),
    (
        "G4.9.repeats",
        at(folder(), of=recipe(regularisation=REG), reg=folder("2_x")),
        "regularisation[0].images",
        "hint",
    ),
    ("S19", at(folder(caches=OLD), of=DISK), IMAGES, "error"),
    ("S19", at(folder(caches=("001.npz",)), of=DISK), IMAGES, "error"),
    ("S19", at(folder(caches=("001_0512x0768_sd.npz",))), IMAGES, "warning"),
    ("S19", at(folder(count=1, caches=("0001_0512x0768_sd.npz",))), IMAGES, "warning"),  # 000 takes what is 0001's
    ("S15.sizes", unbucketed((768, 767)), IMAGES, "error"),
    ("S15.sizes", unbucketed((1024, 1024)), IMAGES, "error"),
    ("S15.sizes", unbucketed((1024, 700), random_crop=True), IMAGES, "error"),
    ("S15.sizes", unbucketed(reg=(512, 512)), "regularisation[0].images", "error"),
    ("S12.stem", at(TWINS), IMAGES, "warning"),
    ("S12.stem", at(TWINS, of=DISK), IMAGES, "error"),
    ("G4.9", at(folder(**EMPTY)), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", problem="missing")), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("10_tok",), repeat_folders=("10_tok",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("more",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", ignored=("a.gif",))), IMAGES, "error"),
    ("G4.9", at(folder(), of=recipe(regularisation=REG), reg=FolderFacts("reg")), "regularisation[0].images", "error"),
    ("G2.2", at(folder(images=(GOOD, ImageFacts("bad.png", problem="the file is empty")))), IMAGES, "error"),
    ("G2.3", at(folder(ignored=("a.gif", "b.TIFF"))), IMAGES, "warning"),
    ("S14", at(folder("pa"), folder("pa"), of=PAIR), "concept[1].images", "error"),
    ("S14", at(folder("pa"), folder("./pa/"), of=PAIR), "concept[1].images", "error"),
    ("S14", at(folder(), of=recipe(regularisation=REG), reg=folder()), "regularisation[0].images", "error"),
    (
        "G6.8",
        at(folder("pa"), folder("pb"), of=two(concept("a", "pa"), concept("A", "pb"))),
        "concept[1].token",
        "error",
    ),
    (
        "G6.8",
        situation(two(concept("a", "pa", outfit="red"), concept("a", "pb", outfit="Red"))),
        "concept[1].token",
        "error",
    ),
    ("G2.19", at(of=recipe(concept={"flip_aug": True, "asymmetric": True})), "concept[0].flip_aug", "error"),
    (
        "G35.6",
        at(folder(), of=recipe(regularisation=[{"class": TOKEN.upper(), "images": "reg"}]), reg=folder("reg")),
        "regularisation[0].class",
        "error",
    ),
    ("G35.7", regularised(30, 100), "regularisation[0].images", "hint"),
    ("G1.2", at(folder(count=14)), IMAGES, "warning"),
    ("G1.2", at(folder(count=15)), IMAGES, "hint"),
    ("G1.2", at(folder(count=29)), IMAGES, "hint"),
    ("G1.2", at(folder(count=11), of=recipe(base={"family": "sdxl"})), IMAGES, "warning"),
    ("G1.2", at(folder(count=19), of=recipe(base={"family": "sdxl"})), IMAGES, "hint"),
    ("G6.16", at(folder("pa", 31), folder("pb", 10), of=PAIR), "concept[1].images", "warning"),
]
MISSES: list[Misses] = [
    ("G4.9.repeats", at(folder("ds/10_tok"), of=recipe(concept={"num_repeats": 1}))),
    ("G4.9.repeats", at(folder("1_tok"))),
    ("G4.9.repeats", at(folder("10"))),
    ("S19", at(folder(caches=OLD))),
    ("S19", at(folder(caches=("001.npz",)))),
    ("S19", at(folder(caches=("001_0768x0768_sdxl.npz",)), of=DISK)),
    ("S19", at(folder(caches=("b_0768x0768_sd.npz",)), of=DISK)),
    ("S19", at(folder(), of=DISK)),
    ("S15.sizes", unbucketed()),
    ("S15.sizes", unbucketed((1024, 1024), random_crop=True)),
    ("S15.sizes", unbucketed((640, 640), cache_latents=True)),
    ("S15.sizes", unbucketed((640, 640), cache_latents_to_disk=True)),
    ("S15.sizes", unbucketed((640, 640), enable_bucket=True)),
    ("S12.stem", at(folder(images=(GOOD, ImageFacts("ok2.png", 768, 768))))),
    ("G4.9", at(folder(count=1))),
    ("G4.9", at(folder(subfolders=("10_tok",), repeat_folders=("10_tok",)))),
    ("G2.2", at(folder())),
    ("G2.3", at(folder())),
    ("G2.3", at(FolderFacts("pics", ignored=("a.gif",)))),
    ("S14", at(folder("pa"), folder("pb"), of=PAIR)),
    ("G6.8", situation(PAIR)),
    ("G6.8", situation(two(concept("a", "pa", outfit="red"), concept("a", "pb", outfit="blue")))),
    ("G6.8", situation(two(concept("armortagm", "pa"), concept("armortagf", "pb")))),
    ("G2.19", at(of=recipe(concept={"flip_aug": True}))),
    ("G2.19", at(of=recipe(concept={"asymmetric": True}))),
    ("G2.19", at(of=recipe(concept={"flip_aug": False, "asymmetric": True}))),
    ("G35.6", at(folder(), of=recipe(regularisation=REG), reg=folder("reg"))),
    ("G35.7", regularised(30, 30)),
    ("G35.7", regularised(30, 10)),
    ("G1.2", at(folder(count=30))),
    ("G1.2", at(folder(count=20), of=recipe(base={"family": "sdxl"}))),
    ("G1.2", at(folder("pa"), folder("pb"), of=PAIR)),
    ("G1.2", at(FolderFacts("pics"))),
    ("G6.16", at(folder("pa"), folder("pb", 10), of=PAIR)),
    ("G6.16", at(folder("pa"), FolderFacts("pb"), of=PAIR)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: Situation, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: Situation) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("data")
    assert len(topic("data")) >= 13


def test_what_a_folder_name_of_the_gui_says_is_offered() -> None:
    assert "num_repeats = 10" in spoken("G4.9.repeats", at(folder("ds/10_tok")))[0].fix


def test_the_right_level_is_offered() -> None:
    found = spoken("G4.9", at(FolderFacts("pics", subfolders=("10_tok", "5_x"), repeat_folders=("10_tok", "5_x"))))
    assert "one level too high" in found[0].message
    assert 'images = "pics/10_tok" and num_repeats = 10' in found[0].fix
