"""Rules about how captions start: each one applies where it should, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.dataset import CaptionFacts, CaptionProblem, FolderFacts, ImageFacts
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules.trigger import make_unknown_word
from lorabake_schemas.recipe import Recipe
from situations import TOKEN, Fires, Misses, dataset, folder, recipe, situation, spoken, topic


def at(*folders: FolderFacts, of: Recipe | None = None) -> RuleContext:
    return situation(of or recipe(), dataset(*folders))


def captioned(*texts: str, problem: CaptionProblem | None = None) -> FolderFacts:
    made = [ImageFacts(f"{i}.png", 8, 8, caption=CaptionFacts(t, problem)) for i, t in enumerate(texts)]
    return folder(images=tuple(made))


def worded(prefix: str | None = None, suffix: str | None = None, **base: Any) -> RuleContext:
    given = {"caption_prefix": prefix, "caption_suffix": suffix}
    return situation(recipe(base=base, captions={key: value for key, value in given.items() if value}))


def outfit(*texts: str, class_: str = "human", **tables: Any) -> RuleContext:
    """The concept ``tok`` in its armor, with these captions."""
    made = recipe(concept={"token": "tok", "outfit": "armor", "class": class_}, **tables)
    return at(captioned(*texts), of=made)


def known(token: str, *words: str) -> RuleContext:
    """A concept of this token, and words that CLIP knows."""
    return situation(recipe(concept={"token": token}), replace(dataset(), known_tokens=words))


MARKED = recipe(captions={"keep_tokens_separator": "|||"})
FIRES: list[Fires] = [
    ("G3.10", at(captioned(f"1girl, series ||| {TOKEN}, sky"), of=MARKED), "concept[0].token", "warning"),
    ("G3.10", at(captioned(f"1girl, {TOKEN}, food, sky"), of=MARKED), "concept[0].token", "warning"),
    ("G3.12", at(captioned(f"1girl, {TOKEN} ||| food, sky"), of=MARKED), "concept[0].class", "warning"),
    ("G3.10", at(captioned("food, hmbrgrlora")), "concept[0].token", "warning"),
    ("G3.10", at(captioned("food of a kind"), of=recipe(base={"tags": "natural"})), "concept[0].token", "warning"),
    ("G3.10", at(captioned("A photo that shows food on a plate, seen from above.")), "concept[0].token", "warning"),
    ("G3.10", at(captioned(f"{TOKEN}, food", "1girl")), "concept[0].token", "warning"),
    ("G3.10", at(captioned(f"{TOKEN}s, food")), "concept[0].token", "warning"),
    ("G3.10.token", situation(recipe(concept={"token": None})), "concept[0].class", "hint"),
    ("G3.10.token", situation(recipe(concept={"token": None, "class": None})), "concept[0].token", "hint"),
    ("G3.10.token", situation(recipe(kind="style", concept={"token": None})), "concept[0].class", "hint"),
    ("G3.10.prefix", worded("masterpiece, best quality"), "captions.caption_prefix", "warning"),
    ("G3.10.prefix", worded(suffix="white background"), "captions.caption_suffix", "warning"),
    ("G3.12", at(captioned(f"{TOKEN}, plate, food")), "concept[0].class", "warning"),
    ("G3.12", at(captioned(f"{TOKEN}, foods")), "concept[0].class", "warning"),
    ("G3.12", outfit("tok, armor, red, human"), "concept[0].class", "warning"),
    ("G3.12", outfit("tok, armor, human", "tok, armor, big human"), "concept[0].class", "warning"),
    ("G6.17", outfit("tok, thing, red"), "concept[0].outfit", "warning"),
    ("G6.17", outfit("tok, human, red, armor"), "concept[0].outfit", "warning"),
    ("G3.11", known("hamburger", "hamburger"), "concept[0].token", "hint"),
]
MISSES: list[Misses] = [
    ("G3.10", at(captioned(f"{TOKEN.upper()} , food", f"\ufeff{TOKEN}", TOKEN))),
    ("G3.10", at(captioned(f"food, which is {TOKEN} of a kind"), of=recipe(base={"tags": "natural"}))),
    ("G3.10", at(captioned(f"A photo that shows {TOKEN.upper()} on a plate, seen from above."))),
    ("G3.10", at(captioned("food"), of=recipe(captions={"caption_prefix": f"{TOKEN},"}))),
    ("G3.10", at(captioned("", problem=CaptionProblem.MISSING))),
    ("G3.10", at(captioned("0 0.5 0.5 0.1 0.2", problem=CaptionProblem.NO_WORDS))),
    ("G3.10", at(captioned("0 0.5 0.5 0.1", problem=CaptionProblem.NO_WORDS), of=recipe(base={"tags": "natural"}))),
    ("G3.10", at(captioned("mizu, redcoat, food"), of=recipe(concept={"token": "mizu, redcoat"}))),
    ("G3.10", at(captioned(f"1girl, {TOKEN}, series ||| red, sky"), of=MARKED)),
    ("G3.12", at(captioned(f"1girl, {TOKEN}, food ||| red, sky"), of=MARKED)),
    ("G3.10.token", situation(recipe())),
    ("G3.10.token", situation(recipe(kind="style", concept={"token": None, "class": None}))),
    ("G3.10.token", situation(recipe(concept={"token": None}, captions={"caption_prefix": "hmbrgr,"}))),
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
    ("G3.11", known("hmbrgrlora", "hamburger")),
    ("G3.11", known("hmbrgrlora")),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("trigger")
    assert len(topic("trigger")) >= 5


@pytest.mark.parametrize(
    ("word", "offered"),
    [
        ("mizutsune", True), ("1girl", False), ("score_9", False), ("solo", False), ("long hair", False),
        ("looking at viewer", False), ("masterpiece", False), ("A painting of a lighthouse", False),
        ("lighthouse", False), ("rating:safe", False), ("by someone", False),
    ],
)  # fmt: skip
def test_only_a_word_without_a_meaning_is_offered_as_a_token(word: str, *, offered: bool) -> None:
    """Case 08: the start of all captions is offered, but no tag, score or sentence, and no word that CLIP knows."""
    facts = replace(dataset(captioned(f"{word}, red", f"{word}, blue")), known_tokens=("lighthouse",))
    (found,) = spoken("G3.10", situation(recipe(), facts))
    assert (f'token = "{word}"' in found.fix) is offered


def test_an_outfit_that_is_nowhere_is_told_with_its_class() -> None:
    """Captions that name something else altogether."""
    case = outfit("tok, thing, red")
    assert [len(spoken(rule, case)) for rule in ("G6.17", "G3.12", "G3.10")] == [1, 1, 0]
    assert 'with "tok, armor, human"' in spoken("G6.17", case)[0].fix


def test_the_guides_own_example_of_another_spelling() -> None:
    """T10 of the guide's worked examples."""
    assert make_unknown_word("hamburger") == "hmbrgrlora"
    assert '"hmbrgrlora"' in spoken("G3.11", known("hamburger", "hamburger"))[0].fix
    assert make_unknown_word("aeo") == "aeolora"
