"""Findings as GitHub's workflow commands, which show them beside the recipe's lines in a pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions: data escapes %, CR and LF, properties
also : and , (as in @actions/core).
"""

from __future__ import annotations

from pathlib import Path, PurePath

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.findings import format_key, format_summary, known_recipe, sort_findings
from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.findings import Finding, Severity

GITHUB_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "notice"}


def format_github(examination: CheckResult, page: TextLayout, here: Path) -> str:
    """A command for every finding that counts (ignored ones do not), with paths relative to ``here`` as GitHub wants
    them, then the summary, which GitHub shows in the log."""
    place = _relative_path(examination.loaded.path, here)
    lines = [_workflow_command(finding, examination, page, place) for finding in sort_findings(examination.findings)]
    return "\n".join([*lines, format_summary(examination, page)])


def _relative_path(path: Path, here: Path) -> str:
    whole = here / path
    return PurePath(whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


def _workflow_command(finding: Finding, examination: CheckResult, page: TextLayout, place: str) -> str:
    title = f"lorabake {finding.rule} {format_key(finding, known_recipe(examination))}".rstrip()
    # GitHub puts a command without a line at line 1, and shows a column only beside a line.
    spot = {"line": finding.line, "col": finding.column if finding.line else None}
    properties = {"file": place, **spot, "title": title}
    told = ",".join(
        f"{name}={_escape_property(page(str(value)))}" for name, value in properties.items() if value is not None
    )
    said = "\n".join((page(finding.message), page(finding.fix)))
    return f"::{GITHUB_LEVELS[finding.severity]} {told}::{_escape_data(said)}"


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(text).replace(":", "%3A").replace(",", "%2C")
