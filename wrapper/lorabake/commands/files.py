"""Commands about files that are there already: inspect."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorabake.cli_options import JSON, PATH, page
from lorabake.commands.common import environment
from lorabake.output import write_out


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...")
@click.option("--deep", is_flag=True, help="Hash large files, too, and look at every number for NaN.")
@JSON
def inspect(files: tuple[Path, ...], deep: bool, as_json: bool) -> None:
    """Show what a LoRA file tells of itself: settings, base, pictures, tags, and the run it comes from.

    Reads any .safetensors of sd-scripts, without torch. Exit code 1 when a file cannot be read, or is not as it was
    saved.
    """
    from lorabake.homes import home
    from lorabake.inspection import inspected
    from lorabake.render.inspection import inspection_json, inspection_text

    report = inspected(files, home(environment()), deep=deep)
    write_out(inspection_json(report) if as_json else inspection_text(report, page(), Path.cwd()))
    sys.exit(1 if any(file.faults for file in report.files) else 0)


__all__ = ["inspect"]
