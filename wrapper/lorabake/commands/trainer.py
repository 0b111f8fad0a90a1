"""Commands about what is kept: the trainer and the shipped recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.common import get_environment, stderr_printer
from lorabake.commands.options import (
    AGAINST_OPTION,
    JSON_OPTION,
    PATH_TYPE,
    CommandGroup,
    make_text_layout,
    pinned_options,
)
from lorabake.commands.output.console import write_out

if TYPE_CHECKING:
    from lorabake.jobs.run import TrainerChoice


@click.group(cls=CommandGroup)
def trainer() -> None:
    """The pinned sd-scripts with its own Python environment."""


@trainer.command("install")
@pinned_options
@click.option("--repair", is_flag=True, help="Build it again, whatever is there.")
@JSON_OPTION
def trainer_install(choice: TrainerChoice, repair: bool, as_json: bool) -> None:
    """Fetch the pinned sd-scripts and install its locked requirements.

    With --commit another commit, which gets the pin's requirements; what it asks for in their place is said.
    """
    from lorabake.commands.output.lists import format_installed_trainer
    from lorabake.jobs import run

    env, tell = get_environment(), stderr_printer()
    trainer = run.install_chosen_trainer(choice, env, tell, repair=repair)
    run.check_trainer(trainer, env, tell)
    write_out(format_installed_trainer(trainer, make_text_layout(), as_json=as_json))


@trainer.command("status")
@pinned_options
@AGAINST_OPTION
@JSON_OPTION
def trainer_status(choice: TrainerChoice, against: str | None, as_json: bool) -> None:
    """Say which trainers are installed, and whether they are the pin's.

    With --against in what that commit's options differ from the pin's (or --commit's); it need not be installed.
    """
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
    from lorabake.commands.output.versions import format_commit_diff
    from lorabake.trainer import versions

    found = versions.compare_commits(commit, against, get_environment(), stderr_printer())
    write_out(found.model_dump_json(indent=2) if as_json else format_commit_diff(found, make_text_layout()))


@trainer.command("path")
@pinned_options
def trainer_path(choice: TrainerChoice) -> None:
    """Print the folder of the installed trainer's sd-scripts."""
    from lorabake.jobs import run

    write_out(str(run.require_trainer(choice, get_environment()).checkout))


@click.group(cls=CommandGroup)
def recipes() -> None:
    """Recipes that ship with lorabake."""


@recipes.command("list")
@JSON_OPTION
def recipes_list(as_json: bool) -> None:
    """Name the shipped recipes and what each is for."""
    from lorabake.commands.output.lists import format_recipe_list
    from lorabake.util import resources

    texts = {name: resources.read_recipe_text(name) for name in resources.list_recipe_names()}
    write_out(format_recipe_list(texts, as_json=as_json))


@recipes.command("show")
@click.argument("name")
def recipes_show(name: str) -> None:
    """Print a shipped recipe."""
    from lorabake.commands import json_schema

    write_out(json_schema.read_shipped_recipe(name), end="")


@recipes.command("copy")
@click.argument("name")
@click.argument("target", type=PATH_TYPE, required=False)
def recipes_copy(name: str, target: Path | None) -> None:
    """Write a shipped recipe to TARGET (default: NAME.toml here) for you to edit."""
    from lorabake.commands import json_schema
    from lorabake.commands.output.lists import format_copied_recipe

    write_out(format_copied_recipe(json_schema.copy_recipe(name, target), make_text_layout()))
