"""Compiling without a run: all files, or none."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from lorabake.analysis.check import check_recipe
from lorabake.errors import MachineError, ResourceError
from lorabake.jobs.run_files import write_compiled
from situations import CPU, project


def test_the_compiled_files_without_the_recipe(tmp_path: Path) -> None:
    written = write_compiled(check_recipe(project(tmp_path), CPU), tmp_path / "out" / "new")
    assert {path.name for path in written} == {"train.toml", "dataset.toml"}
    assert sorted(written) == sorted((tmp_path / "out" / "new").iterdir())
    assert b"from a recipe" in written[0].read_bytes()


def test_a_full_disk_leaves_no_half_written_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examination, folder = check_recipe(project(tmp_path), CPU), tmp_path / "out"
    real = Path.write_bytes

    def write(path: Path, data: bytes) -> int:
        if path.name == "dataset.toml":
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(ResourceError, match="No space left"):
        write_compiled(examination, folder)
    assert not folder.exists()


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(MachineError, match="out already exists"):
        write_compiled(check_recipe(project(tmp_path), CPU), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
