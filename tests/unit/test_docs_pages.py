"""The pages under docs/ are what the program says today, and fit a terminal."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

from lorabake.commands.output.explain import heading_anchor
from lorabake_schemas.guide.partners import NEVER_READ, OPTION_PARTNERS, WITHOUT_PARTNERS
from lorabake_schemas.recipe_keys import list_recipe_keys

DOCS = Path(__file__).resolve().parents[2] / "docs"


@cache
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pages", DOCS / "make_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WRITTEN = {
    "commits.md",
    "init.md",
    "export.md",
    "import.md",
    "inspect.md",
    "repeating.md",
    "long-runs.md",
    "machines.md",
    "prepare.md",
    "resuming.md",
    "run-folder.md",
    "tags.md",
    "trainer.md",
    "trouble.md",
    "watching.md",
}  # by hand: what was measured or tried with sd-scripts itself


@cache
def pages() -> dict[Path, str]:
    made: dict[Path, str] = maker().pages()
    return made


MADE = ["check.md", "plan.md", "explain.md", "options.md", "recipe.md", "rules.md", "runs.md", "run.svg"]


@pytest.mark.parametrize("name", MADE)
def test_a_page_is_what_the_program_says(name: str) -> None:
    assert (DOCS / name).read_text("utf-8") == pages()[DOCS / name], "make docs"


def test_every_page_is_made() -> None:
    assert {path.name for path in pages()} | WRITTEN == {
        path.name for path in DOCS.iterdir() if path.suffix in {".md", ".svg"}
    }


def test_the_recipe_reference_has_every_key() -> None:
    """Once under its own table, and no other."""
    found, table = list[str](), ""
    for line in (DOCS / "recipe.md").read_text("utf-8").splitlines():
        if heading := re.fullmatch(r"## (?:`\[+([\w.]+)\]+`|.*)", line):
            table = f"{heading[1]}." if heading[1] else ""
        elif row := re.match(r"\| `(\w+)` \|", line):
            found.append(table + row[1])
    tables = {name.rpartition(".")[0] for name in list_recipe_keys()}
    assert found == sorted(set(list_recipe_keys()) - tables, key=found.index)
    assert len(set(found)) == len(found) > 100


def test_the_options_page_has_every_option_once_and_its_links_lead_somewhere() -> None:
    text = (DOCS / "options.md").read_text("utf-8")
    assert re.findall(r"(?m)^\| `(\w+)` \|", text) == sorted({*OPTION_PARTNERS, *NEVER_READ, *WITHOUT_PARTNERS})
    assert set(re.findall(r"\]\[(\w+:\d+)\]", text)) == set(re.findall(r"(?m)^\[(\w+:\d+)\]: https://", text))


def test_the_recipe_reference_leads_to_rules() -> None:
    headings = re.findall("(?m)^#+ (.*)$", (DOCS / "rules.md").read_text("utf-8"))
    links = re.findall(r"\(rules\.md#([^)]+)\)", (DOCS / "recipe.md").read_text("utf-8"))
    assert len(links) > 50
    assert set(links) <= set(map(heading_anchor, headings))


def test_what_a_terminal_shows_fits_it() -> None:
    """Only blocks that end in a pipe are as long as they are."""
    for path, text in pages().items():
        for command, output in re.findall(r"```console\n\$ ([^\n]*)\n(.*?)\n```", text, re.DOTALL):
            if "|" not in command and "--diff" not in command:
                assert max(map(len, output.splitlines())) <= 80, (path.name, command)


def test_the_readme_leads_there() -> None:
    readme = (DOCS.parent / "README.md").read_text("utf-8")
    for name in {path.name for path in pages()} | WRITTEN:
        assert f"(docs/{name})" in readme


def test_nothing_of_this_machine_is_in_them(tmp_path: Path) -> None:
    for text in pages().values():
        assert "/tmp" not in text  # noqa: S108
        assert str(tmp_path.parent) not in text
        assert str(DOCS.parent) not in text
