"""What a plan keeps on the disk at once: saves, states and caches, and the disk that is too small for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from constant import returning
from lorabake.analysis import estimate
from lorabake.analysis.check import check_recipe
from lorabake.errors import ResourceError
from lorabake.jobs.resume.prepare import ensure_files_fit
from lorabake.jobs.run import PreparedRun, RunRequest, TrainerChoice, check_run_folder
from lorabake.planning import disk_needs
from lorabake_schemas.disks import DiskSpace
from lorabake_schemas.plan import FileSize, Plan
from situations import GPU, dataset, folder, plan_of, project, recipe

SIZE = FileSize(tensors=10, tensor_bytes=2000, header_bytes=100)


def planned(**tables: Any) -> Plan:
    made = plan_of(recipe(**tables))
    return made.model_copy(update={"forecast": made.forecast.model_copy(update={"file_size": SIZE})})


EVERY: dict[str, Any] = {"max_train_epochs": 10, "optimizer": "AdamW"}


@pytest.mark.parametrize(
    ("save", "files", "states"),
    [
        ({"save_every_n_epochs": 1}, 10, 0),
        ({"save_every_n_epochs": 1, "save_last_n_epochs": 2}, 3, 0),
        ({"save_every_n_epochs": 5}, 2, 0),
        ({"save_every_n_epochs": 1, "save_state": True}, 10, 10),
        ({"save_every_n_epochs": 1, "save_last_n_epochs": 2, "save_state": True}, 3, 3),
        ({"save_every_n_epochs": 1, "save_state_on_train_end": True}, 10, 1),
    ],
)
def test_saves_and_states_are_counted_as_they_are_kept(save: dict[str, Any], files: int, states: int) -> None:
    """1000 weights: 2 bytes each in a save, 4 and AdamW's 8 in a state."""
    needed = disk_needs.estimate_run_folder(planned(save=save, train=EVERY))
    assert needed == DiskSpace(files * 2000 + states * 12_000, files * 2100 + states * 12_000)


@pytest.mark.parametrize(
    ("tables", "size"),
    [
        ({}, 2000),
        ({"save": {"save_state": True}}, 8000),  # AdamW's two numbers of four bytes for each of 1000 weights
        ({"save": {"save_state_on_train_end": True}, "train": {"optimizer": "Lion"}}, 4000),
    ],
)
def test_the_largest_file(tables: dict[str, Any], size: int) -> None:
    assert disk_needs.estimate_largest_file(planned(**{"train": EVERY, **tables})) == size
    assert disk_needs.estimate_largest_file(plan_of(recipe(**tables))) == 0


def test_the_shells_limit_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project(tmp_path)
    plan = check_recipe(path, GPU).plan
    assert plan
    size = disk_needs.estimate_largest_file(plan)
    ensure_files_fit(plan)
    for limit, launching, expected in ((size, True, []), (size - 1, False, ["warning"]), (size - 1, True, ["error"])):
        monkeypatch.setattr(estimate, "get_file_size_limit", returning(limit))
        found = check_recipe(path, GPU, launching=launching)
        assert [finding.severity for finding in found.findings if finding.rule == "G4.37.limit"] == expected
        assert found.is_machine_at_fault is (expected == ["error"])
    with pytest.raises(ResourceError):
        ensure_files_fit(plan)


def test_a_network_of_unknown_shape_needs_nothing_that_is_known() -> None:
    assert disk_needs.estimate_run_folder(plan_of(recipe())) == DiskSpace()


@pytest.mark.parametrize(
    ("flips", "there", "least", "most"), [(False, (), 2, 2), (True, (), 4, 4), (False, ("a_sd.npz",), 0, 2)]
)
def test_latents_on_disk(flips: bool, there: tuple[str, ...], least: int, most: int) -> None:
    facts = folder(count=2, caches=there)
    plan = plan_of(recipe(train={"cache_latents_to_disk": True}, concept={"flip_aug": flips}), dataset(facts))
    wanted = DiskSpace(least * 768 * 768 // 4, most * 768 * 768 // 4)
    for each, needed in ((plan, wanted), (plan_of(recipe(), dataset(facts)), DiskSpace())):
        assert disk_needs.estimate_caches(each, each.subsets[0], each.fits[0], facts) == needed


def test_a_disk_that_is_too_small_is_an_error_before_a_run_and_a_warning_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = project(tmp_path)
    for free, launching, expected in ((1 << 40, True, []), (1000, False, ["warning"]), (1000, True, ["error"])):
        monkeypatch.setattr(estimate, "get_free_disk", returning(free))
        found = check_recipe(path, GPU, launching=launching).findings
        assert [finding.severity for finding in found if finding.rule == "G4.37.disk"] == expected


def test_the_disk_of_run_dir_is_looked_at_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = project(tmp_path)
    examination = check_recipe(path, GPU)
    order = RunRequest(path, TrainerChoice(), run_dir=tmp_path / "elsewhere" / "x")
    prepared = PreparedRun(order, examination, tmp_path / "elsewhere" / "x")
    check_run_folder(prepared)
    monkeypatch.setattr(estimate, "get_free_disk", returning(1000))
    with pytest.raises(ResourceError):
        check_run_folder(prepared)
