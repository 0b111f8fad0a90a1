"""Findings as GitHub's workflow commands, which show them beside the recipe's lines in a pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions: data escapes %, CR and LF, properties
also : and , (as in @actions/core).
"""

from __future__ import annotations

from pathlib import Path, PurePath

from lorabake.examine import Examination
from lorabake.render.page import Page
from lorabake.render.report import key_of, known, ranked, summary
from lorabake_schemas.findings import Finding, Severity

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.HINT: "notice"}


def github(examination: Examination, page: Page, here: Path) -> str:
    """A command for every finding that counts (waived ones do not), with paths relative to ``here`` as GitHub wants
    them, then the summary, which GitHub shows in the log."""
    place = _relative(examination.loaded.path, here)
    lines = [_command(finding, examination, page, place) for finding in ranked(examination.findings)]
    return "\n".join([*lines, summary(examination, page)])


def _relative(path: Path, here: Path) -> str:
    whole = here / path
    return PurePath(whole.relative_to(here) if whole.is_relative_to(here) else whole).as_posix()


def _command(finding: Finding, examination: Examination, page: Page, place: str) -> str:
    title = f"lorabake {finding.rule} {key_of(finding, known(examination))}".rstrip()
    # GitHub puts a command without a line at line 1, and shows a column only beside a line.
    spot = {"line": finding.line, "col": finding.column if finding.line else None}
    properties = {"file": place, **spot, "title": title}
    told = ",".join(f"{name}={_property(page(str(value)))}" for name, value in properties.items() if value is not None)
    said = "\n".join((page(finding.message), page(finding.fix)))
    return f"::{LEVELS[finding.severity]} {told}::{_data(said)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


__all__ = ["github"]
