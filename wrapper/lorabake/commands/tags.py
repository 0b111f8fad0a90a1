"""tags."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    NO_CACHE_OPTION,
    RECIPE_ARGUMENT,
    SET_OPTION,
    get_environment,
    make_text_layout,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.recipe.overrides import Override


@command(
    msg(
        "Count the tags of the captions.\n\n"
        "Shows each concept's tags, those in every caption, those of one image only, and those that may be the same."
    )
)
@RECIPE_ARGUMENT
@click.option("--with", "company", metavar="TAG", help=msg("Show what comes together with TAG, and what never does."))
@click.option("--concept", metavar="TOKEN", help=msg("Only the concept with this token, class or folder."))
@click.option("--all", "everything", is_flag=True, help=msg("Show every tag, not only the most frequent ones."))
@JSON_OPTION
@SET_OPTION
@NO_CACHE_OPTION
def tags(
    recipe: Path,
    company: str | None,
    concept: str | None,
    everything: bool,
    as_json: bool,
    overrides: tuple[Override, ...],
    no_cache: bool,
) -> None:
    from lorabake.analysis.captioned_recipe import read_captioned_recipe
    from lorabake.analysis.tag_counts import make_tag_report
    from lorabake.commands.output.tags import format_tags, tags_to_json

    read = read_captioned_recipe(recipe, overrides, get_environment(), cache=not no_cache)
    report = make_tag_report(str(recipe), read.recipe, read.folders, concept, company)
    write_out(tags_to_json(report) if as_json else format_tags(report, make_text_layout(), everything=everything))
