"""Parses sd-scripts' output during training into typed events.

A pure incremental parser: bytes of the log in, events out, no clock. sd-scripts mixes three sources in one file:
``print`` on stdout, log records through rich and tqdm bars with carriage returns on stderr. Texts are "English /
Japanese"; the English part is matched (sd-scripts-facts 5.2; TN is train_network.py, TU library/train_util.py).
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lorabake.runs.log.phases import EPOCH_LINE, Bar, PhaseTracker
from lorabake.runs.log.remarks import TrainerRemarks, parse_record
from lorabake_schemas.events import (
    EmptyDataset,
    Epoch,
    LogLine,
    LogSummary,
    ModelLoaded,
    ProgressEvent,
    RunTotals,
    Saved,
    Saving,
    Started,
    Step,
    TrainerError,
    TrainerWarning,
)
from lorabake_schemas.saved_names import STEP_FILE

if TYPE_CHECKING:
    from collections.abc import Sequence

STEP_BAR = re.compile(
    rb"(?<!validation )steps:\s*\d+%\|[^|]*\|\s*(\d+)/(\d+) \[([\d:]{0,12})[^\],]*,\s*([\d.?]+)(s/it|it/s)([^\]]*)\]"
)
OTHER_BAR = re.compile(
    r"(?:([^%|]*?):)?\s*\d+%\|.*\| (\d{1,12})/(\d{1,12}) \[([\d:]{0,12})[^\]]*\]$"
)  # caching, validation, sampling
MAX_BAR_LENGTH = 1000  # characters; the pattern's time is quadratic in its text
AVERAGE_LOSS = re.compile(rb"avr_loss=(\S+?)(?:,|$)")
ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
MODEL_SAVED = re.compile(r"(?:^|\]|INFO\s+)model saved\.")  # TN:1729; a record may be glued to a bar
TOTAL_LINE = re.compile(r"^  (num train images|num reg images|num batches|num epochs|total optimization).*[:=] (\d+)$")
RANK_PREFIX = re.compile(r"^\[rank\d+\]: ?")  # torch puts this before a traceback when there are several processes
EXCEPTION_LINE = re.compile(r"^[A-Za-z_][\w.]*(?:: |:$|$)")
TRACEBACK_HEAD = "Traceback (most recent call last):"
LAUNCHER_EXCEPTIONS = (
    "subprocess.CalledProcessError",
    "torch.distributed.elastic.multiprocessing.errors.ChildFailedError",
)
KILLED_BY_SIGNAL = re.compile(r"died with <Signals\.(\w+): \d+>|Signal \d+ \((\w+)\) received")
REHEARSAL_FAILED = "rehearsal failed: "  # how the stand-in reports the reason (rehearsal.py), without a traceback
CHAINED = re.compile(r"(?:\[rank\d+\]: ?)?(?:During handling of the above|The above exception was|Original Traceback)")
STOPPED = "KeyboardInterrupt"  # the end of a traceback that somebody asked for
LAST_WORDS_KEPT = 20
ERRORS_KEPT = 5
MAX_LINES_UNSAMPLED = 500  # lines between two looks: no training is that quick
BARS_KEPT = 20


@dataclass(slots=True)
class LogParser:
    """Feed it the log piece by piece, cut anywhere; call ``close`` at the end."""

    _seen: LogSummary = field(default_factory=LogSummary)  # all but the step, which changes too often for copies
    _latest: Step | None = None
    _rest: bytes = b""
    _held: Step | None = None  # the step shown last: the loss next to it may still be that of the step before
    _has_own_loss: bool = False  # whether it was shown again since, with its own loss
    _last_released: int = 0  # the last step handed out
    _totals: RunTotals = field(default_factory=RunTotals)
    _in_traceback: bool = False
    _traceback_words: int = 0  # how many of the last lines belong to the traceback being read
    _awaits_message: bool = False  # the exception's message begins on its second line
    _fresh: str | None = None  # an exception that was not reported yet
    _words: deque[str] = field(default_factory=lambda: deque[str](maxlen=LAST_WORDS_KEPT))
    _phases: PhaseTracker = field(default_factory=PhaseTracker)
    _remarks: TrainerRemarks = field(default_factory=TrainerRemarks)

    @property
    def seen(self) -> LogSummary:
        """Everything up to now; the last lines are added by ``close``."""
        phase = self._phases.current
        return replace(self._seen, step=self._latest, phase=None if phase is None else phase.name)

    @property
    def last_line(self) -> str | None:
        """The last line that is not a progress bar."""
        return self._words[-1] if self._words else None

    def feed(self, data: bytes) -> list[ProgressEvent]:
        """Events in the order of the log."""
        *lines, self._rest = (self._rest + data).replace(b"\n", b"\r").split(b"\r")
        events: list[ProgressEvent] = []
        for line in sample_lines(lines) if len(lines) > MAX_LINES_UNSAMPLED else lines:
            events += self._parse_line(line)
        if bar := STEP_BAR.search(self._rest):  # complete though not ended: the next refresh may be minutes away
            events += self._parse_bar(bar)
            self._rest = self._rest[bar.end() :]
        elif b"%|" in self._rest and (other := parse_other_bar(decode_line(self._rest))) is not None:
            events += as_list(self._phases.read_bar(other))
            self._rest = b""
        return [*events, *self._keep_errors(self._remarks.flush()), *self._report_exception()]

    def close(self) -> list[ProgressEvent]:
        """The end of the log: the pending events, and ``seen`` is complete."""
        events = self.feed(b"\n")
        if self._held is not None and not self._has_own_loss:
            self._held = replace(self._held, loss_average=None)
        events += self.release()
        self._seen = replace(self._seen, last_words=tuple(self._words))
        return events

    def _parse_line(self, line: bytes) -> list[ProgressEvent]:
        events: list[ProgressEvent] = []
        while bar := STEP_BAR.search(line):
            events += self._parse_bar(bar)
            line = line[bar.end() :]
        text = decode_line(line)
        if not text:
            return events
        if (other := parse_other_bar(text)) is not None:
            return [*events, *as_list(self._phases.read_bar(other))]
        self._words.append(text)
        self._traceback_words += 1
        if CHAINED.match(text):
            self._fresh = None  # the exception that follows is the one that ends it
        events += self._report_exception()
        record = parse_record(text)
        events += self._keep_errors(self._remarks.read(record, text))
        phase = self._phases.read_line(record.message)
        found = self._parse_announcement(text) or self._parse_count(text)
        self._parse_failure(text)
        if isinstance(found, Saving) and STEP_FILE.search(found.path):
            self._has_own_loss = False  # saved in the middle of a step (TN:1497): its own loss is still to come
        elif isinstance(found, Epoch | Saving | Saved):
            events += self.release()
        return [*events, *as_list(phase), *as_list(found), LogLine(text)]

    def _keep_errors(self, found: Sequence[TrainerWarning | TrainerError]) -> list[ProgressEvent]:
        for event in found:
            if isinstance(event, TrainerError) and event.text not in self._seen.errors:
                self._seen = replace(self._seen, errors=(*self._seen.errors, event.text)[-ERRORS_KEPT:])
        return [*found]

    def _parse_bar(self, bar: re.Match[bytes]) -> list[ProgressEvent]:
        """tqdm shows a step on update, with the loss of the step before, and again with its own (TN:1487, 1516).

        In between sd-scripts samples and saves, and tqdm may show the first of the two again; when steps are quick it
        leaves that one out. So what a step was shown with last is its own loss once the next one is shown.
        """
        step = Step(
            int(bar[1]),
            int(bar[2]),
            parse_loss(bar[6]),
            parse_seconds_per_step(bar[4], bar[5]),
            elapsed_s=parse_clock(bar[3]),
        )
        phase = as_list(self._phases.read_step(step.number, bar[6]))
        if step.number <= self._last_released:
            return phase
        events = self.release() if self._held is not None and self._held.number != step.number else []
        self._has_own_loss = self._held is not None
        self._held = step
        return [*events, *phase]

    @property
    def held(self) -> Step | None:
        """The step that is done and not handed out yet."""
        return self._held

    def release(self) -> list[ProgressEvent]:
        """Return the pending step: its own loss was shown, or is known from elsewhere."""
        step, self._held = self._held, None
        if step is None or step.number <= self._last_released:
            return []
        self._last_released = step.number
        self._latest = step
        return [step]

    def _parse_announcement(self, text: str) -> ProgressEvent | None:
        """A line by which sd-scripts announces something."""
        head, _, rest = text.partition(": ")
        if head == "accelerator device":
            self._seen = replace(self._seen, device=rest)
            return Started(rest)
        if text.startswith("import network module:"):
            self._seen = replace(self._seen, model_loaded=True)
            return ModelLoaded()
        if head == "saving checkpoint":
            self._seen = replace(self._seen, saves=(*self._seen.saves, rest))
            return Saving(rest)
        if MODEL_SAVED.search(text):
            self._seen = replace(self._seen, saved=True)
            return Saved()
        if "No data found. " in text:
            self._seen = replace(self._seen, no_data=True)
            return EmptyDataset()
        return None

    def _parse_count(self, text: str) -> ProgressEvent | None:
        """A line of the "running training" block, or the head of an epoch."""
        if epoch := EPOCH_LINE.match(text):
            return Epoch(int(epoch[1]), int(epoch[2]))
        if not (total := TOTAL_LINE.match(text)):
            return None
        name, count = total[1], int(total[2])
        self._totals = replace(self._totals, **{TOTAL_FIELDS[name]: count})
        if name != "total optimization":
            return None
        self._seen = replace(self._seen, totals=self._totals)
        return self._totals

    def _parse_failure(self, text: str) -> None:
        """Keep the last line of the last traceback that is not the launcher's own."""
        text = RANK_PREFIX.sub("", text)
        if self._awaits_message:
            self._awaits_message = False
            self._keep_exception(f"{self._seen.exception} {text.strip()}")
        elif text.endswith(TRACEBACK_HEAD):
            self._in_traceback, self._traceback_words = True, 1
        elif self._in_traceback and text.endswith(", in load_state"):
            self._seen = replace(self._seen, lost_state=True)
        elif self._in_traceback and not text.startswith(" ") and EXCEPTION_LINE.match(text):
            self._in_traceback = False
            if text.startswith(LAUNCHER_EXCEPTIONS):
                self._note_signal(text)
                self._drop_launcher_traceback()
            else:
                self._awaits_message = text.endswith(":")
                self._keep_exception(text)
        elif text.startswith(REHEARSAL_FAILED):
            self._seen = replace(self._seen, exception=text)
        else:
            self._note_signal(text)

    def _keep_exception(self, text: str) -> None:
        self._seen = replace(self._seen, exception=text)
        self._fresh = None if self._awaits_message or text.startswith(STOPPED) else text

    def _report_exception(self) -> list[ProgressEvent]:
        """The exception that was read last, if it was not reported."""
        fresh, self._fresh = self._fresh, None
        return [] if fresh is None else [*self._remarks.add("ERROR", fresh)]

    def _drop_launcher_traceback(self) -> None:
        """The launcher's own traceback after the trainer's is noise: it is not one of the last lines."""
        for _ in range(min(self._traceback_words, len(self._words))):
            self._words.pop()

    def _note_signal(self, text: str) -> None:
        if killed := KILLED_BY_SIGNAL.search(text):
            self._seen = replace(self._seen, killed_by=killed[1] or killed[2])


def sample_lines(lines: Sequence[bytes]) -> Sequence[bytes]:
    """The lines of a piece without most of its bars: only the newest ones are news.

    A real trainer never shows that many between two looks; a rehearsal at full speed shows tens of thousands, and
    reading each would take a core away from it.
    """
    bars_left, cut = BARS_KEPT, len(lines)
    while cut and bars_left:
        cut -= 1
        bars_left -= _is_bar(lines[cut])
    return [*(line for line in lines[:cut] if not _is_bar(line)), *lines[cut:]]


def _is_bar(line: bytes) -> bool:
    return line.startswith(b"steps:") and line.endswith(b"]")


TOTAL_FIELDS = {
    "num train images": "train_samples",
    "num reg images": "reg_samples",
    "num batches": "batches_per_epoch",
    "num epochs": "epochs",
    "total optimization": "steps",
}


def decode_line(line: bytes) -> str:
    """A line without colors."""
    return ANSI.sub("", line.decode("utf-8", "replace")).rstrip()


def parse_other_bar(text: str) -> Bar | None:
    """A bar that does not count steps of the training, if a line ends with one."""
    if not text.endswith("]") or "%|" not in text:
        return None
    found = OTHER_BAR.search(text[-MAX_BAR_LENGTH:])
    return Bar(found[1] or "", int(found[2]), int(found[3]), parse_clock(found[4])) if found else None


def parse_clock(shown: str | bytes) -> int:
    """The seconds of tqdm's ``12:34`` or ``1:02:03``."""
    seconds = 0
    for part in (shown.decode() if isinstance(shown, bytes) else shown).split(":"):
        seconds = 60 * seconds + int(part or 0)
    return seconds


def as_list(event: ProgressEvent | None) -> list[ProgressEvent]:
    return [] if event is None else [event]


def parse_loss(postfix: bytes) -> float | None:
    """The moving average in a bar's postfix; None if it is not shown yet."""
    found = AVERAGE_LOSS.search(postfix)
    try:
        return float(found[1]) if found else None
    except ValueError:
        return None


def parse_seconds_per_step(rate: bytes, unit: bytes) -> float | None:
    """tqdm's rate as seconds per step: it shows ``it/s`` above 1 and ``s/it`` below; ``?`` before the first."""
    try:
        return float(rate) if unit == b"s/it" else 1 / float(rate)
    except (ValueError, ZeroDivisionError):
        return None
