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
FIRES: list[Fires] = [
    ("G4.9", at(folder(**EMPTY)), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", problem="missing")), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("10_tok",), repeat_folders=("10_tok",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("more",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", ignored=("a.gif",))), IMAGES, "error"),
    ("G4.9", at(folder(), of=recipe(regularisation=REG), reg=FolderFacts("reg")), "regularisation[0].images", "error"),
    ("G2.2", at(folder(images=(GOOD, ImageFacts("bad.png", problem="the file is empty")))), IMAGES, "error"),
    ("G2.3", at(folder(ignored=("a.gif", "b.TIFF"))), IMAGES, "warning"),
    ("G3.3", at(pictures(MISSING, MISSING)), IMAGES, "error"),
    ("G3.3", at(pictures(MISSING, None)), IMAGES, "warning"),
    ("S12", at(pictures(P.EMPTY, None)), IMAGES, "error"),
    ("S12", at(pictures(P.NOT_UTF8)), IMAGES, "error"),
    ("S12", at(pictures(P.UNREADABLE)), IMAGES, "error"),
    ("S12", at(pictures(P.BOM)), IMAGES, "warning"),
    ("S12", at(pictures(BLANK)), IMAGES, "warning"),
    ("S12", at(pictures(P.MORE_LINES)), IMAGES, "warning"),
    ("G3.10", at(captioned("food, hmbrgrlora")), "concept[0].token", "warning"),
    ("G3.10", at(captioned(f"{TOKEN}, food", "1girl")), "concept[0].token", "warning"),
    ("G3.10", at(captioned(f"{TOKEN}s, food")), "concept[0].token", "warning"),
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
    ("G4.9", at(folder(count=1))),
    ("G4.9", at(folder(subfolders=("10_tok",), repeat_folders=("10_tok",)))),
    ("G2.2", at(folder())),
    ("G2.3", at(folder())),
    ("G2.3", at(FolderFacts("pics", ignored=("a.gif",)))),
    ("G3.3", at(pictures(None, None))),
    ("G3.3", at(pictures(P.BOM))),
    ("G3.3", at(folder(), of=recipe(regularisation=REG), reg=folder("reg", problem=MISSING))),
    ("S12", at(pictures(None, MISSING))),
    ("G3.10", at(captioned(f"{TOKEN.upper()} , food", f"\ufeff{TOKEN}", TOKEN))),
    ("G3.10", at(captioned("food of a kind"), of=recipe(base={"tags": "natural"}))),
    ("G3.10", at(captioned("food"), of=recipe(captions={"caption_prefix": f"{TOKEN},"}))),
    ("G3.10", at(pictures(MISSING, text=""))),
    ("G3.10", at(captioned("mizu, redcoat, food"), of=recipe(concept={"token": "mizu, redcoat"}))),
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


def test_every_caption_problem_is_told_of() -> None:
    silent = [p for p in CaptionProblem if not spoken("S12", at(pictures(p))) and not spoken("G3.3", at(pictures(p)))]
    assert silent == []


def test_several_faults_of_one_folder_are_told_one_by_one() -> None:
    found = spoken("S12", at(pictures(P.EMPTY, P.EMPTY, P.NOT_UTF8, P.BOM, None)))
    assert [(finding.severity, finding.file) for finding in found] == [
        ("error", "0.png"), ("error", "2.png"), ("warning", "3.png"),
    ]  # fmt: skip


def test_the_right_level_is_offered() -> None:
    found = spoken("G4.9", at(FolderFacts("pics", subfolders=("10_tok", "5_x"), repeat_folders=("10_tok", "5_x"))))
    assert "one level too high" in found[0].message
    assert 'images = "pics/10_tok"' in found[0].fix


def test_long_lists_are_cut() -> None:
    found = spoken("G3.3", at(pictures(*[MISSING] * 9, None)))
    assert "9 of 10 pictures have no caption: 0.png, 1.png, 2.png and 6 more" in found[0].message
