"""What `lorabake run` prints for several recipes, or with --once: one job for each."""

from typing import Literal

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf

# finished and resumed: trained now, from the beginning or to the end. already-finished, in-progress: nothing was to be
# done. not-started: the queue was stopped before it.
JobState = Literal["finished", "resumed", "already-finished", "in-progress", "failed", "interrupted", "not-started"]


class JobReport(StrictModel):
    """One recipe. ``set`` are the values that --set gave it, ``run`` is its run folder, ``code`` the exit code that
    `lorabake run` would have had for it alone, ``loss`` sd-scripts' average at the end."""

    recipe: EscapedText
    set: TupleOf[EscapedText] = ()
    state: JobState
    code: int
    run: EscapedText | None = None
    message: MessageText | None = None
    loss: float | None = None


class QueueReport(StrictModel):
    """``version`` changes only if a reader of this one would stumble."""

    version: Literal[1] = 1
    jobs: TupleOf[JobReport]
