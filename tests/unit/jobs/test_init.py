"""init: whatever layout a dataset has, the recipe has no error, first try."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset_layouts import LAYOUTS
from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.draft import Draft
from lorabake.analysis.draft_concepts import Answers
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft
from lorabake_schemas.machine import MachineFacts
from situations import write_base

MACHINE = MachineFacts(system="Linux", cpus=2, memory_bytes=16 << 30)


def start(folder: Path, here: Path, **answers: str) -> tuple[Draft, CheckResult]:
    order = InitOrder(folder, None, here)
    found = look_around(order, ScanOptions())
    draft = make_draft(order, found, Answers(**answers))  # type: ignore[arg-type]
    path = write_draft(order, draft)
    return draft, check_recipe(here / path, MACHINE)


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_a_recipe_without_an_error(tmp_path: Path, name: str) -> None:
    write_base(tmp_path / "models" / "base.safetensors")
    folder = LAYOUTS[name](tmp_path / "data")
    draft, result = start(folder, tmp_path)
    print("=====", name)
    print((tmp_path / f"{draft.content['name']}.toml").read_text("utf-8").split("yyyy")[-1])
    print([q.key for q in draft.questions], sorted({f"{f.severity}:{f.rule}" for f in result.findings}))
    assert [(each.rule, each.message) for each in result.errors] == []
