"""Findings, plans and records as text: the only place with wording, colour and width. Decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.plan import Forecast, Origin, Plan, Setting
from lorabake_schemas.record import Record

from lorabake.examine import Examination, Waived

COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.HINT: "cyan"}


def finding_line(finding: Finding, path: Path) -> str:
    """``file:line: error[code] key: what is wrong; what to write``."""
    place = ":".join(str(part) for part in (path, finding.line) if part is not None)
    head = click.style(f"{finding.severity}[{finding.rule}]", fg=COLOURS[finding.severity], bold=True)
    key = f" {click.style(finding.key, bold=True)}:" if finding.key else ""
    return f"{place}: {head}{key} {finding.message}; {finding.fix}"


def report(examination: Examination) -> str:
    """Every finding, errors first and the dataset before the settings, then one line that sums up."""
    order = [Severity.ERROR, Severity.WARNING, Severity.HINT]
    ranked = sorted(examination.findings, key=lambda finding: order.index(finding.severity))
    lines = [finding_line(finding, examination.loaded.path) for finding in ranked]
    lines += [_waived(waived, examination.loaded.path) for waived in examination.waived]
    return "\n".join([*lines, summary(examination)])


def summary(examination: Examination) -> str:
    """One line: how many findings of each kind, and the run's size when there is a plan."""
    counts = [
        _count(sum(finding.severity is severity for finding in examination.findings), severity.value)
        for severity in Severity
    ]
    said = ", ".join(counts) + (f", {len(examination.waived)} waived" if examination.waived else "")
    if examination.plan is None:
        return f"{examination.loaded.path}: {said}"
    return f"{examination.loaded.path}: {said}; {_size(examination.plan.forecast)}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


def _size(counts: Forecast) -> str:
    epochs = f"{counts.epochs} epoch{'' if counts.epochs == 1 else 's'}"
    return f"{counts.train_samples} samples an epoch, {epochs}, {counts.steps} steps"


def _waived(waived: Waived, path: Path) -> str:
    return f"{finding_line(waived.finding, path)} ({click.style('waived', dim=True)}: {waived.reason})"


def plan_text(plan: Plan) -> str:
    """Every setting with its value and where it comes from, then what will happen."""
    parts = [click.style(f"{plan.name}: {plan.script}, {plan.family}", bold=True)]
    parts += ["", *_settings(plan.train), "", click.style("dataset", bold=True), *_settings(plan.dataset)]
    for subset in plan.subsets:
        kind = "regularisation" if subset.is_reg else "concept"
        title = click.style(f"{kind} {subset.title}", bold=True)
        parts += ["", f"{title} ({_count(subset.images, 'picture')})", *_settings(subset.settings)]
    return "\n".join([*parts, "", *forecast_lines(plan.forecast)])


def _settings(settings: Sequence[Setting]) -> Iterable[str]:
    wide = max((len(setting.option) for setting in settings), default=0)
    for setting in settings:
        source = click.style(_source(setting), dim=True)
        yield f"  {setting.option:<{wide}}  {_value(setting):<32}  {source}"


def _value(setting: Setting) -> str:
    value = setting.value
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _source(setting: Setting) -> str:
    source = setting.source
    name = "" if source.origin is Origin.GUIDE and source.rule else source.origin.value
    return " ".join(part for part in (name, source.rule, f"({source.why})" if source.why else "") if part)


def forecast_lines(counts: Forecast) -> list[str]:
    """The forecast as a person reads it."""
    lines = [click.style("forecast", bold=True)]
    lines.append(f"  {_size(counts)} ({counts.batches_per_epoch} batches and {counts.steps_per_epoch} steps an epoch, "
                 f"{counts.warmup_steps} of all steps warm-up)")
    for share in counts.shares:
        kind = "regularisation " if share.is_reg else ""
        lines.append(f"  {kind}{share.title}: {_count(share.images, 'picture')} x {share.num_repeats} = "
                     f"{share.samples_per_epoch} samples an epoch, each seen {share.exposures:g} times")
    lines.append("  buckets: " + ", ".join(f"{b.width}x{b.height} ({b.samples})" for b in counts.buckets))
    lines.append("  files: " + ", ".join(save.file for save in counts.saves))
    return lines


def record_line(record: Record) -> str:
    """How a run ended, in one line."""
    verdict = record.outcome.message if record.outcome else record.status
    return f"{record.name}: {record.status}: {verdict}"


__all__ = ["finding_line", "forecast_lines", "plan_text", "record_line", "report", "summary"]
