"""What `doctor` found, for a person or a program."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import click

from lorabake.commands.output.layout import TextLayout, bold, dim
from lorabake.commands.output.runs import describe_excerpt
from lorabake.commands.output.status import STATE_LABELS
from lorabake_schemas.messages import Message, msg, nmsg

if TYPE_CHECKING:
    from lorabake_schemas.doctor import DoctorReport, HealthCheck, HealthLevel, RunDiagnosis

MARKS: dict[HealthLevel, tuple[Message, str]] = {
    "ok": (msg("ok"), "green"),
    "warning": (msg("warning"), "yellow"),
    "problem": (msg("problem"), "red"),
}


def format_doctor(report: DoctorReport, layout: TextLayout, *, as_json: bool) -> str:
    """The run's diagnosis first, then the machine."""
    if as_json:
        return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)
    lines: list[str] = []
    if report.diagnosis is not None:
        lines += [*_diagnosis_lines(report.diagnosis, layout), "", bold(layout(msg("This machine")))]
    for check in report.checks:
        lines += _check_lines(check, layout)
    problems = sum(check.level == "problem" for check in report.checks)
    if problems:
        lines.append(
            layout(
                nmsg(
                    problems,
                    "{n} problem keeps this machine from training",
                    "{n} problems keep this machine from training",
                )
            )
        )
    return "\n".join(lines)


def _check_lines(check: HealthCheck, layout: TextLayout) -> list[str]:
    word, color = MARKS[check.level]
    wide = max(len(layout(each)) for each, _ in MARKS.values())
    mark = click.style(f"{layout(word):<{wide}}", fg=color)
    lines = layout.paragraph(check.message, first=f"{mark}  ", rest=" " * (wide + 2))
    return lines + (layout.paragraph(check.hint, first=" " * (wide + 2)) if check.hint else [])


def _diagnosis_lines(found: RunDiagnosis, layout: TextLayout) -> list[str]:
    head = msg("{run}: {status}", run=found.run, status=STATE_LABELS.get(found.state) or msg("on another host"))
    lines = [bold(layout(head)), *layout.paragraph(found.message, first="  ")]
    if found.hint:
        lines += layout.paragraph(msg("what to do: {cure}", cure=found.hint), first="  ")
    lines += [line for said in (*found.remarks, found.next_step) if said for line in layout.paragraph(said, first="  ")]
    if found.evidence:
        lines += [
            "",
            dim(layout(msg("what this rests on:"))),
            *(f"  {describe_excerpt(line, layout)}" for line in found.evidence),
        ]
    if not found.known:
        lines += ["", dim(layout(msg("the cause was not recognized; the end of the log and the command:")))]
        lines += [f"  {describe_excerpt(line, layout)}" for line in found.last_lines]
        lines.append(f"  {layout(shlex.join(found.command))}")
    return lines
