"""The guide as data: rules with an identity, checked together.

Importing a topic module enters its rules into the registry, in the order in which people should read them:
dataset first, because a bad dataset always gives a bad LoRA (G1.1).
"""

from __future__ import annotations

from collections.abc import Iterable

from lorabake_schemas.findings import Finding
from lorabake_schemas.guide import (
    amounts,
    base,
    boards,
    caches,
    captions,
    data,
    kohya,
    looks,
    machine,
    network,
    optimizer,
    pictures,
    repeatable,
    scenes,
    schedule,
    separators,
    shuffling,
    subjects,
    tags,
    triggers,
    twins,
    wording,
)
from lorabake_schemas.guide.registry import Rule, Situation, rules

TOPICS = (
    data,
    caches,
    pictures,
    twins,
    amounts,
    captions,
    separators,
    triggers,
    tags,
    wording,
    scenes,
    looks,
    boards,
    shuffling,
    base,
    machine,
    repeatable,
    kohya,
    optimizer,
    schedule,
    network,
    subjects,
)


def findings(situation: Situation) -> tuple[Finding, ...]:
    """What every applicable rule has to say: the rules without a plan before there is one, the others after."""
    with_plan = situation.plan is not None
    found: Iterable[Finding] = (
        finding for rule in rules() if rule.needs_plan == with_plan for finding in rule.findings(situation)
    )
    return tuple(found)


__all__ = ["TOPICS", "Rule", "Situation", "findings", "rules"]
