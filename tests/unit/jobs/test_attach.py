"""What a terminal shows of a run that has been going on for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorabake.jobs.attach import show_events
from lorabake.runs.events import EventLog
from lorabake.runs.folder import RunPaths
from lorabake.runs.follow import EventFollower
from lorabake_schemas.events import ProgressEvent, Saving, Step

if TYPE_CHECKING:
    from pathlib import Path


def test_of_the_saves_before_it_came_only_the_last_one_is_shown(tmp_path: Path) -> None:
    paths, shown = RunPaths(tmp_path), list[ProgressEvent]()

    def watch(event: ProgressEvent, moment: float | None = None) -> None:
        assert moment is not None
        shown.append(event)

    events = EventLog(paths.events)
    with EventFollower(paths) as follower:
        for step in (1, 2, 3):
            events.progress([Saving(f"output/{step}.safetensors"), Step(step, 9)])
        assert show_events(follower, watch, are_past=True)
        assert shown == [Step(1, 9), Step(2, 9), Saving("output/3.safetensors"), Step(3, 9)]
        shown.clear()
        for step in (4, 5):
            events.progress([Saving(f"output/{step}.safetensors"), Step(step, 9)])
        show_events(follower, watch)
        assert [type(event) for event in shown] == [Saving, Step, Saving, Step]
    events.close()
