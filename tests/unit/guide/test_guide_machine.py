"""Rules about buckets, memory, files, sample pictures and the machine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lorabake_schemas.disks import DiskNeed, DiskSpace, FileLimit
from lorabake_schemas.guide.registry import RuleContext
from lorabake_schemas.machine import MachineFacts
from situations import CPU, GPU, Fires, Misses, plan_of, recipe, situation, spoken, topic


def at(machine: MachineFacts = GPU, **tables: Any) -> RuleContext:
    return situation(recipe(**tables), machine=machine)


def train(**given: Any) -> RuleContext:
    return at(train=given)


def on_cpu(*, launching: bool = False, rehearsing: bool = False, **given: Any) -> RuleContext:
    return situation(recipe(train=given), machine=CPU, launching=launching, rehearsing=rehearsing)


def with_room(least: int, most: int, *, launching: bool = False, rehearsing: bool = False) -> RuleContext:
    """A disk with 1000 bytes free, for a run that has a plan."""
    need = DiskNeed(("save", "runs"), "runs", DiskSpace(least, most), 1000)
    made = situation(recipe(), launching=launching, rehearsing=rehearsing)
    return replace(made, plan=plan_of(recipe()), disks=(need,))


def with_limit(*, exceeded: bool = True, launching: bool = False, rehearsing: bool = False) -> RuleContext:
    made = situation(recipe(), launching=launching, rehearsing=rehearsing)
    return replace(made, plan=plan_of(recipe()), file_limit=FileLimit(1000, 2000) if exceeded else None)


SDXL: dict[str, Any] = {"base": {"family": "sdxl"}}
SAMPLE: dict[str, Any] = {"prompts": ["a"]}
FIRES: list[Fires] = [
    ("S15", train(min_bucket_reso=832), "train.min_bucket_reso", "error"),
    ("S15", train(max_bucket_reso=640), "train.max_bucket_reso", "error"),
    ("S15", train(resolution=[512, 1024], max_bucket_reso=960), "train.max_bucket_reso", "error"),
    (
        "S15",
        train(resolutions=[512, 1024, 768], max_bucket_reso=[640, 960, 1024]),
        "train.max_bucket_reso[1]",
        "error",
    ),
    ("S15", train(max_bucket_reso=640, bucket_no_upscale=True), "train.max_bucket_reso", "error"),
    ("S15", train(bucket_reso_steps=96), "train.bucket_reso_steps", "error"),
    ("S15", train(bucket_reso_steps=96, bucket_no_upscale=True), "train.bucket_reso_steps", "error"),
    ("S15", at(**SDXL, train={"bucket_reso_steps": 48}), "train.bucket_reso_steps", "error"),
    ("S15", at(**SDXL, train={"max_bucket_reso": 960}), "train.max_bucket_reso", "error"),
    (
        "S38",
        train(persistent_data_loader_workers=True, max_data_loader_n_workers=0),
        "train.persistent_data_loader_workers",
        "error",
    ),
    ("G4.14", at(save={"save_precision": "float"}), "save.save_precision", "warning"),
    ("G4.13", at(save={"save_model_as": "ckpt"}), "save.save_model_as", "warning"),
    ("G4.13", at(save={"save_model_as": "pt"}), "save.save_model_as", "warning"),
    ("G4.96", on_cpu(optimizer="AdamW8bit"), "train.optimizer", "warning"),
    ("G4.96", on_cpu(optimizer="AdamW8bit", launching=True), "train.optimizer", "error"),
    ("G4.96", on_cpu(attention="xformers", launching=True), "train.attention", "error"),
    ("G4.96", on_cpu(mixed_precision="fp16", launching=True), "train.mixed_precision", "error"),
    ("G4.96", on_cpu(optimizer="PagedAdamW"), "train.optimizer", "warning"),
    ("G4.96", on_cpu(optimizer="PagedAdamW32bit", launching=True), "train.optimizer", "error"),
    ("G4.37.disk", with_room(1001, 2000, launching=True), "save.runs", "error"),
    ("G4.37.disk", with_room(1001, 2000), "save.runs", "warning"),
    ("G4.37.disk", with_room(500, 2000, launching=True), "save.runs", "warning"),
    ("G4.37.limit", with_limit(launching=True), "save.runs", "error"),
    ("G4.37.limit", with_limit(), "save.runs", "warning"),
]  # fmt: skip
MISSES: list[Misses] = [
    ("S15", train(min_bucket_reso=768, max_bucket_reso=768)),
    ("S15", train(max_bucket_reso=750)),  # rounded up to 768 before it is looked at
    ("S15", at(base={"native_resolution": 512}, train={"max_bucket_reso": 640})),
    ("S15", train(max_bucket_reso=64, enable_bucket=False)),
    ("S15", at(**SDXL, train={"bucket_reso_steps": 32})),
    ("S15", train(resolutions=[512, 1024], max_bucket_reso=[640, 1024], min_bucket_reso=[512, 1024])),
    ("S15", train(bucket_reso_steps=128)),
    ("S38", train(persistent_data_loader_workers=True)),
    ("S38", train(max_data_loader_n_workers=0)),
    ("S38", train(persistent_data_loader_workers=False, max_data_loader_n_workers=0)),
    ("G4.14", at(save={"save_precision": "bf16"})),
    ("G4.13", at(save={"save_model_as": "safetensors"})),
    ("G4.96", on_cpu(optimizer="AdamW", attention="sdpa", mixed_precision="bf16", launching=True)),
    ("G4.96", on_cpu(optimizer="AdamW8bit", rehearsing=True)),
    ("G4.96", train(optimizer="AdamW8bit", attention="xformers", mixed_precision="fp16")),
    ("G4.37.disk", with_room(500, 1000, launching=True)),
    ("G4.37.disk", with_room(1001, 2000, rehearsing=True)),
    ("G4.37.limit", with_limit(exceeded=False, launching=True)),
    ("G4.37.limit", with_limit(rehearsing=True)),
]


@pytest.mark.parametrize(("rule", "case", "key", "severity"), FIRES)
def test_fires(rule: str, case: RuleContext, key: str, severity: str) -> None:
    assert [(finding.key, finding.severity) for finding in spoken(rule, case)] == [(key, severity)]
    assert all(finding.fix for finding in spoken(rule, case))


@pytest.mark.parametrize(("rule", "case"), MISSES)
def test_stays_silent(rule: str, case: RuleContext) -> None:
    assert spoken(rule, case) == []


def test_every_rule_of_the_topic_is_covered_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {rule for rule, _ in MISSES} == topic("hardware")
    assert len(topic("hardware")) >= 6
