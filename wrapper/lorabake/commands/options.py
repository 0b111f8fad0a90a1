"""Options that several commands share."""

from __future__ import annotations

import functools
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.util.i18n import ENGLISH, LANGUAGES, Translator, load_translator
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.commands.output.layout import TextLayout
    from lorabake.trainer.select_packages import LockChoice

Command = Callable[..., None]
Decorator = Callable[[Command], Command]
PATH_TYPE = click.Path(path_type=Path)
RECIPE_ARGUMENT = click.argument("recipe", type=PATH_TYPE)
RUN_ARGUMENT = click.argument("run", metavar="RUN")  # for runs.find
JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
OUTPUT_FORMAT_OPTION = click.option(
    "--output-format",
    "form",
    type=click.Choice(["full", "concise", "json", "github"]),
    help="full: in groups (on a terminal); concise: one a line (elsewhere); github: annotations for its CI.",
)
LOCK_OPTION = click.option(
    "--trainer",
    "lock",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Which packages: CUDA or CPU.",
)
PYTHON_OPTION = click.option(
    "--python", type=PATH_TYPE, help="The Python to make the trainer with, or to run --sd-scripts with."
)
SD_SCRIPTS_OPTION = click.option("--sd-scripts", type=PATH_TYPE, help="Use this sd-scripts folder, not the pin's.")


def _parse_full_commit(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """All 40 digits: fewer may stand for several commits, and branches and tags move."""
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
    callback=_parse_full_commit,
    help="Another commit of sd-scripts than the pin: all 40 digits.",
)
AGAINST_OPTION = click.option(
    "--against",
    metavar="SHA",
    callback=_parse_full_commit,
    help="Say in what this commit's options differ: all 40 digits.",
)


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """How closely the pictures are looked at, whether what is known of unchanged ones is used, and for which
    ``commit`` of sd-scripts (None: the pin) the recipe is looked at."""

    deep: bool = False
    cache: bool = True
    commit: str | None = None


def check_options(command: Command) -> Command:
    """--deep, --no-cache and --commit, given on to the command as one ``look``."""

    @functools.wraps(command)
    def looking(*, deep: bool, no_cache: bool, commit: str | None, **others: object) -> None:
        command(look=CheckOptions(deep, not no_cache, commit), **others)

    made = COMMIT_OPTION(looking)
    made = click.option("--no-cache", is_flag=True, help="Read every picture again, also unchanged ones.")(made)
    return click.option("--deep", is_flag=True, help="Decode every picture, to find damage inside. Slow.")(made)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How far a run goes, and whether stale caches are deleted first."""

    rehearse: bool = False
    dry_run: bool = False
    refresh_cache: bool = False


def rerun_options(command: Command) -> Command:
    """--dry-run and --refresh-cache, given on to the command as one ``start``."""

    @functools.wraps(command)
    def starting(*, dry_run: bool, refresh_cache: bool, rehearse: bool = False, **others: object) -> None:
        if refresh_cache and (rehearse or dry_run):
            raise click.UsageError(msg("--refresh-cache deletes files, so it only works in a real run"))
        command(start=RunOptions(rehearse, dry_run, refresh_cache), **others)

    stale = "Delete those of sd-scripts' caches beside the pictures that do not fit (S19), and train."
    made = click.option("--refresh-cache", is_flag=True, help=stale)(starting)
    return click.option("--dry-run", is_flag=True, help="Show the plan and the command, and stop.")(made)


def start_options(command: Command) -> Command:
    """The same with --rehearse."""
    stand_in = "Go the whole way with a stand-in that trains nothing."
    return click.option("--rehearse", is_flag=True, help=stand_in)(rerun_options(command))


def make_trainer_options(*options: Decorator) -> Decorator:
    """The options that say which trainer, given on to the command as one ``choice``."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def chosen(
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
                    msg(
                        "--commit and --sd-scripts cannot be used together because the checkout already sets the commit"
                    )
                )
            command(choice=TrainerChoice(lock, sd_scripts, python, commit), **others)

        made: Command = chosen
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


def _set_color(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    """For the whole command line, so that errors told by the boundary have it too."""
    if value is not None:
        here: click.Context | None = ctx
        while here is not None:
            here.color = {"always": True, "never": False}.get(value)
            here = here.parent


COLOR_OPTION = click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    expose_value=False,
    callback=_set_color,
    help="Colours: on a terminal (auto), always or never; NO_COLOR and FORCE_COLOR count, too.",
)


def _set_language(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.find_root().obj = value


LANG_OPTION = click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    expose_value=False,
    callback=_set_language,
    help="The language of findings and errors; else that of the locale. JSON and records stay English.",
)
COMMON_OPTIONS: tuple[Decorator, ...] = (COLOR_OPTION, LANG_OPTION)


def read_color_setting(env: Mapping[str, str]) -> bool | None:
    """What NO_COLOR (no-color.org) and FORCE_COLOR say; None leaves it to whether there is a terminal."""
    return False if env.get("NO_COLOR") else True if env.get("FORCE_COLOR") else None


class CommandGroup(click.Group):
    """A group that gives each of its commands the options that count everywhere."""

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        if not isinstance(cmd, click.Group):
            for option in COMMON_OPTIONS:
                option(cmd)
        super().add_command(cmd, name)


def current_translator() -> Translator:
    """The language of the command that runs: its name lies where the whole command line finds it
    (``ctx.find_root().obj``)."""
    context = click.get_current_context(silent=True)
    chosen = context.find_root().obj if context else None
    return load_translator(chosen) if isinstance(chosen, str) else ENGLISH


def make_text_layout(*, err: bool = False) -> TextLayout:
    """What a command writes on: its language, and the terminal's width when a person looks at it."""
    from lorabake.commands.output.layout import TextLayout

    stream = sys.stderr if err else sys.stdout
    width = shutil.get_terminal_size().columns if stream.isatty() else None
    return TextLayout(current_translator(), width, "→" if (stream.encoding or "").lower().startswith("utf") else "->")


trainer_options = make_trainer_options(LOCK_OPTION, SD_SCRIPTS_OPTION, PYTHON_OPTION)
user_trainer_options = make_trainer_options(SD_SCRIPTS_OPTION, PYTHON_OPTION)
commit_options = make_trainer_options(LOCK_OPTION, COMMIT_OPTION, SD_SCRIPTS_OPTION, PYTHON_OPTION)
pinned_options = make_trainer_options(LOCK_OPTION, COMMIT_OPTION, PYTHON_OPTION)
