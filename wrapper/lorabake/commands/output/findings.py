"""What is wrong with a recipe and its pictures: for people, for grep, for programs, for GitHub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Literal

import click

from lorabake.analysis.check import AppliedIgnore, CheckResult
from lorabake.commands.output.layout import TextLayout, bold, dim
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, join_list, msg, nmsg
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.unjudged import evaluate_or_none

OutputFormat = Literal["full", "concise", "json", "github"]
SEVERITY_COLORS: Mapping[Severity, str] = MappingProxyType(
    {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}
)
SEVERITY_ORDER = (Severity.ERROR, Severity.WARNING, Severity.HINT)
DATASET_TABLES = (
    "concept",
    "regularization",
    "captions",
)  # the guide puts it first: nothing mends a bad dataset (G1.1)


def sort_findings(findings: Sequence[Finding]) -> list[Finding]:
    """Errors first; among those of one severity the dataset before the settings, and each by its line.

    Those of one line, and those of none, which come last, stay in the order of the rules.
    """
    return sorted(findings, key=_finding_sort_key)


def _finding_sort_key(finding: Finding) -> tuple[int, bool, float]:
    of_dataset = bool(finding.where) and finding.where[0] in DATASET_TABLES
    return SEVERITY_ORDER.index(finding.severity), not of_dataset, finding.line or float("inf")


def format_key(finding: Finding, recipe: Recipe | None) -> str:
    """The key as a person finds it: ``concept.images`` where there is one ``[[concept]]``, ``concept#2.images`` for the
    second of several."""
    words: list[str] = []
    for part in finding.where:
        if isinstance(part, str):
            words.append(part)
        elif not (recipe and len(words) == 1 and _is_only_one(recipe, words[0])):
            words[-1:] = [f"{words[-1] if words else ''}#{part + 1}"]
    return ".".join(words)


def _is_only_one(recipe: Recipe, table: str) -> bool:
    many = evaluate_or_none(lambda: recipe.concept if table == "concept" else recipe.regularization)
    return table in {"concept", "regularization"} and len(many or ()) == 1


def format_report(examination: CheckResult, page: TextLayout) -> str:
    """Everything on a page: in groups on a terminal, a finding a line elsewhere; then one line that sums up."""
    return format_full(examination, page) if page.width is not None else format_concise(examination, page)


def format_concise(examination: CheckResult, page: TextLayout) -> str:
    """``file:line: severity[id] key: what is wrong; what to write``, one finding a line."""
    lines = [_finding_line(finding, examination, page) for finding in sort_findings(examination.findings)]
    lines += [_ignored_line(ignored, examination, page) for ignored in examination.ignored]
    return "\n".join([*lines, format_summary(examination, page)])


def _finding_line(finding: Finding, examination: CheckResult, page: TextLayout) -> str:
    place = ":".join(page(str(part)) for part in (examination.loaded.path, finding.line) if part is not None)
    head = click.style(f"{finding.severity}[{finding.rule}]", fg=SEVERITY_COLORS[finding.severity], bold=True)
    key = page(format_key(finding, known_recipe(examination)))
    said = f"{page(finding.message)}; {page(finding.fix)}"
    return f"{place}: {head}{f' {bold(key)}:' if key else ''} {said}"


def _ignored_line(ignored: AppliedIgnore, examination: CheckResult, page: TextLayout) -> str:
    mark = dim(page(msg("ignored")))
    return f"{_finding_line(ignored.finding, examination, page)} ({mark}: {page(ignored.reason)})"


def known_recipe(examination: CheckResult) -> Recipe | None:
    """The recipe as far as it could be read."""
    return examination.recipe or examination.loaded.salvage


def format_full(examination: CheckResult, page: TextLayout) -> str:
    """Groups by severity, the file named once, what is wrong and below it what to do."""
    return "\n\n".join(
        [*_finding_groups(examination, page), "\n".join(page.paragraph(format_summary(examination, page)))]
    )


def _finding_groups(examination: CheckResult, page: TextLayout) -> list[str]:
    blocks = [bold(page(str(examination.loaded.path)))] if examination.findings or examination.ignored else []
    for severity in SEVERITY_ORDER:
        found = [finding for finding in sort_findings(examination.findings) if finding.severity is severity]
        if found:
            blocks.append(
                click.style(page(_severity_count(severity, len(found))), fg=SEVERITY_COLORS[severity], bold=True)
            )
            blocks += [_finding_block(finding, examination, page) for finding in found]
    if examination.ignored:
        blocks.append(bold(page(nmsg(len(examination.ignored), "{n} ignored", "{n} ignored"))))
        blocks += [_ignored_block(ignored, examination, page) for ignored in examination.ignored]
    return blocks


def _finding_block(finding: Finding, examination: CheckResult, page: TextLayout) -> str:
    lines = [_finding_head(finding, examination, page), *page.paragraph(finding.message, first="    ")]
    lines += page.paragraph(finding.fix, first=f"    {page.arrow} ", rest="      ")
    return "\n".join(lines)


def _ignored_block(ignored: AppliedIgnore, examination: CheckResult, page: TextLayout) -> str:
    lines = [_finding_head(ignored.finding, examination, page), *page.paragraph(ignored.finding.message, first="    ")]
    because = msg("ignored because: {reason}", reason=ignored.reason)
    return "\n".join([*lines, *map(dim, page.paragraph(because, first="    "))])


def _finding_head(finding: Finding, examination: CheckResult, page: TextLayout) -> str:
    line = page(msg("line {n}", n=finding.line)) if finding.line else ""
    key = page(format_key(finding, known_recipe(examination)))
    parts = (bold(key) if key else "", line, click.style(finding.rule, fg=SEVERITY_COLORS[finding.severity]))
    return "  " + "  ".join(part for part in parts if part)


def _severity_count(severity: Severity, number: int) -> Message:
    match severity:
        case Severity.ERROR:
            return nmsg(number, "{n} error", "{n} errors") if number else msg("no errors")
        case Severity.WARNING:
            return nmsg(number, "{n} warning", "{n} warnings") if number else msg("no warnings")
        case Severity.HINT:
            return nmsg(number, "{n} hint", "{n} hints") if number else msg("no hints")


def format_brief(examination: CheckResult, page: TextLayout) -> str:
    """For commands that go on: the warnings, and one line in which the hints are counted. Empty when all is well;
    the whole report when an error stands in the way."""
    if examination.plan is None:
        return format_report(examination, page)
    warnings = tuple(f for f in examination.findings if f.severity is Severity.WARNING)
    shown = replace(examination, findings=warnings, ignored=())
    screen = page.width is not None
    blocks = (
        _finding_groups(shown, page)
        if screen
        else [_finding_line(finding, shown, page) for finding in sort_findings(warnings)]
    )
    hints = len(examination.findings) - len(warnings)
    if hints:
        path = str(examination.loaded.path)
        command = f"lorabake check {shlex.quote(path)}"
        said = nmsg(
            hints, "{recipe}: {n} hint (show it with `{command}`)", "{recipe}: {n} hints (show them with `{command}`)",
            recipe=path, command=command,
        )  # fmt: skip
        blocks.append("\n".join(page.paragraph(said)))
    return ("\n\n" if screen else "\n").join(blocks)


def format_finding_counts(examination: CheckResult) -> Message:
    """How many findings of each kind."""
    said = [_severity_count(s, sum(finding.severity is s for finding in examination.findings)) for s in SEVERITY_ORDER]
    if examination.ignored:
        said.append(nmsg(len(examination.ignored), "{n} ignored", "{n} ignored"))
    return join_list(said)


def format_summary(examination: CheckResult, page: TextLayout) -> str:
    """One line: how many findings of each kind, and the run's size when there is a plan."""
    said: list[str] = [format_finding_counts(examination)]
    if examination.plan is None and examination.errors:
        said.append(msg("fix these first; the remaining checks run after that"))
    if examination.plan is not None:
        said.append(describe_run_size(examination.plan.forecast))
    return f"{page(str(examination.loaded.path))}: {page(join_list(said, '; '))}"


def describe_run_size(counted: Forecast) -> Message:
    """A run in a few words."""
    return join_list(
        (
            nmsg(counted.train_samples, "{n} sample per epoch", "{n} samples per epoch"),
            nmsg(counted.epochs, "{n} epoch", "{n} epochs"),
            nmsg(counted.steps, "{n} step", "{n} steps"),
        )
    )


def findings_to_json(examination: CheckResult) -> str:
    """As schemas/check.schema.json has it; the forecast is null when an error stands in the way."""
    from lorabake_schemas.check_report import (  # a sixtieth of a second that text can do without
        CheckReport,
        IgnoredFinding,
    )

    table = CheckReport(
        recipe=str(examination.loaded.path),
        findings=tuple(sort_findings(examination.findings)),
        ignored=tuple(IgnoredFinding(**dict(w.finding), reason=w.reason) for w in examination.ignored),
        forecast=examination.plan.forecast if examination.plan else None,
    )
    return json.dumps(table.model_dump(mode="json"), indent=2, ensure_ascii=False)
