"""Every fault that a dataset can have is named rightly, a clean set gives no finding, and no set is touched."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import faulty_sets
import pytest
from click.testing import CliRunner
from faulty_sets import FAULTS, Fault

from lorabake.cli import main


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    faulty_sets.write(folder)
    return folder


def project_of(clean: Path, fault: Fault | None, folder: Path) -> Path:
    """A copy of the clean set with this fault and its recipe."""
    shutil.copytree(clean, folder)
    if fault is not None:
        fault.spoil(folder)
    (folder / "recipe.toml").write_text(faulty_sets.recipe(fault), "utf-8")
    return folder


def snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Names, times and content of everything below a folder; times of the folders too."""
    found: dict[str, tuple[int, int, str]] = {}
    for path in sorted(folder.rglob("*")):
        state = os.lstat(path)
        data = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path.relative_to(folder))] = (state.st_mtime_ns, state.st_size, data)
    return found


def checked(project: Path, *flags: str) -> dict[str, Any]:
    done = CliRunner().invoke(main, ["check", str(project / "recipe.toml"), "--json", *flags])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("flags", [(), ("--deep",)], ids=["headers", "deep"])
def test_a_clean_set_gives_no_finding(clean: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    assert checked(project_of(clean, None, tmp_path / "p"), *flags)["findings"] == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_the_fault_is_named_and_nothing_else(clean: Path, tmp_path: Path, fault: Fault) -> None:
    project = project_of(clean, fault, tmp_path / "p")
    before = snapshot(project)
    found = checked(project, *(["--deep"] if fault.deep else []))["findings"]
    assert snapshot(project) == before
    assert [each["message"] for each in found if each["rule"] == fault.rule and fault.says in each["message"]]
    assert {each["rule"] for each in found} - fault.also == {fault.rule}


def test_there_are_enough_faults() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 45
