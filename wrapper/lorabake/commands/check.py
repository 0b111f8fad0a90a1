"""check, plan and compile."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    RECIPE_ARGUMENT,
    CheckOptions,
    check_options,
    get_environment,
    make_text_layout,
    show_progress,
    stderr_printer,
)
from lorabake.commands.output.console import write_err, write_out
from lorabake.errors import RecipeError, ResourceError
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.analysis.check import CheckResult
    from lorabake.commands.output.findings import OutputFormat
    from lorabake_schemas.options import OptionSnapshot


def run_check(recipe: Path, options: CheckOptions, *, rehearsing: bool = False) -> CheckResult:
    """Check a recipe, showing progress. With ``rehearsing`` a missing model is not an error."""
    from lorabake.analysis.check import check_recipe
    from lorabake.inputs.dataset import ScanOptions
    from lorabake.util import machine
    from lorabake.util.fact_cache import fact_store_path
    from lorabake.util.paths import lorabake_home

    env = get_environment()
    store = fact_store_path(lorabake_home(env), env) if options.cache else None
    snapshot = _load_snapshot(options.commit, env)
    with show_progress() as progress:
        return check_recipe(
            recipe,
            machine.detect_machine(env),
            rehearsing=rehearsing,
            snapshot=snapshot,
            scanning=ScanOptions(store, options.deep, progress, progress and progress.hashing, env),
            overrides=options.overrides,
        )


def _load_snapshot(commit: str | None, env: Mapping[str, str]) -> OptionSnapshot | None:
    if commit is None:
        return None
    from lorabake.trainer import versions

    found = versions.load_commit_options(commit, env)
    if warned := versions.commit_warning(commit):
        stderr_printer()(warned)
    return found


def show_findings(examination: CheckResult, *, as_json: bool = False) -> None:
    """Print the warnings on stderr. Exits, with a report as JSON if asked for, if one of the findings is an error:
    with 1, or with 6 if only this machine is at fault."""
    from lorabake.commands.output.findings import findings_to_json, format_brief

    if text := format_brief(examination, make_text_layout(err=True)):
        write_err(text)
    if examination.plan is None:
        if as_json:
            write_out(findings_to_json(examination))
        sys.exit(ResourceError.exit_code if examination.is_machine_at_fault else RecipeError.exit_code)


@command(
    msg(
        "Find problems in a recipe and its dataset.\n\nExits 1 if a finding is an error, so that training cannot start."
    )
)
@RECIPE_ARGUMENT
@click.option(
    "--output-format",
    type=click.Choice(["full", "concise", "json", "github"]),
    help=msg("Print findings in groups (full, for terminals), one a line (concise), as JSON or for GitHub Actions."),
)
@JSON_OPTION
@click.option("--strict", is_flag=True, help=msg("Exit 1 for warnings, too."))
@check_options
def check(recipe: Path, output_format: OutputFormat | None, as_json: bool, strict: bool, options: CheckOptions) -> None:
    from lorabake.commands.output.findings import format_check_result
    from lorabake.commands.output.next_step import format_next_step

    examination, layout = run_check(recipe, options), make_text_layout()
    write_out(format_check_result(examination, "json" if as_json else output_format, layout, Path.cwd()))
    is_full = output_format == "full" or (output_format is None and layout.width is not None)
    if is_full and not as_json and (step := "\n".join(format_next_step(examination, layout, strict=strict))):
        write_out(step)
    sys.exit(1 if examination.has_failures(strict=strict) else 0)


@command(
    msg(
        "Show every setting, its source, and what the run will do.\n\n"
        "Exits 1 and prints the findings if one of them is an error."
    )
)
@RECIPE_ARGUMENT
@click.option("--diff", "other", type=PATH_TYPE, metavar="OTHER", help=msg("Show only what differs from OTHER's plan."))
@click.option("--exit-code", is_flag=True, help=msg("With --diff, exit 1 if the plans differ."))
@JSON_OPTION
@check_options
def plan(recipe: Path, other: Path | None, exit_code: bool, as_json: bool, options: CheckOptions) -> None:
    from lorabake.commands.output.plan import format_plan_page, plan_to_json

    examination = run_check(recipe, options)
    if examination.plan is None:
        show_findings(examination, as_json=as_json)
    if other is not None:
        differs = _show_plan_diff(examination, other, options, as_json=as_json)
        sys.exit(1 if differs and exit_code else 0)
    write_out(plan_to_json(examination) if as_json else format_plan_page(examination, make_text_layout()))


def _show_plan_diff(here: CheckResult, other: Path, options: CheckOptions, *, as_json: bool) -> bool:
    from lorabake.analysis.diff import diff_plans
    from lorabake.commands.output.diff import format_plan_diff, plan_diff_to_json

    there = run_check(other, replace(options, overrides=()))
    if there.plan is None:
        said = msg("nothing was compared; fix {recipe} first", recipe=other)
        write_err(make_text_layout(err=True)(said))
        show_findings(there, as_json=as_json)
    (_, one), (_, two) = here.planned(), there.planned()
    found = diff_plans(one, two, (str(here.loaded.path), str(other)))
    write_out(plan_diff_to_json(found) if as_json else format_plan_diff(found, make_text_layout()))
    return not found.same


@command(msg("Write sd-scripts' train.toml and dataset.toml, and stop."), "compile")
@RECIPE_ARGUMENT
@click.option(
    "-o",
    "--output",
    type=PATH_TYPE,
    required=True,
    help=msg("Folder for the files, new or empty (required)."),
)
@JSON_OPTION
@check_options
def compile_(recipe: Path, output: Path, as_json: bool, options: CheckOptions) -> None:
    from lorabake.commands.output.runs import format_written_files
    from lorabake.jobs.run_files import write_compiled

    examination = run_check(recipe, options)
    show_findings(examination, as_json=as_json)
    write_out(format_written_files(write_compiled(examination, output), make_text_layout(), as_json=as_json))
