"""Rules about several processes: GPUs, the batch they make together, their schedule and their noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.machine import MachineFacts
from situations import CPU, GPU, Fires, Misses, concept, plan_of, recipe, situation, spoken, topic

TWO_GPUS = GPU.model_copy(update={"gpus": GPU.gpus * 2})
CONCEPTS: dict[str, Any] = {"concepts": [concept("a", "pa"), concept("b", "pb")]}
DYLORA: dict[str, Any] = {"network": {"type": "dylora"}}
BATCH, PROCESSES, IDS = "train.train_batch_size", "launch.num_processes", "launch.gpu_ids"
WARM_UP, DECAY = "train.lr_warmup_steps", "kohya.lr_decay_steps"


def launched(machine: MachineFacts, **launch: Any) -> RuleContext:
    return situation(recipe(launch=launch), machine=machine, launching=True)


def step(batch: int = 1, processes: int = 1, accumulated: int = 1, **of: Any) -> RuleContext:
    train = {"train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    return situation(recipe(train=train, launch={"num_processes": processes}, **of), machine=TWO_GPUS)


def scheduled(processes: int = 2, /, kohya: dict[str, Any] | None = None, **train: Any) -> RuleContext:
    train = {"max_train_steps": 400} | train
    made = recipe(train=train, launch={"num_processes": processes}, kohya=kohya or {})
    return replace(situation(made, machine=TWO_GPUS), plan=plan_of(made, machine=TWO_GPUS))


FIRES: list[Fires] = [
    ("G4.96.processes", launched(CPU, num_processes=2), PROCESSES, "warning"),
    ("G4.96.processes", situation(recipe(launch={"num_processes": 2}), machine=GPU), PROCESSES, "warning"),
    ("G4.96.processes", launched(GPU, num_processes=2), PROCESSES, "error"),
    ("G4.96.processes", launched(GPU, gpu_ids="1"), IDS, "error"),
    ("G4.96.processes", launched(TWO_GPUS, num_processes=2, gpu_ids="1"), IDS, "error"),
    ("G4.96.processes", replace(launched(GPU, num_processes=3), machines=2), PROCESSES, "error"),
    ("G7.24", step(2, **DYLORA), BATCH, "warning"),
    ("G7.24", step(2, **CONCEPTS), BATCH, "warning"),
    ("G7.24", step(5), BATCH, "warning"),
    ("G7.24", step(2, kind="outfits"), BATCH, "warning"),
    ("G7.24", step(processes=2, **DYLORA), PROCESSES, "warning"),
    ("G7.24", step(processes=2, **CONCEPTS), PROCESSES, "warning"),
    ("G7.24", step(3, processes=2), BATCH, "warning"),
    ("G7.24", step(accumulated=2, **CONCEPTS), "train.gradient_accumulation_steps", "warning"),
    ("S4.processes", scheduled(lr_warmup_steps=100), WARM_UP, "warning"),
    ("S4.processes", scheduled(lr_warmup_steps=500), WARM_UP, "warning"),
    ("S4.processes", scheduled(lr_scheduler="warmup_stable_decay", kohya={"lr_decay_steps": 100}), DECAY, "warning"),
    ("S51", step(processes=2), PROCESSES, "hint"),
]
MISSES: list[Misses] = [
    ("G4.96.processes", launched(CPU, num_processes=1, gpu_ids="0")),
    ("G4.96.processes", launched(TWO_GPUS, num_processes=2, gpu_ids="0,1")),
    ("G4.96.processes", launched(TWO_GPUS, num_processes=2, gpu_ids="all")),
    ("G4.96.processes", situation(recipe(launch={"num_processes": 2}), machine=CPU, rehearsing=True)),
    ("G4.96.processes", replace(launched(GPU, num_processes=2), machines=2)),
    ("G7.24", step(**DYLORA)),
    ("G7.24", step(accumulated=4, **DYLORA)),
    ("G7.24", step(**CONCEPTS)),
    ("G7.24", step(4)),
    ("G7.24", step(2, processes=2)),
    ("G7.24", step(accumulated=8)),
    ("S4.processes", scheduled(1, lr_warmup_steps=100)),
    ("S4.processes", scheduled(lr_warmup_steps=0.1)),
    ("S4.processes", scheduled(lr_warmup_steps=0)),
    ("S51", step(2)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("processes")


def test_the_advised_share_is_the_warm_up_that_was_meant() -> None:
    before, after = scheduled(lr_warmup_steps=100).plan, scheduled(lr_warmup_steps=0.25).plan
    assert before is not None
    assert after is not None
    assert (before.forecast.warmup_steps, after.forecast.warmup_steps) == (50, 100)
    assert "0.25" in str(spoken("S4.processes", scheduled(lr_warmup_steps=100))[0].fix)
