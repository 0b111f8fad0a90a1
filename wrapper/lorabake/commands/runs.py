"""Commands on runs: verify, diff, compare, rerun, resume."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.cli_options import JSON, RUN, Look, Start, commit_options, own_options, page, repeat_options, speech
from lorabake.commands.common import environment, examined, sayer, show_findings
from lorabake.output import write_err, write_out, write_result
from lorabake_schemas.words import Said, quoted, say

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from lorabake.planning.run_difference import Side
    from lorabake.reading.fingerprints import Fingerprints
    from lorabake.runs.find import FoundRun
    from lorabake.workflow import TrainerChoice
    from lorabake_schemas.verification import Difference


@click.command()
@RUN
@click.option("--no-cache", is_flag=True, help="Hash every file again, also those that look unchanged since.")
@own_options
@JSON
def verify(run: str, no_cache: bool, choice: TrainerChoice, as_json: bool) -> None:
    """Hash again everything RUN was made from and everything it made, and say what is not as its record has it.

    RUN is a run folder, its record.json, or a name such as lum-001 of a run under ./runs or beside a recipe here.
    No program that RUN names is started: a trainer that is not lorabake's own is checked when --sd-scripts names it.
    Exit code 0 when everything that was compared is identical, 1 otherwise.
    """
    from lorabake.reading import machine
    from lorabake.render.verify import verified
    from lorabake.runs.find import find
    from lorabake.runs.verify import verify as verify_run

    found, env = find(run, Path.cwd()), environment()
    with fingerprints(cache=not no_cache) as known:
        report = verify_run(found, env, known, machine.facts(env), given(choice))
    write_out(verified(report, page(), as_json=as_json))
    sys.exit(0 if report.identical else 1)


@click.command()
@RUN
@click.option("--with-drift", is_flag=True, help="Go on although data, model or trainer are not what they were.")
@click.option("--dry-run", is_flag=True, help="Show from which state and by which command, and stop.")
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@own_options
@JSON
def resume(run: str, with_drift: bool, dry_run: bool, verbose: bool, choice: TrainerChoice, as_json: bool) -> None:
    """Go on with RUN where it stopped, in its own folder, from the newest state that is whole.

    States are saved with save.save_state = true in the recipe. A run that is finished is left as it is, with exit code
    0. Exit code 1 when there is nothing to go on from, or when something it was made from changed; 4 when the trainer
    could not be had or failed, 7 when its images, captions or models changed since it began, 130 when interrupted. The
    command is built from the recipe and the trainer, never taken from RUN; a trainer that is not lorabake's own has to
    be named.
    """
    from lorabake import resuming
    from lorabake.render.resume import already_finished, would_resume
    from lorabake.render.runs import ending
    from lorabake.runs.find import find
    from lorabake.runs.trainer_now import find_trainer
    from lorabake.workflow import exit_code

    found, env = find(run, Path.cwd()), environment()
    if found.record.trained and not found.record.rehearsal:
        write_out(already_finished(found, page(), as_json=as_json))
        return
    ready = resuming.ready(found)
    say_line, then, own = sayer(), found.record.trainer, given(choice)
    if dry_run:
        trainer = find_trainer(then, env, own)
        made = resuming.remade(found, resuming.understood(None, then, env, say_line), env) if ready.way else None
        command = resuming.expected_command(ready, made, trainer) if made is not None else ()
        write_out(would_resume(ready, command, page(), as_json=as_json))
        return
    trainer = made = None
    if ready.way is not None:
        trainer = resuming.trainer_of(then, choice, env, say_line)
        snapshot = resuming.understood(trainer, then, env, say_line)
        made = resuming.remade(found, snapshot, env)
        resuming.refuse_lacking(ready.way, made.plan.script, trainer, snapshot)
        refuse_drift(found, env, made.differences, own, allowed=with_drift)
    for line in resuming.words(ready):
        say_line(line)
    record = resuming.go_on(ready, made, trainer, env, verbose=verbose, speech=speech())
    write_result(record.model_dump_json(indent=2) if as_json else ending(record, found.root, page()))
    sys.exit(exit_code(record))


@click.command()
@click.argument("one", metavar="RUN|RECIPE")
@click.argument("other", metavar="RUN|RECIPE")
@click.option("--no-cache", is_flag=True, help="Read and hash every file of a recipe again.")
@JSON
def diff(one: str, other: str, no_cache: bool, as_json: bool) -> None:
    """Show what differs between two runs, two recipes, or a run and a recipe, and where each value comes from.

    Settings, forecast, pictures, captions and models; of two runs also trainer, machine and outcome. A run is named
    as for verify. Exit code 0 whenever the two could be compared, whether they differ or not.
    """
    from lorabake.planning.run_difference import run_difference
    from lorabake.render.difference import difference_json, difference_text

    found = run_difference(*(_side(what, Look(cache=not no_cache), as_json=as_json) for what in (one, other)))
    write_out(difference_json(found) if as_json else difference_text(found, page()))


def _side(what: str, look: Look, *, as_json: bool) -> Side:
    """A run, or a recipe; one with errors ends the command with its findings."""
    from lorabake.runs import sides
    from lorabake.runs.find import find

    if not sides.is_recipe(what, Path.cwd()):
        return sides.of_run(find(what, Path.cwd()))
    examination = examined(Path(what), look, rehearsing=True)
    if examination.plan is None:
        write_err(page(err=True)(say("nothing was compared: {recipe} has to be mended first", recipe=what)))
        show_findings(examination, as_json=as_json)
    with fingerprints(cache=look.cache) as known:
        return sides.of_recipe(examination, environment(), known)


@click.command()
@click.argument("first", metavar="RUN|FILE")
@click.argument("second", metavar="RUN|FILE")
@JSON
def compare(first: str, second: str, as_json: bool) -> None:
    """Compare the weights of two LoRAs: equal, or the largest and mean difference, block by block.

    Each is a .safetensors file, or a run, whose finished LoRA is taken. Exit code 0 when every tensor is equal, be the
    metadata as it may; 1 otherwise.
    """
    from lorabake.reading.two_loras import compared
    from lorabake.render.comparison import comparison
    from lorabake.runs.lora import lora_of

    here = Path.cwd()
    found = compared(lora_of(first, here), lora_of(second, here))
    write_out(comparison(found, page(), as_json=as_json))
    sys.exit(1 if found.likeness == "different" else 0)


def given(choice: TrainerChoice) -> tuple[Path, Path] | None:
    """The checkout of sd-scripts and the Python that this command line names. Raises SetupError when they are none."""
    from lorabake.trainer.venv import own_place

    return own_place(choice.sd_scripts, choice.python, environment()) if choice.sd_scripts is not None else None


def refuse_drift(
    found: FoundRun,
    env: Mapping[str, str],
    more: Sequence[Difference] = (),
    own: tuple[Path, Path] | None = None,
    *,
    allowed: bool,
) -> tuple[Said, ...]:
    """What differs from when the run was made, ``more`` among it, on stderr, too. ``own`` is the trainer that this
    command line names. Raises MachineError unless that is ``allowed``."""
    from lorabake.errors import MachineError
    from lorabake.render.verify import drifted
    from lorabake.runs.verify import drift

    with fingerprints() as known:
        now = drift(found, env, known, own)
        differences = (*more, *now.differences)
    for line in now.unproven:
        sayer()(line)
    if differences:
        write_err(drifted(differences, page(err=True)))
        if not allowed:
            said = say("{run} was made from something else than what is here now", run=found.root)
            raise MachineError(said, say("put it back as it was, or train all the same with --with-drift"))
    return tuple(quoted(difference.message) for difference in differences)


@click.command()
@RUN
@click.option("--with-drift", is_flag=True, help="Run although recipe, data, model or trainer are not what they were.")
@repeat_options
@click.option("--verbose", is_flag=True, help="Show the trainer's own words.")
@click.option("--run-dir", type=click.Path(path_type=Path), help="The new run folder, which must not exist yet.")
@commit_options
@JSON
def rerun(
    run: str,
    with_drift: bool,
    start: Start,
    verbose: bool,
    run_dir: Path | None,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    """Run RUN again in a new folder beside it: its recipe as it was, its data, its trainer, its seed.

    The recipe is taken from the run, also when the file is edited or gone. Without any of the trainer options, the
    trainer is the run's. Exit code 1 when something it was made from is not what it was, unless --with-drift; else as
    for run.
    """
    from lorabake import rerunning, workflow
    from lorabake.render.runs import dry_run as would_run
    from lorabake.render.runs import ending
    from lorabake.runs.find import find
    from lorabake.runs.verify import environment_remarks

    found, env, tell = find(run, Path.cwd()), environment(), sayer()
    if start.refresh_cache and found.record.rehearsal:
        raise click.UsageError(say("--refresh-cache deletes files, so it goes with a real run only"))
    order = rerunning.Rerun(found, choice, run_dir, verbose, speech(), with_drift, start.refresh_cache)
    rerunning.have_trainer(order, env, tell, install_it=not start.dry_run)
    drift = refuse_drift(found, env, own=given(choice), allowed=with_drift)
    for said in environment_remarks(found.record, env):
        tell(said)
    prepared = rerunning.prepared(order, drift, env)
    for deleted in prepared.refreshed:
        tell(deleted)
    show_findings(prepared.examination, as_json=as_json)
    workflow.check_place(prepared)
    if start.dry_run:
        command = workflow.expected_command(prepared, env)
        write_out(would_run(prepared, command, page(), as_json=as_json))
        return
    record = workflow.train(prepared, env, tell)
    write_result(record.model_dump_json(indent=2) if as_json else ending(record, prepared.root, page()))
    if words := rerunning.beside(found, record, prepared.root):
        tell(words)
    sys.exit(workflow.exit_code(record))


@contextmanager
def fingerprints(*, cache: bool = True) -> Generator[Fingerprints]:
    """Who hashes files, says on a terminal how far that is, and remembers; without ``cache`` nothing is remembered."""
    from lorabake.gauge import gauge, hashing
    from lorabake.homes import home
    from lorabake.reading.fact_store import store_path
    from lorabake.reading.fingerprints import Fingerprints

    env = environment()
    with gauge(sys.stderr, speech(), hashing) as progress:
        yield Fingerprints(store_path(home(env), env) if cache else None, progress)
