"""A report in the form that was asked for."""

from __future__ import annotations

from pathlib import Path

from lorabake.analysis.check import CheckResult
from lorabake.commands.output.findings import OutputFormat, findings_to_json, format_concise, format_full, format_report
from lorabake.commands.output.github import format_github
from lorabake.commands.output.layout import TextLayout


def format_check_result(examination: CheckResult, form: OutputFormat | None, page: TextLayout, here: Path) -> str:
    """``full`` is for people, ``concise`` a finding a line, ``json`` and ``github`` for programs; None chooses full on
    a terminal and concise elsewhere. ``here`` is where lorabake was started."""
    match form:
        case "full":
            return format_full(examination, TextLayout(page.speech, page.width or 80, page.arrow))
        case "concise":
            return format_concise(examination, page)
        case "json":
            return findings_to_json(examination)
        case "github":
            return format_github(examination, page, here)
        case None:
            return format_report(examination, page)
