"""The README's transcripts are what the program says, and its examples work as they stand."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from PIL import Image

from lorabake.analysis.check import check_recipe
from lorabake.cli import main
from lorabake.commands.output.findings import format_concise
from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.recipe import Recipe
from situations import CPU

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = "\n".join((ROOT / "docs" / name).read_text("utf-8") for name in ("trainer.md", "run-folder.md"))
BLOCKS: list[str] = [
    str(block).strip("\n") for block in re.findall(r"^```\w*\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
]


def block(start: str) -> str:
    return next(each for each in BLOCKS if each.startswith(start))


def test_its_recipe_is_a_recipe() -> None:
    assert Recipe.model_validate(tomllib.loads(block("name ="))).kind == "object"


def test_its_report_of_mistakes_is_what_check_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = block("name =").replace("datasets/hamburger", "datasets").replace("Prodigy", "Prodgy")
    Path("my.toml").write_text(f"{text}\nresolution = 700\nlr_warmup = 100\n", encoding="utf-8")
    pictures = Path("datasets/10_hamburger")
    pictures.mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (768, 768), (number, 9, 9)).save(pictures / f"{number}.png")
    command, _, shown = block("$ lorabake check").partition("\n")
    assert command == "$ lorabake check my.toml | cat"
    assert click.unstyle(format_concise(check_recipe(Path("my.toml"), CPU), TextLayout())) == shown


def test_commands_and_options_that_it_names_are_there() -> None:
    context = click.Context(main)
    inline = "\n".join(re.findall(r"`([^`\n]+)`", f"{README}\n{PAGES}"))
    shown = "\n".join(each for each in BLOCKS if each.startswith("lorabake"))
    named = set(re.findall(r"^lorabake (\w+)", f"{inline}\n{shown}", re.MULTILINE))
    assert {"check", "plan", "run", "compile", "explain", "recipes", "trainer"} <= named
    assert named <= set(main.list_commands(context))
    options = {name for command in main.commands.values() for parameter in command.params for name in parameter.opts}
    kept = main.get_command(context, "trainer")
    assert isinstance(kept, click.Group)
    options |= {name for command in kept.commands.values() for parameter in command.params for name in parameter.opts}
    mentioned = set(re.findall(r"`(?:lorabake )?[^`\n]*?(--[a-z-]+)", f"{README}\n{PAGES}")) - {"--global"}
    assert {"--lang", "--deep", "--diff", "--no-cache", "--output-format", "--repair"} <= mentioned
    assert mentioned <= options
