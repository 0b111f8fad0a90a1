"""Rules about duration, scheduler, warm-up and loss: each one applies where it should, and only there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(optimizer: str = "Prodigy", /, *, of: dict[str, Any] | None = None, **train: Any) -> RuleContext:
    return situation(recipe(train={"optimizer": optimizer} | train, **(of or {})))


def typed(name: str, *arguments: str, optimizer: str = "AdamW", **train: Any) -> RuleContext:
    """A scheduler class named under [kohya]."""
    given = {"lr_scheduler_args": list(arguments)} if arguments else {}
    return at(optimizer, of={"kohya": {"lr_scheduler_type": name, **given}}, **train)


def planned(**train: Any) -> RuleContext:
    """With its plan: thirty images."""
    made = recipe(train=train)
    return replace(situation(made), plan=plan_of(made))


def decay(steps: float) -> dict[str, Any]:
    return {"kohya": {"lr_decay_steps": steps}}


REG: dict[str, Any] = {"regularization": [{"class": "food", "images": "r"}]}
TYPE = "train.lr_scheduler_type"
FIRES: list[Fires] = [
    ("G4.36", at(max_train_epochs=5, max_train_steps=500), "train.max_train_steps", "error"),
    ("G4.36", at(max_train_epochs=5, exposures=50), "train.exposures", "error"),
    ("G4.36", at(max_train_steps=5, exposures=50), "train.exposures", "error"),
    ("S5", at(lr_scheduler="constant", lr_warmup_steps=0.1), "train.lr_warmup_steps", "error"),
    ("S5", at("AdamW", lr_scheduler="constant", lr_warmup_steps=100), "train.lr_warmup_steps", "error"),
    ("S5.needs", at("AdamW", lr_scheduler="cosine_with_min_lr"), "train.lr_scheduler", "error"),
    ("S5.needs", at("AdamW", lr_scheduler="adafactor"), "train.lr_scheduler", "error"),
    ("S5.needs", at("AdamW", lr_scheduler="piecewise_constant"), "train.lr_scheduler", "error"),
    ("G4.42", at(lr_scheduler="cosine_with_restarts"), "train.lr_scheduler", "warning"),
    ("G4.42", at("DAdaptAdam", lr_scheduler="linear"), "train.lr_scheduler", "warning"),
    ("G4.44", at("AdamW", lr_scheduler="linear"), "train.lr_scheduler", "hint"),
    ("G4.44", at("AdamW8bit", lr_scheduler="constant"), "train.lr_scheduler", "hint"),
    ("G4.100", at(min_snr_gamma=5, debiased_estimation_loss=True), "train.debiased_estimation_loss", "warning"),
    ("G35.12", at(of=REG, prior_loss_weight=0.5), "train.prior_loss_weight", "warning"),
    ("G35.12", at(of=REG, prior_loss_weight=2), "train.prior_loss_weight", "warning"),
    (
        "S5.needs",
        at("Adafactor", lr_scheduler="adafactor", optimizer_args={"relative_step": False}),
        "train.lr_scheduler",
        "error",
    ),
    ("S5.type", typed("CosineAnnealingLR", "T_max=100", lr_warmup_steps=0.1), "train.lr_warmup_steps", "error"),
    ("S5.first_step", at("DAdaptSGD", lr_warmup_steps=5), "train.lr_warmup_steps", "error"),
    ("S5.type", typed("CosineAnnealingLR", "T_max=100", optimizer="Adafactor"), TYPE, "error"),
    ("S4.decay", at("AdamW", of=decay(100.0), lr_scheduler="warmup_stable_decay"), "kohya.lr_decay_steps", "warning"),
    ("S4.decay", at("AdamW", lr_scheduler="warmup_stable_decay"), "train.lr_scheduler", "warning"),
    ("S4.warm_up", planned(lr_warmup_steps=5000, max_train_steps=100), "train.lr_warmup_steps", "warning"),
    ("S4.warm_up", planned(lr_warmup_steps=60, max_train_epochs=2), "train.lr_warmup_steps", "warning"),
]
MISSES: list[Misses] = [
    ("G4.36", at(max_train_epochs=5)),
    ("G4.36", at(max_train_steps=5)),
    ("G4.36", at()),
    ("S5", at(lr_scheduler="constant")),
    ("S5", at(lr_scheduler="constant", lr_warmup_steps=0)),
    ("S5", at(lr_scheduler="constant_with_warmup", lr_warmup_steps=0.1)),
    ("S5.needs", at("AdamW", lr_scheduler="cosine_with_min_lr", of={"kohya": {"lr_scheduler_min_lr_ratio": 0.1}})),
    ("S5.needs", at("Adafactor", lr_scheduler="adafactor")),
    (
        "S5.needs",
        at("AdamW", lr_scheduler="piecewise_constant", of={"kohya": {"lr_scheduler_args": ["step_rules=1:10,0.1"]}}),
    ),
    ("S5.needs", at("AdamW")),
    ("G4.42", at(lr_scheduler="cosine")),
    ("G4.42", at("AdamW", lr_scheduler="cosine_with_restarts")),
    ("G4.42", at("prodigyplus.ProdigyPlusScheduleFree", lr_scheduler="constant")),
    ("G4.44", at("AdamW")),
    ("G4.44", at("AdamW", lr_scheduler="cosine")),
    ("G4.44", at("AdamW", lr_scheduler="cosine_with_restarts")),
    ("G4.44", at("Prodigy", lr_scheduler="linear")),
    ("G4.44", at("AdamW", lr_scheduler="linear", of={"kohya": {"lr_scheduler_type": "StepLR"}})),
    ("G4.100", at(min_snr_gamma=5)),
    ("G4.100", at(min_snr_gamma=0, debiased_estimation_loss=True)),
    ("G4.100", at(min_snr_gamma=5, debiased_estimation_loss=False)),
    ("G35.12", at(of=REG, prior_loss_weight=1)),
    ("G35.12", at(prior_loss_weight=0.5)),
    ("S5.type", typed("CosineAnnealingLR", "T_max=100")),
    ("S5.type", typed("LinearLR", lr_warmup_steps=0)),
    ("S5", at("AdamWScheduleFree", learning_rate=1e-3, lr_scheduler="constant", lr_warmup_steps=5)),
    ("S5.first_step", at("DAdaptSGD", lr_warmup_steps=0)),
    ("S5.first_step", at("DAdaptSGD", lr_scheduler="piecewise_constant", lr_warmup_steps=5)),
    ("S5.first_step", at("DAdaptAdam", lr_warmup_steps=5)),
    ("S5.type", typed("my.own.Scheduler")),
    ("S5.type", at("AdamW", lr_scheduler="cosine", lr_warmup_steps=0.1)),
    ("S4.decay", at("AdamW", of=decay(100), lr_scheduler="warmup_stable_decay")),
    ("S4.decay", at("AdamW", of=decay(0.2), lr_scheduler="warmup_stable_decay")),
    ("S4.decay", at("AdamW")),
    ("S4.warm_up", planned(lr_warmup_steps=99, max_train_steps=100)),
    ("S4.warm_up", planned(max_train_steps=1)),
    ("S4.warm_up", planned(optimizer="SGDScheduleFree", learning_rate=1e-3, lr_warmup_steps=99, max_train_steps=9)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("schedule")
    assert len(topic("schedule")) >= 11


def test_lower_regularization_weight_is_said_to_be_weaker() -> None:
    """The guide has it the wrong way round."""
    assert "weaker" in spoken("G35.12", at(of=REG, prior_loss_weight=0.5))[0].message
    assert "stronger" in spoken("G35.12", at(of=REG, prior_loss_weight=2))[0].message
