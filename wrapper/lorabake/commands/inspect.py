"""inspect."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from lorabake.commands.help import command
from lorabake.commands.options import JSON_OPTION, get_environment, make_text_layout
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg


@command(
    msg(
        "Show a LoRA's settings, base model, dataset and run.\n\n"
        "Reads any .safetensors file of sd-scripts, without torch; RUN is a run in ./runs, or its folder. "
        "Exits 1 if a file cannot be read, or its tensors do not match the hash stored in it."
    )
)
@click.argument("named", nargs=-1, required=True, metavar="FILE|RUN...")
@click.option("--deep", is_flag=True, help=msg("Also hash large files and look for NaN in all numbers."))
@JSON_OPTION
def inspect(named: tuple[str, ...], deep: bool, as_json: bool) -> None:
    from lorabake.analysis.lora_origin import inspect_files
    from lorabake.commands.output.inspect import format_inspection, inspection_to_json
    from lorabake.util.paths import lorabake_home

    here = Path.cwd()
    report = inspect_files(named, here, lorabake_home(get_environment()), deep=deep)
    write_out(inspection_to_json(report) if as_json else format_inspection(report, make_text_layout(), here))
    sys.exit(1 if any(file.faults for file in report.files) else 0)
