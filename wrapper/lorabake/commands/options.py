"""Options that several commands share, each defined and worded once, and what a command takes from its surroundings."""

from __future__ import annotations

import functools
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from lorabake.commands.help import current_translator
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from lorabake.commands.output.layout import TextLayout
    from lorabake.commands.output.progress import ProgressLine, TerminalDisplay
    from lorabake.recipe.overrides import Override
    from lorabake.runs.gpu_locks import GpuUse
    from lorabake.trainer.select_packages import LockChoice

Command = Callable[..., None]
Decorator = Callable[[Command], Command]
PATH_TYPE = click.Path(path_type=Path)
RECIPE_ARGUMENT = click.argument("recipe", type=PATH_TYPE)
JSON_KEY = "lorabake.json"  # in a context's meta where a command prints JSON


def complete_run(_ctx: click.Context, _param: click.Parameter, typed: str) -> list[CompletionItem]:
    """The runs around here, by name; whatever else was typed is a path, which the shell completes."""
    from click.shell_completion import CompletionItem

    from lorabake.runs.folders import list_run_names

    names = [] if "/" in typed else list_run_names(Path.cwd())
    found = [CompletionItem(name) for name in names if name.startswith(typed)]
    return found or [CompletionItem(typed, type="file")]


def _note_json(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
    """So that an error is JSON, too."""
    if value:
        ctx.meta[JSON_KEY] = True
    return value


RUN_ARGUMENT = click.argument("run", metavar="RUN", shell_complete=complete_run)  # for runs.index
RUNS_ARGUMENT = click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=complete_run)
JSON_OPTION = click.option(
    "--json", "as_json", is_flag=True, callback=_note_json, help=msg("Print JSON instead of text.")
)
DETACH_OPTION = click.option("--detach", is_flag=True, help=msg("Return when training has begun; the run continues."))
VERBOSE_OPTION = click.option("--verbose", is_flag=True, help=msg("Show the trainer's own output."))
RUN_DIR_OPTION = click.option(
    "--run-dir", type=PATH_TYPE, help=msg("Create the run in this folder, which must not exist.")
)
SEAT_OPTIONS = (
    click.option(
        "--machines",
        type=int,
        metavar="N",
        help=msg("Machines that train together (default: as Slurm, SkyPilot or dstack report)."),
    ),
    click.option("--machine-rank", type=int, metavar="N", help=msg("Number of this machine, from 0.")),
    click.option("--main-address", metavar="HOST[:PORT]", help=msg("Address of the first machine, for all of them.")),
)
WITH_DRIFT_OPTION = click.option(
    "--with-drift", is_flag=True, help=msg("Continue even if inputs or trainer have changed.")
)
DRY_RUN_OPTION = click.option("--dry-run", is_flag=True, help=msg("Show what would run, and stop."))
DEEP_OPTION = click.option("--deep", is_flag=True, help=msg("Decode every image completely to find damage (slow)."))
NO_CACHE_OPTION = click.option("--no-cache", is_flag=True, help=msg("Read every file again, also unchanged ones."))
LOCK_OPTION = click.option(
    "--trainer",
    "lock",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    help=msg("Use packages for CUDA or for the CPU (default: auto)."),
)
PYTHON_OPTION = click.option(
    "--python", type=PATH_TYPE, help=msg("Python to install the trainer with, or to run --sd-scripts with.")
)
SD_SCRIPTS_OPTION = click.option(
    "--sd-scripts", type=PATH_TYPE, help=msg("Use this sd-scripts folder instead of the pinned one.")
)


def parse_full_commit(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """All 40 digits: fewer may match several commits, and branches and tags move."""
    named = value.strip().lower() if value is not None else None
    if named is not None and not re.fullmatch("[0-9a-f]{40}", named):
        raise click.BadParameter(
            msg(
                "{given} is not a full commit; pass all 40 characters (`git rev-parse` shows them)", given=value or '""'
            )
        )
    return named


COMMIT_OPTION = click.option(
    "--commit",
    metavar="SHA",
    callback=parse_full_commit,
    help=msg("Use this sd-scripts commit instead of the pinned one (full 40-character SHA)."),
)


def parse_set_option(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Override, ...]:
    """A key of the recipe and its value."""
    if not values:
        return ()
    from lorabake.recipe.overrides import parse_override

    found = [parse_override(given) for given in values]
    for given, override in zip(values, found, strict=True):
        if override is None:
            raise click.BadParameter(
                msg(
                    "{given} is not KEY=VALUE, such as train.seed=7 or, for the second [[concept]], "
                    "concept#2.num_repeats=3",
                    given=given,
                )
            )
    return tuple(override for override in found if override is not None)


SET_OPTION = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    callback=parse_set_option,
    help=msg("Use another value than the recipe's, such as train.seed=7 or concept#2.num_repeats=3. Repeatable."),
)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """Whether images are decoded, whether facts about unchanged files are reused, for which ``commit`` of
    sd-scripts (None: the pin) a recipe is checked, and what takes the place of its values."""

    deep: bool = False
    cache: bool = True
    commit: str | None = None
    overrides: tuple[Override, ...] = ()


def check_options(command: Command) -> Command:
    """--set, --deep, --no-cache and --commit, passed to the command as ``options``."""

    @functools.wraps(command)
    def with_options(
        *, deep: bool, no_cache: bool, commit: str | None, overrides: tuple[Override, ...], **others: object
    ) -> None:
        command(options=CheckOptions(deep, not no_cache, commit, overrides), **others)

    return SET_OPTION(DEEP_OPTION(NO_CACHE_OPTION(COMMIT_OPTION(with_options))))


class RunOptions(NamedTuple):
    """How far a run goes, whether caches that do not match are deleted first, whether the terminal stays, what to do if
    another run uses the GPU, and this machine's seat among several: number of machines, rank, address of the first."""

    rehearse: bool = False
    dry_run: bool = False
    refresh_cache: bool = False
    detach: bool = False
    once: bool = False
    seat: tuple[int | None, int | None, str | None] = (None, None, None)
    use: GpuUse = "refuse"


def resume_options(command: Command) -> Command:
    """--dry-run, --detach, --wait-for-gpu, --share-gpu and this machine's place among several, passed to the command
    as ``options``."""

    @functools.wraps(command)
    def with_options(
        *,
        dry_run: bool,
        detach: bool,
        wait_for_gpu: bool,
        share_gpu: bool,
        machines: int | None,
        machine_rank: int | None,
        main_address: str | None,
        **others: object,
    ) -> None:
        if wait_for_gpu and share_gpu:
            raise click.UsageError(msg("--wait-for-gpu and --share-gpu cannot be used together"))
        use: GpuUse = "wait" if wait_for_gpu else "share" if share_gpu else "refuse"
        seat = (machines, machine_rank, main_address)
        command(options=RunOptions(dry_run=dry_run, detach=detach, use=use, seat=seat), **others)

    wait = msg("Wait until no other run uses the GPU (default: stop with exit code 5).")
    share = msg("Train even if another run uses the GPU.")
    made: Command = with_options
    for option in reversed(SEAT_OPTIONS):
        made = option(made)
    with_gpus = click.option("--wait-for-gpu", is_flag=True, help=wait)(
        click.option("--share-gpu", is_flag=True, help=share)(made)
    )
    return DRY_RUN_OPTION(DETACH_OPTION(with_gpus))


def rerun_options(command: Command) -> Command:
    """The same with --refresh-cache."""

    @functools.wraps(command)
    def with_options(
        *,
        options: RunOptions,
        refresh_cache: bool,
        rehearse: bool = False,
        once: bool = False,
        **others: object,
    ) -> None:
        if refresh_cache and (rehearse or options.dry_run):
            raise click.UsageError(msg("--refresh-cache deletes files, so it only works in a real run"))
        command(options=options._replace(rehearse=rehearse, refresh_cache=refresh_cache, once=once), **others)

    stale = msg("First delete sd-scripts' caches that do not match images or settings (S19).")
    return resume_options(click.option("--refresh-cache", is_flag=True, help=stale)(with_options))


def run_options(command: Command) -> Command:
    """The same with --rehearse and --once."""
    made: Command = rerun_options(command)
    rehearse = click.option("--rehearse", is_flag=True, help=msg("Simulate the whole run without training."))
    once = msg("Leave what has finished, skip what is in progress, resume what was interrupted, start the rest.")
    return rehearse(click.option("--once", is_flag=True, help=once)(made))


def make_trainer_options(*options: Decorator) -> Decorator:
    """The options that choose the trainer, passed to the command as ``choice``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_choice(
            *,
            lock: LockChoice = "auto",
            python: Path | None,
            sd_scripts: Path | None = None,
            commit: str | None = None,
            **others: object,
        ) -> None:
            from lorabake.jobs.run import TrainerChoice

            if commit is not None and sd_scripts is not None:
                raise click.UsageError(
                    msg("--commit and --sd-scripts cannot be used together: that folder is already at a commit")
                )
            command(choice=TrainerChoice(lock, sd_scripts, python, commit), **others)

        made: Command = with_choice
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


def read_color_setting(env: Mapping[str, str]) -> bool | None:
    """What NO_COLOR (no-color.org) and FORCE_COLOR ask for; None: colors on a terminal only."""
    return False if env.get("NO_COLOR") else True if env.get("FORCE_COLOR") else None


def make_text_layout(*, err: bool = False) -> TextLayout:
    """The language, and the terminal's width if there is a terminal."""
    from lorabake.commands.output.layout import TextLayout

    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    return TextLayout(current_translator(), width, "→" if (stream.encoding or "").lower().startswith("utf") else "->")


def get_environment() -> Mapping[str, str]:
    from lorabake.util.environment import read_environment

    return read_environment()


def stderr_printer() -> Callable[[str], None]:
    from lorabake.commands.output.progress import line_printer

    return line_printer(sys.stderr, current_translator())


def terminal_display(verbose: bool) -> TerminalDisplay:
    """How a job shows its progress."""
    from lorabake.commands.output.progress import TerminalDisplay

    return TerminalDisplay(sys.stderr, current_translator(), verbose)


def show_progress(*, hashing: bool = False) -> AbstractContextManager[ProgressLine | None]:
    """A line of progress on a terminal: of a scan of images, or of hashing."""
    if not sys.stderr.isatty():
        return nullcontext()
    display = terminal_display(verbose=False)
    return display.hashing() if hashing else display.scanning()


trainer_options = make_trainer_options(LOCK_OPTION, SD_SCRIPTS_OPTION, PYTHON_OPTION)
user_trainer_options = make_trainer_options(SD_SCRIPTS_OPTION, PYTHON_OPTION)
commit_options = make_trainer_options(LOCK_OPTION, COMMIT_OPTION, SD_SCRIPTS_OPTION, PYTHON_OPTION)
pinned_options = make_trainer_options(LOCK_OPTION, COMMIT_OPTION, PYTHON_OPTION)
