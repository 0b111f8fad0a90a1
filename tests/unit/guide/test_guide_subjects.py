"""Rules about what suits a subject: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, concept, dataset, folder, pictures_for, plan_of, recipe, situation, spoken, topic

TWO: dict[str, Any] = {"concepts": [concept("a", "pa"), concept("b", "pb")]}
ONE_OUTFIT: dict[str, Any] = {"concepts": [concept("a", "pa", outfit="x"), concept("a", "pb")]}
UNET_ONLY: dict[str, Any] = {"network_train_unet_only": True}
TYPE = "network.type"


def at(kind: str, network: str | None = None, **more: Any) -> RuleContext:
    return situation(recipe(kind=kind, network={"type": network} if network else {}, **more))


def planned(kind: str = "object", pictures: int = 30, **tables: Any) -> RuleContext:
    """With its plan: thirty images by default."""
    made = recipe(kind=kind, **tables)
    facts = pictures_for(made, pictures)
    return situation(made, facts, plan=plan_of(made, facts))


def locon(every: int = 50, **train: Any) -> RuleContext:
    return planned(network={"type": "locon"}, save={"save_every_n_epochs": every}, train=train)


def shares(*concepts: tuple[int, int | None]) -> RuleContext:
    """Concepts with these numbers of images and repeats, and the plan."""
    made = recipe(
        concepts=[
            concept(f"t{at}", f"p{at}", **({"num_repeats": repeats} if repeats else {}))
            for at, (_, repeats) in enumerate(concepts)
        ]
    )
    facts = dataset(*(folder(f"p{at}", count) for at, (count, _) in enumerate(concepts)))
    return situation(made, facts, plan=plan_of(made, facts))


FIRES: list[Fires] = [
    ("G7.9", at("object", "loha"), TYPE, "hint"),
    ("G7.9", at("clothing", "glora"), TYPE, "hint"),
    ("G7.10", at("object", "ia3", **TWO), TYPE, "hint"),
    ("G7.10", at("outfits", "dylora", **ONE_OUTFIT), TYPE, "hint"),
    ("G7.11", at("concept", "dylora"), TYPE, "hint"),
    ("G7.12", at("style", "lora"), TYPE, "hint"),
    ("G7.12", at("style", "loha"), TYPE, "hint"),
    ("G7.16", at("character", "loha"), TYPE, "hint"),
    ("G7.16", at("character", "glora"), TYPE, "hint"),
    ("G6.17.kind", at("outfits"), "kind", "warning"),
    ("G6.17.kind", at("outfits", **TWO), "concept[0].token", "warning"),
    ("G6.17.token", situation(recipe(concepts=[{"images": "p0", "outfit": "coat"}])), "concept[0].outfit", "error"),
    ("G5.2", planned(train={"max_train_steps": 999}), "train.max_train_steps", "hint"),
    ("G5.2", planned(train={"max_train_epochs": 10}), "train.max_train_epochs", "hint"),
    ("G5.2", planned(train={"exposures": 1}, pictures=1), "train.exposures", "hint"),
    ("GC.19", planned("style", 140), "kind", "hint"),
    ("G6.14", shares((51, 1), (43, None), (32, None)), "concept[0].num_repeats", "warning"),
    ("G6.14", shares((30, 1), (30, 5)), "concept[0].num_repeats", "warning"),
    ("G4.22.saves", locon(), "save.save_every_n_epochs", "hint"),
    (
        "G4.22.saves",
        planned(network={"type": "locon"}, save={"save_every_n_steps": 3000}),
        "save.save_every_n_steps",
        "hint",
    ),
]
MISSES: list[Misses] = [
    ("G7.9", at("object", "locon")),
    ("G7.9", at("object")),
    ("G7.9", at("object", "loha", **TWO)),
    ("G7.9", at("character", "loha")),
    ("G7.10", at("object", "lokr", **TWO)),
    ("G7.10", at("object", **TWO)),
    ("G7.10", at("object", "ia3")),
    ("G7.11", at("concept", "glora")),
    ("G7.11", at("concept")),
    ("G7.11", at("object", "dylora")),
    ("G7.12", at("style")),
    ("G7.12", at("style", "ia3")),
    ("G7.12", at("object", "loha")),
    ("G7.16", at("concept", "loha")),
    ("G7.16", at("character", "locon")),
    ("G6.17.kind", at("outfits", **ONE_OUTFIT)),
    ("G6.17.kind", at("character")),
    ("G6.17.token", at("outfits", **ONE_OUTFIT)),
    ("G6.17.token", situation(recipe(concepts=[{"images": "p0", "class": "food"}]))),
    ("G5.2", planned(train={"max_train_steps": 1000})),
    ("G5.2", planned(base={"family": "sdxl"}, pictures=12)),
    ("G5.2", planned()),
    ("GC.19", planned("style", 30)),
    ("G6.14", shares((51, 10), (43, None), (32, None))),
    ("G6.14", shares((51, None), (1, None))),
    ("G6.14", shares((30, 5))),
    ("G6.14", shares((30, 1), (25, 1))),
    ("GC.19", planned("style", 140, network=UNET_ONLY)),
    ("GC.19", planned("style", 140, train={"optimizer": "AdamW"})),
    ("GC.19", planned("object", 140)),
    ("G4.22.saves", locon(10)),
    ("G4.22.saves", locon(50, max_train_steps=900)),
    ("G4.22.saves", planned(save={"save_every_n_epochs": 50})),
    ("G4.22.saves", planned(network={"type": "locon"})),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("subject")


def test_the_number_of_steps_is_told() -> None:
    assert "total steps: 999 " in spoken("G5.2", planned(train={"max_train_steps": 999}))[0].message
    assert "total steps: 1 " in spoken("G5.2", planned(train={"max_train_steps": 1}))[0].message
