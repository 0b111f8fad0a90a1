"""Rules about captions: each fires where it should and stays silent beside it."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide import Situation
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, Fires, Misses, dataset, folder, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> Situation:
    return situation(of or recipe(), dataset(*folders, regularisation=[reg] if reg else []))


def pictures(*problems: CaptionProblem | None, text: str = f"{TOKEN}, food") -> FolderFacts:
    """A folder with one picture per caption problem."""
    made = [ImageFacts(f"{i}.png", 768, 768, caption=CaptionFacts(text, p)) for i, p in enumerate(problems)]
    return folder(images=tuple(made))


def captioned(*texts: str) -> FolderFacts:
    return folder(images=tuple(ImageFacts(f"{i}.png", 8, 8, caption=CaptionFacts(t)) for i, t in enumerate(texts)))


def worded(prefix: str | None = None, suffix: str | None = None, **base: Any) -> Situation:
    given = {"caption_prefix": prefix, "caption_suffix": suffix}
    return situation(recipe(base=base, captions={key: value for key, value in given.items() if value}))


def outfit(*texts: str, class_: str = "human", **tables: Any) -> Situation:
    """The concept ``tok`` in its armor, with these captions."""
    made = recipe(concept={"token": "tok", "outfit": "armor", "class": class_}, **tables)
    return at(captioned(*texts), of=made)


MISSING, BLANK, P = CaptionProblem.MISSING, CaptionProblem.BLANK, CaptionProblem
IMAGES = "concept[0].images"
FIRES: list[Fires] = [
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
    ("G3.10.prefix", worded("masterpiece, best quality"), "captions.caption_prefix", "warning"),
    ("G3.10.prefix", worded(suffix="white background"), "captions.caption_suffix", "warning"),
    ("G3.12", at(captioned(f"{TOKEN}, plate, food")), "concept[0].class", "warning"),
    ("G3.12", at(captioned(f"{TOKEN}, foods")), "concept[0].class", "warning"),
    ("G3.12", outfit("tok, armor, red, human"), "concept[0].class", "warning"),
    ("G3.12", outfit("tok, armor, human", "tok, armor, big human"), "concept[0].class", "warning"),
    ("G6.17", outfit("tok, thing, red"), "concept[0].outfit", "warning"),
    ("G6.17", outfit("tok, human, red, armor"), "concept[0].outfit", "warning"),
]
MISSES: list[Misses] = [
    ("G3.3", at(pictures(None, None))),
    ("G3.3", at(pictures(P.BOM))),
    ("G3.3", at(folder(), of=recipe(regularisation=REG), reg=folder("reg", problem=MISSING))),
    ("S12", at(pictures(None, MISSING))),
    ("G3.10", at(captioned(f"{TOKEN.upper()} , food", f"\ufeff{TOKEN}", TOKEN))),
    ("G3.10", at(captioned("food of a kind"), of=recipe(base={"tags": "natural"}))),
    ("G3.10", at(captioned("food"), of=recipe(captions={"caption_prefix": f"{TOKEN},"}))),
    ("G3.10", at(pictures(MISSING, text=""))),
    ("G3.10", at(captioned("mizu, redcoat, food"), of=recipe(concept={"token": "mizu, redcoat"}))),
    ("G3.10.prefix", worded("masterpiece, best quality,")),
    ("G3.10.prefix", worded("masterpiece, ", ", white background")),
    ("G3.10.prefix", worded("a photo of", tags="natural")),
    ("G3.12", at(captioned(f"{TOKEN}, Food, red", f"\ufeff{TOKEN} ,food"))),
    ("G3.12", at(captioned("red, food"))),  # G3.10 speaks of it
    ("G3.12", at(captioned(f"{TOKEN} on a plate"), of=recipe(base={"tags": "natural"}))),
    ("G3.12", at(captioned(f"{TOKEN}, red"), of=recipe(captions={"caption_prefix": "good,"}))),
    ("G3.12", at(captioned(f"{TOKEN}, red"), of=recipe(kind="style", concept={"class": None}))),
    ("G3.12", at(captioned(f"{TOKEN}, red, food"), of=recipe(concept={"class": "red, food"}))),
    ("G3.12", outfit("tok, armor, human, red")),
    ("G6.17", outfit("tok, armor, human", "tok, human, armor")),
    ("G6.17", at(captioned(f"{TOKEN}, red"))),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: Situation, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: Situation) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("captions")
    assert len(topic("captions")) >= 6


def test_an_outfit_that_is_nowhere_is_told_with_its_class() -> None:
    """Captions that name something else altogether."""
    case = outfit("tok, thing, red")
    assert [len(spoken(rule, case)) for rule in ("G6.17", "G3.12", "G3.10")] == [1, 1, 0]
    assert 'begin them with "tok, armor, human"' in spoken("G6.17", case)[0].fix


def test_every_caption_problem_is_told_of() -> None:
    silent = [p for p in CaptionProblem if not spoken("S12", at(pictures(p))) and not spoken("G3.3", at(pictures(p)))]
    assert silent == []


def test_several_faults_of_one_folder_are_told_one_by_one() -> None:
    found = spoken("S12", at(pictures(P.EMPTY, P.EMPTY, P.NOT_UTF8, P.BOM, None)))
    assert [(finding.severity, finding.file) for finding in found] == [
        ("error", "0.png"), ("error", "2.png"), ("warning", "3.png"),
    ]  # fmt: skip


def test_long_lists_are_cut() -> None:
    found = spoken("G3.3", at(pictures(*[MISSING] * 9, None)))
    assert "9 of 10 pictures have no caption: 0.png, 1.png, 2.png and 6 more" in found[0].message
