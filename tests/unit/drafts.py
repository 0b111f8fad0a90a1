"""Runs `lorabake init` for a test: the draft and the recipe of a folder, and what the check finds in it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from lorabake.analysis.check import CheckResult, check_recipe
from lorabake.analysis.draft import Draft
from lorabake.analysis.draft_concepts import Answers
from lorabake.inputs.dataset import ScanOptions
from lorabake.jobs.init import InitOrder, look_around, make_draft, write_draft
from lorabake_schemas.machine import MachineFacts

MACHINE = MachineFacts(system="Linux", cpus=2, memory_bytes=16 << 30)


def start(folder: Path, here: Path, answers: Answers | None = None, output: Path | None = None) -> tuple[Draft, Path]:
    order = InitOrder(folder, output, here)
    draft = make_draft(order, look_around(order, ScanOptions()), answers or Answers())
    return draft, here / write_draft(order, draft)


def check(path: Path) -> CheckResult:
    return check_recipe(path, MACHINE)


def read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))
