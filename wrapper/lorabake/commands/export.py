"""export."""

from __future__ import annotations

from pathlib import Path

import click

from lorabake.commands.check import run_check, show_findings
from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    CheckOptions,
    check_options,
    complete_run,
    make_text_layout,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.export_report import EXPORT_FORMATS, ExportFormat, ExportReport
from lorabake_schemas.messages import msg


@command(
    msg(
        "Write a recipe or a run for sd-scripts or the kohya_ss GUI.\n\n"
        "For sd-scripts: train.toml, dataset.toml and train.sh. For kohya_ss: a preset to open in its LoRA tab, and a "
        "dataset.toml. Settings without a place there are listed. `lorabake import` reads both back."
    )
)
@click.argument("what", metavar="RUN|RECIPE", shell_complete=complete_run)
@click.option("--to", type=click.Choice(EXPORT_FORMATS), required=True, help=msg("Program to write the files for."))
@click.option(
    "-o", "--output", type=PATH_TYPE, help=msg("Folder for the files, new or empty (default: NAME-kohya_ss ...).")
)
@JSON_OPTION
@check_options
def export(what: str, to: ExportFormat, output: Path | None, as_json: bool, options: CheckOptions) -> None:
    from lorabake.analysis.diff import is_recipe_path
    from lorabake.commands.output.export import format_export_report

    if is_recipe_path(what, Path.cwd()):
        report = _export_recipe(Path(what), to, output, options, as_json=as_json)
    else:
        report = _export_run(what, to, output)
    write_out(report.model_dump_json(indent=2) if as_json else format_export_report(report, make_text_layout()))


def _export_recipe(
    recipe: Path, to: ExportFormat, output: Path | None, options: CheckOptions, *, as_json: bool
) -> ExportReport:
    from lorabake.exchange.compiled_source import take_compiled
    from lorabake.exchange.export import default_folder, list_chosen, list_own_keys, write_export
    from lorabake.jobs.run_files import build_run_files

    examination = run_check(recipe, options)
    show_findings(examination, as_json=as_json)
    loaded, plan = examination.planned()
    folder = output or default_folder(plan.name, to)
    source = take_compiled(build_run_files(examination, folder).fill_folder(), plan, folder)
    return write_export(source, to, folder, str(recipe), list_own_keys(loaded), list_chosen(plan))


def _export_run(run: str, to: ExportFormat, output: Path | None) -> ExportReport:
    from lorabake.exchange.compiled_source import read_run
    from lorabake.exchange.export import default_folder, write_export
    from lorabake.runs.index import find_run

    root = find_run(run, Path.cwd()).root
    source = read_run(root)
    return write_export(source, to, output or default_folder(source.name, to), str(root))
