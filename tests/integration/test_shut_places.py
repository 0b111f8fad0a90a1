"""Ordinary troubles with files and folders, through every command: shut folders, pipes, devices, names too long.

None of them is a bug of lorabake (exit code 3), and none is waited for.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lorabake.cli import main
from situations import RECIPE, project


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    project(tmp_path)
    return tmp_path


def asked(here: Path, *argv: str) -> Result:
    return CliRunner().invoke(main, argv, env={"LORABAKE_HOME": str(here / "home"), "LORABAKE_SCAN_CACHE": "off"})


COMMANDS: Sequence[Sequence[str]] = (
    ["check", "{}"], ["check", "{}", "--deep"], ["plan", "{}"], ["plan", "recipe.toml", "--diff", "{}"],
    ["compile", "{}", "-o", "out"], ["compile", "recipe.toml", "-o", "{}"], ["run", "{}", "--rehearse"],
    ["run", "recipe.toml", "--rehearse", "--run-dir", "{}"], ["inspect", "{}"], ["compare", "{}", "{}"],
    ["compare", "base.safetensors", "{}"], ["verify", "{}"], ["resume", "{}"], ["rerun", "{}", "--dry-run"],
    ["diff", "{}", "recipe.toml"], ["recipes", "copy", "object-sd15-prodigy", "{}"], ["schema", "--check", "{}"],
)  # fmt: skip


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("place", ["shut/in/it", "shut", "loop", "n" * 300, "p/" * 2500 + "p", "recipe.toml/below"])
def test_what_may_not_be_entered_is_no_bug(here: Path, argv: Sequence[str], place: str) -> None:
    (here / "shut").mkdir(mode=0)
    (here / "loop").symlink_to("loop")
    done = asked(here, *(part.format(place) for part in argv))
    assert done.exit_code in {1, 2}, done.output


@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("key", ["model", "vae", "images", "network_weights", "tokenizer_cache_dir", "runs", "preset"])
@pytest.mark.parametrize("command", ["check", "plan", "compile"])
def test_a_recipe_that_names_what_may_not_be_entered(here: Path, key: str, command: str) -> None:
    (here / "shut").mkdir(mode=0)
    where = {
        "model": ("base.safetensors", "shut/x.safetensors"),
        "images": ('images = "pics"', 'images = "shut/pics"'),
        "vae": ("[base]", '[base]\nvae = "shut/v.safetensors"'),
        "tokenizer_cache_dir": ("[base]", '[base]\ntokenizer_cache_dir = "shut/t"'),
        "network_weights": ("[[concept]]", '[network]\nnetwork_weights = "shut/l.safetensors"\n\n[[concept]]'),
        "preset": ("[[concept]]", '[network]\ntype = "locon"\npreset = "shut/p.toml"\n\n[[concept]]'),
        "runs": ("[[concept]]", '[save]\nruns = "shut/runs"\n\n[[concept]]'),
    }[key]
    assert where[0] in RECIPE
    (here / "recipe.toml").write_text(RECIPE.replace(*where))
    more = ("-o", "out") if command == "compile" else ()
    done = asked(here, command, "recipe.toml", *more)
    assert done.exit_code in {0, 1}, done.output
    if command == "check" and key in {"model", "vae", "images", "network_weights", "preset"}:
        told = json.loads(asked(here, "check", "recipe.toml", "--json").stdout)
        assert key in {each["where"][-1] for each in told["findings"] if each["where"]}, told


@pytest.mark.parametrize("argv", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_pipes_and_devices_are_not_read(here: Path, argv: Sequence[str], kind: str) -> None:
    if kind == "pipe":
        os.mkfifo(here / "odd.toml")
    else:
        (here / "odd.toml").symlink_to("/dev/zero")
    done = asked(here, *(part.format("odd.toml") for part in argv))
    assert done.exit_code in {1, 2}, done.output


@pytest.mark.parametrize(
    "name", ["base.safetensors", "pics/001.png", "pics/001.txt", "other.toml", "home/facts-2.sqlite3", "v.safetensors"]
)
@pytest.mark.parametrize("kind", ["pipe", "endless"])
def test_odd_files_where_a_recipe_has_ordinary_ones(here: Path, name: str, kind: str) -> None:
    (here / "home").mkdir()
    (here / name).unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(here / name)
    else:
        (here / name).symlink_to("/dev/zero")
    (here / "recipe.toml").write_text(RECIPE.replace("[base]", '[base]\nvae = "v.safetensors"'))
    env = {"LORABAKE_HOME": str(here / "home")}
    for argv in (["check", "recipe.toml"], ["check", "recipe.toml", "--deep"], ["verify", "no-such-run"]):
        done = CliRunner().invoke(main, argv, env=env)
        assert done.exit_code == 1, done.output
