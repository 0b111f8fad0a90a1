"""import."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from lorabake.commands.check import run_check
from lorabake.commands.help import command
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    CheckOptions,
    get_environment,
    make_text_layout,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import msg


@command(
    msg(
        "Make a recipe of another program's file, and check it.\n\n"
        "Reads presets of the kohya_ss GUI, sd-scripts' --config_file and --dataset_config, a .sh, .bat or .ps1 file "
        "or a text with `accelerate launch ... train_network.py ...`, files of LoRA_Easy_Training_Scripts, "
        "lora-scripts, OneTrainer and ai-toolkit, and LoRAs. What lorabake does anyway is left out of the recipe; the "
        "report names every key. Exits 1 if the recipe has an error."
    ),
    "import",
)
@click.argument("file", type=PATH_TYPE)
@click.option(
    "-o", "--output", type=PATH_TYPE, metavar="RECIPE", help=msg("The recipe to write (default: NAME.toml here).")
)
@click.option(
    "--dataset", type=PATH_TYPE, metavar="FILE", help=msg("sd-scripts' dataset configuration that belongs to it.")
)
@click.option("--images", type=PATH_TYPE, metavar="FOLDER", help=msg("Folder of the images, in place of the file's."))
@click.option(
    "--model",
    type=PATH_TYPE,
    metavar="PATH",
    help=msg("Base model, in place of the file's, or a folder to search it in."),
)
@click.option("--command", type=int, metavar="NUMBER", help=msg("Which training command of a script."))
@click.option(
    "--faithful", is_flag=True, help=msg("Take what its program really trained with, also where that was a mistake.")
)
@click.option("--keys", "verbose", is_flag=True, help=msg("Show every key of the file."))
@JSON_OPTION
def import_(  # noqa: PLR0913, PLR0917 - each is an option
    file: Path,
    output: Path | None,
    dataset: Path | None,
    images: Path | None,
    model: Path | None,
    command: int | None,
    faithful: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    from lorabake.commands.output.findings import make_check_report
    from lorabake.commands.output.imports import format_import, import_to_json
    from lorabake.exchange.foreign import Source
    from lorabake.exchange.import_file import import_file, write_import
    from lorabake.util.paths import lorabake_home

    env = get_environment()
    source = Source(
        path=file,
        content=b"",
        home=env.get("HOME"),
        images=images,
        model=model,
        dataset=dataset,
        command=command,
        runs=lorabake_home(env),
    )
    made, layout = import_file(source, faithful=faithful), make_text_layout()
    recipe = write_import(made, output, layout, (images, model), write_command=_write_command)
    examination = run_check(recipe, CheckOptions())
    report = made.report.model_copy(update={"recipe": str(recipe)})
    if as_json:
        write_out(import_to_json(report.model_copy(update={"check": make_check_report(examination)})))
    else:
        write_out(format_import(report, examination, layout, Path.cwd(), verbose=verbose))
    sys.exit(1 if examination.has_failures() else 0)


def _write_command(output: Path) -> str:
    """The command as it was typed, with another recipe to write."""
    from lorabake.jobs.init import format_argument

    context = click.get_current_context()
    words = ["lorabake", "import", format_argument(str(context.params["file"]))]
    for option in context.command.params:
        value = context.params.get(str(option.name))
        if isinstance(option, click.Option) and value and option.name != "output":
            words += [option.opts[0]] if option.is_flag else [option.opts[0], str(value)]
    return shlex.join([*words, "-o", str(output)])
