"""What became of several recipes: a table, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.commands.output.columns import Column, format_columns, make_setting_columns
from lorabake.recipe.sweep import NAME_KEY
from lorabake.runs.events import read_last_loss
from lorabake.runs.folder import RunPaths
from lorabake.runs.folders import display_path
from lorabake.util.files import exists
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.queue_report import JobReport, JobState, QueueReport

if TYPE_CHECKING:
    from pydantic import JsonValue

    from lorabake.commands.output.layout import TextLayout
    from lorabake.jobs.queue import JobResult

STATE_LABELS: Mapping[JobState, Message] = MappingProxyType(
    {
        "finished": msg("finished"),
        "resumed": msg("resumed and finished"),
        "already-finished": msg("finished before"),
        "in-progress": msg("in progress"),
        "failed": msg("failed"),
        "interrupted": msg("interrupted"),
        "not-started": msg("not started"),
    }
)
REMARKABLE = frozenset({"failed", "in-progress"})


def make_report(results: Sequence[JobResult]) -> QueueReport:
    """The results as they are printed."""
    return QueueReport(jobs=tuple(map(_make_job_report, results)))


def _make_job_report(result: JobResult) -> JobReport:
    has_folder = result.record is not None or (result.state == "interrupted" and result.root and exists(result.root))
    root = result.root if has_folder else None
    return JobReport(
        recipe=escape_undecodable(str(result.order.recipe)),
        set=tuple(each.text for each in result.order.overrides if each.key != NAME_KEY),
        state=result.state,
        code=result.code,
        run=None if root is None else escape_undecodable(str(root)),
        message=result.message,
        loss=None if root is None else read_last_loss(RunPaths(root)),
    )


def format_queue(report: QueueReport, layout: TextLayout) -> str:
    """A row for each recipe, with the settings that a sweep varies, and what went wrong below."""
    jobs, here = report.jobs, Path.cwd()
    runs = ["" if job.run is None else layout(literal(display_path(Path(job.run).absolute(), here))) for job in jobs]
    recipe = Column(layout(msg("recipe")), [layout(literal(job.recipe)) for job in jobs])
    settings = make_setting_columns(_find_varied(jobs))
    loss = Column(layout(msg("loss")), ["" if job.loss is None else f"{job.loss:.4g}" for job in jobs], is_number=True)
    state = Column(layout(msg("state")), [layout(STATE_LABELS[job.state]) for job in jobs])
    run = Column(layout(msg("run")), runs)
    recipes = [recipe] if len({job.recipe for job in jobs}) > 1 or not settings else []
    dropped = (run, loss) if settings else (loss,)
    lines = format_columns((*recipes, *settings, state, loss, run), dropped, layout)
    for job in jobs:
        if job.state in REMARKABLE and job.message is not None:
            lines += layout.paragraph(msg("{recipe}: {problem}", recipe=job.recipe, problem=job.message), first="  ")
    return "\n".join(lines)


def _find_varied(jobs: Sequence[JobReport]) -> list[dict[str, JsonValue]]:
    """What --set gives each of them, as far as they differ."""
    pairs = [dict(each.split("=", 1) for each in job.set) for job in jobs]
    keys = dict.fromkeys(key for each in pairs for key in each)
    varied = [key for key in keys if len({each.get(key) for each in pairs}) > 1]
    return [{key: each.get(key) for key in varied} for each in pairs]
