"""prepare."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lorabake.commands.check import run_check, show_findings
from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    NO_CACHE_OPTION,
    PATH_TYPE,
    RECIPE_ARGUMENT,
    CheckOptions,
    get_environment,
    make_text_layout,
    stderr_printer,
    terminal_display,
    user_trainer_options,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.jobs.prepare.execute import PreparedDataset
    from lorabake.jobs.prepare.plan import AlphaChoice, Preparation, PrepareOptions
    from lorabake.jobs.prepare.upscale import Upscaler
    from lorabake.jobs.run import TrainerChoice
    from lorabake.util.hashing import FileHasher


class PrepareFlags(NamedTuple):
    """What was asked for apart from the recipe and the folder."""

    dry_run: bool
    yes: bool
    alpha: AlphaChoice | None
    crops: Path | None
    keep_size: bool
    lossless: bool
    upscaler: Path | None


def prepare_options(decorated: Callable[..., None]) -> Callable[..., None]:
    """The options of the command, passed to it as ``flags``."""

    @functools.wraps(decorated)
    def with_flags(**given: Any) -> None:
        flags = PrepareFlags(**{name: given.pop(name) for name in PrepareFlags._fields})
        decorated(flags=flags, **given)

    made: Callable[..., None] = with_flags
    for option in reversed(OPTIONS):
        made = option(made)
    return made


OPTIONS = (
    click.option("--dry-run", is_flag=True, help=msg("Show what would be done, and stop.")),
    click.option("-y", "--yes", is_flag=True, help=msg("Ask nothing and use the defaults.")),
    click.option(
        "--alpha",
        type=click.Choice(["flatten", "mask", "keep"]),
        help=msg(
            "Transparent images: put a solid background behind them and tag it (flatten), or keep them and set "
            "alpha_mask (mask) or not (keep). Default: flatten, or keep where alpha_mask is set."
        ),
    ),
    click.option("--crops", type=PATH_TYPE, metavar="FILE", help=msg("CSV or TOML list of crops to make of images.")),
    click.option("--keep-size", is_flag=True, help=msg("Neither reduce nor enlarge images.")),
    click.option("--lossless", is_flag=True, help=msg("Write PNG even where the original is a JPEG.")),
    click.option(
        "--upscaler",
        type=PATH_TYPE,
        metavar="FILE",
        help=msg(
            "Enlarge small images with these weights instead of Lanczos (needs spandrel in the Python of --python)."
        ),
    ),
)


@command(
    msg(
        "Make a clean copy of a recipe's dataset.\n\n"
        "Converts and rotates images, flattens transparency, fits sizes to the buckets, normalizes captions and leaves "
        "duplicates and caches behind. The original is never changed. The new folder gets a recipe and prepared.json, "
        "which lists what was done to each file. An interrupted command continues when it is started again.\n\n"
        "Exits 1 if images could not be read, or if the new recipe has errors."
    )
)
@RECIPE_ARGUMENT
@click.option("--to", type=PATH_TYPE, required=True, help=msg("Folder to make, outside of the dataset (required)."))
@prepare_options
@NO_CACHE_OPTION
@user_trainer_options
@JSON_OPTION
def prepare(recipe: Path, to: Path, flags: PrepareFlags, no_cache: bool, choice: TrainerChoice, as_json: bool) -> None:
    from lorabake.commands.output.prepare import describe_plan, describe_result, make_report
    from lorabake.commands.output.questions import can_ask, confirm
    from lorabake.commands.runs import open_hasher
    from lorabake.errors import InterruptedRunError
    from lorabake.jobs.prepare.plan import plan_preparation
    from lorabake.runs.folders import display_path

    look, layout = CheckOptions(cache=not no_cache), make_text_layout()
    examination = run_check(recipe, look)
    if examination.recipe is None:
        show_findings(examination, as_json=as_json)
    with open_hasher(cache=not no_cache) as hasher:
        plan = plan_preparation(examination, _make_options(to, flags, hasher), hasher)
        planned = make_report(plan)
        if not as_json:
            write_out(describe_plan(planned, layout))
        if flags.dry_run:
            if as_json:
                write_out(planned.model_dump_json(indent=2))
            return
        asking = can_ask() and not flags.yes and not as_json
        if asking and not confirm(msg("Do this?"), layout):
            sys.exit(InterruptedRunError.exit_code)
        done = _execute(plan, hasher, _open_upscaler(plan, choice))
    checked = run_check(Path(display_path(plan.root / plan.recipe_name, Path.cwd())), look)
    report = make_report(plan, done, checked)
    write_out(report.model_dump_json(indent=2) if as_json else describe_result(report, planned, checked, layout))
    failed = report.errors or any(file.reason == "unreadable" for file in report.left_out)
    sys.exit(1 if failed else 0)


def _make_options(to: Path, flags: PrepareFlags, hasher: FileHasher) -> PrepareOptions:
    from lorabake.jobs.prepare.plan import PrepareOptions

    weights = _digest_weights(flags.upscaler, hasher)
    return PrepareOptions(
        to, flags.alpha, flags.crops, flags.upscaler, weights, resize=not flags.keep_size, lossless=flags.lossless
    )


def _digest_weights(path: Path | None, hasher: FileHasher) -> str:
    """Raises MachineError for a file that does not exist."""
    if path is None:
        return ""
    from lorabake.errors import MachineError

    whole = path.absolute()
    found = hasher.of(whole.parent, [whole.name])[whole.name]
    if found is None:
        raise MachineError(msg("cannot read {path}: {why}", path=path, why=msg("it does not exist")))
    return found.sha256


def _open_upscaler(plan: Preparation, choice: TrainerChoice) -> Upscaler | None:
    """None where no image is to be enlarged by weights."""
    weights = plan.options.upscaler
    if weights is None or not any(job.upscaler for job in plan.jobs if job.path not in plan.state.kept):
        return None
    from lorabake.commands.runs import find_named_trainer
    from lorabake.jobs.prepare.upscale import Upscaler
    from lorabake.jobs.run import require_trainer
    from lorabake.trainer.venv import find_checkout_python

    env = get_environment()
    if choice.python is not None:
        python = find_checkout_python(Path.cwd(), choice.python, env)
    else:
        named = find_named_trainer(choice)
        python = named[1] if named is not None else require_trainer(choice, env).python
    return Upscaler(plan.root, weights.absolute(), python, env, own=bool(choice.python or choice.sd_scripts))


def _execute(plan: Preparation, hasher: FileHasher, upscale: Upscaler | None) -> PreparedDataset:
    from lorabake.jobs.prepare.execute import prepare_dataset

    display = terminal_display(verbose=False)
    try:
        with display.preparing() as progress:
            return prepare_dataset(plan, hasher, progress, upscale)
    except KeyboardInterrupt:
        stderr_printer()(msg("run the same command again to continue"))
        raise
