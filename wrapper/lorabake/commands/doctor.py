"""doctor."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorabake.commands.help import command
from lorabake.commands.options import JSON_OPTION, get_environment, make_text_layout
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg


@command(
    msg(
        "Check this machine, and explain why a run failed.\n\n"
        "Looks at GPU, driver, memory, disks, trainer and network, and changes nothing. RUN is a run in ./runs, or its "
        "folder. Exits 6 if something keeps this machine from training."
    )
)
@click.argument("run", required=False, metavar="[RUN]")
@JSON_OPTION
def doctor(run: str | None, as_json: bool) -> None:
    from lorabake.analysis.doctor import examine
    from lorabake.commands.output.doctor import format_doctor
    from lorabake.runs.index import find_run
    from lorabake.util.paths import lorabake_home

    env, here = get_environment(), Path.cwd()
    found = find_run(run, here) if run is not None else None
    report = examine(env, here, lorabake_home(env), found)
    write_out(format_doctor(report, make_text_layout(), as_json=as_json))
    sys.exit(0 if report.healthy else 6)
