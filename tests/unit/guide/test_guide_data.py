"""Rules about image folders: each one applies where it should, and only there."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from lorabake_schemas.dataset import FolderFacts, ImageFacts
from lorabake_schemas.guide.registry import RuleContext, or_in_copy
from lorabake_schemas.messages import literal
from lorabake_schemas.recipe import Recipe
from situations import CLASS, TOKEN, Fires, Misses, concept, dataset, folder, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]
EMPTY: dict[str, Any] = {"images": ()}


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders, regularization=[reg] if reg else []))


IMAGES = "concept[0].images"
PAIR = recipe(concepts=[concept("a", "pa"), concept("b", "pb")])
FIRES: list[Fires] = [
    ("G4.9.repeats", at(folder("ds/10_tok")), IMAGES, "hint"),
    (
        "G4.9.repeats",
        at(folder(), of=recipe(regularization=REG), reg=folder("2_x")),
        "regularization[0].images",
        "hint",
    ),
    ("G4.9", at(folder(**EMPTY)), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", problem="missing")), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics.zip", problem="not a folder")), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("10_tok",), repeat_folders=("10_tok",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", subfolders=("more",))), IMAGES, "error"),
    ("G4.9", at(FolderFacts("pics", ignored=("a.gif",))), IMAGES, "error"),
    ("G4.9", at(folder(), of=recipe(regularization=REG), reg=FolderFacts("reg")), "regularization[0].images", "error"),
    ("G2.3", at(folder(ignored=("a.gif", "b.TIFF"))), IMAGES, "warning"),
    ("G2.3", at(folder(ignored=("a.Png",))), IMAGES, "warning"),
    ("S14", at(folder("pa"), folder("pa"), of=PAIR), "concept[1].images", "error"),
    ("S14", at(folder("pa"), folder("./pa/"), of=PAIR), "concept[1].images", "error"),
    ("S14", at(folder("pa", identity="1:2"), folder("link", identity="1:2"), of=PAIR), "concept[1].images", "warning"),
    ("S14", at(folder(), of=recipe(regularization=REG), reg=folder()), "regularization[0].images", "error"),
    ("G4.9", at(FolderFacts("pics", hidden=(".a.png",))), IMAGES, "error"),
    ("G4.9.subfolders", at(folder(subfolders=("more",))), IMAGES, "hint"),
    ("G2.3.hidden", at(folder(hidden=(".a.png",))), IMAGES, "hint"),
]
MISSES: list[Misses] = [
    ("G4.9.repeats", at(folder("ds/10_tok"), of=recipe(concept={"num_repeats": 1}))),
    ("G4.9.repeats", at(folder("1_tok"))),
    ("G4.9.repeats", at(folder("10"))),
    ("G4.9", at(folder(count=1))),
    ("G4.9", at(folder(subfolders=("10_tok",), repeat_folders=("10_tok",)))),
    ("G2.3", at(folder())),
    ("G2.3", at(FolderFacts("pics", ignored=("a.gif",)))),
    ("G2.3", at(folder(images=(ImageFacts("a.jpg", 768, 768),), ignored=("a.HEIC",)))),
    ("S14", at(folder("pa"), folder("pb"), of=PAIR)),
    ("S14", at(folder("pa", identity="1:2"), folder("pb", identity="1:3"), of=PAIR)),
    ("G4.9.subfolders", at(FolderFacts("pics", subfolders=("more",)))),
    ("G4.9.subfolders", at(folder())),
    ("G2.3.hidden", at(folder())),
    ("G2.3.hidden", at(FolderFacts("pics", hidden=(".a.png",)))),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("dataset")
    assert len(topic("dataset")) >= 6


def test_what_a_folder_name_of_the_gui_says_is_offered() -> None:
    assert "num_repeats = 10" in spoken("G4.9.repeats", at(folder("ds/10_tok")))[0].fix


def test_the_right_level_is_offered() -> None:
    found = spoken("G4.9", at(FolderFacts("pics", subfolders=("10_tok", "5_x"), repeat_folders=("10_tok", "5_x"))))
    assert all(name in found[0].message for name in ("10_tok", "5_x"))
    assert 'images = "pics/10_tok" and num_repeats = 10' in found[0].fix


def test_a_image_in_the_place_of_its_folder() -> None:
    for path, meant in (("pics/one.PNG", "pics"), ("one.png", ".")):
        found = spoken("G4.9", at(FolderFacts(path, problem="not a folder")))[0]
        assert found.message == f"{path} is an image, not a folder"
        assert found.fix == f'write images = "{meant}"'


def test_what_is_only_spelt_wrong_is_renamed_and_the_rest_converted() -> None:
    found = spoken("G2.3", at(folder(ignored=("a.Jpg", "b.gif"))))
    assert [(each.file, each.fix) for each in found] == [
        ("a.Jpg", or_in_copy(literal("rename a.Jpg to a.jpg"))),
        ("b.gif", or_in_copy(literal("convert it to PNG or JPEG, or move it elsewhere"))),
    ]
    both = ("a.Jpg", "b.pNG")
    fix = or_in_copy(literal("write the extensions in lowercase (rename a.Jpg to a.jpg, and so on)"))
    assert spoken("G2.3", at(folder(ignored=both)))[0].fix == fix
    assert spoken("G4.9", at(FolderFacts("pics", ignored=both)))[0].fix == fix
    assert spoken("G4.9", at(FolderFacts("pics", ignored=("b.gif",))))[0].fix.startswith("convert them")


def test_concepts_are_counted_from_one_as_the_key_is() -> None:
    assert "concept#1" in spoken("S14", at(folder("p"), folder("p"), of=PAIR))[0].message
    one = at(folder(), of=recipe(regularization=REG), reg=folder())
    assert spoken("S14", one)[0].message.startswith("pics is already used by concept,")


def test_few_names_are_shown() -> None:
    found = spoken("G2.3", at(folder(ignored=tuple(f"{number}.gif" for number in range(9)))))[0]
    assert found.message == "sd-scripts skips 9 files: 0.gif, 1.gif, 2.gif and 6 more"
    assert found.file == "0.gif"


@pytest.mark.parametrize("table", ["concept", "regularization"])
def test_a_folder_one_level_too_high_stays_in_its_own_kind_of_table(table: str) -> None:
    """With another header, the suggested table would train regularization images as a concept."""
    high = folder("reg", 0, repeat_folders=("10_food",))
    of = recipe(regularization=[{"class": "food", "images": "reg"}])
    facts = dataset(high if table == "concept" else folder(), regularization=[folder() if table == "concept" else high])
    fix = next(each.fix for each in spoken("G4.9", situation(of, facts)))
    assert re.findall(r"\[\[\w+\]\]", fix) == [f"[[{table}]]"]


def pasted(facts: FolderFacts, of: Recipe | None = None, rule: str = "G4.9") -> dict[str, Any]:
    """What the tables that a finding offers make of a recipe."""
    (found,) = spoken(rule, at(facts, of=of or recipe()))
    return tomllib.loads("\n".join(found.paste))


def test_the_tree_of_a_series_is_offered_as_outfits() -> None:
    tree = FolderFacts("Series", subfolders=("Ana/10_coat", "Ana/5_armor", 'Bo "x"/2_hat'))
    assert pasted(tree, recipe(concept={"class": "woman"})) == {
        "concept": [
            {"token": "Ana", "outfit": "coat", "class": "woman", "images": "Series/Ana/10_coat", "num_repeats": 10},
            {"token": "Ana", "outfit": "armor", "class": "woman", "images": "Series/Ana/5_armor", "num_repeats": 5},
            {"token": 'Bo "x"', "outfit": "hat", "class": "woman", "images": 'Series/Bo "x"/2_hat', "num_repeats": 2},
        ]
    }  # fmt: skip


def test_repeats_token_and_class_in_a_folders_name_are_offered() -> None:
    made = pasted(FolderFacts("img", subfolders=("10_mychar person",), repeat_folders=("10_mychar person",)))
    assert made == {
        "concept": [{"token": "mychar", "class": "person", "images": "img/10_mychar person", "num_repeats": 10}]
    }


def test_plain_subfolders_are_offered_as_folders_of_the_same_concept() -> None:
    made = pasted(folder(subfolders=("close", "far")), rule="G4.9.subfolders")
    assert made == {
        "concept": [{"token": TOKEN, "class": CLASS, "images": f"pics/{name}"} for name in ("close", "far")]
    }
    reg = spoken("G4.9", at(folder(), of=recipe(regularization=REG), reg=folder("reg", 0, subfolders=("10_food",))))[0]
    assert tomllib.loads("\n".join(reg.paste)) == {
        "regularization": [{"class": "food", "images": "reg/10_food", "num_repeats": 10}]
    }


def test_a_subfolder_that_another_table_names_is_used() -> None:
    both = recipe(concepts=[concept("a", "pics"), concept("a", "./pics/close")])
    case = at(folder(subfolders=("close",)), folder("./pics/close"), of=both)
    assert spoken("G4.9.subfolders", case) == []
