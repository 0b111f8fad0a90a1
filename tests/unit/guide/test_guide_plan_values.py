"""Rules that compare single values with the whole plan, and names of other programs that mean nothing here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.guide.rules.plan_values import LEAST_VALUES
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.recipe_keys import find_missing_feature
from lorabake_schemas.signatures import Signatures
from situations import CPU, GPU, Fires, Misses, base_facts, pictures_for, plan_of, recipe, situation, spoken, topic


def at(v_prediction: bool | None = None, **tables: Any) -> RuleContext:
    base = base_facts(tables.get("base", {}).get("family", "sd15"))
    return situation(recipe(**tables), base=base.model_copy(update={"v_prediction": v_prediction}))


def planned(machine: MachineFacts = GPU, *, launching: bool = False, **tables: Any) -> RuleContext:
    of = recipe(**tables)
    return replace(
        situation(of, machine=machine), plan=plan_of(of, pictures_for(of), machine=machine), launching=launching
    )


THREE: dict[str, Any] = {"max_train_epochs": 3}
NAME = {"model": "models/NoobAI-XL-Vpred-v1.0.safetensors", "family": "sdxl"}
LARGE: dict[str, Any] = {"resolution": 1024, "max_train_steps": 100}
HUBER: dict[str, Any] = {"loss_type": "huber"}
SMALL = CPU.model_copy(update={"shared_memory_bytes": 64 << 20})
WORKERS: dict[str, Any] = {"max_data_loader_n_workers": 4, "train_batch_size": 2, "resolution": 1024}
UNCACHED = WORKERS | {"cache_latents": False}


def scheduled(kind: str, *arguments: str, **train: Any) -> RuleContext:
    """Six steps with a scheduler class, or with a named schedule."""
    key = "lr_scheduler_type" if kind[0].isupper() or "." in kind else "lr_scheduler"
    given = {"lr_scheduler_args": list(arguments)} if arguments else {}
    return planned(train={"optimizer": "AdamW", "max_train_steps": 6, key: kind} | given | train)


RESTARTS = "pytorch_optimizer.lr_scheduler.cosine_anealing.CosineAnnealingWarmupRestarts"
SCHEDULE = "train.lr_scheduler_args"
CYCLES = "train.lr_scheduler_num_cycles"


def with_packages(*packages: str) -> RuleContext:
    made = at(kohya={"torch_compile": True, "dynamo_backend": "onnxrt"})
    return replace(made, signatures=Signatures(packages=packages))


FIRES: list[Fires] = [
    ("S1.values", at(kohya={"face_crop_aug_range": "2.0,1.0"}), "kohya.face_crop_aug_range", "error"),
    ("S1.values", at(kohya={"face_crop_aug_range": "2.0"}), "kohya.face_crop_aug_range", "error"),
    ("S1.values", at(kohya={"face_crop_aug_range": "a,b"}), "kohya.face_crop_aug_range", "error"),
    ("S1.values", at(kohya=HUBER | {"huber_schedule": "exponential", "huber_c": 0.0}), "kohya.huber_c", "error"),
    ("S1.values", at(kohya={"torch_compile": True, "dynamo_backend": "fx2trt"}), "kohya.dynamo_backend", "error"),
    ("S1.values", with_packages("torch"), "kohya.dynamo_backend", "error"),
    ("S1.huber", at(kohya=HUBER | {"huber_schedule": "snr", "huber_c": -1.0}), "kohya.huber_c", "warning"),
    ("S1.huber", at(kohya=HUBER | {"huber_scale": -0.5}), "kohya.huber_scale", "warning"),
    ("S38.memory", planned(SMALL, train=UNCACHED), "train.max_data_loader_n_workers", "warning"),
    ("S1.least", at(kohya={"vae_batch_size": 0}), "kohya.vae_batch_size", "error"),
    ("S1.least", at(kohya={"vae_batch_size": -1}), "kohya.vae_batch_size", "error"),
    ("G4.37.interval", planned(train=THREE, save={"save_every_n_epochs": 4}), "save.save_every_n_epochs", "warning"),
    ("G4.37.interval", planned(train=THREE, save={"save_every_n_steps": 9999}), "save.save_every_n_steps", "warning"),
    (
        "G4.37.interval",
        planned(train=THREE, sample={"prompts": ["a"], "sample_every_n_epochs": 5}),
        "sample.sample_every_n_epochs",
        "warning",
    ),
    (
        "G4.37.interval",
        planned(train=THREE, validation={"validation_split": 0.1, "validate_every_n_epochs": 5}),
        "validation.validate_every_n_epochs",
        "warning",
    ),
    ("S5.cycles", scheduled("CosineAnnealingLR", "T_max=7"), f"{SCHEDULE}.T_max", "warning"),
    ("S5.cycles", scheduled("CosineAnnealingWarmRestarts", "T_0=7"), f"{SCHEDULE}.T_0", "warning"),
    ("S5.cycles", scheduled("PolynomialLR", "total_iters=7"), f"{SCHEDULE}.total_iters", "warning"),
    ("S5.cycles", scheduled("OneCycleLR", "max_lr=1e-4", "total_steps=7"), f"{SCHEDULE}.total_steps", "warning"),
    (
        "S5.cycles",
        scheduled("OneCycleLR", "max_lr=1e-4", "epochs=2", "steps_per_epoch=4"),
        f"{SCHEDULE}.epochs",
        "warning",
    ),
    ("S5.cycles", scheduled(RESTARTS, "first_cycle_steps=7"), f"{SCHEDULE}.first_cycle_steps", "warning"),
    ("S5.cycles", scheduled("StepLR", "step_size=6"), f"{SCHEDULE}.step_size", "warning"),
    ("S5.cycles", scheduled("MultiStepLR", "milestones=[3,6]"), f"{SCHEDULE}.milestones", "warning"),
    ("S5.cycles", scheduled("piecewise_constant", "step_rules='1:3,0.1:6,0.01'"), f"{SCHEDULE}.step_rules", "warning"),
    ("S5.cycles", scheduled("cosine_with_restarts", lr_scheduler_num_cycles=7, lr_warmup_steps=0), CYCLES, "warning"),
    ("S5.cycles", scheduled("cosine_with_restarts", lr_scheduler_num_cycles=5, lr_warmup_steps=2), CYCLES, "warning"),
    (
        "S5.cycles",
        planned(
            train={"optimizer": "AdamW", "max_train_steps": 6, "lr_scheduler": "warmup_stable_decay"},
            kohya={"lr_decay_steps": 7},
        ),
        "kohya.lr_decay_steps",
        "warning",
    ),
    ("G5.2.steps", planned(train={"max_train_steps": 8001}), "train.max_train_steps", "warning"),
    ("G5.2.steps", planned(train={"max_train_epochs": 300}), "train.max_train_epochs", "warning"),
    (
        "G4.58.cpu",
        planned(CPU, launching=True, train={"resolution": 768, "max_train_steps": 2000}),
        "train.max_train_steps",
        "warning",
    ),
    (
        "G4.58.cpu",
        planned(CPU, launching=True, train={"resolutions": [256, 1024], "exposures": 50}),
        "train.exposures",
        "warning",
    ),
    ("G4.58.cpu", planned(CPU, launching=True, train=LARGE), "train.max_train_steps", "warning"),
    ("G4.11.name", at(base=NAME), "base.model", "warning"),
    ("S48", at(sample={"prompts": ["a", "b --ar 16:9 --w 512"]}), "sample.prompts[1]", "warning"),
]
MISSES: list[Misses] = [
    ("S1.values", at(kohya={"face_crop_aug_range": "2.0,4.0"})),
    ("S1.values", at(kohya=HUBER | {"huber_schedule": "exponential", "huber_c": 0.1})),
    ("S1.values", at(kohya={"torch_compile": True, "dynamo_backend": "eager"})),
    ("S1.values", at(kohya={"dynamo_backend": "fx2trt"})),
    ("S1.values", with_packages()),
    ("S1.values", with_packages("torch", "onnxruntime")),
    ("S1.huber", at(kohya=HUBER | {"huber_c": 0.1})),
    ("S1.huber", at(kohya={"huber_c": -1.0})),
    ("S1.huber", at(kohya=HUBER | {"huber_schedule": "exponential", "huber_c": -1.0})),
    ("S38.memory", planned(SMALL, train=WORKERS | {"cache_latents": True})),
    ("S38.memory", planned(CPU, train=UNCACHED)),
    ("S38.memory", planned(SMALL, train=UNCACHED | {"max_data_loader_n_workers": 0})),
    ("S1.least", at(kohya={"vae_batch_size": 1})),
    ("G4.37.interval", planned(train=THREE, save={"save_every_n_epochs": 3})),
    ("G4.37.interval", planned(train=THREE)),
    ("S5.cycles", scheduled("CosineAnnealingLR", "T_max=6")),
    ("S5.cycles", scheduled("OneCycleLR", "max_lr=1e-4", "total_steps=6")),
    ("S5.cycles", scheduled("StepLR", "step_size=5")),
    ("S5.cycles", scheduled("MultiStepLR", "milestones=[3,5]")),
    ("S5.cycles", scheduled("piecewise_constant", "step_rules='1:3,0.1:5,0.01'")),
    ("S5.cycles", scheduled("cosine_with_restarts", lr_scheduler_num_cycles=6, lr_warmup_steps=0)),
    ("S5.cycles", scheduled("cosine", lr_scheduler_num_cycles=7)),  # G4.56: it has no cycles
    ("S5.cycles", scheduled("CosineAnnealingLR", "T_max=7", optimizer="AdamWScheduleFree", learning_rate=1e-3)),
    ("S5.cycles", planned(train={"optimizer": "AdamW", "max_train_steps": 2})),  # nobody wrote the guide's 3 cycles
    ("G5.2.steps", planned(train={"max_train_steps": 8000})),
    ("G5.2.steps", planned(kind="style", train={"optimizer": "AdamW", "max_train_steps": 16000})),
    ("G4.58.cpu", planned(CPU, train=LARGE)),
    ("G4.58.cpu", planned(CPU, launching=True, train={"resolution": 512, "max_train_steps": 20})),
    ("G4.58.cpu", planned(CPU, launching=True, train=LARGE | {"max_train_steps": 2})),
    ("G4.58.cpu", planned(GPU, launching=True, train=LARGE)),
    ("G4.11.name", at(base=NAME | {"v_prediction": False})),
    ("G4.11.name", at(True, base=NAME)),
    ("G4.11.name", at(False, base=NAME)),
    ("G4.11.name", at(base={"model": "convpred.safetensors"})),
    ("S48", at(sample={"prompts": ["a --n b --W 512 --ss euler"]})),
    ("S48", at()),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("plan_values")
    assert LEAST_VALUES["vae_batch_size"] == 1


@pytest.mark.parametrize("name", ["stop_text_encoder_training", "Stop TE", "stop_text_encoder_training_pct"])
def test_stopping_the_text_encoder_is_not_leaving_it_out(name: str) -> None:
    found = find_missing_feature(name)
    assert found is not None
    assert "cannot" in found[0]
    (said,) = spoken("S1", at(kohya={"stop_text_encoder_training": 200}))
    assert "cannot" in said.message


def test_a_secret_is_refused_without_repeating_it() -> None:
    for name in ("wandb_api_key", "huggingface_token"):
        (said,) = spoken("S1", at(kohya={name: "abcdefsecret"}))
        assert said.severity == "error"
        assert "abcdefsecret" not in said.message + said.fix
        assert find_missing_feature(name) is not None
