"""events.jsonl: what happened in a run and when, one JSON object per line, for programs to follow.

Kinds: started (and resumed, for each further part), those of runs/event_kinds.py, and at the end the status of the
record. Every object has ``time`` (UTC, ISO 8601, milliseconds) and ``event``; readers ignore what they do not know.
"""

from __future__ import annotations

import json
import math
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from lorabake.runs.event_kinds import KINDS_BY_CLASS, KINDS_BY_NAME
from lorabake.util.files import open_append, open_file, parse_json
from lorabake_schemas.events import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from lorabake.runs.folder import RunPaths
    from lorabake_schemas.events import ProgressEvent

EventFields = dict[str, object]
TAIL_BYTES = 1_000_000  # bytes of an events file in which the last step and the last time are
MAX_LINE_BYTES = 1 << 16  # bytes; no event is as long
JSON_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


def utc_now() -> datetime:
    return datetime.now(UTC)


def format_timestamp(moment: datetime) -> str:
    """``2026-01-31T09:30:00.123Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_event(event: ProgressEvent) -> EventFields | None:
    """A progress event as a line of the file; None for those that are not kept there.

    A save is recorded when it starts: sd-scripts prints "model saved." only after the last one.
    """
    kind = KINDS_BY_CLASS.get(type(event))
    return None if kind is None else kind.encode(event)


def decode_event(fields: Mapping[str, object]) -> ProgressEvent | None:
    """The progress event of a line; None for the lines of a run's start and end, and for what is not an event.

    A run folder may be a stranger's: whatever is in ``fields``, nothing is raised.
    """
    name = fields.get("event")
    kind = KINDS_BY_NAME.get(name) if isinstance(name, str) else None
    try:
        return None if kind is None else kind.decode(fields)
    except (ValueError, TypeError, LookupError, OverflowError):
        return None


def iter_events(
    path: Path, within: Path, *, containing: bytes = b"", first: int | None = None, last: int | None = None
) -> Iterator[EventFields]:
    """The events of a file, one for each line; an empty one for a line that cannot be read. Raises OSError.

    ``containing`` passes over lines without these bytes; ``first`` and ``last`` are how many bytes of the beginning or
    the end are read.
    """
    with open_file(path, within=within) as file:
        if last is not None and (start := file.seek(0, os.SEEK_END) - last) > 0:
            file.seek(start)
            file.readline(MAX_LINE_BYTES)  # a part of one
        else:
            file.seek(0)
        while (first is None or file.tell() < first) and (line := file.readline(MAX_LINE_BYTES)):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                return  # lorabake writes no such line: what follows is not its own
            if containing in line:
                yield parse_event(line)


def parse_event(line: bytes) -> EventFields:
    try:
        found = parse_json(line)
    except ValueError:
        return {}
    return cast("EventFields", found) if isinstance(found, dict) else {}


def iter_recorded_steps(path: Path, within: Path) -> Iterator[Step]:
    """The steps in an events file. Raises OSError."""
    for fields in iter_events(path, within, containing=b'"event": "step"'):
        if isinstance(step := decode_event(fields), Step):
            yield step


def read_last_events(paths: RunPaths) -> list[EventFields]:
    """The events at the end of the file, the last one first; empty without a readable file."""
    with suppress(OSError):
        return [*iter_events(paths.events, paths.root, last=TAIL_BYTES)][::-1]
    return []


def read_last_step(paths: RunPaths) -> int:
    """The last step in the events, 0 without one."""
    steps = (event.get("step") for event in read_last_events(paths) if event.get("event") == "step")
    return next((step for step in steps if type(step) is int), 0)


def read_last_loss(paths: RunPaths) -> float | None:
    """The average loss of the last step that has one; None without one, or if that is not a number."""
    steps = (decode_event(event) for event in read_last_events(paths) if event.get("event") == "step")
    losses = (step.loss_average for step in steps if isinstance(step, Step) and step.loss_average is not None)
    loss = next(losses, None)
    return loss if loss is not None and math.isfinite(loss) else None


class EventLog:
    """Appends to one events file. Only complete lines reach the file, at once, also on a full disk.

    Half a line, left by a kill or a power cut in the middle of writing, is ended, so that the next one is complete.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        torn = _ends_mid_line(path)
        self._file = open_append(path, within=path.parent)
        self._size = self._file.tell()
        self._clock = clock
        if torn:
            self._append(b"\n")

    def write(self, events: Iterable[EventFields], moment: datetime | None = None) -> None:
        """``moment`` is when they happened, by default now. Raises OSError when the disk is full."""
        time = format_timestamp(moment or self._clock())
        lines = [JSON_ENCODER.encode({"time": time, **event}) for event in events]
        self._append("".join(f"{line}\n" for line in lines).encode())

    def _append(self, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):  # a nearly full disk takes a part before it refuses
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(self._size)
            raise
        self._size += len(data)

    def progress(self, events: Iterable[ProgressEvent], moment: datetime | None = None) -> None:
        self.write((fields for event in events if (fields := encode_event(event)) is not None), moment)

    def close(self) -> None:
        self._file.close()


def _ends_mid_line(path: Path) -> bool:
    """Whether a file ends in the middle of a line."""
    try:
        with open_file(path, within=path.parent) as file:
            if not file.seek(0, os.SEEK_END):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read() != b"\n"
    except FileNotFoundError:
        return False
