"""Commands about files that are there already: inspect."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorabake.commands.common import get_environment
from lorabake.commands.options import JSON_OPTION, PATH_TYPE, make_text_layout
from lorabake.commands.output.console import write_out


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH_TYPE, metavar="FILE...")
@click.option("--deep", is_flag=True, help="Hash large files, too, and look at every number for NaN.")
@JSON_OPTION
def inspect(files: tuple[Path, ...], deep: bool, as_json: bool) -> None:
    """Show what a LoRA file tells of itself: settings, base, pictures, tags, and the run it comes from.

    Reads any .safetensors of sd-scripts, without torch. Exit code 1 when a file cannot be read, or is not as it was
    saved.
    """
    from lorabake.analysis.inspect import inspect_files
    from lorabake.commands.output.inspect import format_inspection, inspection_to_json
    from lorabake.util.paths import lorabake_home

    report = inspect_files(files, lorabake_home(get_environment()), deep=deep)
    write_out(inspection_to_json(report) if as_json else format_inspection(report, make_text_layout(), Path.cwd()))
    sys.exit(1 if any(file.faults for file in report.files) else 0)
