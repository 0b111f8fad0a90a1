"""Paths that are there but for capital letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.examine import examine
from lorabake.reading.spelling import as_spelt, as_written
from situations import GPU, project


@pytest.fixture(autouse=True)
def letters_count(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("this file system does not tell capital letters apart")


def test_a_path_that_is_there_or_nowhere_has_no_other_spelling(tmp_path: Path) -> None:
    assert as_spelt(tmp_path / "probe") is None
    assert as_spelt(tmp_path / "no" / "such" / "thing") is None
    assert as_spelt(tmp_path / "probe" / "below a file") is None


def test_any_part_of_it_may_be_spelt_otherwise(tmp_path: Path) -> None:
    there = tmp_path / "Data" / "Hamburger"
    there.mkdir(parents=True)
    for said in ("data/hamburger", "Data/HAMBURGER", "DATA/Hamburger"):
        assert as_spelt(tmp_path / said) == there
    assert as_written(there, tmp_path) == "Data/Hamburger"
    assert as_written(there, tmp_path / "elsewhere") == there.as_posix()


def test_two_that_differ_in_letters_only_are_no_answer(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    (tmp_path / "DATA").mkdir()
    assert as_spelt(tmp_path / "data") is None


def test_check_says_how_a_folder_is_spelt(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=3)
    text = path.read_text("utf-8")
    images = text.partition('images = "')[2].partition('"')[0]
    (tmp_path / images).rename(tmp_path / images.upper())
    [finding] = [each for each in examine(path, GPU).findings if each.rule == "G4.9"]
    assert finding.fix == f'write images = "{images.upper()}": capital letters count'


def test_check_says_how_a_file_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "Old.safetensors").touch()
    path = project(tmp_path, '[network]\nnetwork_weights = "old.safetensors"\n')
    [finding] = [each for each in examine(path, GPU).findings if each.rule == "missing-file"]
    assert finding.fix == "write Old.safetensors: capital letters count"
