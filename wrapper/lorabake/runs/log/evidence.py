"""What the end of a trainer's log shows of a failure: exceptions with their frames, ERROR lines, the phase.

The log parser follows a training as it goes; this reads the log once more when something went wrong, and keeps the
number of each line, so that a diagnosis can show what it rests on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from lorabake.runs.log.parser import ANSI, KILLED_BY_SIGNAL, LAUNCHER_EXCEPTIONS, RANK_PREFIX, TRACEBACK_HEAD
from lorabake.util.files import open_file
from lorabake_schemas.messages import clean_log_line
from lorabake_schemas.record import EvidenceLine

Phase = Literal[
    "starting", "dataset", "model", "caching", "network", "optimizer", "resuming", "training", "sampling", "saving"
]  # fmt: skip

END_BYTES = 4 << 20  # bytes of the log's end that are read
COUNTED_BYTES = 256 << 20  # bytes; in a longer log lines are not numbered
TAIL_LINES = 30
MAX_FRAMES = 200
MAX_MESSAGE_LINES = 12
LINE_LIMIT = 2000  # characters of a line that are kept

BAR = re.compile(r"^.*?\d+%\|[^|]*\| *\d[^\[]*\[[^\]]*\](?:\s*$)?")
FRAME = re.compile(r'^ +File "(?P<path>[^"]+)", line \d+(?:, in (?P<name>\S+))?')
EXCEPTION = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*?)(?:: (?P<words>.*)|:?)$")
RECORD = re.compile(r"^(?:\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)? +(?P<level>INFO|WARNING|ERROR|CRITICAL) +(?P<words>.*)$")
RECORD_PLACE = re.compile(r"\s{2,}\S+\.py:\d+$")
CONTINUED = re.compile(r"^ {20,}(?P<words>\S.*)$")
LINKS = ("During handling of the above exception", "The above exception was the direct cause")
PHASES: tuple[tuple[str, Phase], ...] = (
    ("Loading dataset config from", "dataset"),
    ("prepare images.", "dataset"),
    ("loading model for process", "model"),
    ("caching latents", "caching"),
    ("caching text encoder outputs", "caching"),
    ("caching Text Encoder outputs", "caching"),
    ("import network module:", "network"),
    ("prepare optimizer, data loader", "optimizer"),
    ("resume training from", "resuming"),
    ("running training", "training"),
    ("generating sample images", "sampling"),
    ("saving checkpoint:", "saving"),
    ("saving state at", "saving"),
)


@dataclass(frozen=True, slots=True)
class LogFailure:
    """An exception of a traceback: ``words`` is ``Kind: message``, the message's lines joined.

    ``frames`` are "package/file.py:function", the outermost first, with their lines in the log.
    """

    words: str
    line: EvidenceLine
    frames: tuple[tuple[str, EvidenceLine], ...] = ()
    linked: bool = False  # it arose while the one before it was handled, or is that one's original

    @property
    def kind(self) -> str:
        """The class of the exception, without its module."""
        return self.words.partition(":")[0].rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class LogEvidence:
    """What a log shows. ``chains`` are tracebacks: each is a tuple of exceptions of which the last one ended it.

    ``records`` are sd-scripts' own messages of level ERROR and WARNING. ``lines`` are all lines of the log's end but
    progress bars and the launcher's traceback, ``tail`` the last of them.
    """

    chains: tuple[tuple[LogFailure, ...], ...] = ()
    errors: tuple[EvidenceLine, ...] = ()
    warnings: tuple[EvidenceLine, ...] = ()
    lines: tuple[EvidenceLine, ...] = ()
    phase: Phase = "starting"
    killed_by: str | None = None

    @property
    def tail(self) -> tuple[EvidenceLine, ...]:
        return self.lines[-TAIL_LINES:]

    @property
    def exception(self) -> str | None:
        """The last exception."""
        return self.chains[-1][-1].words if self.chains else None


@dataclass(slots=True)
class _Reader:
    """Goes through the lines of a log."""

    chains: list[list[LogFailure]] = field(default_factory=list[list[LogFailure]])
    errors: list[EvidenceLine] = field(default_factory=list[EvidenceLine])
    warnings: list[EvidenceLine] = field(default_factory=list[EvidenceLine])
    lines: list[EvidenceLine] = field(default_factory=list[EvidenceLine])
    phase: Phase = "starting"
    killed_by: str | None = None
    frames: list[tuple[str, EvidenceLine]] | None = None  # of the traceback that is being read
    head: int = 0  # how many lines there were before it
    linked: bool = False
    message_lines: int = 0  # how many lines the last exception's message may still have
    record: list[EvidenceLine] | None = None  # where the last record was kept, whose text may continue

    def add(self, line: EvidenceLine) -> None:
        text = RANK_PREFIX.sub("", line.text)
        if text.endswith(TRACEBACK_HEAD):
            self._open_traceback(text, line)
            return
        if self.frames is not None:
            self._read_traceback(text, line)
            return
        self.lines.append(line)
        if found := KILLED_BY_SIGNAL.search(text):
            self.killed_by = found[1] or found[2]
        if text.startswith(LINKS):
            self.linked = True
        elif not self._read_record(text, line):
            self._continue_message(text)

    def _open_traceback(self, text: str, line: EvidenceLine) -> None:
        self.head = len(self.lines)
        self.lines.append(line)
        self.frames, self.record = [], None
        self.linked = (self.linked or text.startswith("Original ")) and bool(self.chains)
        self.message_lines = 0

    def _read_traceback(self, text: str, line: EvidenceLine) -> None:
        assert self.frames is not None  # noqa: S101 - as its caller found
        self.lines.append(line)
        if frame := FRAME.match(text):
            if len(self.frames) < MAX_FRAMES:
                self.frames.append((f"{shorten_module_path(frame['path'])}:{frame['name'] or ''}", line))
        elif not text.startswith(" ") and (found := EXCEPTION.match(text)):
            self._close_traceback(found, text, line)

    def _close_traceback(self, found: re.Match[str], text: str, line: EvidenceLine) -> None:
        frames, self.frames = self.frames or [], None
        linked, self.linked = self.linked, False
        if text.startswith(LAUNCHER_EXCEPTIONS):
            if signal := KILLED_BY_SIGNAL.search(text):
                self.killed_by = signal[1] or signal[2]
            del self.lines[self.head :]
            return
        words = found["kind"] + (f": {found['words']}" if found["words"] else "")
        failure = LogFailure(words, line, tuple(frames), linked)
        if linked and self.chains:
            self.chains[-1].append(failure)
        else:
            self.chains.append([failure])
        self.message_lines = MAX_MESSAGE_LINES

    def _continue_message(self, text: str) -> None:
        """A further line of the last exception's message."""
        if not self.message_lines:
            return
        if not text.strip():
            self.message_lines = 0
            return
        self.message_lines -= 1
        last = self.chains[-1][-1]
        self.chains[-1][-1] = replace(last, words=f"{last.words} {text.strip()}"[:LINE_LIMIT])

    def _read_record(self, text: str, line: EvidenceLine) -> bool:
        if (more := CONTINUED.match(text)) and self.record:
            before = self.record[-1]
            words = RECORD_PLACE.sub("", more["words"])
            self.record[-1] = before.model_copy(update={"text": f"{before.text}{words}"[:LINE_LIMIT]})
            return True
        self.record = None
        for sign, phase in PHASES:
            if sign in text:
                self.phase = phase
        if (found := RECORD.match(text)) is None:
            return False
        self.message_lines = 0
        kept = line.model_copy(update={"text": RECORD_PLACE.sub("", found["words"])})
        if found["level"] in {"ERROR", "CRITICAL"}:
            self.record = self.errors
        elif found["level"] == "WARNING":
            self.record = self.warnings
        if self.record is not None:
            self.record.append(kept)
        return True

    def note_bar(self, text: str) -> None:
        """A step's bar: sampling and saving are over."""
        if text.startswith("steps:") and self.phase in {"sampling", "saving"}:
            self.phase = "training"
        self.message_lines, self.record = 0, None


def read_evidence(lines: Iterable[tuple[int | None, str]]) -> LogEvidence:
    """What numbered lines of a log show; one with several bars, divided by carriage returns, counts as one line."""
    reader = _Reader()
    for number, whole in lines:
        for piece in whole.split("\r"):
            text = ANSI.sub("", piece[: LINE_LIMIT * 4]).rstrip()
            if bar := BAR.match(text):
                reader.note_bar(text)
                text = text[bar.end() :]
            if text or not piece:
                reader.add(EvidenceLine(line=number, text=clean_log_line(text[:LINE_LIMIT])))
    while reader.lines and not reader.lines[-1].text:
        reader.lines.pop()
    return LogEvidence(
        chains=tuple(tuple(chain) for chain in reader.chains if not chain[-1].words.startswith("KeyboardInterrupt")),
        errors=tuple(reader.errors),
        warnings=tuple(reader.warnings),
        lines=tuple(line for line in reader.lines if line.text),
        phase=reader.phase,
        killed_by=reader.killed_by,
    )


def read_log_evidence(log: Path, root: Path, begin: int = 0) -> LogEvidence | None:
    """What the log of a run shows of its last start, which begins at byte ``begin``; None if it cannot be read."""
    with suppress(OSError, ValueError, OverflowError), open_file(log, within=root) as file:
        return read_evidence(_iter_numbered_lines(file, begin))
    return None


def _iter_numbered_lines(file: BinaryIO, begin: int) -> Iterator[tuple[int | None, str]]:
    size = file.seek(0, os.SEEK_END)
    start = max(begin, size - END_BYTES)
    file.seek(0)
    number: int | None = 1 if start <= COUNTED_BYTES else None
    left = start if number is not None else 0
    while number is not None and left and (piece := file.read(min(left, 1 << 20))):
        number, left = number + piece.count(b"\n"), left - len(piece)
    file.seek(start)
    for line in file.read(END_BYTES).split(b"\n"):
        yield number, line.decode("utf-8", "replace")
        number = None if number is None else number + 1


def shorten_module_path(path: str) -> str:
    """A source file as "package/.../file.py" for one of a package, else its last folder and name."""
    path = path.replace("\\", "/")
    _, found, inside = path.rpartition("/site-packages/")
    return inside if found else "/".join(path.split("/")[-2:])
