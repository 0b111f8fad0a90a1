"""What is wrong with a recipe and its pictures: for people, for grep, for programs, for GitHub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import click

from lorabake.examine import Examination, Waived
from lorabake.render.page import Page, bold, dim
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.unjudged import judged
from lorabake_schemas.words import Said, joined, say, told

Form = Literal["full", "concise", "json", "github"]
COLOURS: Mapping[Severity, str] = MappingProxyType(
    {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}
)
ORDER = (Severity.ERROR, Severity.WARNING, Severity.HINT)
DATASET = ("concept", "regularisation", "captions")  # the guide puts it first: nothing mends a bad dataset (G1.1)


def ranked(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first; among those of one severity the dataset before the settings, and each by its line.

    Those of one line, and those of none, which come last, stay in the order of the rules.
    """
    return sorted(findings, key=_rank)


def _rank(finding: Finding) -> tuple[int, bool, float]:
    of_dataset = bool(finding.where) and finding.where[0] in DATASET
    return ORDER.index(finding.severity), not of_dataset, finding.line or float("inf")


def key_of(finding: Finding, recipe: Recipe | None) -> str:
    """The key as a person finds it: ``concept.images`` where there is one ``[[concept]]``, ``concept#2.images`` for the
    second of several."""
    words: list[str] = []
    for part in finding.where:
        if isinstance(part, str):
            words.append(part)
        elif not (recipe and len(words) == 1 and _only_one(recipe, words[0])):
            words[-1:] = [f"{words[-1] if words else ''}#{part + 1}"]
    return ".".join(words)


def _only_one(recipe: Recipe, table: str) -> bool:
    many = judged(lambda: recipe.concept if table == "concept" else recipe.regularisation)
    return table in {"concept", "regularisation"} and len(many or ()) == 1


def report(examination: Examination, page: Page) -> str:
    """Everything on a page: in groups on a terminal, a finding a line elsewhere; then one line that sums up."""
    return full(examination, page) if page.width is not None else concise(examination, page)


def concise(examination: Examination, page: Page) -> str:
    """``file:line: severity[id] key: what is wrong; what to write``, one finding a line."""
    lines = [_line(finding, examination, page) for finding in ranked(examination.findings)]
    lines += [_waived_line(waived, examination, page) for waived in examination.waived]
    return "\n".join([*lines, summary(examination, page)])


def _line(finding: Finding, examination: Examination, page: Page) -> str:
    place = ":".join(page(str(part)) for part in (examination.loaded.path, finding.line) if part is not None)
    head = click.style(f"{finding.severity}[{finding.rule}]", fg=COLOURS[finding.severity], bold=True)
    key = page(key_of(finding, known(examination)))
    said = f"{page(finding.message)}; {page(finding.fix)}"
    return f"{place}: {head}{f' {bold(key)}:' if key else ''} {said}"


def _waived_line(waived: Waived, examination: Examination, page: Page) -> str:
    return f"{_line(waived.finding, examination, page)} ({dim(page(say('waived')))}: {page(waived.reason)})"


def known(examination: Examination) -> Recipe | None:
    """The recipe as far as it could be read."""
    return examination.recipe or examination.loaded.salvage


def full(examination: Examination, page: Page) -> str:
    """Groups by severity, the file named once, what is wrong and below it what to do."""
    return "\n\n".join([*_groups(examination, page), "\n".join(page.paragraph(summary(examination, page)))])


def _groups(examination: Examination, page: Page) -> list[str]:
    blocks = [bold(page(str(examination.loaded.path)))] if examination.findings or examination.waived else []
    for severity in ORDER:
        found = [finding for finding in ranked(examination.findings) if finding.severity is severity]
        if found:
            blocks.append(click.style(page(_counted(severity, len(found))), fg=COLOURS[severity], bold=True))
            blocks += [_block(finding, examination, page) for finding in found]
    if examination.waived:
        blocks.append(bold(page(told(len(examination.waived), "{n} waived", "{n} waived"))))
        blocks += [_waived_block(waived, examination, page) for waived in examination.waived]
    return blocks


def _block(finding: Finding, examination: Examination, page: Page) -> str:
    lines = [_head(finding, examination, page), *page.paragraph(finding.message, first="    ")]
    lines += page.paragraph(finding.fix, first=f"    {page.arrow} ", rest="      ")
    return "\n".join(lines)


def _waived_block(waived: Waived, examination: Examination, page: Page) -> str:
    lines = [_head(waived.finding, examination, page), *page.paragraph(waived.finding.message, first="    ")]
    because = say("waived because: {reason}", reason=waived.reason)
    return "\n".join([*lines, *map(dim, page.paragraph(because, first="    "))])


def _head(finding: Finding, examination: Examination, page: Page) -> str:
    line = page(say("line {n}", n=finding.line)) if finding.line else ""
    key = page(key_of(finding, known(examination)))
    parts = (bold(key) if key else "", line, click.style(finding.rule, fg=COLOURS[finding.severity]))
    return "  " + "  ".join(part for part in parts if part)


def _counted(severity: Severity, number: int) -> Said:
    match severity:
        case Severity.ERROR:
            return told(number, "{n} error", "{n} errors") if number else say("no errors")
        case Severity.WARNING:
            return told(number, "{n} warning", "{n} warnings") if number else say("no warnings")
        case Severity.HINT:
            return told(number, "{n} hint", "{n} hints") if number else say("no hints")


def brief(examination: Examination, page: Page) -> str:
    """For commands that go on: the warnings, and one line in which the hints are counted. Empty when all is well;
    the whole report when an error stands in the way."""
    if examination.plan is None:
        return report(examination, page)
    warnings = tuple(f for f in examination.findings if f.severity is Severity.WARNING)
    shown = replace(examination, findings=warnings, waived=())
    screen = page.width is not None
    blocks = _groups(shown, page) if screen else [_line(finding, shown, page) for finding in ranked(warnings)]
    hints = len(examination.findings) - len(warnings)
    if hints:
        path = str(examination.loaded.path)
        said = told(
            hints, "{recipe}: {n} hint; `{command}` tells it", "{recipe}: {n} hints; `{command}` tells them",
            recipe=path, command=f"lorabake check {shlex.quote(path)}",
        )  # fmt: skip
        blocks.append("\n".join(page.paragraph(said)))
    return ("\n\n" if screen else "\n").join(blocks)


def counts(examination: Examination) -> Said:
    """How many findings of each kind."""
    said = [_counted(s, sum(finding.severity is s for finding in examination.findings)) for s in ORDER]
    if examination.waived:
        said.append(told(len(examination.waived), "{n} waived", "{n} waived"))
    return joined(said)


def summary(examination: Examination, page: Page) -> str:
    """One line: how many findings of each kind, and the run's size when there is a plan."""
    said: list[str] = [counts(examination)]
    if examination.plan is None and examination.errors:
        said.append(say("fix these first; the remaining checks run after that"))
    if examination.plan is not None:
        said.append(size(examination.plan.forecast))
    return f"{page(str(examination.loaded.path))}: {page(joined(said, '; '))}"


def size(counted: Forecast) -> Said:
    """A run in a few words."""
    return joined(
        (
            told(counted.train_samples, "{n} sample an epoch", "{n} samples an epoch"),
            told(counted.epochs, "{n} epoch", "{n} epochs"),
            told(counted.steps, "{n} step", "{n} steps"),
        )
    )


def report_json(examination: Examination) -> str:
    """As schemas/check.schema.json has it; the forecast is null when an error stands in the way."""
    from lorabake_schemas.report import CheckReport, WaivedFinding  # a sixtieth of a second that text can do without

    table = CheckReport(
        recipe=str(examination.loaded.path),
        findings=tuple(ranked(examination.findings)),
        waived=tuple(WaivedFinding(**dict(w.finding), reason=w.reason) for w in examination.waived),
        forecast=examination.plan.forecast if examination.plan else None,
    )
    return json.dumps(table.model_dump(mode="json"), indent=2, ensure_ascii=False)


__all__ = [
    "Form",
    "brief",
    "concise",
    "counts",
    "full",
    "key_of",
    "known",
    "ranked",
    "report",
    "report_json",
    "size",
    "summary",
]
