"""Resuming: what would be gone on from, and by which command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lorabake.render.page import Page
from lorabake_schemas.words import say

if TYPE_CHECKING:
    from lorabake.resuming import Ready
    from lorabake.runs.find import FoundRun


def already_finished(found: FoundRun, page: Page, *, as_json: bool) -> str:
    """A run that needs no resuming."""
    record = found.record
    if as_json:
        return record.model_dump_json(indent=2)
    return page(say("{run} is finished: all of its {n} steps were trained", run=found.root, n=record.planned_steps))


def would_resume(ready: Ready, argv: Sequence[str], page: Page, *, as_json: bool) -> str:
    """The state, those that are further but no use, and the command as a shell takes it."""
    from lorabake.resuming import words

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
    lines = [page(line) for line in words(ready)]
    return "\n".join(
        [*lines, *([f"  {page(shlex.join(argv))}"] if argv else []), page(say("nothing was written or started"))]
    )


__all__ = ["already_finished", "would_resume"]
