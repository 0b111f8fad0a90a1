"""What caption wrote, or would write."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import bold, dim
from lorabake_schemas.caption_report import CaptionReport
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg, shorten_list

if TYPE_CHECKING:
    from lorabake.commands.output.layout import TextLayout
    from lorabake.jobs.caption import CaptionOutcome, CaptionPlan

SHOWN = 5  # captions and failures that a terminal shows


def describe_captioning(done: int, total: int) -> Message:
    """The line of progress."""
    return msg("writing captions: {done} of {total}", done=done, total=total)


def build_caption_report(
    recipe: Path, plan: CaptionPlan, done: CaptionOutcome, *, dry_run: bool, is_read: bool
) -> CaptionReport:
    """``is_read``: no captions = "none" is left in the recipe."""
    unread = [plan.read.recipe.concept[int(key[1])].images for key in plan.unread]
    said = msg('{folder}: removed captions = "none" from the recipe', folder=", ".join(unread))
    if not is_read:
        said = msg(
            '{folder}: remove captions = "none" from the recipe (--yes), or its captions are not read',
            folder=", ".join(unread),
        )
    place = {target.name: number for number, target in enumerate(plan.targets)}
    return CaptionReport(
        recipe=str(recipe),
        dry_run=dry_run,
        missing=len(plan.targets),
        existing=sum(target.replaced is not None for target in plan.targets),
        kept=plan.kept,
        written=tuple(sorted(done.written, key=lambda each: place[each.image])),
        failed=tuple(done.failed),
        untried=done.untried,
        unchanged=done.unchanged,
        notes=(*plan.notes, *((said,) if unread else ())),
        undo=str(done.undo) if done.undo else None,
        next=shlex.join(["lorabake", "check", str(recipe)]),
    )


def format_caption_report(report: CaptionReport, page: TextLayout, *, as_json: bool) -> str:
    """The first captions, what failed, the counts, and the next command."""
    if as_json:
        return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
    lines = list[str]()
    for each in report.written[:SHOWN]:
        lines += [bold(page(str(Path(report.recipe).parent / each.file))), *page.paragraph(each.text, first="  ")]
    if (rest := len(report.written) - SHOWN) > 0:
        lines.append(dim(page(msg("and {n} more (list all with --json)", n=rest))))
    for why, images in _group_failures(report).items():
        names = shorten_list(images, SHOWN, literal)
        lines += page.paragraph(msg("no caption for {images}: {why}", images=names, why=why))
    if report.untried:
        said = nmsg(
            report.untried,
            "the command failed several times in a row, so it was not started for {n} other image",
            "the command failed several times in a row, so it was not started for {n} other images",
        )
        lines += page.paragraph(said)
    for note in report.notes:
        lines += page.paragraph(note)
    lines += page.paragraph(_summarize(report))
    if report.undo is not None:
        undo = shlex.join(["lorabake", "tags", report.recipe, "--undo", report.undo])
        lines += page.paragraph(msg("to restore the old captions: `{command}`", command=undo))
    return "\n".join(lines)


def _summarize(report: CaptionReport) -> Message:
    if not report.missing:
        return msg("nothing to do: all images have captions") if report.kept else msg("nothing to do")
    n = len(report.written)
    if report.dry_run:
        bare = report.missing - report.existing
        said = [nmsg(bare, "{n} image has no caption", "{n} images have no caption")] if bare else []
        if report.existing:
            said.append(nmsg(report.existing, "{n} existing caption may change", "{n} existing captions may change"))
    else:
        said = [nmsg(n, "wrote {n} caption", "wrote {n} captions")]
        if report.unchanged:
            said.append(nmsg(report.unchanged, "{n} caption had all tags already", "{n} captions had all tags already"))
        if left := report.missing - n - report.unchanged:
            said.append(nmsg(left, "{n} image got none", "{n} images got none"))
    if report.kept:
        said.append(nmsg(report.kept, "{n} image has one already", "{n} images have one already"))
    if report.dry_run:
        said.append(msg("nothing was written (--dry-run)"))
    return join_list(said, "; ")


def _group_failures(report: CaptionReport) -> dict[Message, list[str]]:
    """The images by what went wrong, which often is the same for all."""
    found: dict[Message, list[str]] = {}
    for failed in report.failed:
        found.setdefault(failed.why, []).append(failed.image)
    return found
