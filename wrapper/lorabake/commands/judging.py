"""Commands that start nothing: check, plan, compile, explain, schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.cli_options import FORM, JSON, PATH, RECIPE, Look, look_options, page, speech
from lorabake.commands.common import examined, show_findings
from lorabake.output import write_err, write_out
from lorabake_schemas.words import say

if TYPE_CHECKING:
    from lorabake.examine import Examination
    from lorabake.render.report import Form
    from lorabake.shelf import Published

PUBLISHED = (
    "recipe", "check", "plan", "diff", "explain", "record", "inputs", "inspect", "verify", "compare", "commits",
)  # fmt: skip


@click.command()
@RECIPE
@FORM
@JSON
@click.option("--strict", is_flag=True, help="Let warnings fail too.")
@look_options
def check(recipe: Path, form: Form | None, as_json: bool, strict: bool, look: Look) -> None:
    """Say everything that is wrong with RECIPE and its pictures.

    Exit code 0 when nothing stands in the way of training, 1 otherwise.
    """
    from lorabake.render.forms import in_form

    examination = examined(recipe, look)
    write_out(in_form(examination, "json" if as_json else form, page(), Path.cwd()))
    sys.exit(1 if examination.fails(strict=strict) else 0)


@click.command()
@RECIPE
@click.option("--diff", "other", type=PATH, metavar="OTHER", help="Only what differs from OTHER's plan.")
@click.option("--exit-code", is_flag=True, help="With --diff: exit code 1 when the plans differ.")
@JSON
@look_options
def plan(recipe: Path, other: Path | None, exit_code: bool, as_json: bool, look: Look) -> None:
    """Show every setting RECIPE leads to, where it comes from, and what the run will do.

    Exit code 1, with the findings (as check prints them), when an error stands in the way.
    """
    from lorabake.render.plan import plan_json, plan_page

    examination = examined(recipe, look)
    if examination.plan is None:
        show_findings(examination, as_json=as_json)
    if other is not None:
        differs = _differ(examination, other, look, as_json=as_json)
        sys.exit(1 if differs and exit_code else 0)
    write_out(plan_json(examination) if as_json else plan_page(examination, page()))


def _differ(here: Examination, other: Path, look: Look, *, as_json: bool) -> bool:
    from lorabake.planning.difference import difference
    from lorabake.render.difference import difference_json, difference_text

    there = examined(other, look)
    if there.plan is None:
        said = say("nothing was compared: {recipe} has to be mended first", recipe=other)
        write_err(page(err=True)(said))
        show_findings(there, as_json=as_json)
    (_, one), (_, two) = here.planned(), there.planned()
    found = difference(one, two, (str(here.loaded.path), str(other)))
    write_out(difference_json(found) if as_json else difference_text(found, page()))
    return not found.same


@click.command("compile")
@RECIPE
@click.option("-o", "--output", type=PATH, required=True, help="A new or empty folder for the files.")
@JSON
@look_options
def compile_(recipe: Path, output: Path, as_json: bool, look: Look) -> None:
    """Write sd-scripts' train.toml and dataset.toml for RECIPE, and start nothing."""
    from lorabake import workflow
    from lorabake.render.runs import written

    examination = examined(recipe, look)
    show_findings(examination, as_json=as_json)
    write_out(written(workflow.write_compiled(examination, output), page(), as_json=as_json))


@click.command()
@click.argument("topics", nargs=-1, metavar="[TOPIC]...")
@click.option("--full", is_flag=True, help="Every rule at length.")
@click.option("--all", "whole", is_flag=True, help="Print the whole book as Markdown.")
@click.option("--table", "counted", is_flag=True, help="Count the rules: implemented, advice, not applicable.")
@JSON
def explain(topics: tuple[str, ...], full: bool, whole: bool, counted: bool, as_json: bool) -> None:
    """Explain a rule (G4.52, S27), a setting, an optimizer or an algorithm: what the guide says, what is true."""
    from lorabake.render import book as pages
    from lorabake.render.explain import answers

    if whole:
        write_out(pages.markdown(), end="")
    elif counted:
        write_out(pages.counts_json() if as_json else pages.counts_text(page()))
    elif not topics:
        raise click.UsageError(say("name a rule, a setting, an optimizer or an algorithm, or --all or --table"))
    else:
        write_out(answers(topics, page(), whole=full, as_json=as_json))


@click.command()
@click.argument("what", type=click.Choice(PUBLISHED), default="recipe")
@click.option("--check", "check_file", type=PATH, help="Fail when this file is not up to date.")
def schema(what: Published, check_file: Path | None) -> None:
    """Print the JSON schema of a recipe (for editors), of a run's record, or of what a command prints with --json."""
    from lorabake import shelf
    from lorabake.files import is_file, read_text

    text = shelf.schema(what)
    if check_file is None:
        write_out(text, end="")
    elif not is_file(check_file) or read_text(check_file) != text:
        said = say("{file} is out of date: lorabake schema {what} > {file}", file=check_file, what=what)
        raise click.ClickException(speech()(said))


__all__ = ["check", "compile_", "explain", "plan", "schema"]
