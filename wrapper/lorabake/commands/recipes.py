"""recipes list, show and copy."""

from __future__ import annotations

from pathlib import Path

import click

from lorabake.commands.help import CommandGroup
from lorabake.commands.options import JSON_OPTION, PATH_TYPE, make_text_layout
from lorabake.commands.output.console import write_out
from lorabake.errors import UnknownNameError
from lorabake_schemas.messages import join_list, literal, msg


@click.group(cls=CommandGroup, help=msg("List, print or copy the recipes that ship with lorabake."))
def recipes() -> None:
    pass


@recipes.command("list", help=msg("List the shipped recipes and what each is for."))
@JSON_OPTION
def recipes_list(as_json: bool) -> None:
    from lorabake.commands.output.lists import format_recipe_list
    from lorabake.util import resources

    texts = {name: resources.read_recipe_text(name) for name in resources.list_recipe_names()}
    write_out(format_recipe_list(texts, make_text_layout(), as_json=as_json))


@recipes.command("show", help=msg("Print a shipped recipe."))
@click.argument("name")
def recipes_show(name: str) -> None:
    write_out(read_shipped_recipe(name), end="")


@recipes.command("copy", help=msg("Copy a shipped recipe to TARGET (default: NAME.toml here)."))
@click.argument("name")
@click.argument("target", type=PATH_TYPE, required=False)
def recipes_copy(name: str, target: Path | None) -> None:
    from lorabake.commands.output.lists import format_copied_recipe

    write_out(format_copied_recipe(copy_recipe(name, target), make_text_layout()))


def read_shipped_recipe(name: str) -> str:
    """The text of a shipped recipe. For an unknown name raises UnknownNameError with the nearest one."""
    import difflib

    from lorabake.util import resources

    plain = name.removesuffix(".toml")
    names = resources.list_recipe_names()
    if plain in names:
        return resources.read_recipe_text(plain)
    near = [each for each in names if each.startswith(f"{plain}-")] or difflib.get_close_matches(plain, names, 1, 0.6)
    hint = (
        msg("did you mean {names}?", names=join_list(map(literal, near), " / "))
        if near
        else msg("`lorabake recipes list` shows them all")
    )
    raise UnknownNameError(msg("no shipped recipe is named {name}", name=name), hint=hint)


def copy_recipe(name: str, target: Path | None) -> Path:
    """Write a shipped recipe to a new file, and the schema for editors next to it.

    Raises UnknownNameError for an unknown name, MachineError when the file exists or cannot be written.
    """
    from lorabake.recipe.writing import create_recipe_file
    from lorabake.util.files import is_folder

    text = read_shipped_recipe(name)
    path = target or Path(f"{name.removesuffix('.toml')}.toml")
    if is_folder(path):
        path /= f"{name.removesuffix('.toml')}.toml"
    if path.suffix == ".toml":
        text = text.replace(f"{name.removesuffix('.toml')}.toml", path.name)  # the commands in its head
    create_recipe_file(path, text)
    return path
