"""Rules about optimizer, rates, scheduler, duration and loss: each fires where it should, silent beside it."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide import Situation
from situations import Fires, Misses, recipe, situation, spoken, topic


def at(optimizer: str = "Prodigy", /, *, of: dict[str, Any] | None = None, **train: Any) -> Situation:
    return situation(recipe(train={"optimizer": optimizer} | train, **(of or {})))


UNET_ONLY: dict[str, Any] = {"network": {"network_train_unet_only": True}}
REG: dict[str, Any] = {"regularisation": [{"class": "food", "images": "r"}]}
RATE = "train.learning_rate"
FIRES: list[Fires] = [
    ("G4.36", at(max_train_epochs=5, max_train_steps=500), "train.max_train_steps", "error"),
    ("G4.36", at(max_train_epochs=5, exposures=50), "train.exposures", "error"),
    ("G4.36", at(max_train_steps=5, exposures=50), "train.exposures", "error"),
    ("S27", at(unet_lr=4e-4, text_encoder_lr=4.5e-4), "train.text_encoder_lr", "error"),
    ("S27", at("DAdaptAdam", unet_lr=1.0, text_encoder_lr=0.5), "train.text_encoder_lr", "error"),
    ("S27", at(text_encoder_lr=0.5), "train.text_encoder_lr", "error"),
    ("S27", at(unet_lr=0.5), "train.unet_lr", "error"),
    ("S27", at(learning_rate=2.0, unet_lr=1.0), "train.unet_lr", "error"),
    ("G4.52", at(learning_rate=1e-4), RATE, "error"),
    ("G4.52", at(learning_rate=0.1), RATE, "error"),
    ("G4.52", at("DAdaptAdam", learning_rate=3), RATE, "error"),
    ("G4.52", at(unet_lr=1e-4, text_encoder_lr=1e-4), "train.unet_lr", "error"),
    ("G4.66", at("AdamW", learning_rate=1.0), RATE, "error"),
    ("G4.66", at("AdamW8bit", unet_lr=0.1), "train.unet_lr", "error"),
    ("G4.66", at("AdamW", text_encoder_lr=1), "train.text_encoder_lr", "error"),
    ("S26", at("Lion"), "train.optimizer", "error"),
    ("S26", at("my.own.Optimizer"), "train.optimizer", "error"),
    ("S26", at("Lion", unet_lr=1e-4), "train.optimizer", "error"),
    ("GC.12", at("AdamW8bit", optimizer_args={"decouple": True}), "train.optimizer_args.decouple", "error"),
    ("GC.12", at("AdamW", optimizer_args={"d_coef": 2, "eps": 1e-8}), "train.optimizer_args.d_coef", "error"),
    ("S3", at(optimizer_args={"foreach": "a=b"}), "train.optimizer_args.foreach", "error"),
    ("S5", at(lr_scheduler="constant", lr_warmup_steps=0.1), "train.lr_warmup_steps", "error"),
    ("S5", at("AdamW", lr_scheduler="constant", lr_warmup_steps=100), "train.lr_warmup_steps", "error"),
    ("S5.min_lr", at("AdamW", lr_scheduler="cosine_with_min_lr"), "train.lr_scheduler", "error"),
    ("S5.min_lr", at("AdamW", lr_scheduler="adafactor"), "train.lr_scheduler", "error"),
    ("S5.min_lr", at("AdamW", lr_scheduler="piecewise_constant"), "train.lr_scheduler", "error"),
    ("G4.42", at(lr_scheduler="cosine_with_restarts"), "train.lr_scheduler", "warning"),
    ("G4.42", at("DAdaptAdam", lr_scheduler="linear"), "train.lr_scheduler", "warning"),
    ("G4.56", at(lr_scheduler_num_cycles=3), "train.lr_scheduler_num_cycles", "warning"),
    (
        "G4.56",
        at("AdamW", lr_scheduler="linear", lr_scheduler_num_cycles=3),
        "train.lr_scheduler_num_cycles",
        "warning",
    ),
    ("G4.45", at("Lion", learning_rate=1e-5), "train.optimizer", "hint"),
    ("G4.45", at("PagedAdamW"), "train.optimizer", "hint"),
    ("G4.73", at(of={"network": {"network_alpha": 32}}), "network.network_alpha", "warning"),
    ("G4.100", at(min_snr_gamma=5, debiased_estimation_loss=True), "train.debiased_estimation_loss", "warning"),
    ("G35.12", at(of=REG, prior_loss_weight=0.5), "train.prior_loss_weight", "warning"),
    ("G35.12", at(of=REG, prior_loss_weight=2), "train.prior_loss_weight", "warning"),
]
MISSES: list[Misses] = [
    ("S3", at(optimizer_args={"foreach": "a-b", "eps": 1e-8})),
    ("G4.36", at(max_train_epochs=5)),
    ("G4.36", at(max_train_steps=5)),
    ("G4.36", at()),
    ("S27", at(unet_lr=1, text_encoder_lr=1)),
    ("S27", at(learning_rate=1.0, unet_lr=0.5, text_encoder_lr=0.5)),
    ("S27", at(text_encoder_lr=0)),
    ("S27", at(of=UNET_ONLY, unet_lr=0.5)),
    ("S27", at("AdamW", unet_lr=1e-4, text_encoder_lr=5e-5)),
    ("S27", at()),
    ("G4.52", at(learning_rate=1)),
    ("G4.52", at(learning_rate=0.5)),
    ("G4.52", at("AdamW", learning_rate=1e-4)),
    ("G4.52", at()),
    ("G4.66", at("AdamW", learning_rate=1e-3)),
    ("G4.66", at("Prodigy", learning_rate=1)),
    ("S26", at("Lion", learning_rate=1e-5)),
    ("S26", at("Lion", unet_lr=1e-5, text_encoder_lr=1e-6)),
    ("S26", at("Lion", of=UNET_ONLY, unet_lr=1e-5)),
    ("S26", at("Adafactor")),
    ("S26", at("AdamW")),
    ("S26", at()),
    ("GC.12", at("AdamW", optimizer_args={"weight_decay": 0.1})),
    ("GC.12", at("Prodigy", optimizer_args={"decouple": True})),
    ("S5", at(lr_scheduler="constant")),
    ("S5", at(lr_scheduler="constant", lr_warmup_steps=0)),
    ("S5", at(lr_scheduler="constant_with_warmup", lr_warmup_steps=0.1)),
    ("S5.min_lr", at("AdamW", lr_scheduler="cosine_with_min_lr", of={"kohya": {"lr_scheduler_min_lr_ratio": 0.1}})),
    ("S5.min_lr", at("Adafactor", lr_scheduler="adafactor")),
    ("S5.min_lr", at("AdamW", lr_scheduler="piecewise_constant", of={"kohya": {"lr_scheduler_args": ["a=1"]}})),
    ("S5.min_lr", at("AdamW")),
    ("G4.42", at(lr_scheduler="cosine")),
    ("G4.42", at("AdamW", lr_scheduler="cosine_with_restarts")),
    ("G4.56", at("AdamW", lr_scheduler_num_cycles=3)),
    ("G4.56", at("AdamW", lr_scheduler="cosine")),
    ("G4.45", at("DAdaptAdam")),
    ("G4.45", at("AdamW8bit")),
    ("G4.73", at(of={"network": {"network_alpha": 1}})),
    ("G4.73", at("AdamW", of={"network": {"network_alpha": 32}})),
    ("G4.100", at(min_snr_gamma=5)),
    ("G4.100", at(min_snr_gamma=0, debiased_estimation_loss=True)),
    ("G4.100", at(min_snr_gamma=5, debiased_estimation_loss=False)),
    ("G35.12", at(of=REG, prior_loss_weight=1)),
    ("G35.12", at(prior_loss_weight=0.5)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: Situation, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: Situation) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("optimizer")
    assert len(topic("optimizer")) >= 14


def test_lower_regularisation_weight_is_said_to_be_weaker() -> None:
    """The guide has it the wrong way round."""
    assert "weaker" in spoken("G35.12", at(of=REG, prior_loss_weight=0.5))[0].message
    assert "stronger" in spoken("G35.12", at(of=REG, prior_loss_weight=2))[0].message
