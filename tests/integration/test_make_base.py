"""Making a base model with an unsuitable Python: its error is shown, nothing is left behind."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.jobs import quickstart_files as quickstart
from lorabake.util.environment import read_environment


def fake_python(folder: Path, body: str) -> Path:
    """An executable that takes the place of the trainer's Python; ``$2`` is the base to make."""
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    file.chmod(0o755)
    return file


@pytest.mark.skipif(find_spec("torch") is not None, reason="this Python has torch")
def test_a_python_without_torch_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="torch"):
        quickstart.make_base(tmp_path / "base", "sd15", Path(sys.executable), read_environment(), lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_the_script_gets_family_and_options_and_what_died_before_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".base.123").mkdir()
    python = fake_python(tmp_path, 'mkdir "$2"; echo "$@" > "$2/asked"; echo "$HF_HUB_OFFLINE" >> "$2/asked"')
    said: list[str] = []
    quickstart.make_base(tmp_path / "base", "sdxl", python, read_environment(), said.append, "--v-prediction")
    asked, offline = (tmp_path / "base" / "asked").read_text(encoding="utf-8").splitlines()
    assert asked.endswith("--family sdxl --v-prediction")
    assert offline == "1"
    assert "sdxl" in said[0]
    assert not (tmp_path / ".base.123").exists()


def test_prepare_makes_the_base_beside_the_recipe(tmp_path: Path) -> None:
    python = fake_python(tmp_path, 'mkdir "$2"')
    quickstart.write_quickstart_files(tmp_path / "quick", "sd15", python, read_environment(), lambda _: None)
    assert (tmp_path / "quick" / "base-sd15").is_dir()
    assert (tmp_path / "quick" / "recipe.toml").is_file()
