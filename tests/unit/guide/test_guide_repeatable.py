"""Rules about [launch] deterministic."""

from __future__ import annotations

from typing import Any

import pytest

from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.machine import MachineFacts
from situations import CPU, GPU, Fires, Misses, recipe, situation, spoken, topic


def made(machine: MachineFacts = GPU, **tables: Any) -> RuleContext:
    """A recipe that sets launch.deterministic, and more."""
    launch = {"deterministic": True, **tables.pop("launch", {})}
    return situation(recipe(launch=launch, **tables), machine=machine)


def ordinary(machine: MachineFacts = GPU, **tables: Any) -> RuleContext:
    return situation(recipe(**tables), machine=machine)


XFORMERS: dict[str, Any] = {"train": {"attention": "xformers"}}
ON_DISK: dict[str, Any] = {"train": {"cache_latents_to_disk": True}}
WARM_UP: dict[str, Any] = {"kohya": {"token_warmup_step": 0.2}}
EIGHT: dict[str, Any] = {"train": {"max_data_loader_n_workers": 8}}
SEVERAL: dict[str, Any] = {"launch": {"num_processes": 2}}
EIGHT_BIT: dict[str, Any] = {"train": {"optimizer": "AdamW8bit"}}
FIRES: list[Fires] = [
    ("S40.xformers", made(**XFORMERS), "train.attention", "error"),
    ("S40.caches", made(**ON_DISK), "train.cache_latents_to_disk", "error"),
    ("S40.token_warmup", made(**WARM_UP), "kohya.token_warmup_step", "error"),
    ("S40.token_warmup", made(**WARM_UP, **EIGHT), "kohya.token_warmup_step", "error"),
    ("S40.workers", made(CPU, **EIGHT), "train.max_data_loader_n_workers", "warning"),
    ("S40.processes", made(**SEVERAL), "launch.num_processes", "warning"),
    ("S40.bitsandbytes", made(**EIGHT_BIT), "train.optimizer", "hint"),
]
MISSES: list[Misses] = [
    ("S40.xformers", ordinary(**XFORMERS)),
    ("S40.xformers", made(train={"attention": "sdpa"})),
    ("S40.caches", ordinary(**ON_DISK)),
    ("S40.caches", made(train={"cache_latents_to_disk": False, "cache_latents": True})),
    ("S40.token_warmup", ordinary(**WARM_UP)),
    ("S40.token_warmup", made(**WARM_UP, train={"max_data_loader_n_workers": 0})),
    ("S40.token_warmup", made(kohya={"token_warmup_step": 0})),
    ("S40.workers", ordinary(CPU, **EIGHT)),
    ("S40.workers", made(CPU, train={"max_data_loader_n_workers": 2})),
    ("S40.workers", made(CPU)),
    ("S40.processes", ordinary(**SEVERAL)),
    ("S40.processes", made(launch={"num_processes": 1})),
    ("S40.bitsandbytes", ordinary(**EIGHT_BIT)),
    ("S40.bitsandbytes", made(train={"optimizer": "AdamW"})),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("determinism")
    assert len(topic("determinism")) >= 6
