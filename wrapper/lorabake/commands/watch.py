"""Commands that look at runs and change nothing: ls and status."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    RUNS_ARGUMENT,
    get_environment,
    make_text_layout,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg


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
    write_out(format_status_json(report) if as_json else format_run_list(report, _local_time(), make_text_layout()))


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


def _local_time() -> datetime:
    return datetime.now(UTC).astimezone()
