"""Commands that look at runs and change nothing: ls, status, logs and tensorboard."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    RUN_ARGUMENT,
    RUNS_ARGUMENT,
    complete_run,
    get_environment,
    make_text_layout,
    user_trainer_options,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.jobs.run import TrainerChoice


@command(
    msg(
        "List runs with their state.\n\n"
        "FOLDER is where to look (default: here): in it, in its runs folder, and in those of its subfolders."
    )
)
@click.argument("folder", type=PATH_TYPE, default=".")
@click.option("--all", "everywhere", is_flag=True, help=msg("List every run that this machine knows."))
@JSON_OPTION
def ls(folder: Path, everywhere: bool, as_json: bool) -> None:
    from lorabake.commands.output.status import format_run_list, format_status_json
    from lorabake.runs.index import list_runs
    from lorabake.runs.status import list_statuses
    from lorabake.util.paths import lorabake_home

    here = Path.cwd()
    report = list_statuses(list_runs(here / folder, here, lorabake_home(get_environment()), everywhere=everywhere))
    page = make_text_layout()
    write_out(
        format_status_json(report) if as_json else format_run_list(report, _local_time(), page, everywhere=everywhere)
    )


@command(
    msg(
        "Show the state of runs in detail.\n\n"
        "RUN is a run folder, or a name such as lum-001 of a run in ./runs or next to a recipe here. The state comes "
        "from locks and processes, and the time left from the last minute of training."
    )
)
@RUNS_ARGUMENT
@JSON_OPTION
def status(runs: tuple[str, ...], as_json: bool) -> None:
    from lorabake.commands.output.status import format_status_json, format_statuses
    from lorabake.runs.index import find_run
    from lorabake.runs.status import summarize_run
    from lorabake_schemas.run_status import StatusReport

    here = Path.cwd()
    found = [find_run(named, here) for named in runs]
    report = StatusReport(runs=tuple(summarize_run(run.paths, run.record, run.name) for run in found))
    write_out(format_status_json(report) if as_json else format_statuses(report, _local_time(), make_text_layout()))


@command(
    msg(
        "Show the trainer's log.\n\n"
        "Shows its lines without colors, and of its progress bars only the last one. With --follow it ends when the "
        "run ends."
    )
)
@RUN_ARGUMENT
@click.option("--follow", "-f", is_flag=True, help=msg("Show new lines until the run ends."))
@click.option("--raw", is_flag=True, help=msg("Print the log unchanged, progress bars included."))
@click.option("--lines", "-n", type=int, metavar="N", help=msg("Show only the last N lines."))
@JSON_OPTION
def logs(run: str, follow: bool, raw: bool, lines: int | None, as_json: bool) -> None:
    from lorabake.commands.output.logs import excerpt_log, show_log, show_raw_log
    from lorabake.errors import InterruptedRunError
    from lorabake.runs.index import find_run
    from lorabake.runs.log_lines import LogTail, follow_log
    from lorabake.runs.status import read_state

    if as_json and (follow or raw):
        raise click.UsageError(
            msg("--json cannot be used with --follow or --raw; programs can follow events.jsonl in the run folder")
        )
    if lines is not None and lines < 0:
        raise click.UsageError(msg("--lines needs 0 or more"))
    found = find_run(run, Path.cwd())
    with LogTail(found.paths) as tail:
        old, new = tail.read(), follow_log(tail) if follow else iter(())
        if as_json:
            excerpt = excerpt_log(old, found.name, read_state(found.paths), lines)
            write_out(excerpt.model_dump_json(indent=2))
            return
        try:
            if raw:
                show_raw_log(old, lines)
                show_raw_log(new)
            else:
                show_log(old, new, make_text_layout(), lines)
        except KeyboardInterrupt:  # "interrupted" would be the word for a run
            sys.exit(InterruptedRunError.exit_code)


@command(
    msg(
        "Show the losses of runs in the trainer's TensorBoard.\n\n"
        "Shows RUNs, or all runs below the current folder, at an address that only this machine reaches. Ctrl-C "
        "ends it. Nothing that a run folder names is started: TensorBoard is the installed trainer's, or that of "
        "--sd-scripts and --python."
    )
)
@click.argument("runs", metavar="[RUN]...", nargs=-1, shell_complete=complete_run)
@click.option(
    "--port", type=int, metavar="PORT", help=msg("Port to listen on (default: 6006, or another one if it is taken).")
)
@user_trainer_options
@JSON_OPTION
def tensorboard(runs: tuple[str, ...], port: int | None, choice: TrainerChoice, as_json: bool) -> None:
    from lorabake.commands.output.status import format_tensorboard_url
    from lorabake.commands.runs import find_named_trainer
    from lorabake.jobs.tensorboard import choose_port, find_tensorboard, serve_tensorboard
    from lorabake.runs.index import find_run, list_runs
    from lorabake.util.paths import lorabake_home

    if port is not None and not 0 < port < 1 << 16:
        raise click.UsageError(msg("--port needs a number from 1 to 65535"))
    env, here = get_environment(), Path.cwd()
    named = runs or tuple(str(root) for root, _ in list_runs(here, here, lorabake_home(env)))
    found = [find_run(each, here) for each in named]
    python, page = find_tensorboard(found, env, find_named_trainer(choice)), make_text_layout()
    serve_tensorboard(
        found, python, choose_port(port), env, lambda url: write_out(format_tensorboard_url(url, page, as_json=as_json))
    )


def _local_time() -> datetime:
    return datetime.now(UTC).astimezone()
