"""What became of several recipes: a table, or JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout, format_table
from lorabake.recipe.sweep import NAME_KEY
from lorabake.runs.events import read_last_loss
from lorabake.runs.folder import RunPaths
from lorabake_schemas.messages import Message, escape_undecodable, literal, msg
from lorabake_schemas.queue_report import JobReport, JobState, QueueReport

if TYPE_CHECKING:
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
    root = result.root if result.record is not None else None
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
    """A row for each recipe, and what went wrong below."""
    head = [layout(each) for each in (msg("recipe"), msg("set"), msg("state"), msg("loss"), msg("run"))]
    rows = [
        [
            layout(literal(job.recipe)),
            layout(literal(" ".join(job.set))),
            layout(STATE_LABELS[job.state]),
            "" if job.loss is None else f"{job.loss:.4g}",
            "" if job.run is None else layout(literal(job.run)),
        ]
        for job in report.jobs
    ]
    kept = [at for at in range(len(head)) if any(row[at] for row in rows)]
    lines = format_table([[row[at] for at in kept] for row in (head, *rows)], indent="")
    for job in report.jobs:
        if job.state in REMARKABLE and job.message is not None:
            lines += layout.paragraph(msg("{recipe}: {problem}", recipe=job.recipe, problem=job.message), first="  ")
    return "\n".join(lines)
