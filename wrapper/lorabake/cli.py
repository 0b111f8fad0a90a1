"""The command line: the error boundary around it, and the list of its commands."""

from __future__ import annotations

import atexit
import gc
from typing import Any

import click

from lorabake import __version__
from lorabake.cli_options import LANG, Commands, colour_of, speech
from lorabake.commands import files, judging, keeping, runs, training
from lorabake.commands.common import environment
from lorabake.output import open_streams
from lorabake.speech import language_of, speech_in

# A command makes many objects that all stay, and is soon over: looking for garbage every 700 of them, as Python does of
# itself, and once more through all of them at the end, is a fifth of its time.
gc.set_threshold(20_000, 50, 100)
atexit.register(gc.freeze)


class _Bounded(Commands):
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
            from lorabake.boundary import boundary

            with boundary(environment(), speech=lambda: speech_in(language_of(environment()))):
                raise

    def invoke(self, ctx: click.Context) -> object:
        from lorabake.boundary import boundary

        if ctx.obj is None:  # no --lang before the command; one behind it may still come
            ctx.obj = language_of(environment())
        with boundary(environment(), debug=bool(ctx.params.get("debug")), speech=speech):
            return super().invoke(ctx)


@click.group(cls=_Bounded, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lorabake")
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@LANG
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
        ctx.color = colour_of(environment())


for command in (
    judging.check, judging.plan, judging.compile_, training.run, keeping.trainer, keeping.recipes,
    training.quickstart, judging.explain, judging.schema,
    files.inspect, runs.verify, runs.diff, runs.compare, runs.rerun, runs.resume,
):  # fmt: skip
    main.add_command(command)

__all__ = ["main"]
