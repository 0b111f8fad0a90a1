"""How a job shows its progress. The terminal's display is in commands.output; without one nothing is shown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from lorabake.util.hashing import ProgressCallback
from lorabake_schemas.events import ProgressEvent

Watcher = Callable[[ProgressEvent], None]


class EventViewer(Protocol):
    """Called with each event and when it happened (seconds since 1970)."""

    def __call__(self, event: ProgressEvent, moment: float | None = None) -> None: ...


class ScanProgress(Protocol):
    """Called with (images read, all images); ``hashing`` with (bytes hashed, all bytes)."""

    def __call__(self, done: int, total: int) -> None: ...

    def hashing(self, done: int, total: int) -> None: ...


class Display(Protocol):
    """One line of progress for long tasks, None if nobody watches; and the view of a training."""

    def scanning(self) -> AbstractContextManager[ScanProgress | None]: ...

    def hashing(self) -> AbstractContextManager[ProgressCallback | None]: ...

    def training(self, steps: int) -> AbstractContextManager[EventViewer]: ...


class NoDisplay:
    """For callers that only want the result."""

    def scanning(self) -> AbstractContextManager[ScanProgress | None]:
        return nullcontext()

    def hashing(self) -> AbstractContextManager[ProgressCallback | None]:
        return nullcontext()

    def training(self, steps: int) -> AbstractContextManager[EventViewer]:  # noqa: ARG002
        return nullcontext(ignore_event)


def ignore_event(event: ProgressEvent, moment: float | None = None) -> None: ...


NO_DISPLAY = NoDisplay()
