"""Findings: in groups for a terminal, a line each for grep, as JSON, and for GitHub Actions."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import click

from lorabake.commands.output.layout import TextLayout, bold, dim
from lorabake.jobs.init import format_argument
from lorabake.util import resources
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, complete_lists, is_shortened, join_list, msg, nmsg
from lorabake_schemas.plan import Forecast
from lorabake_schemas.recipe import Recipe
from lorabake_schemas.secrets import is_secret
from lorabake_schemas.unjudged import evaluate_or_none

if TYPE_CHECKING:
    from lorabake.analysis.check import AppliedIgnore, CheckResult
    from lorabake_schemas.check_report import CheckReport

OutputFormat = Literal["full", "concise", "json", "github"]
SEVERITY_COLORS: Mapping[Severity, str] = MappingProxyType(
    {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}
)
SEVERITY_ORDER = (Severity.ERROR, Severity.WARNING, Severity.HINT)
DATASET_TABLES = ("concept", "regularization", "captions")  # first, since no setting repairs a bad dataset (G1.1)
# https://docs.github.com/actions/reference/workflow-commands-for-github-actions
GITHUB_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "notice"}


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


def format_check_result(result: CheckResult, form: OutputFormat | None, layout: TextLayout, here: Path) -> str:
    """``full`` is for people, ``concise`` a finding a line, ``json`` and ``github`` for programs; None chooses full on
    a terminal and concise elsewhere. ``here`` is where lorabake was started."""
    match form:
        case "full":
            return format_full(result, TextLayout(layout.translator, layout.width or 80, layout.arrow))
        case "concise":
            return format_concise(result, layout)
        case "json":
            return findings_to_json(result)
        case "github":
            return format_github(result, layout, here)
        case None:
            return format_report(result, layout)


def format_report(result: CheckResult, layout: TextLayout) -> str:
    """All findings and a summary: in groups on a terminal, a finding a line elsewhere."""
    return format_full(result, layout) if layout.width is not None else format_concise(result, layout)


def format_concise(result: CheckResult, layout: TextLayout) -> str:
    """``file:line: severity[id] key: what is wrong; what to write``, one finding a line."""
    lines = [_finding_line(finding, result, layout) for finding in sort_findings(result.findings)]
    lines += [_ignored_line(ignored, result, layout) for ignored in result.ignored]
    return "\n".join([*lines, format_summary(result, layout)])


def _finding_line(finding: Finding, result: CheckResult, layout: TextLayout) -> str:
    place = ":".join(layout(str(part)) for part in (result.loaded.path, finding.line) if part is not None)
    if override := result.loaded.find_override(finding.where):
        place = layout(f"--set {override.name}")
    head = click.style(f"{finding.severity}[{finding.rule}]", fg=SEVERITY_COLORS[finding.severity], bold=True)
    key = layout(format_key(finding, known_recipe(result)))
    said = f"{layout(finding.message)}; {layout(finding.fix)}"
    return f"{place}: {head}{f' {bold(key)}:' if key else ''} {said}"


def _ignored_line(ignored: AppliedIgnore, result: CheckResult, layout: TextLayout) -> str:
    mark = dim(layout(msg("ignored")))
    return f"{_finding_line(ignored.finding, result, layout)} ({mark}: {layout(ignored.reason)})"


def known_recipe(result: CheckResult) -> Recipe | None:
    """The recipe as far as it could be read."""
    return result.recipe or result.loaded.salvage


def format_full(result: CheckResult, layout: TextLayout) -> str:
    """Groups by severity, the file named once, what is wrong and below it what to do."""
    return "\n\n".join([*_finding_groups(result, layout), "\n".join(layout.paragraph(format_summary(result, layout)))])


def _finding_groups(result: CheckResult, layout: TextLayout) -> list[str]:
    blocks = [bold(layout(str(result.loaded.path)))] if result.findings or result.ignored else []
    for severity in SEVERITY_ORDER:
        found = [finding for finding in sort_findings(result.findings) if finding.severity is severity]
        if found:
            blocks.append(
                click.style(layout(_severity_count(severity, len(found))), fg=SEVERITY_COLORS[severity], bold=True)
            )
            blocks += [_finding_block(finding, result, layout) for finding in found]
    if result.ignored:
        blocks.append(bold(layout(nmsg(len(result.ignored), "{n} ignored", "{n} ignored"))))
        blocks += [_ignored_block(ignored, result, layout) for ignored in result.ignored]
    return blocks


def _finding_block(finding: Finding, result: CheckResult, layout: TextLayout) -> str:
    lines = [_finding_head(finding, result, layout), *layout.paragraph(finding.message, first="    ")]
    lines += layout.paragraph(finding.fix, first=f"    {layout.arrow} ", rest="      ")
    lines += [f"      {layout(line)}".rstrip() for line in ("", *finding.paste)] if finding.paste else []
    return "\n".join(lines)


def _ignored_block(ignored: AppliedIgnore, result: CheckResult, layout: TextLayout) -> str:
    lines = [_finding_head(ignored.finding, result, layout), *layout.paragraph(ignored.finding.message, first="    ")]
    because = msg("ignored because: {reason}", reason=ignored.reason)
    return "\n".join([*lines, *map(dim, layout.paragraph(because, first="    "))])


def _finding_head(finding: Finding, result: CheckResult, layout: TextLayout) -> str:
    override = result.loaded.find_override(finding.where)
    line = layout(msg("line {n}", n=finding.line)) if finding.line else ""
    line = layout(f"--set {override.name}") if override else line
    key = layout(format_key(finding, known_recipe(result)))
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


def format_brief(result: CheckResult, layout: TextLayout) -> str:
    """For commands that continue: the warnings, and one line that counts the hints. Empty if there are none;
    the full report if one of them is an error."""
    if result.plan is None:
        return format_report(result, layout)
    warnings = tuple(f for f in result.findings if f.severity is Severity.WARNING)
    named = warnings if result.loaded.on_disk else result.findings  # else no command would show the hints
    shown = replace(result, findings=named, ignored=())
    screen = layout.width is not None
    blocks = (
        _finding_groups(shown, layout)
        if screen
        else [_finding_line(finding, shown, layout) for finding in sort_findings(named)]
    )
    hints = len(result.findings) - len(named)
    if hints:
        path, command = str(result.loaded.path), format_check_command(result)
        said = nmsg(
            hints, "{recipe}: {n} hint (show it with `{command}`)", "{recipe}: {n} hints (show them with `{command}`)",
            recipe=path, command=command,
        )  # fmt: skip
        blocks.append("\n".join(layout.paragraph(said)))
    return ("\n\n" if screen else "\n").join(blocks)


def format_check_command(result: CheckResult, verb: Literal["check", "run"] = "check") -> str:
    """The command that shows the same findings, as a shell takes it; or that trains the same. Secrets are hidden."""
    words = ["lorabake", verb, format_argument(str(result.loaded.path))]
    for override in result.loaded.overrides:
        words += ["--set", f"{override.name}=..." if is_secret(override.name) else override.text]
    if result.snapshot.commit != resources.load_pin().commit:
        words += ["--commit", result.snapshot.commit]
    return shlex.join([*words, *(["--deep"] if result.deep and verb == "check" else [])])


def format_finding_counts(result: CheckResult) -> Message:
    """How many findings of each kind."""
    said = [_severity_count(s, sum(finding.severity is s for finding in result.findings)) for s in SEVERITY_ORDER]
    if result.ignored:
        said.append(nmsg(len(result.ignored), "{n} ignored", "{n} ignored"))
    return join_list(said)


def format_summary(result: CheckResult, layout: TextLayout) -> str:
    """How many findings of each kind, and the run's size when there is a plan; how to see lists that were shortened."""
    said: list[str] = [format_finding_counts(result)]
    if result.plan is None and any(each.rule != "foreign-file" for each in result.errors):
        said.append(msg("fix these first; the remaining checks run after that"))
    if result.plan is not None:
        said.append(describe_run_size(result.plan.forecast))
    if any(is_shortened(each.message) or is_shortened(each.fix) for each in result.findings):
        said.append(msg("--json shows complete lists"))
    return f"{layout(str(result.loaded.path))}: {layout(join_list(said, '; '))}"


def describe_run_size(counted: Forecast) -> Message:
    """Samples, epochs and steps."""
    return join_list(
        (
            nmsg(counted.train_samples, "{n} sample per epoch", "{n} samples per epoch"),
            nmsg(counted.epochs, "{n} epoch", "{n} epochs"),
            nmsg(counted.steps, "{n} step", "{n} steps"),
        )
    )


def findings_to_json(result: CheckResult) -> str:
    """As schemas/check.schema.json has it."""
    return json.dumps(make_check_report(result).model_dump(mode="json"), indent=2, ensure_ascii=False)


def make_check_report(result: CheckResult) -> CheckReport:
    """With complete lists; the forecast is null if there is an error."""
    from lorabake_schemas.check_report import CheckReport, IgnoredFinding  # slow to import, and text needs neither

    return CheckReport(
        recipe=str(result.loaded.path),
        findings=tuple(map(_complete_finding, sort_findings(result.findings))),
        ignored=tuple(IgnoredFinding(**dict(_complete_finding(w.finding)), reason=w.reason) for w in result.ignored),
        forecast=result.plan.forecast if result.plan else None,
    )


def _complete_finding(finding: Finding) -> Finding:
    """With every file and tag that it is about named."""
    texts = {"message": complete_lists(finding.message), "fix": complete_lists(finding.fix)}
    return finding.model_copy(update=texts)


def format_github(result: CheckResult, layout: TextLayout, here: Path) -> str:
    """A command for every finding that counts (ignored ones do not), with paths relative to ``here`` as GitHub wants
    them, then the summary, which GitHub shows in the log."""
    place = _relative_path(result.loaded.path, here)
    lines = [_workflow_command(finding, result, layout, place) for finding in sort_findings(result.findings)]
    return "\n".join([*lines, format_summary(result, layout)])


def _relative_path(path: Path, here: Path) -> str:
    whole = here / path
    return PurePath(whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


def _workflow_command(finding: Finding, result: CheckResult, layout: TextLayout, place: str) -> str:
    title = f"lorabake {finding.rule} {format_key(finding, known_recipe(result))}".rstrip()
    # GitHub puts a command without a line at line 1, and shows a column only with a line.
    spot = {"line": finding.line, "col": finding.column if finding.line else None}
    properties = {"file": place, **spot, "title": title}
    fields = ",".join(
        f"{name}={_escape_property(layout(str(value)))}" for name, value in properties.items() if value is not None
    )
    said = "\n".join((layout(finding.message), layout(finding.fix)))
    return f"::{GITHUB_LEVELS[finding.severity]} {fields}::{_escape_data(said)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
