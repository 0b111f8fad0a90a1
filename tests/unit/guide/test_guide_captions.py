"""Rules about caption files: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts, LongCaption, MetadataFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.recipe import Recipe
from situations import CLASS, TOKEN, Fires, Misses, dataset, folder, recipe, situation, spoken, topic

REG = [{"class": "food", "images": "reg"}]


def at(*folders: FolderFacts, of: Recipe | None = None, reg: FolderFacts | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders, regularization=[reg] if reg else []))


def pictures(*problems: CaptionProblem | None, text: str = f"{TOKEN}, food", **more: Any) -> FolderFacts:
    """A folder with one image for each caption problem."""
    made = [ImageFacts(f"{i}.png", 768, 768, caption=CaptionFacts(text, p)) for i, p in enumerate(problems)]
    return folder(images=tuple(made), **more)


def regularised(*problems: CaptionProblem | None) -> RuleContext:
    return at(folder(), of=recipe(regularization=REG), reg=pictures(*problems))


def borrowing(from_: str | None) -> RuleContext:
    text = CaptionFacts("tok", None if from_ else MISSING, from_)
    return at(folder(images=(ImageFacts("a_b_c_d_e.png", 768, 768, caption=text),)))


MISSING, BLANK, P = CaptionProblem.MISSING, CaptionProblem.BLANK, CaptionProblem
IMAGES = "concept[0].images"
LONG = (LongCaption("0.png", 230), LongCaption("1.png", 226))
UNCAPTIONED = recipe(concept={"captions": "none"})
TEXTLESS = recipe(concept={"captions": "none", "token": None, "class": None})
PREFIXED = recipe(
    concept={"captions": "none", "token": None, "class": None}, captions={"caption_prefix": "a photo of food,"}
)
MASKED = recipe(concept={"captions": "none", "masks": "masks"})  # sd-scripts uses no class tokens there
FIRES: list[Fires] = [
    ("G3.3", at(pictures(MISSING, MISSING)), IMAGES, "warning"),
    ("G3.3.none", at(pictures(MISSING, others=("0.txt",)), of=UNCAPTIONED), "concept[0].captions", "warning"),
    ("G3.3.none", at(pictures(MISSING), of=TEXTLESS), "concept[0].captions", "warning"),
    ("G3.3.none", at(pictures(MISSING), of=MASKED), "concept[0].captions", "warning"),
    ("G3.3", at(pictures(MISSING, None)), IMAGES, "warning"),
    ("S12", at(pictures(P.EMPTY, None)), IMAGES, "error"),
    ("S12", at(pictures(P.NOT_UTF8)), IMAGES, "error"),
    ("S12", at(pictures(P.UNREADABLE)), IMAGES, "error"),
    ("S12", at(pictures(P.BOM)), IMAGES, "hint"),
    ("S12", at(pictures(BLANK)), IMAGES, "warning"),
    ("S12", at(pictures(P.SPACES)), IMAGES, "warning"),
    ("S12", at(pictures(P.MORE_LINES)), IMAGES, "warning"),
    ("S12", at(pictures(P.TOO_LARGE)), IMAGES, "warning"),
    ("G3.3", at(pictures(MISSING, None, MISSING, miscased=("0.TXT",))), IMAGES, "warning"),
    ("G3.3", at(pictures(MISSING, miscased=("0.TXT",))), IMAGES, "error"),
    ("G3.3.other", at(pictures(MISSING, None, miscased=("0.TXT",))), IMAGES, "warning"),
    ("G3.3.other", at(pictures(None, others=("0.caption",))), IMAGES, "hint"),
    ("G3.3.orphans", at(pictures(None, orphans=("9.txt",))), IMAGES, "hint"),
    ("G3.3.tokens", at(folder(overlong=LONG)), IMAGES, "warning"),
    ("G35.4", regularised(MISSING, None), "regularization[0].images", "warning"),
    ("S12.borrowed", borrowing("/somewhere/a.txt"), IMAGES, "warning"),
]
MISSES: list[Misses] = [
    ("G3.3", at(pictures(None, None))),
    ("G3.3", at(pictures(P.BOM))),
    ("G3.3", at(pictures(MISSING), of=UNCAPTIONED)),
    ("G3.3.none", at(pictures(MISSING), of=UNCAPTIONED)),
    ("G3.3.none", at(pictures(MISSING), of=PREFIXED)),
    ("G3.3.none", at(pictures(MISSING, others=("0.caption",)), of=UNCAPTIONED)),
    ("G3.3.none", at(pictures(MISSING, others=("0.caption",)))),
    ("G3.3", at(folder(), of=recipe(regularization=REG), reg=folder("reg", problem=MISSING))),
    ("S12", at(pictures(None, MISSING))),
    ("G3.3", at(pictures(MISSING, None, miscased=("0.TXT",)))),
    ("G3.3.other", at(pictures(MISSING, miscased=("0.TXT",), others=("0.caption",)))),
    ("G3.3.other", at(pictures(None))),
    ("G3.3.orphans", at(pictures(None))),
    ("G3.3.orphans", at(FolderFacts("pics", orphans=("9.txt",)))),
    ("G3.3.tokens", at(folder())),
    ("G35.4", regularised(MISSING, MISSING)),
    ("G35.4", regularised(None, None)),
    ("S12.borrowed", borrowing(None)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("captions")
    assert len(topic("captions")) >= 7


def test_every_caption_problem_is_told_of() -> None:
    silent = [p for p in CaptionProblem if not spoken("S12", at(pictures(p))) and not spoken("G3.3", at(pictures(p)))]
    assert silent == []


def test_several_faults_of_one_folder_are_told_one_by_one() -> None:
    found = spoken("S12", at(pictures(P.EMPTY, P.EMPTY, P.NOT_UTF8, P.BOM, None)))
    assert [(finding.severity, finding.file) for finding in found] == [
        ("error", "2.txt"), ("error", "0.txt"), ("hint", "3.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize("ending", [None, ".caption"])
def test_the_caption_file_is_named_and_not_the_image(ending: str | None) -> None:
    found = spoken("S12", at(pictures(P.SPACES, **({"caption_extension": ending} if ending else {}))))[0]
    name = f"0{ending or '.txt'}"
    assert found.message == f"1 caption contains only spaces: {name}"
    assert (found.file, found.fix) == (name, "write the caption")


def test_long_lists_are_cut() -> None:
    found = spoken("G3.3", at(pictures(*[MISSING] * 9, None)))
    assert "images without a caption: 0.png, 1.png, 2.png and 6 more (9 of 10)" in found[0].message


def test_captions_of_another_kind_are_offered() -> None:
    none = spoken("G3.3", at(pictures(MISSING, others=("0.caption",))))[0]
    assert 'caption_extension = ".caption"' in none.fix
    assert none.severity == "error"
    assert "0.TXT" in spoken("G3.3", at(pictures(MISSING, miscased=("0.TXT",))))[0].fix


def test_a_caption_that_is_borrowed_is_named() -> None:
    assert "a_b_c_d_e.png uses a.txt" in spoken("S12.borrowed", borrowing("/some/where/a.txt"))[0].message


@pytest.mark.parametrize(("length", "offered"), [(None, False), (150, True), (75, True)])
def test_a_longer_limit_is_offered_where_there_is_one(length: int | None, *, offered: bool) -> None:
    found = spoken("G3.3.tokens", at(folder(overlong=LONG), of=recipe(train={"max_token_length": length})))[0]
    assert f"longer than {length or 225} tokens" in found.message
    assert "0.txt (230), 1.txt (226)" in found.message
    assert ("max_token_length = 225" in found.fix) is offered


def test_what_trains_without_a_caption_is_token_and_class() -> None:
    found = spoken("G3.3", at(pictures(MISSING, None, None)))
    assert [f'"{TOKEN}, {CLASS}"' in each.message for each in found] == [True]
    around = recipe(base={"tags": "natural"}, captions={"caption_prefix": "a photo of", "caption_suffix": "outside"})
    found = spoken("G3.3", at(pictures(MISSING), of=around))
    assert [f'"a photo of {TOKEN} {CLASS} outside"' in each.message for each in found] == [True]


@pytest.mark.parametrize("problem", [each for each in P if each is not MISSING])
def test_the_fix_of_what_a_copy_repairs_names_prepare(problem: CaptionProblem) -> None:
    repaired = problem not in {P.UNREADABLE, P.NOT_UTF8, P.TOO_LARGE, P.SPACES, P.NO_WORDS}
    (found,) = spoken("S12", at(pictures(problem)))
    assert ("lorabake prepare RECIPE --to FOLDER" in str(found.fix)) is repaired
    (found,) = spoken("S12", at(pictures(problem, metadata=MetadataFacts("captions.json"))))
    assert "lorabake prepare" not in str(found.fix)
