"""Commands that start a training: run, quickstart."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.cli_options import JSON, RECIPE, Start, commit_options, page, speech, start_options, trainer_options
from lorabake.commands.common import called, environment, sayer, show_findings
from lorabake.output import write_out, write_result

if TYPE_CHECKING:
    from lorabake.workflow import TrainerChoice
    from lorabake_schemas.machine import Family


@click.command()
@RECIPE
@start_options
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="The run folder, which must not exist yet.")
@commit_options
@JSON
def run(
    recipe: Path,
    start: Start,
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
    from lorabake import workflow
    from lorabake.gauge import gauge
    from lorabake.render.runs import dry_run as would_run
    from lorabake.render.runs import ending

    workflow.have_commit(choice, environment(), sayer(), install_it=not (start.rehearse or start.dry_run))
    order = workflow.RunOrder(recipe, choice, start.rehearse, run_dir, verbose, speech(), start.refresh_cache)
    with gauge(sys.stderr, speech()) as progress:
        prepared = workflow.prepare(order, environment(), progress)
    for deleted in prepared.refreshed:
        sayer()(deleted)
    show_findings(prepared.examination, as_json=as_json)
    workflow.check_place(prepared)
    if start.dry_run:
        command = workflow.expected_command(prepared, environment())
        write_out(would_run(prepared, command, page(), as_json=as_json))
        return
    record = workflow.train(prepared, environment(), sayer())
    write_result(record.model_dump_json(indent=2) if as_json else ending(record, prepared.root, page()))
    sys.exit(workflow.exit_code(record))


@click.command()
@click.option("--family", type=click.Choice(["sd15", "sdxl"]), default="sd15", show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("quickstart"), show_default=True)
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@trainer_options
def quickstart(family: Family, folder: Path, verbose: bool, choice: TrainerChoice) -> None:
    """Draw pictures, make a base model of random weights, and really train on them for a minute."""
    from lorabake import workflow
    from lorabake.first import story
    from lorabake.render.runs import ending

    wish = story.Wish(family, folder, choice, verbose, speech(), called(sys.argv[0], shutil.which("lorabake")))
    done = story.first_run(wish, environment(), sayer(), show_findings)
    write_result(ending(done.record, Path(done.record.cwd), page()))
    for line in done.last_words:
        write_result(speech()(line))
    sys.exit(workflow.exit_code(done.record))


__all__ = ["quickstart", "run"]
