"""run and quickstart."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.check import show_findings
from lorabake.commands.help import command, current_translator
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    RUN_DIR_OPTION,
    SET_OPTION,
    VERBOSE_OPTION,
    RunOptions,
    commit_options,
    get_environment,
    make_text_layout,
    run_options,
    stderr_printer,
    terminal_display,
    trainer_options,
)
from lorabake.commands.output.console import write_err, write_out, write_result
from lorabake_schemas.messages import literal, msg

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lorabake.jobs.run import PreparedRun, RunRequest, TrainerChoice
    from lorabake.recipe.overrides import Override
    from lorabake_schemas.machine import Family
    from lorabake_schemas.record import Record


def program_name(started: str, found: str | None) -> str:
    """What a person types to start lorabake again: ``started`` is argv[0], ``found`` what a shell finds as lorabake."""
    program = Path(started)
    if found is not None and program.exists() and program.samefile(found):
        return "lorabake"
    if program.name == "__main__.py":
        return shlex.join([sys.executable, "-m", "lorabake"])
    return shlex.quote(started)


@command(
    msg(
        "Train LoRAs from one or several recipes.\n\n"
        "Checks the recipe, installs the trainer if it is missing, and trains in a new run folder. The run "
        "continues if the terminal is closed; Ctrl-C stops it.\n\n"
        "--set network.network_dim=8,16 trains once for each value. With --once the command is safe to repeat, and to "
        "start on several machines that share a disk.\n\n"
        "Exits 0 if training finished and the LoRA is usable; 1 if the recipe or the dataset is at fault; "
        "4 if the trainer could not be installed, or failed; 5 if a run of that name is in progress or "
        "another run uses the GPU; 6 if this machine cannot train it (no GPU, memory, disk); 7 if images, captions or "
        "models changed during training; 8 if it was stopped because the loss stayed NaN; 130 if interrupted."
    )
)
@click.argument("recipe_paths", metavar="RECIPE...", type=PATH_TYPE, nargs=-1, required=True)
@SET_OPTION
@run_options
@VERBOSE_OPTION
@RUN_DIR_OPTION
@commit_options
@JSON_OPTION
def run(
    recipe_paths: tuple[Path, ...],
    overrides: tuple[Override, ...],
    options: RunOptions,
    verbose: bool,
    run_dir: Path | None,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    from lorabake.jobs import run as workflow
    from lorabake.jobs.queue import expand_order
    from lorabake.runs.seat import SeatOptions

    workflow.ensure_commit(
        choice, get_environment(), stderr_printer(), install_it=not (options.rehearse or options.dry_run)
    )
    orders = [
        order
        for recipe in recipe_paths
        for order in expand_order(
            workflow.RunRequest(
                recipe, choice, options.rehearse, run_dir, options.refresh_cache, display=terminal_display(verbose),
                overrides=overrides, detach=options.detach, once=options.once, seat=SeatOptions(*options.seat),
                use=options.use,
            ),
            get_environment(),
        )
    ]  # fmt: skip
    if len(orders) == 1 and not options.once:
        _run_one(orders[0], dry_run=options.dry_run, as_json=as_json)
    elif options.dry_run or options.detach or run_dir is not None:
        raise click.UsageError(msg("--dry-run, --detach and --run-dir are for one recipe without --once"))
    else:
        _run_several(orders, once=options.once, as_json=as_json)


def _run_one(order: RunRequest, *, dry_run: bool, as_json: bool) -> None:
    from lorabake.commands.output.runs import format_dry_run
    from lorabake.jobs import run as workflow

    with order.display.scanning() as progress:
        prepared = workflow.prepare_run(order, get_environment(), progress)
    for deleted in prepared.refreshed:
        stderr_printer()(deleted)
    show_findings(prepared.examination, as_json=as_json)
    workflow.check_run_folder(prepared)
    if dry_run:
        command = workflow.preview_run_command(prepared, get_environment())
        write_out(format_dry_run(prepared, command, make_text_layout(), as_json=as_json))
        return
    exit_if_joined(prepared)
    record = workflow.execute_run(prepared, get_environment(), stderr_printer())
    show_run_outcome(record, prepared.root, as_json=as_json)
    sys.exit(workflow.exit_code(record))


def exit_if_joined(prepared: PreparedRun) -> None:
    """On every machine but the first of several: train along with it, and end this program with the run's exit code."""
    from lorabake.jobs import run as workflow

    seat, env, tell = prepared.seat, get_environment(), stderr_printer()
    if seat is not None and seat.rank:
        sys.exit(workflow.join_first_machine(prepared, workflow.make_request(prepared, env, tell), seat, tell))


def _run_several(orders: Sequence[RunRequest], *, once: bool, as_json: bool) -> None:
    """One after the other; the table at the end, and the most serious exit code."""
    from lorabake.commands.output import queue as output
    from lorabake.commands.output.findings import format_brief
    from lorabake.jobs import queue

    def show(prepared: PreparedRun) -> None:
        write_err(make_text_layout(err=True)(msg("{recipe}:", recipe=describe_order(prepared.order))))
        if text := format_brief(prepared.examination, make_text_layout(err=True)):
            write_err(text)

    results: list[queue.JobResult] = []
    for result in queue.run_queue(orders, get_environment(), stderr_printer(), show):
        results.append(result)
        if result.message is not None:
            write_err(make_text_layout(err=True)(literal(result.message)))
    report = output.make_report(results)
    write_result(report.model_dump_json(indent=2) if as_json else output.format_queue(report, make_text_layout()))
    sys.exit(queue.worst_exit_code(results, once=once))


def describe_order(order: RunRequest) -> str:
    """A recipe and what is set in it, but for the name of a variant."""
    from lorabake.recipe.sweep import NAME_KEY

    return " ".join([str(order.recipe), *(each.text for each in order.overrides if each.key != NAME_KEY)])


def show_run_outcome(record: Record, root: Path, *, as_json: bool = False) -> None:
    from lorabake.commands.output.runs import format_run_outcome
    from lorabake.runs.folder import RunPaths
    from lorabake.runs.folders import display_path
    from lorabake.runs.record import read_trigger_words

    if as_json:
        write_result(record.model_dump_json(indent=2))
        return
    moved = record.outcome.moved_to if record.outcome is not None else None
    triggers = read_trigger_words(RunPaths(root if moved is None else Path(moved)))
    shown = Path(display_path(root.absolute(), Path.cwd()))
    write_result(format_run_outcome(record, shown, make_text_layout(), triggers))


def _parse_family(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str:
    from lorabake_schemas.families.registry import DEFAULT_FAMILY, list_families  # not for `lorabake --help`

    names = [family.name for family in list_families() if family.quickstart.offered]
    if value is not None and value not in names:
        raise click.BadParameter(msg('"{given}" is not one of {choices}', given=value, choices=", ".join(names)))
    return value or DEFAULT_FAMILY


@command(
    msg(
        "Train on sample images for a minute, to try everything once.\n\n"
        "The base model has random weights, so only the trainer is a large download."
    )
)
@click.option(
    "--family", metavar="NAME", callback=_parse_family, help=msg("Model family to train: sd15 (default) or sdxl.")
)
@click.option(
    "--folder", type=PATH_TYPE, default=Path("quickstart"), help=msg("Folder to work in (default: quickstart).")
)
@VERBOSE_OPTION
@trainer_options
def quickstart(family: Family, folder: Path, verbose: bool, choice: TrainerChoice) -> None:
    from lorabake.jobs import quickstart as story
    from lorabake.jobs import run as workflow

    display = terminal_display(verbose)
    wish = story.QuickstartOptions(family, folder, choice, program_name(sys.argv[0], shutil.which("lorabake")), display)
    done = story.run_quickstart(wish, get_environment(), stderr_printer(), show_findings)
    show_run_outcome(done.record, Path(done.record.cwd))
    for line in done.last_words:
        write_result(current_translator()(line))
    sys.exit(workflow.exit_code(done.record))
