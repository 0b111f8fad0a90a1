"""schema."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.commands.help import command, current_translator
from lorabake.commands.options import PATH_TYPE
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.commands.json_schema import SchemaName

SCHEMA_NAMES = (
    "import",
    "recipe", "check", "plan", "diff", "explain", "record", "inputs", "inspect", "verify", "compare", "commits",
    "status", "logs", "error", "doctor", "table", "queue", "tags", "tag-edits", "caption", "init",
    "prepare", "prepared", "export",
)  # fmt: skip


@command(msg("Print the JSON schema of recipes, records or --json output."))
@click.argument("what", type=click.Choice(SCHEMA_NAMES), default="recipe")
@click.option("--check", "check_file", type=PATH_TYPE, help=msg("Fail if this file is out of date."))
def schema(what: SchemaName, check_file: Path | None) -> None:
    from lorabake.commands import json_schema
    from lorabake.util.files import is_file, read_text

    text = json_schema.generate_schema(what)
    if check_file is None:
        write_out(text, end="")
        return
    written = read_text(check_file) if is_file(check_file) else ""
    if written == text:
        return
    again = f"lorabake schema {what} > {shlex.quote(str(check_file))}"
    said = msg("{file} is out of date; run `{command}`", file=check_file, command=again)
    if written.strip() and not _is_schema(written):
        said = msg("{file} is not a JSON schema; pass a file that `lorabake schema` wrote", file=check_file)
        if check_file.suffix.lower() == ".toml":
            command = shlex.join(["lorabake", "check", str(check_file)])
            said = msg("{file} is not a JSON schema; check a recipe with `{command}`", file=check_file, command=command)
    raise click.ClickException(current_translator()(said))


def _is_schema(text: str) -> bool:
    """Whether it is a JSON schema, of whatever version: any other file would be lost if it were overwritten."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "$schema" in content
