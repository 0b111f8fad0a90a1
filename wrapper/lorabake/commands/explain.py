"""explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.check import run_check
from lorabake.commands.help import command
from lorabake.commands.options import JSON_OPTION, CheckOptions, make_text_layout
from lorabake.commands.output.console import write_err, write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake_schemas.plan import Plan


@command(
    msg(
        "Explain a rule, a setting, an optimizer or an algorithm.\n\n"
        "Name a rule by its id (G4.52, S27). Add a RECIPE (my.toml) to see its values, too."
    )
)
@click.argument("topics", nargs=-1, metavar="[TOPIC]... [RECIPE]")
@click.option("--full", is_flag=True, help=msg("Show every rule in full."))
@click.option("--all", "whole", is_flag=True, help=msg("Print the whole book as Markdown."))
@click.option("--table", "counted", is_flag=True, help=msg("Count the rules by status."))
@JSON_OPTION
def explain(topics: tuple[str, ...], full: bool, whole: bool, counted: bool, as_json: bool) -> None:
    from lorabake.commands.output import explain as output

    words = [topic for topic in topics if not topic.lower().endswith(".toml")]
    recipes = [topic for topic in topics if topic not in words]
    if whole:
        write_out(output.format_book(), end="")
    elif counted:
        write_out(output.status_counts_to_json() if as_json else output.format_status_counts(make_text_layout()))
    elif not words or len(recipes) > 1:
        raise click.UsageError(msg("pass a rule, a setting, an optimizer or an algorithm, or --all or --table"))
    else:
        plan = _plan_for_explain(Path(recipes[0])) if recipes else None
        write_out(output.explain_topics(words, make_text_layout(), plan, whole=full, as_json=as_json))


def _plan_for_explain(recipe: Path) -> Plan | None:
    """None, and a line on stderr, if the recipe has errors: the topic may be one of them."""
    from lorabake.commands.output.findings import format_check_command

    examination = run_check(recipe, CheckOptions())
    if examination.plan is None:
        said = msg(
            "{recipe} has errors, so its values are not shown: `{command}` lists them",
            recipe=recipe,
            command=format_check_command(examination),
        )
        write_err(make_text_layout(err=True)(said))
    return examination.plan
