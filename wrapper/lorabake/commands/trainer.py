"""trainer install, status and path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from lorabake.commands.help import CommandGroup
from lorabake.commands.options import (
    JSON_OPTION,
    get_environment,
    make_text_layout,
    parse_full_commit,
    pinned_options,
    stderr_printer,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.jobs.run import TrainerChoice


@click.group(cls=CommandGroup, help=msg("Install sd-scripts, and show what is installed."))
def trainer() -> None:
    pass


@trainer.command(
    "install",
    help=msg(
        "Install the pinned sd-scripts with its locked packages.\n\n"
        "Another --commit is installed with the same packages; differences from its own requirements are "
        "reported."
    ),
)
@pinned_options
@click.option("--repair", is_flag=True, help=msg("Install again, even if it is already installed."))
@JSON_OPTION
def trainer_install(choice: TrainerChoice, repair: bool, as_json: bool) -> None:
    from lorabake.commands.output.lists import format_installed_trainer
    from lorabake.jobs import run

    env, show = get_environment(), stderr_printer()
    trainer = run.install_chosen_trainer(choice, env, show, repair=repair)
    run.check_trainer(trainer, env, show)
    write_out(format_installed_trainer(trainer, make_text_layout(), as_json=as_json))


@trainer.command(
    "status",
    help=msg(
        "List the installed trainers and the changes to their files.\n\n"
        "With --against, compare the options of that commit with those of the pin (or --commit). It need "
        "not be installed."
    ),
)
@pinned_options
@click.option(
    "--against",
    metavar="SHA",
    callback=parse_full_commit,
    help=msg("Compare the options with those of this commit (full 40-character SHA)."),
)
@JSON_OPTION
def trainer_status(choice: TrainerChoice, against: str | None, as_json: bool) -> None:
    from lorabake.commands.output import lists
    from lorabake.jobs import run

    if against is not None:
        _show_commit_diff(choice.commit, against, as_json=as_json)
        return
    env = get_environment()
    status = run.chosen_trainer_status(choice, env)
    changed = {
        each.checkout: run.compare_trainer_files(each, env).changed for each in (*status.installed, *status.others)
    }
    write_out(lists.format_trainer_status(status, changed, make_text_layout(), as_json=as_json))


def _show_commit_diff(commit: str | None, against: str, *, as_json: bool) -> None:
    from lorabake.commands.output.lists import format_commit_diff
    from lorabake.trainer import versions

    found = versions.compare_commits(commit, against, get_environment(), stderr_printer())
    write_out(found.model_dump_json(indent=2) if as_json else format_commit_diff(found, make_text_layout()))


@trainer.command("path", help=msg("Print the folder of the installed sd-scripts."))
@pinned_options
def trainer_path(choice: TrainerChoice) -> None:
    from lorabake.jobs import run

    write_out(str(run.require_trainer(choice, get_environment()).checkout))
