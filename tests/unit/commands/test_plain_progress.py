"""Lines of a run without a terminal: phases in which no step is done are not silent."""

from __future__ import annotations

import io

from lorabake.commands.output.progress import PHASE_SECONDS, PlainProgress, ProgressState, ShownEvents
from lorabake_schemas.events import Phase, ProgressEvent, Step
from terminals import Clock


def shown(*events: tuple[float, ProgressEvent]) -> list[str]:
    """The lines of events that come so many seconds after each other."""
    stream, clock = io.StringIO(), Clock(1.0)
    clock.tick = 0.0
    show = ShownEvents(PlainProgress(stream, clock), ProgressState(12, clock), verbose=False)
    for seconds, event in events:
        clock.now += seconds
        show(event, clock.now)
    return stream.getvalue().splitlines()


def test_samples_are_announced_and_their_progress_is_shown_after_a_silence() -> None:
    images = [(PHASE_SECONDS / 4, Phase("sampling", number, 10)) for number in range(1, 9)]
    lines = shown((1, Step(1, 12, 0.1)), (1, Phase("sampling")), *images, (1, Phase("training")), (1, Step(2, 12, 0.1)))
    assert [line for line in lines if not line.startswith("step")] == [
        "making sample images", "making sample images 4/10", "making sample images 8/10",
    ]  # fmt: skip


def test_short_phases_that_every_run_has_are_not_shown() -> None:
    assert (
        shown((1, Phase("loading")), (1, Phase("caching", of="latents")), (2, Phase("caching", 3, 5, "latents"))) == []
    )
