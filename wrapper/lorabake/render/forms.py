"""A report in the form that was asked for."""

from __future__ import annotations

from pathlib import Path

from lorabake.examine import Examination
from lorabake.render.github import github
from lorabake.render.page import Page
from lorabake.render.report import Form, concise, full, report, report_json


def in_form(examination: Examination, form: Form | None, page: Page, here: Path) -> str:
    """``full`` is for people, ``concise`` a finding a line, ``json`` and ``github`` for programs; None chooses full on
    a terminal and concise elsewhere. ``here`` is where lorabake was started."""
    match form:
        case "full":
            return full(examination, Page(page.speech, page.width or 80, page.arrow))
        case "concise":
            return concise(examination, page)
        case "json":
            return report_json(examination)
        case "github":
            return github(examination, page, here)
        case None:
            return report(examination, page)


__all__ = ["in_form"]
