"""Warnings and errors that the trainer and its libraries log, each text once.

sd-scripts logs through rich: time or spaces, level, message, file and line, wrapped at the terminal's width with spaces
in front of what follows (library/utils.py:41-87). LyCORIS, transformers, torch and its launcher have other forms, and a
few remarks have no level at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from lorabake_schemas.events import TrainerError, TrainerWarning

Level = Literal["INFO", "WARNING", "ERROR"]
RICH_RECORD = re.compile(
    r"(?:^|\])(?:\[?\d[\d/-]+ [\d:]+\]?)? *\b(DEBUG|INFO|WARNING|ERROR|CRITICAL) +(\S.*?)(?: +[\w.-]+\.py:\d+)?$"
)
OTHER_RECORDS = (
    re.compile(r"^\S+ \S+\|\[\w+\]-(WARNING|ERROR|CRITICAL): (.+)"),  # LyCORIS
    re.compile(r"^\[(WARNING|ERROR|CRITICAL)\|[^\]]*\] \S+ \S+ >> (.+)"),  # transformers, diffusers
    re.compile(r"^(WARNING|ERROR|CRITICAL):(?:[\w.]+:| )(.+)"),  # logging's default; torch's word on a dead worker
    re.compile(r"^(?:\[rank\d+\]:)?\[?([WEF])\d{4} [\d:.]+ [^\]]*\] *(.+)"),  # torch's C++, its launcher
)
LEVELS: dict[str, Level] = {
    "WARNING": "WARNING", "W": "WARNING", "ERROR": "ERROR", "E": "ERROR", "CRITICAL": "ERROR", "F": "ERROR",
}  # fmt: skip
WARNINGS_WITHOUT_LEVEL = ("NaN found in latents",)  # TN:411
USUAL_WARNINGS = ("no regularization images",)  # logged by every run without them, which is most
CONTINUATION = " " * 29  # rich's columns of time and level
JAPANESE = re.compile(r" ?/ [^:/]*[\u3040-\u30ff\u4e00-\u9fff][^:/]*")  # "English / Japanese: value"
MAX_TEXT = 500  # characters of a text
MAX_TEXTS = 100  # different texts of a run; further ones are only in the log


class LogRecord(NamedTuple):
    """A line of the log as logged: without a known level it is plain output."""

    level: Level | None
    message: str


def parse_record(text: str) -> LogRecord:
    """The level and the message of a line without colors."""
    if found := RICH_RECORD.search(text):
        return LogRecord(LEVELS.get(found[1], "INFO"), found[2])
    for pattern in OTHER_RECORDS:
        if found := pattern.match(text):
            return LogRecord(LEVELS[found[1]], found[2])
    return LogRecord("WARNING" if text.startswith(WARNINGS_WITHOUT_LEVEL) else None, text)


def is_reported(count: int) -> bool:
    """Whether a text that was logged ``count`` times is reported again: at powers of ten."""
    return str(count).rstrip("0") == "1"


@dataclass(slots=True)
class TrainerRemarks:
    """Collects warnings and errors line by line; ``flush`` ends a record that may go on in the next line."""

    _counts: dict[str, int] = field(default_factory=dict[str, int])
    _level: Level | None = None
    _text: str = ""

    def read(self, record: LogRecord, text: str) -> list[TrainerWarning | TrainerError]:
        """``text`` is the complete line that ``record`` was read from."""
        if self._level is not None and record.level is None and text.startswith(CONTINUATION):
            self._text += f" {text.strip()}"
            return []
        found = self.flush()
        if record.level in {"WARNING", "ERROR"} and not record.message.startswith(USUAL_WARNINGS):
            self._level, self._text = record.level, record.message
        return found

    def flush(self) -> list[TrainerWarning | TrainerError]:
        """The record that was read last, if it is worth reporting."""
        level, self._level = self._level, None
        return self.add(level, self._text) if level is not None else []

    def add(self, level: Level, text: str) -> list[TrainerWarning | TrainerError]:
        """Report a text if it is new, or was logged ten, a hundred ... times."""
        text = JAPANESE.sub("", text).strip()[:MAX_TEXT]
        if not any(map(str.isalpha, text)) or (text not in self._counts and len(self._counts) >= MAX_TEXTS):
            return []
        count = self._counts[text] = self._counts.get(text, 0) + 1
        if not is_reported(count):
            return []
        return [TrainerError(text, count) if level == "ERROR" else TrainerWarning(text, count)]
