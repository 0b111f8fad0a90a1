"""Findings, plans and records as text: the only place with wording, colour and width. Decides nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lorabake.examine import Examination, Waived
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.plan import Forecast, Origin, Plan, Setting
from lorabake_schemas.record import Record

if TYPE_CHECKING:
    from lorabake.trainer.install import Trainer, TrainerStatus
    from lorabake.workflow import Prepared

LAST_WORDS = 12
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
    if examination.recipe is None:
        said += "; the settings are judged together once these are mended"
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
    lines.append(
        f"  {_size(counts)} ({counts.batches_per_epoch} batches and {counts.steps_per_epoch} steps an epoch, "
        f"warm-up over the first {counts.warmup_steps})"
    )
    for share in counts.shares:
        kind = "regularisation " if share.is_reg else ""
        lines.append(
            f"  {kind}{share.title}: {_count(share.images, 'picture')} x {share.num_repeats} = "
            f"{share.samples_per_epoch} samples an epoch, each picture seen {share.exposures:.3g} times"
        )
    lines.append("  buckets: " + ", ".join(f"{b.width}x{b.height} ({b.samples})" for b in counts.buckets))
    lines.append("  files: " + ", ".join(save.file for save in counts.saves))
    return lines


def report_json(examination: Examination) -> str:
    """version, recipe, findings, waived, forecast; the forecast is null when an error stands in the way."""
    plan = examination.plan
    table = {
        "version": 1,
        "recipe": str(examination.loaded.path),
        "findings": [finding.model_dump(mode="json") for finding in examination.findings],
        "waived": [w.finding.model_dump(mode="json") | {"reason": w.reason} for w in examination.waived],
        "forecast": plan.forecast.model_dump(mode="json") if plan else None,
    }
    return json.dumps(table, indent=2, ensure_ascii=False)


def plan_json(plan: Plan) -> str:
    """The whole plan, with every setting's source."""
    return plan.model_dump_json(indent=2)


def written(paths: Sequence[Path], *, as_json: bool) -> str:
    """The files that were written, one a line."""
    if as_json:
        return json.dumps({"version": 1, "written": [str(path) for path in paths]}, indent=2)
    return "\n".join(f"wrote {path}" for path in paths)


def copied(path: Path) -> str:
    """What to do with a recipe that was copied."""
    return f"wrote {path}: change what its head names, then `lorabake check {path}`"


def dry_run(prepared: Prepared, *, as_json: bool) -> str:
    """The plan and the command that would be run, as a shell takes it."""
    _, plan = prepared.examination.planned()
    if as_json:
        table = {"version": 1, "plan": plan.model_dump(mode="json"), "cwd": str(prepared.root)}
        return json.dumps(table | {"argv": list(prepared.command)}, indent=2)
    where = f"{click.style('would run', bold=True)} in {prepared.root}"
    command = f"  {shlex.join(prepared.command)}"
    return "\n".join([plan_text(plan), "", where, command, "nothing was written or started"])


def ending(record: Record, root: Path) -> str:
    """How a run ended, what it left, and the trainer's last words when it failed."""
    outcome = record.outcome
    if outcome is None:
        return f"{record.name}: {record.status}"
    good = record.status == "finished"
    lines = [
        f"{click.style('done' if good else 'failed', fg='green' if good else 'red', bold=True)}: {outcome.message}"
    ]
    if not good:
        lines += [f"  {line}" for line in outcome.last_words[-LAST_WORDS:]]
        lines += [f"  {outcome.hint}"] if outcome.hint else []
    lines += [f"  {root / file.name} ({_size_of(file.size)})" for file in outcome.outputs if not _in_state(file.name)]
    return "\n".join([*lines, f"  everything about this run: {root}"])


def _size_of(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 100_000 else f"{max(1, round(size / 1e3))} kB"


def _in_state(name: str) -> bool:
    """Whether an output lies in a folder with the state of a training, of which there are many files."""
    return any(part.endswith("-state") for part in Path(name).parent.parts)


def trainer_line(trainer: Trainer) -> str:
    """An installed trainer in one line."""
    torch = trainer.versions.get("torch", "?")
    name = f"sd-scripts {trainer.commit[:12] if trainer.commit else 'of an unknown commit'}"
    return f"{name}, {trainer.lock or 'own'} packages (torch {torch}): {trainer.checkout}"


def trainer_installed(trainer: Trainer, *, as_json: bool) -> str:
    """The trainer that is there now."""
    return json.dumps({"version": 1} | _trainer_json(trainer), indent=2) if as_json else trainer_line(trainer)


def trainer_status(status: TrainerStatus, *, as_json: bool) -> str:
    """What is installed, for a person or a program."""
    if as_json:
        table = {
            "version": 1,
            "home": str(status.home),
            "url": status.url,
            "commit": status.commit,
            "installed": [_trainer_json(trainer) for trainer in status.installed],
            "in_use": _trainer_json(status.trainer) if status.trainer else None,
        }
        return json.dumps(table, indent=2)
    lines = [f"pin: {status.url} at {status.commit}"]
    lines += [
        f"{'in use' if trainer == status.trainer else 'installed'}: {trainer_line(trainer)}"
        for trainer in status.installed
    ]
    return "\n".join(lines if status.installed else [*lines, "not installed: `lorabake trainer install`, or just run"])


def _trainer_json(trainer: Trainer) -> dict[str, object]:
    return {
        "lock": trainer.lock,
        "commit": trainer.commit,
        "checkout": str(trainer.checkout),
        "python": str(trainer.python),
        "versions": dict(trainer.versions),
    }


def recipe_list(texts: Mapping[str, str], *, as_json: bool = False) -> str:
    """Every shipped recipe with the first line of its head, which says what it is for."""
    if as_json:
        heads = [{"name": name, "about": text.splitlines()[0].removeprefix("# ")} for name, text in texts.items()]
        return json.dumps({"version": 1, "recipes": heads}, indent=2)
    wide = max(map(len, texts))
    return "\n".join(f"{name:<{wide}}  {text.splitlines()[0].removeprefix('# ')}" for name, text in texts.items())


__all__ = [
    "copied",
    "dry_run",
    "ending",
    "finding_line",
    "forecast_lines",
    "plan_json",
    "plan_text",
    "recipe_list",
    "report",
    "report_json",
    "summary",
    "trainer_installed",
    "trainer_line",
    "trainer_status",
    "written",
]
