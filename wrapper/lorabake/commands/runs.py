"""Commands on runs that exist: verify, resume, diff, compare, rerun."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.check import run_check, show_findings
from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    NO_CACHE_OPTION,
    RUN_ARGUMENT,
    RUN_DIR_OPTION,
    VERBOSE_OPTION,
    WITH_DRIFT_OPTION,
    CheckOptions,
    RunOptions,
    commit_options,
    complete_run,
    get_environment,
    make_text_layout,
    rerun_options,
    resume_options,
    show_progress,
    stderr_printer,
    terminal_display,
    user_trainer_options,
)
from lorabake.commands.output.console import write_err, write_out
from lorabake.commands.run import exit_if_joined, show_run_outcome
from lorabake_schemas.messages import literal, msg

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from lorabake.analysis.diff import DiffOperand
    from lorabake.jobs.run import TrainerChoice
    from lorabake.runs.index import FoundRun
    from lorabake.util.hashing import FileHasher
    from lorabake_schemas.verification import VerifyDifference


@command(
    msg(
        "Check that a run's inputs and outputs match its record.\n\n"
        "RUN is a run folder, its record.json, or a name such as lum-001 of a run in ./runs or next to a "
        "recipe here. Nothing that RUN names is started, so pass --sd-scripts to check a trainer that "
        "lorabake did not install.\n\n"
        "Exits 0 if everything that could be compared is identical."
    )
)
@RUN_ARGUMENT
@NO_CACHE_OPTION
@user_trainer_options
@JSON_OPTION
def verify(run: str, no_cache: bool, choice: TrainerChoice, as_json: bool) -> None:
    from lorabake.analysis.verify import verify_run
    from lorabake.commands.output.verify import format_verification
    from lorabake.runs.index import find_run
    from lorabake.util import machine

    found, env = find_run(run, Path.cwd()), get_environment()
    with open_hasher(cache=not no_cache) as known:
        report = verify_run(found, env, known, machine.detect_machine(env), find_named_trainer(choice))
    write_out(format_verification(report, make_text_layout(), as_json=as_json))
    sys.exit(0 if report.identical else 1)


@command(
    msg(
        "Resume an interrupted run from its newest intact state.\n\n"
        "States are saved if the recipe sets save.save_state = true. A finished run is left alone. The "
        "command is built from the recipe and the trainer, never taken from RUN. Name a trainer that "
        "lorabake did not install: --sd-scripts PATH.\n\n"
        "Exits 1 if there is nothing to resume from, or if inputs or trainer have changed; else like run."
    )
)
@RUN_ARGUMENT
@WITH_DRIFT_OPTION
@resume_options
@VERBOSE_OPTION
@user_trainer_options
@JSON_OPTION
def resume(
    run: str,
    with_drift: bool,
    options: RunOptions,
    verbose: bool,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    from lorabake.commands.output.runs import format_already_finished, format_resume
    from lorabake.jobs.resume import prepare
    from lorabake.jobs.run import exit_code
    from lorabake.runs.index import find_run
    from lorabake.runs.seat import SeatOptions
    from lorabake.trainer.environment import find_recorded_trainer

    found, env = find_run(run, Path.cwd()), get_environment()
    if found.record.trained and not found.record.rehearsal:
        write_out(format_already_finished(found, make_text_layout(), as_json=as_json))
        return
    ready = prepare.prepare_resume(found)
    say_line, then, own = stderr_printer(), found.record.trainer, find_named_trainer(choice)
    if options.dry_run:
        trainer = find_recorded_trainer(then, env, own)
        made = (
            prepare.replan_run(found, prepare.read_option_snapshot(None, then, env, say_line), env)
            if ready.way
            else None
        )
        seat = prepare.find_resume_seat(ready, made, SeatOptions(*options.seat), env)
        command = prepare.preview_resume_command(ready, made, trainer, seat) if made is not None else ()
        write_out(format_resume(ready, command, make_text_layout(), as_json=as_json))
        return
    made, trainer = prepare.prepare_continuation(ready, choice, env, say_line)
    seat = prepare.find_resume_seat(ready, made, SeatOptions(*options.seat), env, detach=options.detach)
    drift = refuse_drift(found, env, made.differences, own, allowed=with_drift) if made is not None else ()
    for line in prepare.describe_resume(ready):
        say_line(line)
    how = prepare.StartOptions(terminal_display(verbose), options.detach, options.use, say_line, seat, drift)
    if seat is not None and seat.rank:
        sys.exit(prepare.join_resumed_run(ready, made, trainer, env, how, seat))
    record = prepare.resume_run(ready, made, trainer, env, how)
    show_run_outcome(record, found.root, as_json=as_json)
    sys.exit(exit_code(record))


@command(
    msg(
        "Show what differs between runs or recipes.\n\n"
        "Compares settings with their sources, forecast, images, captions and models; for two runs also "
        "trainer, machine and outcome. Several are shown as a table of the settings that differ, with final loss and "
        "duration. Name a run as for verify. Exits 0 even if they differ."
    )
)
@click.argument("operands", metavar="RUN|RECIPE...", nargs=-1, required=True, shell_complete=complete_run)
@NO_CACHE_OPTION
@JSON_OPTION
def diff(operands: tuple[str, ...], no_cache: bool, as_json: bool) -> None:
    from lorabake.analysis.diff import diff_runs, tabulate_runs
    from lorabake.commands.output.diff import format_plan_diff, format_run_table, plan_diff_to_json

    if len(operands) < 2:
        raise click.UsageError(msg("diff needs at least two runs or recipes"))
    loaded = [_load_operand(what, CheckOptions(cache=not no_cache), as_json=as_json) for what in operands]
    if len(loaded) == 2:
        found = diff_runs(*loaded)
        write_out(plan_diff_to_json(found) if as_json else format_plan_diff(found, make_text_layout()))
        return
    table = tabulate_runs(loaded)
    write_out(table.model_dump_json(indent=2) if as_json else format_run_table(table, make_text_layout()))


def _load_operand(what: str, look: CheckOptions, *, as_json: bool) -> DiffOperand:
    """A run, or a recipe; one with errors ends the command with its findings."""
    from lorabake.analysis import diff as operands
    from lorabake.runs.index import find_run

    if not operands.is_recipe_path(what, Path.cwd()):
        return operands.operand_from_run(find_run(what, Path.cwd()))
    examination = run_check(Path(what), look, rehearsing=True)
    if examination.plan is None:
        write_err(make_text_layout(err=True)(msg("nothing was compared; fix {recipe} first", recipe=what)))
        show_findings(examination, as_json=as_json)
    with open_hasher(cache=look.cache) as known:
        return operands.operand_from_recipe(examination, get_environment(), known)


@command(
    msg(
        "Compare the weights of two LoRAs.\n\n"
        "Shows the largest and the mean difference for each block. Pass .safetensors files, or runs to "
        "compare their finished LoRAs. Exits 0 if all tensors are equal (metadata is ignored)."
    )
)
@click.argument("first", metavar="RUN|FILE", shell_complete=complete_run)
@click.argument("second", metavar="RUN|FILE", shell_complete=complete_run)
@JSON_OPTION
def compare(first: str, second: str, as_json: bool) -> None:
    from lorabake.analysis.lora_origin import find_lora
    from lorabake.commands.output.compare import render_comparison
    from lorabake.lora.compare import compare_loras

    here = Path.cwd()
    found = compare_loras(find_lora(first, here), find_lora(second, here))
    write_out(render_comparison(found, make_text_layout(), as_json=as_json))
    sys.exit(1 if found.likeness == "different" else 0)


def find_named_trainer(choice: TrainerChoice) -> tuple[Path, Path] | None:
    """The sd-scripts folder and the Python that this command line names. Raises SetupError if they are not one."""
    from lorabake.trainer.venv import find_user_checkout

    return (
        find_user_checkout(choice.sd_scripts, choice.python, get_environment())
        if choice.sd_scripts is not None
        else None
    )


def refuse_drift(
    found: FoundRun,
    env: Mapping[str, str],
    more: Sequence[VerifyDifference] = (),
    own: tuple[Path, Path] | None = None,
    *,
    allowed: bool,
) -> tuple[VerifyDifference, ...]:
    """What differs from when the run was made, ``more`` among it, on stderr, too. ``own`` is the trainer that this
    command line names. Raises MachineError unless that is ``allowed``."""
    from lorabake.analysis.verify import find_drift
    from lorabake.commands.output.verify import format_differences
    from lorabake.errors import MachineError

    with open_hasher() as known:
        now = find_drift(found, env, known, own)
        differences = (*more, *now.differences)
    for line in now.unproven:
        stderr_printer()(line)
    if differences:
        write_err(format_differences(differences, make_text_layout(err=True)))
        if not allowed:
            said = msg("the files, settings or trainer of {run} have changed", run=found.name)
            raise MachineError(said, msg("restore the original, or train anyway with --with-drift"))
    return differences


@command(
    msg(
        "Train a run again in a new folder, with its recipe and seed.\n\n"
        "The recipe comes from the run folder, even if the original file was edited or deleted. The "
        "trainer is the run's, unless an option names another. Exits 1 if inputs or trainer have changed "
        "(see --with-drift); else like run."
    )
)
@RUN_ARGUMENT
@WITH_DRIFT_OPTION
@rerun_options
@VERBOSE_OPTION
@RUN_DIR_OPTION
@commit_options
@JSON_OPTION
def rerun(
    run: str,
    with_drift: bool,
    options: RunOptions,
    verbose: bool,
    run_dir: Path | None,
    choice: TrainerChoice,
    as_json: bool,
) -> None:
    from lorabake.analysis.verify_trainer import variable_remarks
    from lorabake.commands.output.runs import format_dry_run
    from lorabake.jobs import rerun as rerunning
    from lorabake.jobs import run as workflow
    from lorabake.runs.index import find_run
    from lorabake.runs.seat import SeatOptions

    found, env, show = find_run(run, Path.cwd()), get_environment(), stderr_printer()
    if options.refresh_cache and found.record.rehearsal:
        raise click.UsageError(msg("--refresh-cache deletes files, so it only works in a real run"))
    display = terminal_display(verbose)
    order = rerunning.RerunRequest(
        found, choice, run_dir, with_drift, options.refresh_cache, display, options.detach, options.use,
        SeatOptions(*options.seat),
    )  # fmt: skip
    rerunning.ensure_rerun_trainer(order, env, show, install_it=not options.dry_run)
    drift = refuse_drift(found, env, own=find_named_trainer(choice), allowed=with_drift)
    for said in variable_remarks(found.record, env):
        show(said)
    prepared = rerunning.prepare_rerun(order, tuple(literal(each.message) for each in drift), env)
    for deleted in prepared.refreshed:
        show(deleted)
    show_findings(prepared.examination, as_json=as_json)
    workflow.check_run_folder(prepared)
    if options.dry_run:
        command = workflow.preview_run_command(prepared, env)
        write_out(format_dry_run(prepared, command, make_text_layout(), as_json=as_json))
        return
    exit_if_joined(prepared)
    record = workflow.execute_run(prepared, env, show)
    show_run_outcome(record, prepared.root, as_json=as_json)
    if words := rerunning.compare_with_original(found, record, prepared.root):
        show(words)
    sys.exit(workflow.exit_code(record))


@contextmanager
def open_hasher(*, cache: bool = True) -> Generator[FileHasher]:
    """Hashes files, with progress on a terminal. Without ``cache`` no hash is reused or kept."""
    from lorabake.util.fact_cache import fact_store_path
    from lorabake.util.hashing import FileHasher
    from lorabake.util.paths import lorabake_home

    env = get_environment()
    with show_progress(hashing=True) as progress:
        yield FileHasher(fact_store_path(lorabake_home(env), env) if cache else None, progress)
