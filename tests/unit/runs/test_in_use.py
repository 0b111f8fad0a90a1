"""Image folders that a run in progress reads: found by any path, and only while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.errors import BusyError
from lorabake.runs import index
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import ensure_inputs_free
from lorabake.runs.record import write_record
from lorabake.util.locks import try_lock
from lorabake_schemas.machine import MachineFacts
from lorabake_schemas.record import FileDigest, InputDigest, InputRole, Record, RunStatus, TrainerRecord
from situations import RECORDED


def begun(root: Path, place: str, role: InputRole = "concept", status: RunStatus = "started") -> Path:
    """The folder of a run that is made from what is at ``place``."""
    root.mkdir(parents=True)
    made_from = InputDigest(role=role, name="pics", place=place, kind="folder", files=1, size=1, sha256="00")
    record = Record(
        lorabake="1",
        name="one",
        rehearsal=False,
        status=status,
        started="2026-01-31T09:30:00.000Z",
        recipe=FileDigest(name="recipe.toml", sha256="00", size=1),
        compiled=(),
        seed=1,
        trainer=TrainerRecord(kind="pin", python="python"),
        machine=MachineFacts(system="Linux", cpus=1, memory_bytes=1),
        argv=("python",),
        cwd="/somewhere",
        environment={},
        planned_steps=1,
        inputs=(made_from,),
        **RECORDED,
    )
    write_record(RunPaths(root), record)
    return root


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "a" / "pics"
    folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "others").mkdir()
    return folder


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize("role", ["concept", "regularization"])
def test_a_run_that_goes_on_is_found_by_its_images(
    tmp_path: Path, pictures: Path, role: InputRole, noted: bool
) -> None:
    root = begun(tmp_path / "a" / "runs" / "one-001", "../../pics", role)
    if noted:
        index.register_run(tmp_path / "home", root, None)
    beside = tmp_path / "others" if noted else root.parent
    with try_lock(root.parent / ".one.lock") as other:
        assert other is None
        for folder in (pictures, tmp_path / "link"):
            with pytest.raises(BusyError, match="one-001 is in progress and reads the caches in "):
                ensure_inputs_free([tmp_path / "others", folder], tmp_path / "home", beside)
        ensure_inputs_free([tmp_path / "others", tmp_path / "gone"], tmp_path / "home", beside)
    ensure_inputs_free([pictures], tmp_path / "home", beside)  # it was killed: nobody holds its name


def test_runs_that_are_over_gone_or_damaged_stop_nothing(tmp_path: Path, pictures: Path) -> None:
    runs = tmp_path / "a" / "runs"
    begun(runs / "one-001", "../../pics", status="finished")
    begun(runs / "one-002", "../../pics", "base")
    (runs / "one-003").mkdir()
    (runs / "one-003" / "record.json").write_text('{"status": "started"', "utf-8")
    index.register_run(tmp_path / "home", tmp_path / "gone", None)
    with try_lock(runs / ".one.lock"):
        ensure_inputs_free([pictures], tmp_path / "home", runs)


def test_odd_bytes_in_a_name_are_no_way_around(tmp_path: Path, pictures: Path) -> None:
    odd = pictures.with_name("pics\udcff")
    try:
        odd.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    root = begun(tmp_path / "a" / "runs" / "one-001", "../../pics\\udcff")
    with try_lock(root.parent / ".one.lock"), pytest.raises(BusyError, match="is in progress"):
        ensure_inputs_free([odd], tmp_path / "home", root.parent)
