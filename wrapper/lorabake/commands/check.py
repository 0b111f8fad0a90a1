"""Commands that start nothing: check, plan, compile, explain, schema."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.common import run_check, show_findings
from lorabake.commands.options import (
    JSON_OPTION,
    OUTPUT_FORMAT_OPTION,
    PATH_TYPE,
    RECIPE_ARGUMENT,
    CheckOptions,
    check_options,
    current_translator,
    make_text_layout,
)
from lorabake.commands.output.console import write_err, write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.analysis.check import CheckResult
    from lorabake.commands.json_schema import SchemaName
    from lorabake.commands.output.findings import OutputFormat
    from lorabake_schemas.plan import Plan

SCHEMA_NAMES = (
    "recipe", "check", "plan", "diff", "explain", "record", "inputs", "inspect", "verify", "compare", "commits",
)  # fmt: skip


@click.command()
@RECIPE_ARGUMENT
@OUTPUT_FORMAT_OPTION
@JSON_OPTION
@click.option("--strict", is_flag=True, help="Let warnings fail too.")
@check_options
def check(recipe: Path, form: OutputFormat | None, as_json: bool, strict: bool, look: CheckOptions) -> None:
    """Say everything that is wrong with RECIPE and its pictures.

    Exit code 0 when nothing stands in the way of training, 1 otherwise.
    """
    from lorabake.commands.output.formats import format_check_result

    examination = run_check(recipe, look)
    write_out(format_check_result(examination, "json" if as_json else form, make_text_layout(), Path.cwd()))
    sys.exit(1 if examination.has_failures(strict=strict) else 0)


@click.command()
@RECIPE_ARGUMENT
@click.option("--diff", "other", type=PATH_TYPE, metavar="OTHER", help="Only what differs from OTHER's plan.")
@click.option("--exit-code", is_flag=True, help="With --diff: exit code 1 when the plans differ.")
@JSON_OPTION
@check_options
def plan(recipe: Path, other: Path | None, exit_code: bool, as_json: bool, look: CheckOptions) -> None:
    """Show every setting RECIPE leads to, where it comes from, and what the run will do.

    Exit code 1, with the findings (as check prints them), when an error stands in the way.
    """
    from lorabake.commands.output.plan import format_plan_page, plan_to_json

    examination = run_check(recipe, look)
    if examination.plan is None:
        show_findings(examination, as_json=as_json)
    if other is not None:
        differs = _show_plan_diff(examination, other, look, as_json=as_json)
        sys.exit(1 if differs and exit_code else 0)
    write_out(plan_to_json(examination) if as_json else format_plan_page(examination, make_text_layout()))


def _show_plan_diff(here: CheckResult, other: Path, look: CheckOptions, *, as_json: bool) -> bool:
    from lorabake.analysis.diff import diff_plans
    from lorabake.commands.output.diff import format_plan_diff, plan_diff_to_json

    there = run_check(other, look)
    if there.plan is None:
        said = msg("nothing was compared; fix {recipe} first", recipe=other)
        write_err(make_text_layout(err=True)(said))
        show_findings(there, as_json=as_json)
    (_, one), (_, two) = here.planned(), there.planned()
    found = diff_plans(one, two, (str(here.loaded.path), str(other)))
    write_out(plan_diff_to_json(found) if as_json else format_plan_diff(found, make_text_layout()))
    return not found.same


@click.command("compile")
@RECIPE_ARGUMENT
@click.option("-o", "--output", type=PATH_TYPE, required=True, help="A new or empty folder for the files.")
@JSON_OPTION
@check_options
def compile_(recipe: Path, output: Path, as_json: bool, look: CheckOptions) -> None:
    """Write sd-scripts' train.toml and dataset.toml for RECIPE, and start nothing."""
    from lorabake.commands.output.runs import format_written_files
    from lorabake.jobs.run_files import write_compiled

    examination = run_check(recipe, look)
    show_findings(examination, as_json=as_json)
    write_out(format_written_files(write_compiled(examination, output), make_text_layout(), as_json=as_json))


@click.command()
@click.argument("topics", nargs=-1, metavar="[TOPIC]... [RECIPE]")
@click.option("--full", is_flag=True, help="Every rule at length.")
@click.option("--all", "whole", is_flag=True, help="Print the whole book as Markdown.")
@click.option("--table", "counted", is_flag=True, help="Count the rules: implemented, advice, not applicable.")
@JSON_OPTION
def explain(topics: tuple[str, ...], full: bool, whole: bool, counted: bool, as_json: bool) -> None:
    """Explain a rule (G4.52, S27), a setting, an optimizer or an algorithm: what the guide says, what is true.

    With a RECIPE (my.toml), also the values that it leads to.
    """
    from lorabake.commands.output import explain as output

    words = [topic for topic in topics if not topic.lower().endswith(".toml")]
    recipes = [topic for topic in topics if topic not in words]
    if whole:
        write_out(output.format_book(), end="")
    elif counted:
        write_out(output.status_counts_to_json() if as_json else output.format_status_counts(make_text_layout()))
    elif not words or len(recipes) > 1:
        raise click.UsageError(msg("pass a rule, a setting, an optimizer or an algorithm, or --all or --table"))
    else:
        plan = _plan_for_explain(Path(recipes[0])) if recipes else None
        write_out(output.explain_topics(words, make_text_layout(), plan, whole=full, as_json=as_json))


def _plan_for_explain(recipe: Path) -> Plan | None:
    """None, and a line on stderr, when the recipe has errors: what was asked about may be one of them."""
    examination = run_check(recipe, CheckOptions())
    if examination.plan is None:
        said = msg(
            "{recipe} has errors, so its values are not shown: `lorabake check {recipe}` lists them", recipe=recipe
        )
        write_err(make_text_layout(err=True)(said))
    return examination.plan


@click.command()
@click.argument("what", type=click.Choice(SCHEMA_NAMES), default="recipe")
@click.option("--check", "check_file", type=PATH_TYPE, help="Fail when this file is not up to date.")
def schema(what: SchemaName, check_file: Path | None) -> None:
    """Print the JSON schema of a recipe (for editors), of a run's record, or of what a command prints with --json."""
    from lorabake.commands import json_schema
    from lorabake.util.files import is_file, read_text

    text = json_schema.generate_schema(what)
    if check_file is None:
        write_out(text, end="")
    elif not is_file(check_file) or read_text(check_file) != text:
        said = msg("{file} is out of date; run `lorabake schema {what} > {file}`", file=check_file, what=what)
        raise click.ClickException(current_translator()(said))
