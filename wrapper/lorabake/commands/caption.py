"""caption."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from lorabake.commands.check import run_check
from lorabake.commands.help import command, current_translator
from lorabake.commands.options import (
    JSON_OPTION,
    PATH_TYPE,
    RECIPE_ARGUMENT,
    CheckOptions,
    get_environment,
    make_text_layout,
    user_trainer_options,
)
from lorabake.commands.output.console import write_err, write_out
from lorabake.errors import SetupError
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.jobs.caption import CaptionOutcome, CaptionPlan, ExistingCaptions
    from lorabake.jobs.caption_tool import CaptionTool
    from lorabake.jobs.run import TrainerChoice


class ToolRequest(NamedTuple):
    """What was given of the command: its line, the model and packages of WD14, the longest time, and the trainer."""

    line: str | None
    weights: Path | None
    packages: Path | None
    timeout: float | None
    choice: TrainerChoice


class _Flags(NamedTuple):
    overwrite: bool
    append: bool
    dry_run: bool
    yes: bool
    as_json: bool

    @property
    def existing(self) -> ExistingCaptions:
        from lorabake.jobs.caption import ExistingCaptions

        if self.append:
            return ExistingCaptions.APPEND
        return ExistingCaptions.REPLACE if self.overwrite else ExistingCaptions.KEEP


def tool_options(function: Callable[..., None]) -> Callable[..., None]:
    """--with, --weights, --packages, --timeout, --sd-scripts and --python, passed to the command as ``asked``."""

    @functools.wraps(function)
    def with_tool(
        *,
        line: str | None,
        weights: Path | None,
        packages: Path | None,
        timeout: float | None,
        choice: TrainerChoice,
        **others: object,
    ) -> None:
        function(asked=ToolRequest(line, weights, packages, timeout, choice), **others)

    options = (
        click.option("--with", "line", metavar="COMMAND", help=msg("Tagger or captioner to run, in quotes.")),
        click.option("--weights", type=PATH_TYPE, metavar="FOLDER", help=msg("Folder of the model for --with wd14.")),
        click.option(
            "--packages",
            type=PATH_TYPE,
            metavar="FOLDER",
            help=msg("Folder of Python packages for --with wd14, after the trainer's own."),
        ),
        click.option(
            "--timeout",
            type=float,
            metavar="SECONDS",
            help=msg("Longest time for one start of COMMAND (default: 600 with {{image}}, else no limit)."),
        ),
        user_trainer_options,
    )
    made: Callable[..., None] = with_tool
    for option in reversed(options):
        made = option(made)
    return made


COMMAND_HELP = msg(
    "Write captions for images that have none.\n\n"
    "COMMAND is any tagger or captioner: with {{image}} it is started for each image and prints the text; with "
    "{{folder}} (or {{images}}, a file that lists them) it is started once and writes a .txt file for each image. It "
    "gets copies of the images. `--with wd14 --weights FOLDER` is sd-scripts' own WD14 script. lorabake puts token "
    "and class in front and writes the caption file next to the image. Without --overwrite or --append, "
    "a caption that has text is never changed."
)


@command(COMMAND_HELP)
@RECIPE_ARGUMENT
@click.option(
    "--template",
    metavar="TEXT",
    help=msg('Text of each caption, such as "photo of {{token}} {{class}}"; {{caption}} is the text of COMMAND.'),
)
@click.option("--drop", multiple=True, metavar="TAGS", help=msg("Leave out these tags, separated by commas."))
@click.option(
    "--overwrite", is_flag=True, help=msg("Also replace captions that have text, and write an undo file first.")
)
@click.option(
    "--append",
    is_flag=True,
    help=msg("Also add the tags of COMMAND to captions that have text, and write an undo file first."),
)
@click.option("--dry-run", is_flag=True, help=msg("Show the captions of the first images, and write nothing."))
@click.option("-y", "--yes", is_flag=True, help=msg('Also remove captions = "none" from the recipe, without asking.'))
@JSON_OPTION
@tool_options
def caption(
    recipe: Path,
    template: str | None,
    drop: tuple[str, ...],
    asked: ToolRequest,
    **given: bool,
) -> None:
    from lorabake.analysis.captioned_recipe import read_captioned_recipe
    from lorabake.commands.output.caption import build_caption_report, format_caption_report
    from lorabake.inputs.caption_text import check_template
    from lorabake.jobs.caption import plan_captions

    flags = _Flags(**given)
    if asked.line is None and template is None:
        raise click.UsageError(msg("pass a command with --with, or a text with --template"))
    if flags.append and (flags.overwrite or asked.line is None or template is not None):
        raise click.UsageError(msg("--append needs --with, and cannot be used with --template or --overwrite"))
    if template is not None and (wrong := check_template(template, with_command=asked.line is not None)):
        raise click.UsageError(wrong)
    if asked.timeout is not None and not asked.timeout > 0:
        raise click.UsageError(msg("--timeout needs a number above 0"))
    tool = _make_tool(asked.line, asked) if asked.line is not None else None
    read = read_captioned_recipe(recipe, (), get_environment(), cache=True)
    plan = plan_captions(read, template=template, drop=drop, existing=flags.existing)
    done = _write(plan, tool, dry_run=flags.dry_run)
    is_read = not plan.unread or (not flags.dry_run and _offer_reading(plan, done, flags))
    report = build_caption_report(recipe, plan, done, dry_run=flags.dry_run, is_read=is_read)
    write_out(format_caption_report(report, make_text_layout(), as_json=flags.as_json))
    if done.written and not flags.dry_run and not flags.as_json:
        _show_check(recipe)
    sys.exit(SetupError.exit_code if done.failed else 0)


def _offer_reading(plan: CaptionPlan, done: CaptionOutcome, flags: _Flags) -> bool:
    """Remove captions = "none" from the recipe if there are captions now and somebody wants it; whether it was."""
    from lorabake.commands.output.questions import can_ask, confirm
    from lorabake.jobs.caption import remove_unread_marks

    if not done.written and not plan.kept:
        return False
    asking = can_ask() and not flags.yes and not flags.as_json
    question = msg(
        'Remove captions = "none" from {recipe}, so that the captions are read?', recipe=plan.read.loaded.path
    )
    return (flags.yes or (asking and confirm(question, make_text_layout()))) and remove_unread_marks(plan)


def _show_check(recipe: Path) -> None:
    """What the recipe is like with its new captions, and what to do next."""
    from lorabake.commands.output.findings import format_brief
    from lorabake.commands.output.next_step import format_next_step

    result = run_check(recipe, CheckOptions())
    if text := format_brief(result, make_text_layout(err=True)):
        write_err(text)
    write_out("\n".join(format_next_step(result, make_text_layout())))


def _make_tool(line: str, asked: ToolRequest) -> CaptionTool:
    from lorabake.commands.runs import find_named_trainer
    from lorabake.jobs.caption_tool import TrainerPython, is_wd14, make_own_tool, make_wd14_tool, split_command
    from lorabake.jobs.run import require_trainer

    env = get_environment()
    words = split_command(line, env.get("HOME"))
    if not is_wd14(words):
        if asked.weights is not None or asked.packages is not None:
            raise click.UsageError(msg("--weights and --packages only work with --with wd14"))
        return make_own_tool(words, Path.cwd(), env, asked.timeout)

    def find_trainer() -> TrainerPython:
        if (named := find_named_trainer(asked.choice)) is not None:
            return TrainerPython(*named, own=False)
        found = require_trainer(asked.choice, env)
        return TrainerPython(found.checkout, found.python, own=True)

    return make_wd14_tool(words[1:], asked.weights, asked.packages, find_trainer, env, asked.timeout)


def _write(plan: CaptionPlan, tool: CaptionTool | None, *, dry_run: bool) -> CaptionOutcome:
    from lorabake.commands.output.caption import describe_captioning
    from lorabake.commands.output.progress import show_progress
    from lorabake.jobs.caption import CaptionOutcome, write_template_captions, write_tool_captions

    if not plan.targets:
        return CaptionOutcome()
    if tool is None:
        return write_template_captions(plan, dry_run=dry_run)
    with show_progress(sys.stderr, current_translator(), describe_captioning) as progress:
        return write_tool_captions(plan, tool, dry_run=dry_run, progress=progress)
