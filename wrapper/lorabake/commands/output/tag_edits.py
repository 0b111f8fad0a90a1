"""What `lorabake tags` prints of an edit: how many captions change, a few of them, and where they were written."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import PurePath

import click

from lorabake.commands.output.layout import TextLayout, align_rows, bold, dim
from lorabake.jobs.init import format_argument
from lorabake_schemas.messages import Message, escape_invisible, literal, msg, nmsg, shorten_list
from lorabake_schemas.tag_report import CaptionChange, CaptionEditReport, EditCount, SkippedCaption

MOST_CHANGES, MOST_NAMED, MAX_LENGTH = 5, 5, 2000  # changes, files, characters of a caption that are shown


def format_edits(report: CaptionEditReport, page: TextLayout, *, everything: bool = False) -> str:
    """How many captions each edit changes, the first changes, and what to do next or was done."""
    count = len(report.changes)
    changed = nmsg(
        report.captions, "{changed} of {n} caption changes", "{changed} of {n} captions change", changed=count
    )
    lines = [bold(page(msg("{recipe}: {what}", recipe=report.recipe, what=changed))), ""]
    rows = [(f"--{each.kind} {escape_invisible(each.given)}", page(_describe_count(each))) for each in report.edits]
    lines += [f"  {line}" for row in align_rows(rows) for line in row]
    shown = report.changes if everything else report.changes[:MOST_CHANGES]
    for change in shown:
        lines += ["", *_iter_change_lines(change)]
    if len(report.changes) > len(shown):
        more = msg("and {n} more (--all shows them)", n=len(report.changes) - len(shown))
        lines += ["", f"  {dim(page(more))}"]
    if report.skipped:
        lines += ["", *page.paragraph(_describe_skipped(report, everything), first="  ", rest="    ")]
    if report.tokenless:
        lines += ["", *page.paragraph(_describe_tokenless(report, everything), first="  ", rest="    ")]
    return "\n".join([*lines, "", *page.paragraph(_describe_result(report))])


def format_undo(report: CaptionEditReport, page: TextLayout) -> str:
    """How many files were restored, and which are missing."""
    skipped = page.paragraph(_describe_skipped(report, everything=False)) if report.skipped else []
    if report.written:
        said = nmsg(report.written, "restored {n} caption file", "restored {n} caption files")
    else:
        said = msg("nothing to undo: all captions are as they were before the edit")
    return "\n".join([*skipped, *page.paragraph(said)])


def _describe_count(edit: EditCount) -> Message:
    n = edit.captions
    count = nmsg(n, "{n} caption", "{n} captions") if n else msg("changes nothing")
    return count if edit.why is None else msg("{what}: {why}", what=count, why=edit.why)


def _iter_change_lines(change: CaptionChange) -> Iterator[str]:
    name = escape_invisible(change.file)
    if PurePath(change.file).stem != PurePath(change.image).stem:
        name += f": {escape_invisible(change.image)}"
    yield f"  {dim(name)}"
    yield f"  {click.style('-', fg='red')} {_shorten(change.before)}"
    yield f"  {click.style('+', fg='green')} {_shorten(change.after)}"


def _shorten(caption: str) -> str:
    text = escape_invisible(caption.strip())
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1]}…"


def _describe_tokenless(report: CaptionEditReport, everything: bool) -> Message:
    most = len(report.tokenless) if everything else MOST_NAMED
    return msg(
        "captions that no longer start with the token ({n}): {files}; move it back with --front TOKEN, or change "
        "token in the recipe",
        n=len(report.tokenless),
        files=shorten_list(report.tokenless, most, literal),
    )


def _describe_skipped(report: CaptionEditReport, everything: bool) -> Message:
    most = len(report.skipped) if everything else MOST_NAMED
    listed = shorten_list(report.skipped, most, _describe_skipped_file)
    return msg("left as they are ({n}): {files}", n=len(report.skipped), files=listed)


def _describe_skipped_file(each: SkippedCaption) -> Message:
    return msg("{file} ({why})", file=literal(each.file), why=each.why)


def _describe_result(report: CaptionEditReport) -> Message:
    if report.copied_recipe is not None:
        check = shlex.join(["lorabake", "check", format_argument(report.copied_recipe)])
        return msg("wrote a copy; next: {command}", command=check)
    if report.undo is not None:
        return nmsg(
            report.written,
            "changed {n} file; `lorabake tags {recipe} --undo {undo}` restores it",
            "changed {n} files; `lorabake tags {recipe} --undo {undo}` restores them",
            recipe=shlex.quote(report.recipe),
            undo=shlex.quote(report.undo),
        )
    if not report.changes:
        return msg("nothing to write")
    return msg("nothing was written; write a copy with --to FOLDER, or change these captions with --in-place")
