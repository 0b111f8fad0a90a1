"""The guide as data: rules with an identity, checked together.

Importing a topic module enters its rules into the registry. They are read in the order of RULE_MODULES:
dataset first, because a bad dataset always gives a bad LoRA (G1.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from lorabake_schemas.findings import Finding
from lorabake_schemas.guide.registry import Rule, RuleContext, rules_of
from lorabake_schemas.guide.rules import (
    appearance,
    base_model,
    caches,
    caption_style,
    captions,
    composition,
    continued_lora,
    dataset,
    dataset_size,
    determinism,
    duplicates,
    extra_options,
    hardware,
    images,
    masks,
    metadata_file,
    network,
    network_arguments,
    optimizer,
    optimizer_arguments,
    partners,
    plan_values,
    processes,
    resolutions,
    schedule,
    separators,
    shuffling,
    subject,
    tag_counts,
    tag_vocabulary,
    trigger,
    validation,
)

RULE_MODULES = (
    dataset,
    caches,
    images,
    masks,
    duplicates,
    dataset_size,
    metadata_file,
    captions,
    separators,
    trigger,
    tag_counts,
    caption_style,
    composition,
    appearance,
    tag_vocabulary,
    shuffling,
    base_model,
    hardware,
    processes,
    determinism,
    extra_options,
    optimizer,
    resolutions,
    schedule,
    network,
    continued_lora,
    optimizer_arguments,
    network_arguments,
    validation,
    partners,
    plan_values,
    subject,
)


def list_rules() -> tuple[Rule, ...]:
    """Every rule, in the order in which people should read what it finds."""
    return rules_of(RULE_MODULES)


def collect_findings(situation: RuleContext) -> tuple[Finding, ...]:
    """The findings of every applicable rule: without a plan those that need no plan, with a plan the others."""
    with_plan = situation.plan is not None
    found: Iterable[Finding] = (
        finding for rule in list_rules() if rule.needs_plan == with_plan for finding in rule.findings(situation)
    )
    return tuple(found)
