"""Commands about what is kept: the trainer and the shipped recipes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.cli_options import AGAINST, JSON, PATH, Commands, page, pinned_options
from lorabake.commands.common import environment, sayer
from lorabake.output import write_out

if TYPE_CHECKING:
    from lorabake.workflow import TrainerChoice


@click.group(cls=Commands)
def trainer() -> None:
    """The pinned sd-scripts with its own Python environment."""


@trainer.command("install")
@pinned_options
@click.option("--repair", is_flag=True, help="Build it again, whatever is there.")
@JSON
def trainer_install(choice: TrainerChoice, repair: bool, as_json: bool) -> None:
    """Fetch the pinned sd-scripts and install its locked requirements.

    With --commit another commit, which gets the pin's requirements; what it asks for in their place is said.
    """
    from lorabake import workflow
    from lorabake.render.lists import trainer_installed

    env, tell = environment(), sayer()
    trainer = workflow.install(choice, env, tell, repair=repair)
    workflow.checked(trainer, env, tell)
    write_out(trainer_installed(trainer, page(), as_json=as_json))


@trainer.command("status")
@pinned_options
@AGAINST
@JSON
def trainer_status(choice: TrainerChoice, against: str | None, as_json: bool) -> None:
    """Say which trainers are installed, and whether they are the pin's.

    With --against in what that commit's options differ from the pin's (or --commit's); it need not be installed.
    """
    from lorabake import workflow
    from lorabake.render import lists

    if against is not None:
        _differences(choice.commit, against, as_json=as_json)
        return
    env = environment()
    status = workflow.trainer_status(choice, env)
    changed = {each.checkout: workflow.made_of(each, env).changed for each in (*status.installed, *status.others)}
    write_out(lists.trainer_status(status, changed, page(), as_json=as_json))


def _differences(commit: str | None, against: str, *, as_json: bool) -> None:
    from lorabake import commits
    from lorabake.render.commits import commits_text

    found = commits.differ(commit, against, environment(), sayer())
    write_out(found.model_dump_json(indent=2) if as_json else commits_text(found, page()))


@trainer.command("path")
@pinned_options
def trainer_path(choice: TrainerChoice) -> None:
    """Print the folder of the installed trainer's sd-scripts."""
    from lorabake import workflow

    write_out(str(workflow.installed(choice, environment()).checkout))


@click.group(cls=Commands)
def recipes() -> None:
    """Recipes that ship with lorabake."""


@recipes.command("list")
@JSON
def recipes_list(as_json: bool) -> None:
    """Name the shipped recipes and what each is for."""
    from lorabake import resources
    from lorabake.render.lists import recipe_list

    texts = {name: resources.recipe_text(name) for name in resources.recipe_names()}
    write_out(recipe_list(texts, as_json=as_json))


@recipes.command("show")
@click.argument("name")
def recipes_show(name: str) -> None:
    """Print a shipped recipe."""
    from lorabake import shelf

    write_out(shelf.shipped_recipe(name), end="")


@recipes.command("copy")
@click.argument("name")
@click.argument("target", type=PATH, required=False)
def recipes_copy(name: str, target: Path | None) -> None:
    """Write a shipped recipe to TARGET (default: NAME.toml here) for you to edit."""
    from lorabake import shelf
    from lorabake.render.lists import copied

    write_out(copied(shelf.copy_recipe(name, target), page()))


__all__ = ["recipes", "trainer"]
