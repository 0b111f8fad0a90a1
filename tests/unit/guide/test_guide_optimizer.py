"""Rules about the optimizer, its arguments and the rates: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(optimizer: str = "Prodigy", /, *, of: dict[str, Any] | None = None, **train: Any) -> RuleContext:
    return situation(recipe(train={"optimizer": optimizer} | train, **(of or {})))


def planned(family: str = "sd15", /, **of: Any) -> RuleContext:
    """With its plan, which has the guide's rates."""
    made = recipe(base={"family": family}, train=of.pop("train", {}), **of)
    return situation(made, plan=plan_of(made))


def layered(unet_only: bool = False, optimizer: str = "Prodigy", **args: Any) -> RuleContext:
    """Arguments of the network that give layers their own rates."""
    network = {"args": args, "network_train_unet_only": unet_only}
    return situation(recipe(network=network, train={"optimizer": optimizer}))


RATE = "train.learning_rate"
UNET_ONLY: dict[str, Any] = {"network": {"network_train_unet_only": True}}
TEXT_ONLY: dict[str, Any] = {"kohya": {"network_train_text_encoder_only": True}}
FIRES: list[Fires] = [
    ("G4.67", planned("sdxl", train={"optimizer": "AdamW"}), "train.optimizer", "hint"),
    (
        "G4.67",
        planned(train={"optimizer": "AdamW8bit", "text_encoder_lr": 5e-4, "unet_lr": 8.33e-5}),
        "train.text_encoder_lr",
        "warning",
    ),
    (
        "G4.67",
        planned(train={"optimizer": "AdamW", "unet_lr": 1e-5, "learning_rate": 2e-5}),
        "train.unet_lr",
        "warning",
    ),
    ("S27", at(unet_lr=4e-4, text_encoder_lr=4.5e-4), "train.text_encoder_lr", "error"),
    ("S27.layers", layered(loraplus_lr_ratio=16), "network.args.loraplus_lr_ratio", "error"),
    ("S27.layers", layered(loraplus_text_encoder_lr_ratio=4.0), "network.args.loraplus_text_encoder_lr_ratio", "error"),
    ("S27.layers", layered(mid_lr_weight=0.5), "network.args.mid_lr_weight", "error"),
    ("S27.layers", layered(up_lr_weight="cosine+.2"), "network.args.up_lr_weight", "error"),
    ("S27.layers", layered(down_lr_weight="1,1,,,,,.5,1,1,1,1,1"), "network.args.down_lr_weight", "error"),
    ("S27", at("DAdaptAdam", unet_lr=1.0, text_encoder_lr=0.5), "train.text_encoder_lr", "error"),
    ("S27", at(text_encoder_lr=0.5), "train.text_encoder_lr", "error"),
    ("S27", at(unet_lr=0.5), "train.unet_lr", "error"),
    ("S27", at(learning_rate=2.0, unet_lr=1.0), "train.unet_lr", "error"),
    ("G4.52", at(learning_rate=1e-4), RATE, "warning"),
    ("G4.52", at(learning_rate=0.1), RATE, "warning"),
    ("G4.52", at("DAdaptAdam", learning_rate=3), RATE, "warning"),
    ("G4.52", at("prodigyopt.Prodigy", learning_rate=1e-4), RATE, "warning"),
    ("G4.52", at("prodigyplus.ProdigyPlusScheduleFree", learning_rate=1e-4), RATE, "hint"),
    ("G4.52", at(unet_lr=1e-4, text_encoder_lr=1e-4), "train.unet_lr", "warning"),
    ("G4.66", at("AdamW", learning_rate=1.0), RATE, "warning"),
    ("G4.66", at("AdamW8bit", unet_lr=0.1), "train.unet_lr", "warning"),
    ("G4.66", at("AdamW", text_encoder_lr=1), "train.text_encoder_lr", "warning"),
    ("S26", at("Lion"), "train.optimizer", "warning"),
    ("S26", at("my.own.Optimizer"), "train.optimizer", "warning"),
    ("S26", at("Lion", unet_lr=1e-4), "train.optimizer", "warning"),
    ("G4.45", at("Lion", learning_rate=1e-5), "train.optimizer", "hint"),
    ("G4.45", at("PagedAdamW"), "train.optimizer", "hint"),
    ("G4.73", at(of={"network": {"network_alpha": 32}}), "network.network_alpha", "warning"),
    ("S26", at("Adafactor", optimizer_args={"relative_step": False}), "train.optimizer", "warning"),
    ("S26", at("RAdam"), "train.optimizer", "warning"),
    ("S26.zero", at("AdamW", unet_lr=0, text_encoder_lr=0), "train.unet_lr", "error"),
    ("S26.zero", at("AdamW", of=UNET_ONLY, unet_lr=0), "train.unet_lr", "error"),
    ("S26.zero", at(of=UNET_ONLY | TEXT_ONLY), "kohya.network_train_text_encoder_only", "error"),
    ("S26.zero", at("AdamW", of=TEXT_ONLY, text_encoder_lr=0), "kohya.network_train_text_encoder_only", "error"),
    ("S26.zero", at("AdamW", text_encoder_lr=0), "train.text_encoder_lr", "warning"),
    ("S26.zero", at("AdamW", unet_lr=0), "train.unet_lr", "warning"),
    ("S26.adafactor", at("Adafactor", lr_warmup_steps=100), "train.lr_warmup_steps", "error"),
    (
        "S26.adafactor",
        at("Adafactor", lr_warmup_steps=5, optimizer_args={"relative_step": False, "warmup_init": True}),
        "train.lr_warmup_steps",
        "error",
    ),
]
MISSES: list[Misses] = [
    ("G4.67", planned("sdxl", train={"optimizer": "AdamW", "learning_rate": 1e-5})),
    ("G4.67", planned("sdxl", train={"optimizer": "AdamW", "unet_lr": 1e-5})),
    ("G4.67", planned(train={"optimizer": "AdamW"})),
    ("G4.67", planned("sdxl")),
    ("G4.67", planned("sdxl", train={"optimizer": "AdamW"}, **UNET_ONLY)),
    ("G4.67", planned("sdxl", train={"optimizer": "AdamW", "text_encoder_lr": 1e-5})),
    ("G4.67", planned(train={"optimizer": "Lion", "learning_rate": 1e-4})),
    ("G4.67", planned(train={"optimizer": "AdamW"}, network={"type": "ia3"})),
    ("S27", at(unet_lr=1, text_encoder_lr=1)),
    ("S27.layers", layered(loraplus_lr_ratio=1)),
    ("S27.layers", layered(True, loraplus_text_encoder_lr_ratio=16)),
    ("S27.layers", layered(True, loraplus_lr_ratio=16, loraplus_unet_lr_ratio=1)),
    ("S27.layers", layered(down_lr_weight="1,1,,,,,1,1,1,1,1,1")),
    ("S27.layers", layered(up_lr_weight="zeros")),
    ("S27.layers", layered(True, down_lr_weight="zeros+.5", mid_lr_weight=0.5, up_lr_weight="zeros+0.5")),
    ("S27.layers", layered(optimizer="AdamW8bit", loraplus_lr_ratio=16)),
    ("S27.layers", layered(optimizer="prodigyplus.ProdigyPlusScheduleFree", loraplus_lr_ratio=16)),
    ("S27", at(learning_rate=1.0, unet_lr=0.5, text_encoder_lr=0.5)),
    ("S27", at(text_encoder_lr=0)),
    ("S27", at(of=UNET_ONLY, unet_lr=0.5)),
    ("S27", at("AdamW", unet_lr=1e-4, text_encoder_lr=5e-5)),
    ("S27", at()),
    ("S27", at("ProdigyPlusScheduleFree", unet_lr=1.0, text_encoder_lr=0.5)),
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
    ("G4.45", at("DAdaptAdam")),
    ("G4.45", at("AdamW8bit")),
    ("G4.73", at(of={"network": {"network_alpha": 1}})),
    ("G4.73", at("AdamW", of={"network": {"network_alpha": 32}})),
    ("S26", at("Adafactor", optimizer_args={"relative_step": False, "warmup_init": True})),
    ("S26", at("Adafactor", learning_rate=1e-4, optimizer_args={"relative_step": False})),
    ("S26.zero", at("AdamW", of=UNET_ONLY, text_encoder_lr=0)),
    ("S26.zero", at("AdamW", of=TEXT_ONLY, unet_lr=0)),
    ("S26.zero", at("AdamW", unet_lr=1e-4, text_encoder_lr=1e-5)),
    ("S26.zero", at(of=UNET_ONLY)),
    ("S26.adafactor", at("Adafactor")),
    ("S26.adafactor", at("Adafactor", lr_scheduler="adafactor", lr_warmup_steps=0)),
    (
        "S26.adafactor",
        at("Adafactor", optimizer_args={"relative_step": False}, learning_rate=1e-4, lr_warmup_steps=10),
    ),
    ("S26.adafactor", at("Lion", learning_rate=1e-4, lr_scheduler="cosine", lr_warmup_steps=10)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("optimizer")
    assert len(topic("optimizer")) >= 9
