"""Follows the events of a run as they are written."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

from lorabake.runs.events import MAX_LINE_BYTES, parse_event
from lorabake.util.files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from lorabake.runs.events import EventFields
    from lorabake.runs.folder import RunPaths

CHUNK_BYTES = 1 << 20


class EventFollower:
    """The events of a run from byte ``start`` on. The file stays open, since a run folder may be moved."""

    def __init__(self, paths: RunPaths, start: int = 0) -> None:
        self._paths, self._start = paths, start
        self._file: BinaryIO | None = None
        self._rest = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> Iterator[EventFields]:
        """What is new; nothing before the file exists."""
        if self._file is None:
            with suppress(OSError):
                self._file = open_file(self._paths.events, within=self._paths.root)
                self._file.seek(self._start)
        while self._file is not None and (piece := self._file.read(CHUNK_BYTES)):
            *lines, rest = (self._rest + piece).split(b"\n")
            self._rest = rest if len(rest) < MAX_LINE_BYTES else b""
            yield from map(parse_event, lines)


def events_size(paths: RunPaths) -> int:
    """How many bytes of events there are now."""
    with suppress(OSError):
        return paths.events.stat().st_size
    return 0
