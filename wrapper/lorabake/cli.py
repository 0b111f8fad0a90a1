"""The command line: its commands, and the error boundary around them."""

from __future__ import annotations

import atexit
import gc
from typing import Any

import click

from lorabake import __version__
from lorabake.commands import (
    bundle,
    caption,
    check,
    control,
    doctor,
    explain,
    export,
    import_,
    init,
    inspect,
    prepare,
    recipes,
    run,
    runs,
    schema,
    tags,
    trainer,
    watch,
)
from lorabake.commands.help import HELP_OPTION, LANG_OPTION, CommandGroup, current_translator
from lorabake.commands.options import JSON_KEY, get_environment, read_color_setting
from lorabake.commands.output.console import open_streams
from lorabake.util.i18n import detect_language, load_translator
from lorabake.util.signals import interrupt_at_stop_signals
from lorabake_schemas.messages import msg

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
        language = detect_language(get_environment())  # --lang, anywhere, replaces it
        try:
            return super().make_context(*args, **{"obj": language} | extra)
        except (click.ClickException, OSError):
            from lorabake.commands.error_handler import error_boundary

            with error_boundary(get_environment(), speech=lambda: load_translator(language)):
                raise

    def invoke(self, ctx: click.Context) -> object:
        from lorabake.commands.error_handler import error_boundary

        debug = bool(ctx.params.get("debug"))
        with (
            error_boundary(
                get_environment(), debug=debug, speech=current_translator, as_json=lambda: JSON_KEY in ctx.meta
            ),
            interrupt_at_stop_signals(),
        ):
            return super().invoke(ctx)


@click.group(
    cls=_MainGroup,
    help=msg(
        "Train LoRAs with kohya's sd-scripts from a short recipe.\n\n"
        "Try it with `lorabake quickstart`, or start from your own images: `lorabake init FOLDER`."
    ),
    epilog=msg("`lorabake COMMAND --help` describes a command."),
)
@click.version_option(__version__, prog_name="lorabake", help=msg("Show the version and exit."))
@click.option("--debug", is_flag=True, help=msg("Show the traceback of an unexpected error."))
@LANG_OPTION
@HELP_OPTION
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:
    del debug  # read by the group
    if ctx.color is None:
        ctx.color = read_color_setting(get_environment())


SECTIONS = {
    msg("Start"): (run.quickstart, init.init, import_.import_, recipes.recipes),
    msg("Judge"): (check.check, check.plan, explain.explain, runs.diff),
    msg("Train"): (run.run, runs.resume, runs.rerun, check.compile_),
    msg("Watch"): (watch.ls, watch.status, watch.logs, control.attach, control.stop, watch.tensorboard),
    msg("Files"): (
        inspect.inspect,
        runs.compare,
        runs.verify,
        prepare.prepare,
        tags.tags,
        caption.caption,
        export.export,
    ),
    msg("Set-up"): (trainer.trainer, doctor.doctor, bundle.bundle, schema.schema),
}
for title, commands in SECTIONS.items():
    for command in commands:
        main.add_command(command, section=title)
