"""Rules about the base model: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, base_facts, plan_of, recipe, situation, spoken, topic


def at(facts: dict[str, Any] | None = None, *, train: dict[str, Any] | None = None, **base: Any) -> RuleContext:
    """A recipe with this [base] on a model of which ``facts`` are known."""
    return situation(recipe(base=base, train=train or {}), base=base_facts(**(facts or {})))


def planned(family: str, precision: str, *, fp16: bool, plain: bool, kind: str = "folder", **more: Any) -> RuleContext:
    """A model with these files, and a plan to train it at this precision."""
    made = recipe(base={"family": family}, train={"mixed_precision": precision})
    facts = base_facts(made.base.family, kind=kind, fp16_files=fp16, plain_files=plain)
    return situation(made, base=facts, plan=plan_of(made, base=facts), **more)


LOST = base_facts(None, kind="missing", problem="there is no x.safetensors")
MODEL = ((("base", "model"), "m.ckpt"),)
FIRES: list[Fires] = [
    ("G4.7", situation(base=LOST), "base.model", "error"),
    ("G4.7", situation(base=LOST, launching=True), "base.model", "error"),
    ("G4.7", situation(base=LOST, rehearsing=True), "base.model", "warning"),
    ("S43", situation(pickles=MODEL), "base.model", "warning"),
    ("S43", situation(recipe(base={"family": "sdxl"}), pickles=MODEL), "base.model", "warning"),
    ("S43", situation(pickles=((("network", "network_weights"), "l.pt"),)), "network.network_weights", "warning"),
    ("G4.7.variant", planned("sdxl", "fp16", fp16=False, plain=True), "base.model", "error"),
    ("G4.7.variant", planned("sdxl", "bf16", fp16=True, plain=False), "base.model", "error"),
    ("G4.7.variant", planned("sd15", "fp16", fp16=True, plain=False), "base.model", "error"),
    ("G4.12", at({"family": "sdxl"}, family="sd15"), "base.family", "error"),
    ("G4.12", at({"family": None}, family=None), "base.model", "error"),
    (
        "G4.12.name",
        at({"family": None}, family="sdxl", model="runwayml/stable-diffusion-v1-5"),
        "base.model",
        "warning",
    ),
    ("G4.12.name", at({"family": None}, family="sd15", model="sd_xl_base_1.0"), "base.model", "warning"),
    ("G4.11", at({"v_prediction": True}, v_prediction=False), "base.v_prediction", "warning"),
    ("G4.11", at({"v_prediction": False}, v_prediction=True), "base.v_prediction", "warning"),
    ("G4.11", at({"family": "sd2"}, family="sd2"), "base.model", "warning"),
    ("G4.89", at(zero_terminal_snr=True), "base.zero_terminal_snr", "warning"),
    (
        "G4.89",
        at({"v_prediction": True}, zero_terminal_snr=True, v_prediction=False),
        "base.zero_terminal_snr",
        "warning",
    ),
    ("S23", at({"family": "sdxl"}, family="sdxl", clip_skip=2), "base.clip_skip", "hint"),
    ("S23", at({"family": "sd2"}, family="sd2", clip_skip=1), "base.clip_skip", "warning"),
    ("G4.60", at(tags="danbooru"), "base.tags", "hint"),
    ("GC.4", at(tags="e621", model="models/v1-5-pruned-emaonly.safetensors"), "base.tags", "warning"),
    ("GC.4", at(tags="danbooru", model="runwayml/stable-diffusion-v1-5"), "base.tags", "warning"),
    ("G3.5", at({"merged": "a, b"}), "base.model", "hint"),
]
MISSES: list[Misses] = [
    ("S43", at()),
    ("S43", situation(base=LOST, pickles=MODEL)),
    ("S43", situation(rehearsing=True, pickles=MODEL)),
    ("G4.7", at()),
    ("G4.7", situation(base=base_facts(None, kind="hub"))),
    ("G4.7.variant", planned("sdxl", "fp16", fp16=True, plain=False)),
    ("G4.7.variant", planned("sdxl", "bf16", fp16=False, plain=True)),
    ("G4.7.variant", planned("sd15", "fp16", fp16=False, plain=True)),
    ("G4.7.variant", planned("sdxl", "fp16", fp16=False, plain=True, kind="file")),
    ("G4.7.variant", planned("sdxl", "fp16", fp16=False, plain=True, rehearsing=True)),
    ("G4.12", at({"family": "sdxl"}, family="sdxl")),
    ("G4.12.name", at({"family": None}, family="sd15", model="runwayml/stable-diffusion-v1-5")),
    ("G4.12.name", at({"family": "sdxl"}, family="sdxl", model="v1-5-pruned")),
    ("G4.12.name", at({"family": None}, family="sdxl", model="runwayml/my-stable-diffusion-v1-5")),
    ("G4.12", at({"family": "sdxl"}, family=None)),
    ("G4.12", at({"family": None}, family="sd15")),
    ("G4.12", situation(recipe(base={"family": None}), base=LOST)),
    ("G4.11", at({"v_prediction": True}, v_prediction=True)),
    ("G4.11", at({"v_prediction": True})),
    ("G4.11", at(v_prediction=True)),
    ("G4.11", at({"family": "sd2"}, family="sd2", v_prediction=False)),
    ("G4.11", at({"family": "sd2", "v_prediction": True}, family="sd2")),
    ("G4.89", at(zero_terminal_snr=True, v_prediction=True)),
    ("G4.89", at({"v_prediction": True}, zero_terminal_snr=True)),
    ("G4.89", at(zero_terminal_snr=False)),
    ("S23", at(clip_skip=2)),
    ("S23", at({"family": "sdxl"}, family="sdxl")),
    ("G4.60", at(tags="e621")),
    ("G4.60", at(tags="danbooru", native_resolution=768)),
    ("G4.60", at(tags="danbooru", train={"resolution": 640})),
    ("G4.60", at(tags="danbooru", model="anything-v4.5.safetensors")),
    ("G4.60", at({"family": "sdxl"}, tags="danbooru", family="sdxl")),
    ("GC.4", at(tags="natural", model="v1-5-pruned.safetensors")),
    ("GC.4", at(model="v1-5-pruned.safetensors")),
    ("GC.4", at(tags="e621", model="fluffyrock-v1-5.safetensors")),
    ("G3.5", at()),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("base_model")
    assert len(topic("base_model")) >= 7


def test_the_words_name_what_the_file_holds() -> None:
    assert "model file is SDXL" in spoken("G4.12", at({"family": "sdxl"}, family="sd15"))[0].message
    assert 'family = "sdxl"' in spoken("G4.12", at({"family": "sdxl"}, family="sd15"))[0].fix
    assert "epsilon" in spoken("G4.11", at({"v_prediction": False}, v_prediction=True))[0].message
