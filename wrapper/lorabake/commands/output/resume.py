"""Resuming: what would be gone on from, and by which command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorabake.commands.output.layout import TextLayout
from lorabake_schemas.messages import msg

if TYPE_CHECKING:
    from lorabake.jobs.resume.prepare import PreparedResume
    from lorabake.runs.index import FoundRun


def format_already_finished(found: FoundRun, page: TextLayout, *, as_json: bool) -> str:
    """A run that needs no resuming."""
    record = found.record
    if as_json:
        return record.model_dump_json(indent=2)
    return page(msg("{run} is finished; all {n} steps were trained", run=found.root, n=record.planned_steps))


def format_resume(ready: PreparedResume, argv: Sequence[str], page: TextLayout, *, as_json: bool) -> str:
    """The state, those that are further but no use, and the command as a shell takes it."""
    from lorabake.jobs.resume.prepare import describe_resume

    way = ready.way
    if as_json:
        told = {
            "version": 1,
            "run": str(ready.found.root),
            "state": way.state.path.relative_to(ready.found.root).as_posix() if way else None,
            "from_step": way.how.step if way else ready.found.record.planned_steps,
            "planned_steps": ready.found.record.planned_steps,
            "trained_again": ready.again,
            "not_used": [{"state": place, "why": why} for place, why in ready.passed],
            "cwd": str(ready.found.root),
            "argv": list(argv),
        }
        return json.dumps(told, indent=2)
    lines = [page(line) for line in describe_resume(ready)]
    return "\n".join(
        [*lines, *([f"  {page(shlex.join(argv))}"] if argv else []), page(msg("nothing was written or started"))]
    )
