"""What verify found: in groups, each difference in a sentence, and one line that sums up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from lorabake.commands.output.layout import TextLayout, bold, dim, format_file_size
from lorabake_schemas.messages import Message, join_list, msg, nmsg

if TYPE_CHECKING:
    from lorabake_schemas.verification import ComparedCounts, VerifyDifference, VerifyReport, VerifySubject

MAX_DIFFERENCES = 50  # differences of a group that a terminal shows
GROUPS: tuple[tuple[Message, tuple[VerifySubject, ...]], ...] = (
    (msg("Recipe, settings and record"), ("recipe", "compiled", "record", "inputs")),
    (msg("Images and captions"), ("concept", "regularization", "masks", "metadata_file", "caches")),
    (msg("Models"), ("base", "vae", "network_weights", "base_weights", "tokenizer", "preset")),
    (msg("Trainer"), ("trainer",)),
    (msg("Run outputs"), ("output",)),
)


def format_verification(report: VerifyReport, page: TextLayout, *, as_json: bool = False) -> str:
    """The complete answer. On a terminal in groups; elsewhere one difference per line, preceded by the run's folder."""
    if as_json:
        return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
    blocks = list(_iter_difference_lines(report, page))
    blocks += ["\n".join(_iter_note_lines(report, page))] if report.unproven or report.remarks else []
    between = "\n\n" if page.width is not None else "\n"
    return between.join([*blocks, "\n".join(page.paragraph(summarize_verification(report)))])


def format_differences(differences: Sequence[VerifyDifference], page: TextLayout) -> str:
    """The list alone, for commands that refuse because of it."""
    return "\n\n".join(_iter_group_blocks(differences, page))


def summarize_verification(report: VerifyReport) -> Message:
    """``runs/x-001: identical; 12 files (3 MB) and 61 packages are as the record has them``."""
    return msg(
        "{run}: {verdict}",
        run=report.run,
        verdict=join_list((_describe_verdict(report), _describe_compared(report.compared)), "; "),
    )


def _describe_verdict(report: VerifyReport) -> Message:
    if report.differences:
        return nmsg(len(report.differences), "{n} difference", "{n} differences")
    if not report.identical:
        return msg("cannot be verified")
    if report.unproven:
        return msg("identical, as far as the record shows")
    return msg("identical")


def _describe_compared(compared: ComparedCounts) -> Message:
    files = nmsg(
        compared.files,
        "{n} file ({size}) compared",
        "{n} files ({size}) compared",
        size=format_file_size(compared.size),
    )
    if not compared.packages:
        return files
    packages = nmsg(compared.packages, "{n} trainer package", "{n} trainer packages")
    return join_list((files, packages))


def _iter_difference_lines(report: VerifyReport, page: TextLayout) -> Iterator[str]:
    if page.width is not None:
        yield from _iter_group_blocks(report.differences, page)
        return
    for each in report.differences:
        yield f"{page(report.run)}: {click.style(f'{each.what}:', fg='red', bold=True)} {page(each.message)}"


def _iter_group_blocks(differences: Sequence[VerifyDifference], page: TextLayout) -> Iterator[str]:
    for label, subjects in GROUPS:
        found = [each for each in differences if each.what in subjects]
        if found:
            lines = [click.style(page(label), fg="red", bold=True)]
            for each in found[:MAX_DIFFERENCES]:
                lines += page.paragraph(each.message, first="  ", rest="    ")
            if (rest := len(found) - MAX_DIFFERENCES) > 0:
                lines.append("  " + page(msg("and {n} more (list all with --json)", n=rest)))
            yield "\n".join(lines)


def _iter_note_lines(report: VerifyReport, page: TextLayout) -> Iterator[str]:
    """Notes that are not differences."""
    screen = page.width is not None
    if screen:
        yield bold(page(msg("Also")))
    for said in (*report.unproven, *report.remarks):
        yield from (
            map(dim, page.paragraph(said, first="  ", rest="    ")) if screen else [f"{page(report.run)}: {page(said)}"]
        )
