"""Rules about shuffled captions and kept tags: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import TOKEN, Fires, Misses, concept, recipe, situation, spoken, topic

SENTENCES: dict[str, Any] = {"base": {"tags": "natural"}}
SHUFFLED: dict[str, Any] = {"captions": {"shuffle_caption": True}}
MARKED: dict[str, Any] = {"kohya": {"keep_tokens_separator": "|||"}}


def at(**tables: Any) -> RuleContext:
    return situation(recipe(**tables))


def keep(count: int, **tables: Any) -> RuleContext:
    return at(captions={"keep_tokens": count}, **tables)


FIRES: list[Fires] = [
    ("G3.7", at(**SENTENCES, **SHUFFLED), "captions.shuffle_caption", "warning"),
    ("G3.7", at(**SENTENCES, concept={"shuffle_caption": True}), "concept[0].shuffle_caption", "warning"),
    ("G4.93", keep(0), "captions.keep_tokens", "warning"),
    ("G4.93", at(concept={"keep_tokens": 0}), "concept[0].keep_tokens", "warning"),
    ("G4.90", keep(4), "captions.keep_tokens", "warning"),
    ("G4.90", keep(6, concept={"outfit": "armor"}), "captions.keep_tokens", "warning"),
    ("G4.90", keep(3), "captions.keep_tokens", "hint"),
    ("G4.90", at(concept={"keep_tokens": 5}), "concept[0].keep_tokens", "hint"),
    (
        "G4.90",
        keep(4, concepts=[concept("a", "pa"), concept("b", "pb", keep_tokens=2)]),
        "captions.keep_tokens",
        "warning",
    ),
]
MISSES: list[Misses] = [
    ("G3.7", at(**SHUFFLED)),
    ("G3.7", at(**SENTENCES)),
    ("G3.7", at(**SENTENCES, captions={"shuffle_caption": False})),
    ("G3.7", at(**SENTENCES, **SHUFFLED, concept={"shuffle_caption": False})),
    ("G4.93", keep(1)),
    ("G4.93", at()),
    ("G4.93", keep(0, **MARKED)),
    ("G4.93", keep(0, concept={"shuffle_caption": False})),
    ("G4.93", keep(0, **SENTENCES)),
    ("G4.90", keep(2)),
    ("G4.90", keep(4, concept={"token": None})),
    ("G4.90", keep(3, concept={"outfit": "armor"})),
    ("G4.90", at(concept={"token": "a, b", "keep_tokens": 3})),
    ("G4.90", at(captions={"keep_tokens": 4, "shuffle_caption": False})),
    ("G4.90", keep(4, **MARKED)),
    ("G4.90", keep(4, **SENTENCES)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("shuffling")


def test_the_guides_four_becomes_two() -> None:
    said = spoken("G4.90", keep(4))[0]
    assert said.message == f'keep_tokens counts tags, not commas: 4 keeps 2 more in place than "{TOKEN}, food"'
    assert said.fix == "write 2, or remove it"
