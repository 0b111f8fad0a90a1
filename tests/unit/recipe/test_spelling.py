"""Paths that are there but for capital letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.analysis.check import check_recipe
from lorabake.util.path_case import match_case_insensitive, recipe_relative_path
from situations import GPU, project


@pytest.fixture(autouse=True)
def letters_count(tmp_path: Path) -> None:
    (tmp_path / "probe").touch()
    if (tmp_path / "PROBE").exists():
        pytest.skip("this file system does not tell capital letters apart")


def test_a_path_that_is_there_or_nowhere_has_no_other_spelling(tmp_path: Path) -> None:
    assert match_case_insensitive(tmp_path / "probe") is None
    assert match_case_insensitive(tmp_path / "no" / "such" / "thing") is None
    assert match_case_insensitive(tmp_path / "probe" / "below a file") is None


def test_any_part_of_it_may_be_spelt_otherwise(tmp_path: Path) -> None:
    there = tmp_path / "Data" / "Hamburger"
    there.mkdir(parents=True)
    for said in ("data/hamburger", "Data/HAMBURGER", "DATA/Hamburger"):
        assert match_case_insensitive(tmp_path / said) == there
    assert recipe_relative_path(there, tmp_path) == "Data/Hamburger"
    assert recipe_relative_path(there, tmp_path / "elsewhere") == there.as_posix()


def test_two_that_differ_in_letters_only_are_no_answer(tmp_path: Path) -> None:
    (tmp_path / "Data").mkdir()
    (tmp_path / "DATA").mkdir()
    assert match_case_insensitive(tmp_path / "data") is None


def test_check_says_how_a_folder_is_spelt(tmp_path: Path) -> None:
    path = project(tmp_path, pictures=3)
    text = path.read_text("utf-8")
    images = text.partition('images = "')[2].partition('"')[0]
    (tmp_path / images).rename(tmp_path / images.upper())
    [finding] = [each for each in check_recipe(path, GPU).findings if each.rule == "G4.9"]
    assert finding.fix == f'write images = "{images.upper()}" (file names are case-sensitive)'


def test_check_says_how_a_file_is_spelt(tmp_path: Path) -> None:
    (tmp_path / "Old.safetensors").touch()
    path = project(tmp_path, '[network]\nnetwork_weights = "old.safetensors"\n')
    [finding] = [each for each in check_recipe(path, GPU).findings if each.rule == "missing-file"]
    assert finding.fix == "write Old.safetensors (names are case-sensitive)"
