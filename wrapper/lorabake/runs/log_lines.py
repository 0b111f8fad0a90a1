"""The trainer's log for people: its lines without progress bars, and the state of the bar that is drawn now."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from lorabake.runs.log.parser import STEP_BAR, decode_line, parse_other_bar
from lorabake.runs.status import is_in_progress
from lorabake.util.files import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from lorabake.runs.folder import RunPaths

CHUNK_BYTES = 1 << 20
MAX_LINE_BYTES = 1 << 16  # a longer one is cut into pieces
POLL_S, STATE_INTERVAL_S = 0.2, 1.0


@dataclass(slots=True)
class LogLines:
    """Feed it the log piece by piece, cut anywhere. ``bar`` is the bar shown last, None if a line followed it."""

    bar: str | None = None
    _rest: bytes = field(default=b"", repr=False)

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete, colors still in none of them."""
        *pieces, self._rest = (self._rest + data).replace(b"\n", b"\r").split(b"\r")
        found = [line for piece in pieces for line in self._read_piece(piece)]
        while len(self._rest) > MAX_LINE_BYTES:
            found += self._read_piece(self._rest[:MAX_LINE_BYTES])
            self._rest = self._rest[MAX_LINE_BYTES:]
        if bar := STEP_BAR.search(self._rest):  # complete though not ended
            self.bar = decode_line(self._rest[bar.start() : bar.end()])
        return found

    def close(self) -> list[str]:
        """The last line, if the log does not end with a line break."""
        return self.feed(b"\n")

    def _read_piece(self, piece: bytes) -> Iterator[str]:
        while bar := STEP_BAR.search(piece):  # a record may be glued to it
            self.bar = decode_line(piece[bar.start() : bar.end()])
            piece = piece[: bar.start()] + piece[bar.end() :]
        text = decode_line(piece)
        if text and parse_other_bar(text) is not None:
            self.bar = text
        elif text:
            self.bar = None
            yield text


class LogTail:
    """The bytes of a trainer's log, as they are and as they come. A log that was replaced is read from its start."""

    def __init__(self, paths: RunPaths) -> None:
        self.paths = paths
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def read(self) -> Iterator[bytes]:
        """What is new. Raises OSError if there is a log and it cannot be read."""
        if self._file is not None and self._is_replaced(self._file):
            self._file.close()
            self._file = None
        if self._file is None:
            with suppress(FileNotFoundError):
                self._file = open_file(self.paths.log, within=self.paths.root)
        while self._file is not None and (piece := self._file.read(CHUNK_BYTES)):
            yield piece

    def _is_replaced(self, file: BinaryIO) -> bool:
        """Also when it is shorter than what was read. One that was deleted, or moved with its run, is still the log."""
        if os.fstat(file.fileno()).st_size < file.tell():
            return True
        with suppress(OSError):
            return not os.path.samestat(self.paths.log.stat(), os.fstat(file.fileno()))
        return False


def follow_log(tail: LogTail) -> Iterator[bytes]:
    """What a log gets until its run is no longer in progress. Raises MachineError if the record cannot be read."""
    while True:
        due = time.monotonic() + STATE_INTERVAL_S
        over = not is_in_progress(tail.paths)
        yield from tail.read()
        if over:
            return
        while time.monotonic() < due:
            time.sleep(POLL_S)
            yield from tail.read()


def keep_last(pieces: Iterable[bytes], lines: int) -> bytes:
    """The bytes of the last lines. A bar is a part of the line that follows it."""
    kept, breaks = deque[bytes](), 0
    for piece in pieces:
        kept.append(piece)
        breaks += piece.count(b"\n")
        while len(kept) > 1 and breaks - (first := kept[0].count(b"\n")) > lines:
            breaks -= first
            kept.popleft()
    data = b"".join(kept)
    start = len(data) - data.endswith(b"\n")
    for _ in range(lines):
        start = data.rfind(b"\n", 0, max(start, 0))
        if start < 0:
            return data
    return data[start + 1 :] if lines else b""
