"""The command line: the error boundary around it, and the list of its commands."""

from __future__ import annotations

import atexit
import gc
from typing import Any

import click

from lorabake import __version__
from lorabake.commands import check, inspect, run, runs, trainer
from lorabake.commands.common import get_environment
from lorabake.commands.options import LANG_OPTION, CommandGroup, current_translator, read_color_setting
from lorabake.commands.output.console import open_streams
from lorabake.util.i18n import detect_language, load_translator

# A command makes many objects that all stay, and is soon over: looking for garbage every 700 of them, as Python does of
# itself, and once more through all of them at the end, is a fifth of its time.
gc.set_threshold(20_000, 50, 100)
atexit.register(gc.freeze)


class _MainGroup(CommandGroup):
    """A group that runs inside the error boundary, and writes to streams that can be written to."""

    def main(self, *args: Any, **extra: Any) -> Any:
        settle = open_streams()
        try:
            return super().main(*args, **extra)
        finally:
            settle()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(*args, **extra)
        except (click.ClickException, OSError):
            from lorabake.commands.error_handler import error_boundary

            with error_boundary(get_environment(), speech=lambda: load_translator(detect_language(get_environment()))):
                raise

    def invoke(self, ctx: click.Context) -> object:
        from lorabake.commands.error_handler import error_boundary

        if ctx.obj is None:  # no --lang before the command; one behind it may still come
            ctx.obj = detect_language(get_environment())
        with error_boundary(get_environment(), debug=bool(ctx.params.get("debug")), speech=current_translator):
            return super().invoke(ctx)


@click.group(cls=_MainGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lorabake")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@LANG_OPTION
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    """From a short recipe to a LoRA trained by kohya's sd-scripts.

    \b
    lorabake quickstart          try the whole way on drawn pictures
    lorabake recipes list        recipes to start from
    lorabake check my.toml       what is wrong with a recipe and its pictures
    lorabake plan my.toml        every setting with its source, and what the run will do
    lorabake run my.toml         train
    lorabake resume NAME-001     go on with a run that stopped
    lorabake verify NAME-001     is everything still what it was made from?
    lorabake explain G4.52       what a rule means, or a setting
    """
    del debug  # read by the group
    if ctx.color is None:
        ctx.color = read_color_setting(get_environment())


for command in (
    check.check, check.plan, check.compile_, run.run, trainer.trainer, trainer.recipes,
    run.quickstart, check.explain, check.schema,
    inspect.inspect, runs.verify, runs.diff, runs.compare, runs.rerun, runs.resume,
):  # fmt: skip
    main.add_command(command)
