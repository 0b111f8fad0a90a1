"""tags."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from lorabake.commands.help import TranslatedCommand, current_translator
from lorabake.commands.options import (
    JSON_OPTION,
    NO_CACHE_OPTION,
    PATH_TYPE,
    RECIPE_ARGUMENT,
    SET_OPTION,
    CheckOptions,
    get_environment,
    make_text_layout,
    show_progress,
    terminal_display,
)
from lorabake.commands.output.console import write_out
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from lorabake.analysis.captioned_recipe import CaptionedRecipe
    from lorabake.recipe.overrides import Override
    from lorabake_schemas.tag_report import EditKind

EDIT_KINDS: tuple[EditKind, ...] = ("add", "remove", "rename", "front")
_ORDER_KEY = "lorabake.tags.order"  # in the context's meta: the edits' kinds, in the order of the command line


class _OrderedCommand(TranslatedCommand):
    """A command that keeps the order in which several options were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        order = self.make_parser(ctx).parse_args(list(args))[2]
        ctx.meta[_ORDER_KEY] = [param.name for param in order if param.name in EDIT_KINDS]
        return super().parse_args(ctx, args)


def _check_edits(_ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    from lorabake.analysis.tag_edits import find_edit_problem

    for given in values:
        if problem := find_edit_problem(_get_kind(param), given):
            raise click.BadParameter(problem)
    return values


def _get_kind(param: click.Parameter) -> EditKind:
    return next(kind for kind in EDIT_KINDS if kind == param.name)


def _edit_option(kind: EditKind, metavar: str, text: Message) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(f"--{kind}", multiple=True, metavar=metavar, callback=_check_edits, help=text)


class _Wishes(NamedTuple):
    """What is asked for, apart from the recipe."""

    edits: tuple[tuple[EditKind, str], ...]
    where: tuple[str, ...]
    concept: str | None
    company: str | None
    everything: bool
    to: Path | None
    in_place: bool
    undo: Path | None
    sheet: Path | None
    as_json: bool

    def check(self) -> None:
        """Raises UsageError for what would have no effect."""
        if self.undo is not None and any((self.edits, self.where, self.concept, self.company, self.everything)):
            raise click.UsageError(msg("--undo takes no other option"))
        if self.sheet is not None and any((self.edits, self.company, self.everything, self.undo, self.as_json)):
            raise click.UsageError(msg("--sheet can only be combined with --concept"))
        if not self.edits and (self.to is not None or self.in_place):
            raise click.UsageError(msg("--to and --in-place need an edit: --add, --remove, --rename or --front"))
        if self.to is not None and self.in_place:
            raise click.UsageError(msg("--to and --in-place cannot be used together"))
        if self.edits and self.company is not None:
            raise click.UsageError(msg("--with shows tags; use --where to limit an edit to the images with a tag"))
        if self.where and not self.edits:
            raise click.UsageError(msg("--where needs an edit; use --with to see what comes with a tag"))


@click.command(
    cls=_OrderedCommand,
    help=msg(
        "Count and edit the tags of the captions.\n\n"
        "Shows each concept's tags, those in every caption, those of one image only, and those that may be the same. "
        "Edits are applied in the order given. Without --to or --in-place they only show what would change."
    ),
)
@RECIPE_ARGUMENT
@click.option("--with", "company", metavar="TAG", help=msg("Show what comes together with TAG, and what never does."))
@click.option("--concept", metavar="TOKEN", help=msg("Only the concept with this token, class or folder."))
@_edit_option("add", "TAG[@POSITION]", msg("Add a tag at the end, or at a position counted from 1. Repeatable."))
@_edit_option("remove", "TAG", msg("Remove a tag; * matches any text (*hair). Repeatable."))
@_edit_option("rename", "OLD=NEW", msg("Replace a tag, in any spelling, by another. Repeatable."))
@_edit_option("front", "TAG", msg("Move a tag to the front. Repeatable: the first comes first."))
@click.option("--where", multiple=True, metavar="TAG", help=msg("Edit only images that have this tag. Repeatable."))
@click.option("--to", type=PATH_TYPE, metavar="FOLDER", help=msg("Write a copy of the dataset with the edits."))
@click.option("--in-place", is_flag=True, help=msg("Change the captions themselves, and write an undo file first."))
@click.option("--undo", type=PATH_TYPE, metavar="FILE", help=msg("Restore the captions from before an edit."))
@click.option("--sheet", type=PATH_TYPE, metavar="FILE.html", help=msg("Write a page with all images, crops and tags."))
@click.option("--all", "everything", is_flag=True, help=msg("Show every tag and change, not only the first ones."))
@JSON_OPTION
@SET_OPTION
@NO_CACHE_OPTION
@click.pass_context
def tags(
    ctx: click.Context, /, recipe: Path, overrides: tuple[Override, ...], no_cache: bool, as_json: bool, **given: Any
) -> None:
    from lorabake.analysis.captioned_recipe import read_captioned_recipe

    values = {kind: iter(given.pop(kind)) for kind in EDIT_KINDS}
    edits = tuple((kind, next(values[kind])) for kind in ctx.meta[_ORDER_KEY])
    wishes = _Wishes(edits=edits, as_json=as_json, **given)
    wishes.check()
    if wishes.sheet is not None:
        _write_sheet(recipe, wishes.sheet, wishes.concept, CheckOptions(cache=not no_cache, overrides=overrides))
        return
    read = read_captioned_recipe(recipe, overrides, get_environment(), cache=not no_cache)
    if wishes.undo is not None:
        _undo(read, wishes.undo, wishes)
    elif edits:
        _edit(read, wishes)
    else:
        _count(read, wishes)


def _count(read: CaptionedRecipe, wishes: _Wishes) -> None:
    from lorabake.analysis.tag_counts import make_tag_report
    from lorabake.commands.output.tags import format_tags, report_to_json

    report = make_tag_report(str(read.loaded.path), read.recipe, read.folders, wishes.concept, wishes.company)
    layout = make_text_layout()
    write_out(report_to_json(report) if wishes.as_json else format_tags(report, layout, everything=wishes.everything))


def _edit(read: CaptionedRecipe, wishes: _Wishes) -> None:
    from lorabake.analysis.captioned_recipe import list_unread_images
    from lorabake.analysis.tag_counts import tag_images
    from lorabake.analysis.tag_edits import make_edit, select_images
    from lorabake.commands.output.tag_edits import format_edits
    from lorabake.commands.output.tags import report_to_json
    from lorabake.jobs import caption_edits
    from lorabake.jobs.caption_copy import copy_dataset
    from lorabake_schemas.tag_report import SkippedCaption

    table = tag_images(read.recipe, read.folders)
    edits = [make_edit(kind, given, table.spellings) for kind, given in wishes.edits]
    plan = caption_edits.plan_edits(read, edits, select_images(read.recipe, table, wishes.concept, wishes.where))
    report = caption_edits.report_edits(plan, edits, read, table)
    done = {"written": len(plan.files)}
    if wishes.in_place and plan.files:
        with terminal_display(verbose=False).editing() as progress:
            undo = caption_edits.write_in_place(plan, read, progress)
        report = report.model_copy(update={**done, "undo": str(undo)})
    elif wishes.to is not None:
        copied = copy_dataset(plan, read, wishes.to)
        why = msg("sd-scripts does not read it, so it is not in the copy")
        names = [f"{folder}/{name}" for folder, those in list_unread_images(read).items() for name in those]
        left = (*report.skipped, *(SkippedCaption(file=name, why=why) for name in names))
        report = report.model_copy(update={**done, "copied_recipe": str(copied), "skipped": left})
    layout = make_text_layout()
    write_out(report_to_json(report) if wishes.as_json else format_edits(report, layout, everything=wishes.everything))


def _undo(read: CaptionedRecipe, undo: Path, wishes: _Wishes) -> None:
    from lorabake.commands.output.tag_edits import format_undo
    from lorabake.commands.output.tags import report_to_json
    from lorabake.jobs.caption_edits import undo_edits

    with terminal_display(verbose=False).editing() as progress:
        report = undo_edits(read, undo, progress)
    write_out(report_to_json(report) if wishes.as_json else format_undo(report, make_text_layout()))


def _write_sheet(recipe: Path, path: Path, concept: str | None, options: CheckOptions) -> None:
    from lorabake.analysis.sheet import make_sheet
    from lorabake.commands.check import run_check, show_findings
    from lorabake.commands.output.sheet import write_sheet

    result = run_check(recipe, options, rehearsing=True)
    if result.recipe is None:
        show_findings(result)
    with show_progress() as progress:
        sheet = make_sheet(result, concept)
        said = write_sheet(sheet, path, current_translator(), progress)
    write_out(current_translator()(said))
