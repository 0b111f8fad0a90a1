"""A run folder is new and complete, or does not exist; its files are replaced atomically."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lorabake.errors import MachineError, ResourceError
from lorabake.runs.folder import RunPaths, create_run_folder, list_outputs, replace_file
from lorabake.runs.record import read_record, read_record_fields
from lorabake.util.hashing import digest_bytes, digest_file


def test_a_new_folder_with_its_files(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "runs" / "a")
    create_run_folder(paths, {"recipe.toml": b"x", "train.toml": b"y"})
    assert paths.recipe.read_bytes() == b"x"
    assert paths.train.read_bytes() == b"y"
    assert paths.log.read_bytes() == b""
    assert paths.output.is_dir()
    assert paths.tensorboard.is_dir()


def test_a_folder_is_never_used_twice(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine").write_text("kept", "utf-8")
    with pytest.raises(MachineError, match="already exists"):
        create_run_folder(RunPaths(tmp_path / "a"), {"recipe.toml": b"x"})
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["mine"]


def test_nothing_half_made_stays(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot write to the run folder"):
        create_run_folder(RunPaths(tmp_path / "a"), {"recipe.toml": b"x", "no/such/folder.toml": b"y"})
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_hold_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="cannot create the run folder"):
        create_run_folder(RunPaths(tmp_path / "file" / "a"), {})


def test_a_failed_write_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    replace_file(path, b"old", within=path.parent)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lorabake.runs.folder.os.fsync", full)
    with pytest.raises(ResourceError, match=r"cannot write .*record.json: the disk is full"):
        replace_file(path, b"new", within=path.parent)
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    expected = hashlib.sha256(b"abc").hexdigest()
    assert digest_file(tmp_path / "x", "x") == digest_bytes(b"abc", "x")
    assert (digest_bytes(b"abc", "x").sha256, digest_bytes(b"abc", "x").size) == (expected, 3)


def test_outputs_are_named_from_the_run_folder(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "a")
    create_run_folder(paths, {})
    (paths.output / "sample").mkdir()
    (paths.output / "sample" / "b.png").write_bytes(b"1")
    (paths.output / "a.safetensors").write_bytes(b"2")
    assert [file.name for file in list_outputs(paths)] == ["output/a.safetensors", "output/sample/b.png"]


def test_what_is_not_a_record(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text('{"version": 2}', "utf-8")
    for path in (tmp_path / "record.json", tmp_path / "none.json"):
        with pytest.raises(MachineError, match=path.name):
            read_record(path)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 9000, None])
def test_a_search_through_records_passes_over_what_is_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "record.json").write_text(content, "utf-8")
    assert read_record_fields(tmp_path) == {}
    (tmp_path / "record.json").write_text('{"status": "started"}', "utf-8")
    assert read_record_fields(tmp_path)["status"] == "started"
