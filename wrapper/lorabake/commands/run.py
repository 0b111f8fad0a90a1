"""Commands that start a training: run, quickstart."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.common import get_environment, program_name, show_findings, stderr_printer, terminal_display
from lorabake.commands.options import (
    JSON_OPTION,
    RECIPE_ARGUMENT,
    RunOptions,
    commit_options,
    current_translator,
    make_text_layout,
    start_options,
    trainer_options,
)
from lorabake.commands.output.console import write_out, write_result

if TYPE_CHECKING:
    from lorabake.jobs.run import TrainerChoice
    from lorabake_schemas.machine import Family


@click.command()
@RECIPE_ARGUMENT
@start_options
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run folder, which must not exist yet.")
@commit_options
@JSON_OPTION
def run(
    recipe: Path,
    start: RunOptions,
    verbose: bool,
    run_dir: Path | None,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    """Train RECIPE: check, compile, install the trainer if need be, launch.

    Exit code 0 when a usable LoRA lies in the run folder, 1 when the recipe or this machine is at fault, 4 when the
    trainer could not be had or failed, 7 when it finished but its images, captions or models changed meanwhile, 130
    when interrupted.
    """
    from lorabake.commands.output.runs import format_dry_run, format_run_outcome
    from lorabake.jobs import run as workflow

    workflow.ensure_commit(
        choice, get_environment(), stderr_printer(), install_it=not (start.rehearse or start.dry_run)
    )
    display = terminal_display(verbose)
    order = workflow.RunRequest(recipe, choice, start.rehearse, run_dir, start.refresh_cache, display=display)
    with display.scanning() as progress:
        prepared = workflow.prepare_run(order, get_environment(), progress)
    for deleted in prepared.refreshed:
        stderr_printer()(deleted)
    show_findings(prepared.examination, as_json=as_json)
    workflow.check_run_folder(prepared)
    if start.dry_run:
        command = workflow.preview_run_command(prepared, get_environment())
        write_out(format_dry_run(prepared, command, make_text_layout(), as_json=as_json))
        return
    record = workflow.execute_run(prepared, get_environment(), stderr_printer())
    write_result(
        record.model_dump_json(indent=2) if as_json else format_run_outcome(record, prepared.root, make_text_layout())
    )
    sys.exit(workflow.exit_code(record))


@click.command()
@click.option("--family", type=click.Choice(["sd15", "sdxl"]), default="sd15", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("quickstart"), show_default=True)
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@trainer_options
def quickstart(family: Family, folder: Path, verbose: bool, choice: TrainerChoice) -> None:
    """Draw pictures, make a base model of random weights, and really train on them for a minute."""
    from lorabake.commands.output.runs import format_run_outcome
    from lorabake.jobs import quickstart as story
    from lorabake.jobs import run as workflow

    display = terminal_display(verbose)
    wish = story.QuickstartOptions(family, folder, choice, program_name(sys.argv[0], shutil.which("lorabake")), display)
    done = story.run_quickstart(wish, get_environment(), stderr_printer(), show_findings)
    write_result(format_run_outcome(done.record, Path(done.record.cwd), make_text_layout()))
    for line in done.last_words:
        write_result(current_translator()(line))
    sys.exit(workflow.exit_code(done.record))
