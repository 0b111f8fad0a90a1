"""Rules about the network and its LyCORIS arguments: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from situations import Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(kind: str | None = None, /, *, of: dict[str, Any] | None = None, **network: Any) -> RuleContext:
    return situation(recipe(network=({"type": kind} if kind else {}) | network, **(of or {})))


SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}
STYLE: dict[str, Any] = {"kind": "style"}
ADAM: dict[str, Any] = {"train": {"optimizer": "AdamW"}}
DIM = "network.network_dim"


def ia3(optimizer: str = "AdamW", kind: str = "ia3", **train: Any) -> RuleContext:
    return at(kind, of={"train": {"optimizer": optimizer} | train})


def planned(kind: str, optimizer: str = "AdamW", **network: Any) -> RuleContext:
    """With its plan, which knows the rank."""
    made = recipe(network={"type": kind} | network, train={"optimizer": optimizer})
    return situation(made, plan=plan_of(made))


REG: dict[str, Any] = {"regularization": [{"class": "food", "images": "r"}]}
FP16: dict[str, Any] = {"save": {"save_precision": "fp16"}}
NORMS, ALPHA = "network.scale_weight_norms", "network.network_alpha"
FIRES: list[Fires] = [
    ("S36", at("dylora", network_dim=30), DIM, "error"),
    ("S36", at("dylora", network_dim=96, block_size=48), "network.block_size", "error"),
    ("S36", at("dylora", conv_dim=6), "network.conv_dim", "error"),
    ("S36.unit", at("networks.dylora", args={"unit": 0}), "network.args.unit", "error"),
    ("S36.unit", at("networks.dylora", network_dim=16, args={"unit": 3}), "network.args.unit", "error"),
    ("S36.boft", at("boft", network_dim=4), DIM, "error"),
    ("S36.boft", at("boft", conv_dim=8), "network.conv_dim", "error"),
    ("G4.22", at(dora_wd=True), "network.dora_wd", "error"),
    ("G4.22", at("glora", dora_wd=True), "network.dora_wd", "error"),
    ("S37", at("locon", factor=8), "network.factor", "error"),
    ("S37", at("lora", preset="full"), "network.preset", "error"),
    ("S37", at("dylora", use_tucker=True), "network.use_tucker", "error"),
    ("S37", at("lora", block_size=4), "network.block_size", "error"),
    ("S35", at("locon", preset="unet-only"), "network.preset", "error"),
    ("S35", at("locon", preset="full-lin"), "network.preset", "error"),
    ("S35", at("locon", preset="fulll"), "network.preset", "error"),
    ("S35", at("locon", preset="mine/train.toml"), "network.preset", "error"),
    ("S37.conv_alpha", at("lora", conv_alpha=4), "network.conv_alpha", "warning"),
    ("S37.conv_alpha", at("lora", conv_alpha=4, conv_dim=0), "network.conv_alpha", "warning"),
    ("S34", at("glora", rank_dropout=0.1), "network.rank_dropout", "warning"),
    ("S34", at("dylora", rank_dropout=0.1), "network.rank_dropout", "warning"),
    ("S34", at("locon", network_dropout=0.1), "network.network_dropout", "warning"),
    ("S34", at(of=STYLE, network_dropout=0.1), "network.network_dropout", "warning"),
    ("S33", at("ia3", network_dim=8), DIM, "warning"),
    ("S33", at("full", network_dim=8), DIM, "warning"),
    ("S33", at("boft", network_alpha=8), ALPHA, "warning"),
    ("S33", at("lokr", network_dim=100_000, network_alpha=1), ALPHA, "hint"),
    ("S33", at("lokr", network_alpha=1, args={"full_matrix": True}), ALPHA, "hint"),
    ("S33.saved", at("lokr", network_dim=100_000, of=FP16), "save.save_precision", "warning"),
    ("S33.saved", at("lokr", network_dim=10_000, args={"rs_lora": True}, of=FP16), "save.save_precision", "warning"),
    ("S37.factor", at("lokr", factor=5000), "network.factor", "warning"),
    ("S33", at("diag-oft", network_alpha=1), "network.network_alpha", "warning"),
    ("S32", at("dylora", scale_weight_norms=1), "network.scale_weight_norms", "warning"),
    ("S32", at("glora", scale_weight_norms=1), "network.scale_weight_norms", "warning"),
    ("G4.71", at(network_dim=65), DIM, "warning"),
    ("G4.71", at("loha", network_dim=33), DIM, "warning"),
    ("G4.71", at(of=STYLE, network_dim=64), DIM, "warning"),
    ("G7.15", at("locon", network_alpha=0.001), "network.network_alpha", "warning"),
    ("G4.77", at("locon", conv_dim=17), "network.conv_dim", "warning"),
    ("G4.77", at("lora", conv_dim=32), "network.conv_dim", "warning"),
    ("G4.77.lora", at("lora", conv_dim=16), "network.conv_dim", "hint"),
    ("G7.27", ia3(unet_lr=1e-4), "train.learning_rate", "warning"),
    ("G7.27", ia3(learning_rate=2e-2), "train.learning_rate", "warning"),
    ("G4.79", at(scale_weight_norms=1), NORMS, "hint"),
    ("G4.83", at(of=REG, scale_weight_norms=1.5), NORMS, "hint"),
    ("G4.74", planned("lora", network_alpha=181.02), ALPHA, "hint"),
    ("G4.74", planned("loha", network_dim=8, network_alpha=16), ALPHA, "hint"),
    ("G5.3", planned("lora", network_alpha=16), ALPHA, "hint"),
    ("G5.3", planned("locon", network_alpha=8), ALPHA, "hint"),
    ("G5.3", planned("lora", network_dim=8, network_alpha=1), ALPHA, "hint"),
]
MISSES: list[Misses] = [
    ("S36.unit", at("networks.dylora", network_dim=16, args={"unit": 4})),
    ("S36.unit", at("networks.dylora")),
    ("S36.boft", at("boft")),
    ("S36.boft", at("boft", network_dim=16)),
    ("S36.boft", at("loha", network_dim=4)),
    ("S33", at("lokr", network_dim=64, network_alpha=1)),
    ("S33.saved", at("lokr", network_dim=100_000)),
    ("S33.saved", at("lokr", network_dim=10_000, of=FP16)),
    ("S33.saved", at("loha", network_dim=100_000, of=FP16)),
    ("S37.factor", at("lokr", factor=8)),
    ("S37.factor", at("lokr", factor=1280)),
    ("S37.factor", at("lokr", factor=-1)),
    ("G4.71", at("lokr", network_dim=100_000)),
    ("G5.3", planned("lokr", network_dim=100_000, network_alpha=1.0)),
    ("S36", at("dylora")),
    ("S36", at("dylora", network_dim=32, block_size=8)),
    ("S36", at("dylora", network_dim=10, block_size=5, conv_dim=0)),
    ("S36", at("locon", network_dim=30)),
    ("G4.22", at("locon", dora_wd=True)),
    ("G4.22", at(of=STYLE, dora_wd=True)),
    ("G4.22", at("glora", dora_wd=False)),
    ("S37", at("lokr", factor=8)),
    ("S37", at("dylora", block_size=4)),
    ("S37", at("dylora", train_norm=True)),
    ("S37", at("ia3", train_norm=True)),
    ("S37", at("ia3", preset="ia3")),
    ("S37", at(of=STYLE, use_tucker=True)),
    ("S35", at("locon", preset="full")),
    ("S35", at("locon", preset="attn-mlp")),
    ("S35", at("locon", of=SDXL, preset="unet-only")),
    ("S35", at("locon", preset="my.toml")),
    ("S35", at("locon", preset="a=b.toml")),  # network_args are split at the first = only (TN:666)
    ("S35", at("locon")),
    ("S35", at("lora", preset="nonsense")),
    ("S37.conv_alpha", at("lora", conv_alpha=4, conv_dim=8)),
    ("S37.conv_alpha", at("locon", conv_alpha=4)),
    ("S34", at("lora", rank_dropout=0.1)),
    ("S34", at("lora", network_dropout=0.1)),
    ("S34", at("locon", network_dropout=0)),
    ("S34", at("locon", rank_dropout=0.1)),
    ("S33", at("ia3")),
    ("S33", at("diag-oft", network_dim=8)),
    ("S33", at("locon", network_dim=8, network_alpha=1)),
    ("S32", at("locon", scale_weight_norms=1)),
    ("S32", at("glora", scale_weight_norms=0)),
    ("S32", at("lora", scale_weight_norms=1)),
    ("G4.71", at(network_dim=64)),
    ("G4.71", at("loha", network_dim=32)),
    ("G4.71", at(of=STYLE, network_dim=32)),
    ("G4.71", at("dylora", network_dim=128)),
    ("G7.15", at("locon", network_alpha=0.01)),
    ("G7.15", at("lora", network_alpha=0.001)),
    ("G4.77", at("locon", conv_dim=16)),
    ("G4.77.lora", at("locon", conv_dim=16)),
    ("G4.77.lora", at("lora", conv_dim=0)),
    ("G4.77.lora", at("lora")),
    ("G7.27", ia3(unet_lr=5e-3)),
    ("G7.27", ia3()),
    ("G7.27", ia3("Prodigy", learning_rate=1.0)),
    ("G7.27", ia3(kind="locon", unet_lr=1e-4)),
    ("G4.79", at(of=REG, scale_weight_norms=1)),
    ("G4.79", at(scale_weight_norms=0)),
    ("G4.83", at(scale_weight_norms=1)),
    ("G4.83", at("glora", scale_weight_norms=2)),
    ("G4.74", planned("lora", network_alpha=32)),
    ("G4.74", planned("lora", "Prodigy", network_alpha=181.02)),
    ("G4.74", planned("ia3", network_alpha=64)),
    ("G5.3", planned("lora")),
    ("G5.3", planned("lora", network_alpha=32)),
    ("G5.3", planned("locon", network_alpha=16)),
    ("G5.3", planned("diag-oft", network_alpha=1)),
    ("G5.3", planned("lora", "Prodigy", network_alpha=1)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("network")
    assert len(topic("network")) >= 13


def test_a_rank_that_divides_is_offered() -> None:
    assert "network_dim = 28" in spoken("S36", at("dylora", network_dim=30))[0].fix
    assert "network_dim = 4" in spoken("S36", at("dylora", network_dim=2))[0].fix
