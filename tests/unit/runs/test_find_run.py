"""Which run is meant by what a person types."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lorabake.analysis.diff import is_recipe_path
from lorabake.analysis.lora_origin import find_lora
from lorabake.errors import MachineError
from lorabake.runs.folder import RunPaths
from lorabake.runs.folders import iter_runs_folders, list_run_names
from lorabake.runs.index import find_run, list_runs, run_path
from lorabake.runs.record import write_record
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import FileDigest, Record, TrainerRecord
from situations import RECORDED


def record(name: str = "lum") -> Record:
    return Record(
        lorabake="0",
        name=name,
        rehearsal=True,
        status="finished",
        started="2026-01-31T09:30:00.123Z",
        recipe=FileDigest(name="recipe.toml", sha256="00", size=1),
        compiled=(),
        seed=1,
        trainer=TrainerRecord(kind="rehearsal", python="python"),
        machine=MachineFacts(system="Linux", cpus=1, memory_bytes=1),
        argv=("python",),
        cwd="/somewhere",
        environment={},
        planned_steps=1,
        **RECORDED,
    )


def run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_record(RunPaths(folder), record())
    return folder


def refusal(named: str, here: Path) -> MachineError:
    with pytest.raises(MachineError) as caught:
        find_run(named, here)
    return caught.value


@pytest.mark.parametrize("named", ["runs/lum-001", "runs/lum-001/", "runs/lum-001/record.json", "lum-001"])
def test_a_folder_a_record_or_a_name(tmp_path: Path, named: str) -> None:
    root = run(tmp_path / "runs" / "lum-001")
    found = find_run(named, tmp_path)
    assert found.root == root
    assert found.record.name == "lum"
    assert found.name == "runs/lum-001"


def test_an_absolute_path_needs_no_here(tmp_path: Path) -> None:
    root = run(tmp_path / "runs" / "lum-001")
    assert find_run(str(root), Path("/")).root == root
    assert find_run(root, tmp_path / "elsewhere").root == root
    assert find_run(root, tmp_path / "elsewhere").name == str(root)


def test_a_file_deep_inside_leads_to_its_run(tmp_path: Path) -> None:
    root = run(tmp_path / "runs" / "lum-001")
    state = root / "output" / "lum-state" / "optimizer.bin"
    state.parent.mkdir(parents=True)
    state.touch()
    assert find_run("runs/lum-001/output/lum-state/optimizer.bin", tmp_path).root == root
    (tmp_path / "x.toml").touch()
    assert run_path(tmp_path / "x.toml") is None
    assert run_path(tmp_path / "gone") is None


def test_names_are_found_where_a_recipe_keeps_its_runs_and_one_folder_down(tmp_path: Path) -> None:
    (tmp_path / "lum.toml").write_text('[save]\nruns = "../kept"\n')
    (tmp_path / "torn.toml").write_text('[save\nruns = "../kept"\n')
    (tmp_path / "odd.toml").write_text("save = 3\n")
    run(tmp_path.parent / "kept" / "lum-002")
    run(tmp_path / "quickstart" / "runs" / "lum-003")
    assert find_run("lum-002", tmp_path).root.resolve() == (tmp_path.parent / "kept" / "lum-002").resolve()
    assert find_run("lum-003", tmp_path).root == tmp_path / "quickstart" / "runs" / "lum-003"


def test_a_name_inside_the_folder_of_runs_itself(tmp_path: Path) -> None:
    root = run(tmp_path / "lum-001")
    assert find_run("lum-001", tmp_path).root == root


def test_a_folder_named_twice_is_searched_once(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text('[save]\nruns = "runs"\n')
    (tmp_path / "b.toml").write_text('[save]\nruns = "./runs/../runs"\n')
    run(tmp_path / "runs" / "lum-001")
    assert [folder.name for folder in iter_runs_folders(tmp_path)] == [tmp_path.name, "runs"]


def test_two_runs_of_one_name_are_not_guessed_between(tmp_path: Path) -> None:
    run(tmp_path / "runs" / "lum-001")
    run(tmp_path / "other" / "runs" / "lum-001")
    error = refusal("lum-001", tmp_path)
    assert "lum-001" in str(error.message)
    assert str(error.hint).endswith(": runs/lum-001, other/runs/lum-001")


@pytest.mark.parametrize(
    ("named", "message", "hint"),
    [
        ("lum-01", "run not found: lum-01", "did you mean runs/lum-001?"),
        ("lum", "run not found: lum", "did you mean runs/lum-001?"),
        ("zzz", "run not found: zzz", "pass a run folder, or the name of a run in ./runs or next to a recipe here"),
        ("runs", "runs is not a run folder: it has no record.json", "did you mean runs/lum-001?"),
        ("a.toml", "a.toml is not in a run folder", "pass a run folder, such as runs/NAME-001"),
        ("gone/lum-001", "run not found: gone/lum-001", "did you mean runs/lum-001?"),
        ("", ". is not a run folder: it has no record.json", None),
    ],
)
def test_what_is_no_run_is_said_with_what_might_be_meant(
    tmp_path: Path, named: str, message: str, hint: str | None
) -> None:
    run(tmp_path / "runs" / "lum-001")
    (tmp_path / "a.toml").touch()
    error = refusal(named, tmp_path)
    assert str(error.message) == message
    assert (None if error.hint is None else str(error.hint)) == hint


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not valid JSON"),
        ('{"version": 2}', "newer lorabake (record version 2)"),
        ('{"version": 1}', "(lorabake: Field required)"),
        ("[]", "(it: "),
    ],
)
def test_a_record_that_cannot_be_read_says_why_in_one_line(tmp_path: Path, content: str, words: str) -> None:
    root = run(tmp_path / "lum-001")
    (root / "record.json").write_text(content)
    error = refusal("lum-001", tmp_path)
    assert words in error.message
    assert "\n" not in error.message


def link_to_zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("named", ["lum-001", "runs/lum-001"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, link_to_zero])
def test_a_record_that_is_no_file_is_named(tmp_path: Path, named: str, make: Callable[[Path], object]) -> None:
    path = run(tmp_path / "runs" / "lum-001") / "record.json"
    path.unlink()
    make(path)
    assert str(refusal(named, tmp_path).message).startswith(f"cannot read {path}: it is ")


def refuse(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Nobody may look into a folder (root may look into all of them)."""
    true = os.stat

    def stat(path: Any, **how: Any) -> os.stat_result:
        if folder in Path(os.fsdecode(path)).parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return true(path, **how)

    monkeypatch.setattr(os, "stat", stat)


@pytest.mark.parametrize("named", ["runs/lum-001", "lum-001", "runs/lum-001/record.json"])
def test_a_folder_of_runs_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    run(tmp_path / "runs" / "lum-001")
    refuse(monkeypatch, tmp_path / "runs")
    error = refusal(named, tmp_path)
    assert str(tmp_path / "runs" / "lum-001") in str(error.message)
    assert str(error.message).endswith(": permission denied")
    for ask in (is_recipe_path, find_lora):
        with pytest.raises(MachineError, match=": permission denied"):
            ask(named if "/" in named else f"runs/{named}", tmp_path)


def test_a_name_is_found_beside_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "a" / "runs" / "lum-001")
    root = run(tmp_path / "b" / "runs" / "lum-002")
    refuse(monkeypatch, tmp_path / "a" / "runs")
    assert find_run("lum-002", tmp_path).root == root
    assert "permission denied" in str(refusal("lum-001", tmp_path).message)


@pytest.mark.parametrize("named", ["a" * 300, "runs/" + "a" * 300])
def test_a_name_that_is_too_long_for_the_disk(tmp_path: Path, named: str) -> None:
    run(tmp_path / "runs" / "lum-001")
    assert str(refusal(named, tmp_path).message).endswith("a: the name is too long")
    for ask in (is_recipe_path, find_lora):
        with pytest.raises(MachineError, match=": the name is too long"):
            ask(named, tmp_path)


def test_a_recipe_in_the_place_of_a_run_is_told_its_runs(tmp_path: Path) -> None:
    (tmp_path / "lum.toml").write_text('name = "lum"\n')
    for name in ("lum-001", "lum-002", "other-001"):
        paths = RunPaths(tmp_path / "runs" / name)
        paths.root.mkdir(parents=True)
        write_record(paths, record(name.removesuffix("-001").removesuffix("-002")))
    with pytest.raises(MachineError, match=r"lum\.toml") as caught:
        find_run("lum.toml", tmp_path)
    assert caught.value.hint == "this is a recipe; pass one of its runs: runs/lum-001, runs/lum-002"


def test_the_names_that_a_shell_completes(tmp_path: Path) -> None:
    for name in ("runs/lum-001", "runs/lum-002", "sub/runs/lum-002", "runs/-x y", "runs/a\nb", "runs/$(rm)"):
        run(tmp_path / name)
    (tmp_path / "runs" / "empty").mkdir()
    assert list_run_names(tmp_path) == ["lum-001", "runs/lum-002", "sub/runs/lum-002"]
    assert list_run_names(tmp_path / "runs" / "empty") == []


def test_runs_below_a_folder_and_those_that_were_recorded(tmp_path: Path) -> None:
    far, near = run(tmp_path / "deep" / "er" / "runs" / "a-001"), run(tmp_path / "p" / "runs" / "b-001")
    home = tmp_path / "home"
    home.mkdir()
    (home / "runs.jsonl").write_text(
        "".join(f'{{"run": "{each}", "digest": null}}\n' for each in (far, near, "/no/such"))
    )
    here = tmp_path / "p"

    def names(folder: Path, *, everywhere: bool = False) -> list[str]:
        return sorted(name for _, name in list_runs(folder, here, home, everywhere=everywhere))

    assert names(here) == ["runs/b-001"]
    assert names(here / "..") == sorted([str(far), "runs/b-001"])
    assert names(here, everywhere=True) == sorted([str(far), "runs/b-001"])
    assert names(near) == ["runs/b-001"]
    with pytest.raises(MachineError):
        list_runs(tmp_path / "nowhere", here, home)


@pytest.mark.parametrize("named", ["runs/lum-001", "lum-001"])
def test_the_folder_of_another_machine_leads_to_the_first(tmp_path: Path, named: str) -> None:
    log = tmp_path / "runs" / "lum-001" / "logs" / "machine-1.log"
    log.parent.mkdir(parents=True)
    log.touch()
    assert "another machine" in refusal(named, tmp_path).message
    write_record(RunPaths(log.parents[1]), record())
    assert find_run(named, tmp_path).root == log.parents[1]
