"""Commands on runs that are in progress: attach, stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    RUN_ARGUMENT,
    VERBOSE_OPTION,
    make_text_layout,
    stderr_printer,
    terminal_display,
)
from lorabake.commands.output.console import write_out
from lorabake.commands.run import show_run_outcome
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.runs.stop_request import StopMode


@command(
    msg(
        "Watch a run that is in progress.\n\n"
        "Shows what `lorabake run` would show. Ctrl-C leaves, and the run continues. Exits like run when the run ends, "
        "0 when you leave."
    )
)
@RUN_ARGUMENT
@VERBOSE_OPTION
def attach(run: str, verbose: bool) -> None:
    from lorabake.jobs.attach import attach_run
    from lorabake.jobs.run import exit_code
    from lorabake.runs.index import find_run
    from lorabake.runs.lock import find_active

    found = find_run(run, Path.cwd())
    active = find_active(found.paths, found.record)
    if active is not None and not active.certain:  # on another host
        for said in (active.error.message, active.error.hint):
            stderr_printer()(said or "")
    try:
        record = attach_run(found.paths, terminal_display(verbose))
    except KeyboardInterrupt:
        stderr_printer()(msg("{run} continues; stop it with `lorabake stop {run}`", run=found.name))
        return
    show_run_outcome(record, found.root)
    sys.exit(exit_code(record))


def _parse_mode(_ctx: click.Context, _param: click.Parameter, value: str | None) -> StopMode:
    from lorabake.runs.stop_request import MODES

    return MODES.get(value, "soon")


@command(
    msg(
        "Stop a run that is in progress, from any terminal.\n\n"
        "Waits until the trainer has ended; with --after-epoch and --after-save it returns at once. Continue later "
        "with `lorabake resume`.\n\n"
        "Exits 0 when the run has ended or will end, 1 if it is not in progress."
    )
)
@RUN_ARGUMENT
@click.option("--after-epoch", "mode", flag_value="after-epoch", help=msg("Stop when the current epoch ends."))
@click.option("--after-save", "mode", flag_value="after-save", help=msg("Stop after the next save: no step is lost."))
@click.option("--now", "mode", flag_value="now", callback=_parse_mode, help=msg("Kill the trainer at once."))
@JSON_OPTION
def stop(run: str, mode: StopMode, as_json: bool) -> None:
    from lorabake.commands.output.runs import format_stop_request
    from lorabake.jobs.control import stop_run, wait_for_end
    from lorabake.runs.index import find_run
    from lorabake.runs.stop_request import LATER_MODES

    found = find_run(run, Path.cwd())
    if mode == "after-save" and found.record.rehearsal:
        mode = "soon"  # it saves nothing
    stop_run(found, mode)
    if mode in LATER_MODES:
        write_out(format_stop_request(found, mode, make_text_layout(), as_json=as_json))
        return
    record = wait_for_end(found.paths)
    show_run_outcome(record, found.root, as_json=as_json)
