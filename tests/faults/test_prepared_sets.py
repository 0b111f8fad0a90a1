"""`prepare` on every faulty set: the original stays as it is, and `check` has nothing left to say about the copy, or
says why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import faulty_sets
import pytest
from click.testing import CliRunner
from faulty_sets import FAULTS, Fault
from test_faulty_sets import checked, project_of, snapshot

from lorabake.cli import main

# What no copy can repair: the images or tags that are missing, what the captions leave out, and a recipe's own faults.
REMAINING = {
    "S14", "G4.9.repeats", "G2.10", "G1.2", "G6.16", "G35.4", "G3.3", "G3.3.tokens", "S17.commas", "G3.15", "G5.10",
    "G5.15", "G3.21", "G3.6.portuguese", "G3.6.accents", "G5.11.prompts", "G5.11", "GC.27", "G3.6", "G1.18", "G2.14",
    "G2.12", "G3.16", "G3.18.twice",
}  # fmt: skip
WITHOUT_IMAGES = {"folder-missing", "folder-empty", "one-level-too-high", "only-sub-folders"}
INSTEAD = {
    "caption-empty": {"G3.3"}, "caption-of-spaces": {"G3.3"}, "caption-of-numbers": {"G3.3"},
    "outfit-missing": {"GC.14"},
}  # fmt: skip
GUESSED = {"caption-not-utf8"}  # prepare guesses the encoding, of which check knows nothing
# What a copy lacks, too, but what is mended where it is: subfolders, caches, and a caption that has to be written.
NOT_FOR_A_COPY = {"G4.9.subfolders", "S19", "S19.sizes", "S12.borrowed"}
ALIKE = {"nearly-the-same": {"G1.9"}}  # which of them is better only a person can say


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    faulty_sets.write(folder)
    return folder


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_faulty_set_is_repaired_or_named(clean: Path, tmp_path: Path, fault: Fault) -> None:
    project = project_of(clean, fault, tmp_path / "p")
    before = snapshot(project)
    found = [each for each in checked(project, "--deep")["findings"] if each["rule"] == fault.rule]
    done = CliRunner().invoke(main, ["prepare", str(project / "recipe.toml"), "--to", str(tmp_path / "new"), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert snapshot(project) == before
    answer: dict[str, Any] = json.loads(done.stdout)
    if fault.name in WITHOUT_IMAGES:
        assert "error" in answer
        return
    left = {each["rule"] for each in checked(tmp_path / "new", "--deep")["findings"]}
    mine = {fault.rule} & REMAINING | INSTEAD.get(fault.name, set()) | ALIKE.get(fault.name, set())
    if fault.rule not in left | NOT_FOR_A_COPY and fault.name not in {*INSTEAD, *GUESSED}:
        assert all("lorabake prepare" in each["fix"] for each in found)
    assert left == mine | (fault.also & left)
    unread = any(each["reason"] == "unreadable" for each in answer["left_out"])
    assert done.exit_code == (1 if unread or answer["errors"] else 0)
