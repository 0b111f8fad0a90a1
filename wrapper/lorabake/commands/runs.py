"""Commands on runs: verify."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorabake.cli_options import JSON, RUN, page, speech
from lorabake.commands.common import environment


@click.command()
@RUN
@click.option("--no-cache", is_flag=True, help="Hash every file again, also those that look unchanged since.")
@JSON
def verify(run: str, no_cache: bool, as_json: bool) -> None:
    """Hash again everything RUN was made from and everything it made, and say what is not as its record has it.

    RUN is a run folder, its record.json, or a name such as lum-001 of a run under ./runs or beside a recipe here.
    Exit code 0 when everything is identical, 1 otherwise.
    """
    from lorabake.gauge import gauge, hashing
    from lorabake.reading import machine
    from lorabake.reading.fact_store import store_path
    from lorabake.reading.fingerprints import Fingerprints
    from lorabake.render.verify import verified
    from lorabake.runs.find import find
    from lorabake.runs.verify import verify as verify_run
    from lorabake.trainer.store import home

    found, env = find(run, Path.cwd()), environment()
    store = None if no_cache else store_path(home(env), env)
    with gauge(sys.stderr, speech(), hashing) as progress:
        report = verify_run(found, env, Fingerprints(store, progress), machine.facts(env))
    click.echo(verified(report, page(), as_json=as_json))
    sys.exit(0 if report.identical else 1)


__all__ = ["verify"]
