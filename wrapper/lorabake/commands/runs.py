"""Commands on runs: verify, resume."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.cli_options import JSON, RUN, page, speech
from lorabake.commands.common import environment, sayer
from lorabake_schemas.words import say

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake.runs.find import FoundRun


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


@click.command()
@RUN
@click.option("--with-drift", is_flag=True, help="Go on although data, model or trainer are not what they were.")
@click.option("--dry-run", is_flag=True, help="Show from which state and by which command, and stop.")
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@JSON
def resume(run: str, with_drift: bool, dry_run: bool, verbose: bool, as_json: bool) -> None:
    """Go on with RUN where it stopped, in its own folder, from the newest state that is whole.

    States are saved with save.save_state = true in the recipe. A run that is finished is left as it is, with exit code
    0. Exit code 1 when there is nothing to go on from, or when something it was made from changed; 4 when the trainer
    could not be had or failed, 130 when interrupted.
    """
    from lorabake import resuming
    from lorabake.render.resume import already_finished, would_resume
    from lorabake.render.runs import ending
    from lorabake.runs.find import find
    from lorabake.workflow import exit_code

    found, env = find(run, Path.cwd()), environment()
    if found.record.status == "finished":
        click.echo(already_finished(found, page(), as_json=as_json))
        return
    ready = resuming.ready(found)
    if dry_run:
        click.echo(would_resume(ready, resuming.expected_command(ready, env), page(), as_json=as_json))
        return
    say_line = sayer()
    trainer = resuming.trainer_of(found.record.trainer, env, say_line)
    if ready.way is not None:
        refuse_drift(found, env, allowed=with_drift)
    for line in resuming.words(ready):
        say_line(line)
    record = resuming.go_on(ready, trainer, env, verbose=verbose, speech=speech())
    click.echo(record.model_dump_json(indent=2) if as_json else ending(record, found.root, page()))
    sys.exit(exit_code(record))


def refuse_drift(found: FoundRun, env: Mapping[str, str], *, allowed: bool) -> None:
    """Say on stderr what is otherwise than when the run was made. Raises MachineError unless that is ``allowed``."""
    from lorabake.errors import MachineError
    from lorabake.gauge import gauge, hashing
    from lorabake.homes import home
    from lorabake.reading.fact_store import store_path
    from lorabake.reading.fingerprints import Fingerprints
    from lorabake.render.verify import drifted
    from lorabake.runs.verify import drift

    with gauge(sys.stderr, speech(), hashing) as progress:
        now = drift(found, env, Fingerprints(store_path(home(env), env), progress))
    for line in now.unproven:
        sayer()(line)
    if now.differences:
        click.echo(drifted(now.differences, page(err=True)), err=True)
        if not allowed:
            said = say("{run} was made from something else than what is here now", run=found.root)
            raise MachineError(said, say("put it back as it was, or go on all the same with --with-drift"))


__all__ = ["resume", "verify"]
