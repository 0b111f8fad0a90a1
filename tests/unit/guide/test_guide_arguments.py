"""Rules about what optimizers, schedulers and networks take: each one applies where it should, and only there."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake.util import resources
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules import collect_findings
from lorabake_schemas.sd_scripts import OPTIMIZER_CLASSES
from lorabake_schemas.signatures import Signatures
from situations import Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(optimizer: str = "Prodigy", /, *, of: dict[str, Any] | None = None, **train: Any) -> RuleContext:
    return situation(recipe(train={"optimizer": optimizer, "learning_rate": 1.0} | train, **(of or {})))


def args(optimizer: str, /, **given: Any) -> RuleContext:
    return at(optimizer, optimizer_args=given)


def typed(name: str, /, *arguments: str, optimizer: str = "AdamW", **train: Any) -> RuleContext:
    given = {"lr_scheduler_args": list(arguments)} if arguments else {}
    return at(optimizer, of={"kohya": {"lr_scheduler_type": name, **given}}, **train)


def scheduled(name: str, /, *arguments: str) -> RuleContext:
    return at("AdamW", of={"kohya": {"lr_scheduler_args": list(arguments)}}, lr_scheduler=name)


def planned(*arguments: str) -> RuleContext:
    made = recipe(
        train={"optimizer": "AdamW", "max_train_steps": 6},
        kohya={"lr_scheduler_type": "OneCycleLR", "lr_scheduler_args": list(arguments)},
    )
    return situation(made, plan=plan_of(made))


def net(kind: str | None = None, /, **given: Any) -> RuleContext:
    keys = {"type": kind} if kind else {}
    return situation(recipe(network={"args": given} | keys))


PIN_HAS = resources.load_snapshot().signatures


def lacking(module: str, kind: str | None = None, /) -> RuleContext:
    """A trainer without a module of networks."""
    networks = {name: each for name, each in PIN_HAS.networks.items() if name != module}
    keys = {"type": kind} if kind else {}
    return situation(recipe(network=keys), signatures=PIN_HAS.model_copy(update={"networks": networks}))


def unread(optimizer: str, /) -> RuleContext:
    return situation(recipe(train={"optimizer": optimizer, "learning_rate": 1e-4}), signatures=Signatures())


OPTIMIZER, ARGS = "train.optimizer", "train.optimizer_args"
TYPE, SCHEDULE = "train.lr_scheduler_type", "train.lr_scheduler_args"
FIRES: list[Fires] = [
    ("GC.12.class", at("CAEM"), OPTIMIZER, "error"),
    ("GC.12.class", at("came_pytorch.CAME"), OPTIMIZER, "error"),
    ("GC.12.class", at("pytorch_optimizer.NoSuchThing"), OPTIMIZER, "error"),
    ("GC.12.class", at("torch.optim.NoSuchThing"), OPTIMIZER, "error"),
    ("GC.12.class", at("pytorch_optimizer.AdaHessian"), OPTIMIZER, "error"),
    ("GC.12.class", at("LBFGS"), OPTIMIZER, "error"),
    ("GC.12.class", at("Muon"), OPTIMIZER, "error"),
    ("GC.12.class", at("SparseAdam"), OPTIMIZER, "error"),
    ("GC.12.class", unread("CAME"), OPTIMIZER, "warning"),
    ("GC.12", args("AdamW8bit", decouple=True), f"{ARGS}.decouple", "error"),
    ("GC.12", args("AdamW", d_coef=2, eps=1e-8), f"{ARGS}.d_coef", "error"),
    ("GC.12", args("Prodigy", decuple=True), f"{ARGS}.decuple", "error"),
    ("GC.12", args("Lion", eps=1e-8), f"{ARGS}.eps", "error"),
    ("GC.12", args("AdamW", lr=1e-4), f"{ARGS}.lr", "error"),
    ("GC.12", args("SGDNesterov", nesterov=True), f"{ARGS}.nesterov", "error"),
    ("GC.12", args("AdamW", betas=0.9), f"{ARGS}.betas", "error"),
    ("GC.12", args("AdamW", betas=[0.9, 0.99, 0.999]), f"{ARGS}.betas", "error"),
    ("GC.12", args("AdamW", weight_decay=-1), f"{ARGS}.weight_decay", "error"),
    ("GC.12", args("AdamW", weight_decay="much"), f"{ARGS}.weight_decay", "error"),
    ("GC.12", args("AdamW8bit", amsgrad=True), f"{ARGS}.amsgrad", "error"),
    ("GC.12", args("Prodigy", d0=0), f"{ARGS}.d0", "error"),
    ("GC.12", args("RAdamScheduleFree", warmup_steps=10), f"{ARGS}.warmup_steps", "error"),
    ("GC.12", args("ProdigyPlusScheduleFree", warmup_steps=10), f"{ARGS}.warmup_steps", "error"),
    ("GC.12", args("pytorch_optimizer.CAME", colour=1), f"{ARGS}.colour", "warning"),
    ("GC.12", args("CAME", weight_decay=-0.1), f"{ARGS}.weight_decay", "error"),
    ("S3", args("Prodigy", foreach="a=b"), f"{ARGS}.foreach", "error"),
    ("S5.class", typed("CosineAnnealingLR"), TYPE, "error"),
    ("S5.class", typed("CosineAnealingLR", "T_max=100"), TYPE, "error"),
    ("S5.class", typed("ReduceLROnPlateau"), TYPE, "error"),
    ("S5.class", typed("OneCycleLR", "max_lr=0.1"), TYPE, "error"),
    ("S5.class", typed("CyclicLR", "base_lr=0.1", "max_lr=1", optimizer="Adagrad"), TYPE, "error"),
    ("S5.class", typed("nothere.Sched"), TYPE, "error"),
    ("S5.class", typed("torch.optim.lr_scheduler.ReduceLROnPlateau"), TYPE, "error"),
    ("S5.class", typed("pytorch_optimizer.REXSchedule", "total_steps=9"), TYPE, "error"),
    ("S5.class", typed("StepLR", "step_size=3", "gama=0.1"), f"{SCHEDULE}.gama", "error"),
    ("S5.class", typed("StepLR", "step_size='x'"), f"{SCHEDULE}.step_size", "error"),
    ("S5.class", typed("LinearLR", "start_factor=2.0"), f"{SCHEDULE}.start_factor", "error"),
    ("S5.args", scheduled("cosine", "colour=1"), f"{SCHEDULE}.colour", "error"),
    ("S5.args", scheduled("cosine", "num_training_steps=9"), f"{SCHEDULE}.num_training_steps", "error"),
    ("S3", at("AdamW", lr_scheduler="cosine", lr_scheduler_args={"x": "a=b"}), f"{SCHEDULE}.x", "error"),
    ("S5.steps", planned("max_lr=0.1", "total_steps=3"), f"{SCHEDULE}.total_steps", "error"),
    ("S5.steps", planned("max_lr=0.1", "epochs=1", "steps_per_epoch=2"), f"{SCHEDULE}.epochs", "error"),
    ("S37.type", net("lokro"), "network.type", "error"),
    ("S37.type", net("LyCORIS/LoKr"), "network.type", "error"),
    ("S37.type", net("networks.lora_flux"), "network.type", "error"),
    ("S37.type", net("lycoris.kohya"), "network.type", "error"),
    ("S37.partner", net("locon", wd_on_output=False), "network.args.wd_on_output", "warning"),
    ("S37.partner", net("lora", block_lr_zero_threshold=0.1), "network.args.block_lr_zero_threshold", "warning"),
    ("S37.blocks", net("lora", block_dims=[4, 4, 4]), "network.args.block_dims", "error"),
    ("S37.blocks", net("lora", block_dims=4), "network.args.block_dims", "error"),
    ("S37.blocks", net("lora", block_dims=",".join(["4.5"] * 25)), "network.args.block_dims", "error"),
    ("S37.blocks", net("lora", block_dims=[-4] * 25), "network.args.block_dims", "error"),
    ("S37.blocks", net("lora", block_dims=[4] * 25, block_alphas="1,b"), "network.args.block_alphas", "error"),
    ("S37.blocks", net("lora", block_dims=[4] * 25, conv_block_dims=[4] * 23), "network.args.conv_block_dims", "error"),
    ("S37.blocks", net("lora", down_lr_weight=0.5), "network.args.down_lr_weight", "error"),
    ("S37.blocks", net("lora", up_lr_weight="cosin"), "network.args.up_lr_weight", "error"),
    ("S37.blocks", net("lora", up_lr_weight="cosine+a"), "network.args.up_lr_weight", "error"),
    ("S37.blocks", net("lora", mid_lr_weight="cosine"), "network.args.mid_lr_weight", "error"),
    ("S37.blocks", net("lora", down_lr_weight=[1.0] * 13), "network.args.down_lr_weight", "error"),
    (
        "S37.blocks",
        net("lora", down_lr_weight=[1.0] * 13, up_lr_weight="sine"),
        "network.args.down_lr_weight",
        "warning",
    ),
    ("S37.blocks", net("lora", mid_lr_weight=[1.0, 0.5]), "network.args.mid_lr_weight", "warning"),
    ("S37.type", net("networks.nothere"), "network.type", "error"),
    ("S37.type", lacking("networks.lora"), "network.type", "error"),
    ("S37.type", lacking("lycoris.kohya", "loha"), "network.type", "error"),
    ("S37.args", net("lora", module_dropuot=0.1), "network.args.module_dropuot", "error"),
    ("S37.args", net("lora", loraplus_lr_ratio="much"), "network.args.loraplus_lr_ratio", "error"),
    ("S37.args", net("lora", loraplus_lr_ratio=-16), "network.args.loraplus_lr_ratio", "error"),
    ("S37.args", net("lokr", loraplus_unet_lr_ratio=0), "network.args.loraplus_unet_lr_ratio", "error"),
    ("S37.args", net("lora", down_lr_weight=[1.0, -0.5]), "network.args.down_lr_weight", "error"),
    ("S37.args", net("lora", block_dims="2,-2"), "network.args.block_dims", "error"),
    ("S37.args", net("lokr", down_lr_weight=[1.0, 0.5]), "network.args.down_lr_weight", "warning"),
    ("S37.args", net("loha", full_matrix=True), "network.args.full_matrix", "warning"),
    ("S37.args", net("lokr", full_matrix=1), "network.args.full_matrix", "error"),
    ("S37.args", net("networks.oft", enable_conv=False), "network.args.enable_conv", "error"),
    ("S37.args", situation(recipe(network={"conv_dim": 4, "args": {"conv_dim": 8}})), "network.args.conv_dim", "error"),
    ("S37.args", situation(recipe(network={"type": "networks.oft", "conv_dim": 4})), "network.conv_dim", "warning"),
]
MISSES: list[Misses] = [
    ("S37.partner", net("locon", wd_on_output=False, dora_wd=True)),
    ("S37.partner", net("lora", block_alphas=[1.0], block_dims=[2])),
    ("S37.blocks", net("lora", block_dims=[4] * 25, block_alphas=",".join(["1e-1"] * 25), conv_block_dims=[0] * 25)),
    ("S37.blocks", net("lora", down_lr_weight="sine+.25", mid_lr_weight=1, up_lr_weight="1,,0.5, 2")),
    ("S37.blocks", net("lora", block_alphas=[1.0])),  # without effect: S37.partner
    ("S37.blocks", net("networks.lora_fa", block_dims=[4])),
    (
        "S37.blocks",
        situation(
            recipe(base={"family": "sdxl"}, network={"args": {"block_dims": [4] * 23, "mid_lr_weight": [1, 0, 1]}})
        ),
    ),
    *[("GC.12.class", at(name)) for name in OPTIMIZER_CLASSES],
    *[("GC.12.class", at(name)) for name in ("CAME", "came", "ADOPT", "ProdigyPlusScheduleFree", "Adam", "NAdam")],
    ("GC.12.class", at("pytorch_optimizer.CAME")),
    ("GC.12.class", at("pytorch_optimizer.optimizer.came.CAME")),
    ("GC.12.class", at("library.mine.Optimizer")),  # of sd-scripts' own folder, which was not read
    ("GC.12.class", at("transformers.mine.Optimizer")),
    ("GC.12.class", unread("my.own.Optimizer")),
    ("GC.12.class", unread("AdamW")),
    ("GC.12", args("AdamW", weight_decay=0.1)),
    ("GC.12", args("AdamW", betas=[0.9, 0.99])),
    ("GC.12", at("AdamW", optimizer_args=["betas=0.9,0.99", "weight_decay=0.1", "amsgrad=True"])),
    ("GC.12", at("Prodigy", optimizer_args="decouple=True d_coef=2 use_bias_correction=true")),
    ("GC.12", args("Prodigy", decouple=True)),
    ("GC.12", args("SGD", nesterov=True, momentum=0.9)),
    ("GC.12", args("my.own.Optimizer", anything=1)),
    ("GC.12", args("CAME", betas=[0.9, 0.999, 0.9999])),
    ("GC.12", args("ProdigyPlusScheduleFree", split_groups=True, prodigy_steps=5)),
    ("GC.12", args("AdamWScheduleFree", warmup_steps=5)),
    ("S3", args("Prodigy", foreach="a-b", eps=1e-8)),
    ("S5.class", typed("CosineAnnealingLR", "T_max=100")),
    ("S5.class", typed("CyclicLR", "base_lr=0.1", "max_lr=1")),
    ("S5.class", typed("CyclicLR", "base_lr=0.1", "max_lr=1", "cycle_momentum=False", optimizer="Adagrad")),
    ("S5.class", typed("pytorch_optimizer.lr_scheduler.REXScheduler", "total_steps=9")),
    ("S5.class", typed("pytorch_optimizer.REXScheduler", "total_steps=9")),
    ("S5.class", typed("OneCycleLR", "max_lr=1", "total_steps=9", "anneal_strategy='cos'")),
    ("S5.class", typed("nothere.Sched", optimizer="ProdigyPlusScheduleFree")),
    ("S5.args", scheduled("polynomial", "lr_end=1e-7")),
    ("S5.args", scheduled("piecewise_constant", "step_rules='1:10,0.1'")),
    ("S5.args", typed("OneCycleLR", "max_lr=1", "total_steps=9", "three_phase=true", "anneal_strategy=cos")),
    ("GC.12", at("AdamW", optimizer_args=["foreach=None"])),
    ("S5.steps", planned("max_lr=0.1", "total_steps=6")),
    ("S37.type", net("full")),
    ("S37.type", net("networks.oft")),
    ("S37.type", net("networks.lora")),
    ("S37.type", net()),
    ("S37.type", lacking("networks.lora", "loha")),
    ("S37.args", net("lora", down_lr_weight="sine+0.5", mid_lr_weight=0)),
    ("S37.args", net("lora", loraplus_lr_ratio=16, down_lr_weight=[1, 0.5], block_dims="2,2", conv_dim=4)),
    ("S37.args", net("lokr", full_matrix=True, bypass_mode=True, rs_lora=True, decompose_both=True)),
    ("S37.args", net("networks.oft", enable_conv=True)),
]


@pytest.mark.parametrize(("rule", "where", "key", "severity"), FIRES)
def test_it_fires(rule: str, where: RuleContext, key: str, severity: str) -> None:
    found = [(each.key, each.severity.value) for each in spoken(rule, where)]
    assert (key, severity) in found


@pytest.mark.parametrize(("rule", "where"), MISSES)
def test_it_is_silent(rule: str, where: RuleContext) -> None:
    assert spoken(rule, where) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    rules = topic("optimizer_arguments") | topic("network_arguments")
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == rules


@pytest.mark.parametrize(
    ("rule", "where", "fix"),
    [
        ("GC.12", args("Prodigy", decuple=True), "decouple"),
        ("GC.12", args("Lion", colour=1), "betas"),
        ("GC.12", args("AdamW", lr=1), "train.learning_rate"),
        ("GC.12", args("AdamW", betas=0.9), "[0.9, 0.999]"),
        ("GC.12.class", at("came_pytorch.CAME"), "pytorch_optimizer.CAME"),
        ("GC.12.class", at("LoraEasyCustomOptimizer.came.CAME"), "pytorch_optimizer.CAME"),
        ("GC.12.class", at("Prodgy"), '"Prodigy"'),
        ("GC.12.class", at("adamw8bits"), '"AdamW8bit"'),
        ("S37.type", net("lokon"), '"locon"'),
        ("S37.type", net("diag_oft"), '"diag-oft"'),
        ("S5.class", typed("REXScheduler", "total_steps=9"), "pytorch_optimizer.REXScheduler"),
        ("S37.type", net("LyCORIS/LoKr"), '"lokr"'),
        ("S37.type", net("networks.loha"), '"loha"'),
        ("S37.type", net("lycoris.kohya"), "locon"),
        ("S37.type", net("LyCORIS/Native Fine-Tuning"), '"full"'),
        ("S37.type", net("Standard"), '"lora"'),
        ("S37.type", net("Kohya DyLoRA"), '"networks.dylora"'),
        ("S37.args", net("lokr", down_lr_weight=[1.0]), "networks.lora"),
        ("S37.args", net("loha", full_matrix=True), "lokr"),
    ],
)
def test_the_fix_names_what_exists(rule: str, where: RuleContext, fix: str) -> None:
    assert fix in spoken(rule, where)[0].fix


def test_a_type_is_read_in_any_case() -> None:
    assert net("LoCon").network == "locon"
    assert net("networks.lora").network == "lora"


def test_every_optimizer_of_sd_scripts_has_a_class_that_was_read() -> None:
    known = at().signatures
    assert {name: path for name, path in OPTIMIZER_CLASSES.items() if known.find_optimizer(path) is None} == {}


@pytest.mark.parametrize("keys", [{"use_tucker": True}, {"preset": "full"}, {"factor": 8}, {"dora_wd": True}])
@pytest.mark.parametrize("kind", ["lora", "networks.dylora"])
def test_one_finding_for_a_key_that_the_network_does_not_have(kind: str, keys: dict[str, Any]) -> None:
    of = situation(recipe(network={"type": kind} | keys))
    rules = [each.rule for each in collect_findings(of) if each.key in {f"network.{name}" for name in keys}]
    assert len(rules) == 1, rules


@pytest.mark.parametrize(
    ("name", "kind", "setting"),
    [
        ("dora", "locon", "dora_wd = true"),
        ("LyCORIS/DoRA", "locon", "dora_wd = true"),
        ("DoKr", "lokr", "dora_wd = true"),
        ("rslora", "locon", "args = { rs_lora = true }"),
        ("LoRA+", "lora", "args = { loraplus_lr_ratio = 16 }"),
    ],
)
def test_a_name_of_a_type_and_a_switch_leads_to_both(name: str, kind: str, setting: str) -> None:
    (found,) = spoken("S37.type", net(name))
    assert f'type = "{kind}"' in found.fix
    assert setting in found.fix
