"""The registry: ids, severities, reasons, and the order of findings."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.findings import Severity
from lorabake_schemas.guide.registry import Rule, RuleContext, RuleHit
from lorabake_schemas.guide.rules import RULE_MODULES, collect_findings, list_rules
from lorabake_schemas.messages import literal
from lorabake_schemas.recipe import Recipe
from situations import CPU, concept, dataset, folder, plan_of, recipe, situation

# A guide rule by its part and number, a comment of the guide, or a fact about sd-scripts; with a suffix where one id
# needs two rules.
IDENTITY = re.compile(r"^(G(0|[1-8]|25|35|36)\.\d+|GC\.\d+|S\d+)(\.[a-z_]+)?$")


def test_ids_are_unique_and_say_where_they_come_from() -> None:
    ids = [rule.id for rule in list_rules()]
    assert len(ids) >= 56
    assert len(set(ids)) == len(ids)
    assert [identity for identity in ids if not IDENTITY.match(identity)] == []


def test_every_rule_has_a_reason_of_one_sentence() -> None:
    for rule in list_rules():
        assert rule.reason.endswith("."), rule.id
        assert len(rule.reason) < 140, rule.id
        assert rule.severity in set(Severity), rule.id


def test_an_error_rests_on_what_sd_scripts_does_not_on_taste() -> None:
    """The guide calls itself one person's experience (G0.1): what only rests on its taste may not block a run."""
    taste = {"G1.2", "G4.59", "G4.61", "G4.71", "G4.73", "G4.77", "G4.42", "G4.45", "G7.15", "G7.16", "G7.27", "G6.16"}
    severities = {rule.id: rule.severity for rule in list_rules()}
    assert {identity for identity in taste if severities[identity] is Severity.ERROR} == set()


def test_every_topic_module_is_imported_and_speaks_in_reading_order() -> None:
    modules = list(dict.fromkeys(rule.check.__module__ for rule in list_rules()))
    assert set(modules) == {module.__name__ for module in RULE_MODULES}


def test_a_good_recipe_is_silent() -> None:
    good = situation()
    assert collect_findings(good) == ()
    assert collect_findings(replace(good, plan=plan_of(recipe()))) == ()
    assert collect_findings(replace(good, machine=CPU)) == ()


def prodigy(**train: Any) -> Recipe:
    return recipe(train={"optimizer": "Prodigy"} | train)


def adamw(**train: Any) -> Recipe:
    return recipe(train={"optimizer": "AdamW"} | train)


ARMOUR = {"class": "armor"}
# The guide's worked examples of wrong settings (T18 optimizers, T19 model flags, T22 outfit tokens).
EXAMPLES: list[tuple[str, Recipe, str, str]] = [
    ("T18", prodigy(lr_scheduler="cosine_with_restarts"), "G4.42", "warning"),
    ("T18", prodigy(text_encoder_lr=4.5e-4, unet_lr=4e-4), "S27", "error"),
    (
        "T18",
        recipe(train={"optimizer": "Prodigy"}, network={"network_dim": 32, "network_alpha": 32}),
        "G4.73",
        "warning",
    ),
    ("T18", adamw(learning_rate=1), "G4.66", "warning"),
    ("T18", adamw(optimizer_args={"decouple": True}), "GC.12", "error"),
    ("T18", adamw(lr_scheduler="constant", lr_warmup_steps=0.1), "S5", "error"),
    ("T19", recipe(base={"family": "sdxl", "clip_skip": 2}), "S23", "hint"),
    ("T19", recipe(base={"family": "sdxl"}, train={"resolution": 768}), "G4.61", "warning"),
    ("T19", recipe(base={"zero_terminal_snr": True}), "G4.89", "warning"),
    ("T19", recipe(kohya={"color_aug": True}, train={"cache_latents": True}), "S20", "error"),
    ("T19", recipe(concept={"asymmetric": True, "flip_aug": True}), "G2.19", "error"),
    ("T19", recipe(train={"persistent_data_loader_workers": True, "max_data_loader_n_workers": 0}), "S38", "error"),
    ("T22", recipe(concepts=[concept("armortagm", "a"), concept("armortagm", "b", **ARMOUR)]), "G6.8", "warning"),
]


@pytest.mark.parametrize(("example", "made", "rule", "severity"), EXAMPLES)
def test_the_guides_examples_of_wrong_settings(example: str, made: Recipe, rule: str, severity: str) -> None:
    spoken = {(finding.rule, finding.severity.value) for finding in collect_findings(situation(made))}
    assert (rule, severity) in spoken, example


def test_distinct_outfit_tokens_are_fine() -> None:
    """T22."""
    made = recipe(concepts=[concept("armortagm", "a", **ARMOUR), concept("armortagf", "b", **ARMOUR)])
    assert collect_findings(situation(made)) == ()


def test_rules_speak_before_or_after_the_plan_never_twice() -> None:
    reg = recipe(regularization=[{"class": "food", "images": "r"}], train={"seed": 1, "learning_rate": 0.001})
    facts = dataset(folder(count=5), regularization=[folder("r", 50)])
    before = situation(reg, facts)
    after = replace(before, plan=plan_of(reg, facts))
    first, second = {f.rule for f in collect_findings(before)}, {f.rule for f in collect_findings(after)}
    assert "G4.52" in first
    assert second == {"G35.7"}


def test_a_remark_may_soften_its_rule() -> None:
    def check(_: RuleContext) -> list[RuleHit]:
        return [
            RuleHit(("a",), literal("m"), literal("f")),
            RuleHit(("b",), literal("m"), literal("f"), file="x.png", severity=Severity.HINT),
        ]

    found = list(Rule("S1", Severity.ERROR, "Because.", check).findings(situation()))
    assert [(f.severity, f.where, f.file) for f in found] == [
        (Severity.ERROR, ("a",), None), (Severity.HINT, ("b",), "x.png"),
    ]  # fmt: skip


def test_defaults_a_situation_speaks_of_are_those_of_the_plan() -> None:
    """Rules judge what the recipe sets; for anything else they assume what resolve will choose."""
    for made in (recipe(), recipe(kind="style"), recipe(base={"family": "sdxl"}, train={"optimizer": "Lion"})):
        plan = plan_of(made)
        at = situation(made)
        assert at.family.name == plan.family
        assert at.optimizer == plan.value("optimizer_type")
        assert (at.network == "lora") is (plan.value("network_module") == "networks.lora")
