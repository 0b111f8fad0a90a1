"""What verify found: in groups, each difference in a sentence, and one line that sums up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from lorabake.render.page import Page, bold, dim, file_size
from lorabake_schemas.words import Said, joined, say, told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lorabake_schemas.verification import Compared, Difference, Subject, VerifyReport

MOST = 50  # differences of a group that a terminal shows
_MODELS, _DATA = say("Models"), say("Pictures and captions")
_FOLDER = say("Recipe, settings and record")
GROUPS: Mapping[Subject, Said] = MappingProxyType(
    {
        "recipe": _FOLDER,
        "compiled": _FOLDER,
        "record": _FOLDER,
        "inputs": _FOLDER,
        "concept": _DATA,
        "regularisation": _DATA,
        "caches": _DATA,
        "base": _MODELS,
        "vae": _MODELS,
        "network_weights": _MODELS,
        "base_weights": _MODELS,
        "tokenizer": _MODELS,
        "preset": _MODELS,
        "trainer": say("Trainer"),
        "output": say("What the run made"),
    }
)


def verified(report: VerifyReport, page: Page, *, as_json: bool = False) -> str:
    """The whole answer. On a terminal in groups; elsewhere a difference a line, with the run's folder before it."""
    if as_json:
        return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
    blocks = list(_differences(report, page))
    blocks += ["\n".join(_notes(report, page))] if report.unproven or report.remarks else []
    between = "\n\n" if page.width is not None else "\n"
    return between.join([*blocks, "\n".join(page.paragraph(summary(report)))])


def drifted(differences: Sequence[Difference], page: Page) -> str:
    """The list alone, for commands that refuse because of it."""
    return "\n\n".join(_groups(differences, page))


def summary(report: VerifyReport) -> Said:
    """``runs/x-001: identical; 12 files (3 MB) and 61 packages are as the record has them``."""
    return say("{run}: {verdict}", run=report.run, verdict=joined((_verdict(report), _held(report.compared)), "; "))


def _verdict(report: VerifyReport) -> Said:
    if report.differences:
        return told(len(report.differences), "{n} difference", "{n} differences")
    if not report.identical:
        return say("cannot be verified")
    if report.unproven:
        return say("identical, as far as the record tells")
    return say("identical")


def _held(compared: Compared) -> Said:
    files = told(
        compared.files, "{n} file ({size}) compared", "{n} files ({size}) compared", size=file_size(compared.size)
    )
    if not compared.packages:
        return files
    packages = told(compared.packages, "{n} package of the trainer", "{n} packages of the trainer")
    return joined((files, packages))


def _differences(report: VerifyReport, page: Page) -> Iterator[str]:
    if page.width is not None:
        yield from _groups(report.differences, page)
        return
    for each in report.differences:
        yield f"{page(report.run)}: {click.style(f'{each.what}:', fg='red', bold=True)} {page(each.message)}"


def _groups(differences: Sequence[Difference], page: Page) -> Iterator[str]:
    for group in dict.fromkeys(GROUPS.values()):
        found = [each for each in differences if GROUPS[each.what] == group]
        if found:
            lines = [click.style(page(group), fg="red", bold=True)]
            for each in found[:MOST]:
                lines += page.paragraph(each.message, first="  ", rest="    ")
            if (rest := len(found) - MOST) > 0:
                lines.append(f"  {page(say('and {n} more; `lorabake verify --json` names all', n=rest))}")
            yield "\n".join(lines)


def _notes(report: VerifyReport, page: Page) -> Iterator[str]:
    """What is no difference."""
    screen = page.width is not None
    if screen:
        yield bold(page(say("Also")))
    for said in (*report.unproven, *report.remarks):
        yield from (
            map(dim, page.paragraph(said, first="  ", rest="    ")) if screen else [f"{page(report.run)}: {page(said)}"]
        )


__all__ = ["drifted", "summary", "verified"]
