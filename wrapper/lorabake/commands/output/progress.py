"""Progress of scans, hashing and training: a bar or a changing line on a terminal, few plain lines elsewhere.

Display never disturbs training: if the terminal is closed, its lines are lost and the run continues.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Protocol, TextIO

from lorabake.commands.output.console import write_to
from lorabake.commands.output.layout import format_duration
from lorabake.commands.output.metrics import describe_fullest_gpu, describe_learning_rates
from lorabake.commands.output.sparkline import Sparkline
from lorabake.commands.output.trouble import PHASES, describe_trouble
from lorabake.runs.activity import STEPS_KEPT, measure_pace
from lorabake.runs.verdict import DIVERGED
from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.events import (
    NO_METRICS,
    BadLoss,
    DiskLow,
    EmptyDataset,
    Epoch,
    LogLine,
    LossJump,
    Metrics,
    ModelLoaded,
    Phase,
    PhaseName,
    RunTotals,
    Saved,
    Saving,
    Stalled,
    StallEnded,
    Started,
    Step,
    Stopping,
)
from lorabake_schemas.messages import Message, clean_log_line, literal, msg, nmsg
from lorabake_schemas.saved_names import read_saved_step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.progress import TaskID

    from lorabake_schemas.events import ProgressEvent

    Clock = Callable[[], float]
    ProgressMessage = Callable[[int, int], Message]

QUIET_SECONDS = 10.0  # plain lines are at least this far apart ...
QUIET_SHARE = 0.1  # ... and this share of all steps, but not more than
SILENT_SECONDS = 300.0
PAUSES: frozenset[PhaseName] = frozenset({"sampling", "validating"})  # phases that interrupt the steps
PHASE_SECONDS = 60.0  # of silence, after which a plain line shows how far a phase is
SAID_BY_LORABAKE = (BadLoss, Stopping, Stalled, StallEnded, LossJump, DiskLow)
BAR_UPDATE_SECONDS = 0.1  # the pace of thousands of steps takes a while to compute
LINE_DELAY_SECONDS = 0.7  # a scan that ends sooner shows nothing
LINE_UPDATE_SECONDS = 0.1


def format_speed(seconds_per_step: float | None) -> Message:
    if not seconds_per_step:
        return literal("-")
    if seconds_per_step >= 1:
        return msg("{seconds:.2f} s/step", seconds=seconds_per_step)
    return msg("{steps:.1f} steps/s", steps=1 / seconds_per_step)


@dataclass(slots=True)
class ProgressState:
    """What is shown, filled from the events and their times (seconds); ``clock`` is for events without one."""

    planned: int
    clock: Clock
    translator: Translator = ENGLISH
    steps: deque[tuple[float, int]] = field(default_factory=lambda: deque[tuple[float, int]](maxlen=STEPS_KEPT))
    step: Step | None = None
    epoch: Epoch | None = None
    phase: Phase | None = None
    has_begun: bool = False
    saved_step: int | None = None
    average: float | None = None
    metrics: Metrics = NO_METRICS
    losses: Sparkline = field(default_factory=Sparkline)

    def take(self, event: ProgressEvent, moment: float | None = None) -> str | None:
        """Keep an event; its line, if it gets one."""
        match event:
            case Step(number=number, loss_average=loss):
                self.step, self.phase = event, None
                self.steps.append((self.clock() if moment is None else moment, number))
                if loss is not None:
                    self.average = loss
                    self.losses.add(loss)
            case Epoch():
                self.epoch = event
            case Phase(name=name):
                self.phase = None if name == "training" else event
            case Metrics():
                self.metrics = event
            case RunTotals():
                self.has_begun, self.phase = True, None
            case Saving(path=path):
                self.saved_step = read_saved_step(path, self.step.number if self.step is not None else 0)
            case _:
                pass
        line = describe_event(event, self.planned)
        return None if line is None else self.translator(line)

    @property
    def activity(self) -> str:
        """What the trainer does."""
        if self.phase is None:
            return self.translator(msg("steps") if self.step is not None or self.has_begun else msg("loading"))
        name = PHASES[self.phase.name]
        if self.phase.done is None:
            return self.translator(name)
        total = "?" if self.phase.total is None else self.phase.total
        return self.translator(msg("{phase} {done}/{total}", phase=name, done=self.phase.done, total=total))

    @property
    def status(self) -> str:
        """Loss, speed, time left, epoch, learning rate and GPU."""
        return "  ".join(filter(None, (self._average_loss, self.course, self.measured)))

    @property
    def course(self) -> str:
        """Speed of the last minute, time left and, while it trains, the epoch."""
        total = self.step.total if self.step is not None else self.planned
        done = self.step.number if self.step is not None else 0
        pace = measure_pace(self.steps)
        parts = (
            "" if pace is None else format_speed(pace),
            "" if pace is None else msg("{time} left", time=format_duration(pace * max(total - done, 0))),
            ""
            if self.epoch is None or self.phase is not None
            else msg("epoch {n}/{total}", n=self.epoch.number, total=self.epoch.total),
        )
        return "  ".join(self.translator(part) for part in parts if part)

    def describe_loss(self, *, with_curve: bool) -> str:
        """The loss, its curve, and the last save."""
        current = self.step.loss_current if self.step is not None else None
        parts = (
            self._average_loss,
            "" if current is None else self.translator(msg("current {loss:.4g}", loss=current)),
            str(self.losses) if with_curve else "",
            "" if self.saved_step is None else self.translator(msg("last save at step {n}", n=self.saved_step)),
        )
        return "  ".join(filter(None, parts))

    @property
    def measured(self) -> str:
        """Learning rate, VRAM and temperature."""
        rates = describe_learning_rates(self.metrics.learning_rates, self.metrics.d)
        parts = (
            None if rates is None else msg("lr {rates}", rates=rates),
            describe_fullest_gpu(self.metrics.gpus),
        )
        return "  ".join(self.translator(part) for part in parts if part is not None)

    @property
    def _average_loss(self) -> str:
        """The last one that is known."""
        loss = self.average
        return "" if loss is None else self.translator(msg("average loss {loss:.4g}", loss=loss))


def describe_event(event: ProgressEvent, planned: int) -> Message | None:
    """The line that both displays show."""
    line: Message | None = None
    match event:
        case Started(device):
            line = msg("device: {device}", device=device)
        case ModelLoaded():
            line = msg("base model loaded")
        case RunTotals(steps=steps) if steps != planned:
            line = msg(
                "the trainer counts {steps} steps, but the plan has {planned}, so the run will not count as finished",
                steps=steps,
                planned=planned,
            )
        case RunTotals():
            line = msg(
                "{samples}, {epochs}, {steps}",
                samples=nmsg(event.train_samples, "{n} sample per epoch", "{n} samples per epoch"),
                epochs=nmsg(event.epochs, "{n} epoch", "{n} epochs"),
                steps=nmsg(event.steps, "{n} step", "{n} steps"),
            )
        case Saving(path):
            line = msg("saving {path}", path=path)
        case Saved():
            line = msg("the trainer reports that the model was saved")
        case EmptyDataset():
            line = msg("the trainer found no images")
        case Stopping(signal):
            line = _describe_stop(signal)
        case _:
            line = describe_trouble(event)
    return line


def _describe_stop(signal: str) -> Message:
    if signal == DIVERGED:
        return msg("stopping the trainer, because its loss stays NaN or infinite")
    if signal == "SIGINT":
        return msg("stopping the trainer (press Ctrl-C again to stop it at once)")
    return msg("{signal} received, stopping the trainer", signal=signal)


class ProgressDisplay(Protocol):
    """One way to show the state."""

    def line(self, text: str) -> None: ...

    def step(self, view: ProgressState) -> None: ...

    def phase(self, view: ProgressState) -> None: ...

    def close(self, view: ProgressState) -> None: ...


class PlainProgress:
    """A line now and then."""

    def __init__(self, stream: TextIO, clock: Clock) -> None:
        self._stream, self._clock = stream, clock
        self._shown: tuple[int, float] | None = None
        self._last = clock()  # when the last line was written

    def line(self, text: str) -> None:
        self._last = self._clock()
        write_to(self._stream, f"{text}\n")

    def step(self, view: ProgressState) -> None:
        if view.step is not None and self._due(view.step):
            self._show(view)

    def phase(self, view: ProgressState) -> None:
        """The beginning of a phase in which no step is done, and after a silence how far any phase is."""
        if view.phase is None:
            return
        begins = view.phase.done is None and view.phase.name in PAUSES
        if begins or self._clock() - self._last >= PHASE_SECONDS:
            self.line(view.activity)

    def close(self, view: ProgressState) -> None:
        """The last step is always shown."""
        if view.step is not None and self._shown is not None and view.step.number > self._shown[0]:
            self._show(view)

    def _due(self, step: Step) -> bool:
        if self._shown is None or step.number == step.total:
            return True
        quiet = self._clock() - self._shown[1]
        return quiet >= QUIET_SECONDS and (
            step.number - self._shown[0] >= QUIET_SHARE * step.total or quiet >= SILENT_SECONDS
        )

    def _show(self, view: ProgressState) -> None:
        if view.step is not None:
            self._shown = (view.step.number, self._clock())
            head = msg("step {n}/{total}", n=view.step.number, total=view.step.total)
            self.line(f"{view.translator(head)}  {view.status}")


class BarProgress:
    """A bar and lines about loss, rates and GPUs that stay at the bottom; others go above. Fits into 80 columns."""

    def __init__(self, stream: TextIO, planned: int, translator: Translator) -> None:
        from rich.console import Console, Group
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.text import Text

        class ProgressWithLines(Progress):
            """With lines below."""

            lines: tuple[str, ...] = ()

            def get_renderable(self) -> Group:
                below = (Text(line, no_wrap=True, overflow="ellipsis") for line in self.lines if line)
                return Group(*self.get_renderables(), *below)

        self._progress = ProgressWithLines(
            TextColumn("{task.description}", markup=False), BarColumn(bar_width=12), MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(file=stream, highlight=False, markup=False, emoji=False), refresh_per_second=4,
        )  # fmt: skip
        self._with_curve = (stream.encoding or "").lower().startswith("utf")
        self._updated = 0.0
        self._task: TaskID = self._progress.add_task(translator(msg("loading")), total=planned, status="")
        self._progress.start()

    def line(self, text: str) -> None:
        self._progress.console.print(text, markup=False)

    def step(self, view: ProgressState) -> None:
        if (now := time.monotonic()) - self._updated >= BAR_UPDATE_SECONDS:
            self._updated = now
            self._update(view)

    def phase(self, view: ProgressState) -> None:
        self._update(view)

    def close(self, view: ProgressState) -> None:
        self._update(view)
        self._progress.stop()

    def _update(self, view: ProgressState) -> None:
        done, total = (0, view.planned) if view.step is None else (view.step.number, view.step.total)
        self._progress.lines = (view.describe_loss(with_curve=self._with_curve), view.measured)
        self._progress.update(self._task, description=view.activity, completed=done, total=total, status=view.course)


@dataclass(slots=True)
class ShownEvents:
    """Takes progress events and shows them. After a failed write it stays silent."""

    display: ProgressDisplay
    view: ProgressState
    verbose: bool
    broken: bool = False

    def __call__(self, event: ProgressEvent, moment: float | None = None) -> None:
        line = self.view.take(event, moment)
        if isinstance(event, LogLine):
            line = clean_log_line(event.text) if self.verbose else None
        elif self.verbose and not isinstance(event, SAID_BY_LORABAKE):
            line = None  # the trainer's own output has it already
        if self.broken:
            return
        try:
            if isinstance(event, Step):
                self.display.step(self.view)
            elif isinstance(event, Phase):
                self.display.phase(self.view)
            elif line is not None:
                self.display.line(line)
        except (OSError, ValueError):  # ValueError: the stream was closed
            self.broken = True


TRANSIENT_PREFIXES = ("installing ", "downloading ")  # lines (in English) of an installation that the next one replaces


def line_printer(stream: TextIO, translator: Translator = ENGLISH) -> Callable[[str], None]:
    """Prints a line at a time. On a terminal passing ones replace each other, elsewhere every tenth is enough."""
    seen = count(1)
    clear = stream.isatty()

    def out(line: str) -> None:
        passing = line.startswith(TRANSIENT_PREFIXES)
        if passing and not clear and next(seen) % 10:
            return
        with suppress(OSError, ValueError):
            write_to(stream, f"{translator(line)}{'' if passing and clear else chr(10)}", clear=clear)

    return out


def describe_scan(done: int, total: int) -> Message:
    """In images."""
    return msg("scanning images: {done} of {total}", done=done, total=total)


def describe_preparing(done: int, total: int) -> Message:
    return msg("preparing images: {done} of {total}", done=done, total=total)


def describe_editing(done: int, total: int) -> Message:
    return msg("editing captions: {done} of {total}", done=done, total=total)


def describe_hashing(done: int, total: int) -> Message:
    """In bytes, in the unit that suits all of them."""
    if total < 1_000_000_000:
        return msg("hashing: {done:.0f} of {total:.0f} MB", done=done / 1_000_000, total=total / 1_000_000)
    return msg("hashing: {done:.1f} of {total:.1f} GB", done=done / 1_000_000_000, total=total / 1_000_000_000)


class ProgressLine:
    """One changing line, called with (done, all); ``hashing`` shows bytes on the same line."""

    def __init__(
        self, stream: TextIO, translator: Translator, describe: ProgressMessage, clock: Callable[[], float]
    ) -> None:
        self._stream, self._translator, self._describe, self._clock = stream, translator, describe, clock
        self._due, self._shown = clock() + LINE_DELAY_SECONDS, False

    def __call__(self, done: int, total: int) -> None:
        self._show(self._describe, done, total)

    def hashing(self, done: int, total: int) -> None:
        self._show(describe_hashing, done, total)

    def _show(self, describe: ProgressMessage, done: int, total: int) -> None:
        if self._clock() >= self._due:
            self._due, self._shown = self._clock() + LINE_UPDATE_SECONDS, True
            self._write(self._translator(describe(done, total)))

    def close(self) -> None:
        if self._shown:
            self._write("")

    def _write(self, line: str) -> None:
        with suppress(OSError, ValueError):
            write_to(self._stream, line, clear=True)


@contextmanager
def show_progress(
    stream: TextIO,
    translator: Translator = ENGLISH,
    describe: ProgressMessage = describe_scan,
    clock: Clock = time.monotonic,
) -> Generator[ProgressLine | None]:
    """A line of progress on a terminal if it takes a while; None elsewhere. The line is cleared at the end."""
    if not stream.isatty():
        yield None
        return
    line = ProgressLine(stream, translator, describe, clock)
    try:
        yield line
    finally:
        line.close()


@contextmanager
def watch_progress(
    stream: TextIO,
    planned: int,
    *,
    verbose: bool = False,
    clock: Clock = time.monotonic,
    translator: Translator = ENGLISH,
) -> Generator[ShownEvents]:
    """A watcher for launch() that shows a run of ``planned`` steps on ``stream``, with a bar if that is a terminal."""
    display: ProgressDisplay = (
        BarProgress(stream, planned, translator) if stream.isatty() else PlainProgress(stream, clock)
    )
    view = ProgressState(planned, clock, translator)
    try:
        yield ShownEvents(display, view, verbose)
    finally:
        with suppress(OSError, ValueError):
            display.close(view)


@dataclass(frozen=True, slots=True)
class TerminalDisplay:
    """What a job shows on ``stream`` (jobs.display.Display); ``verbose`` adds the trainer's own lines."""

    stream: TextIO
    translator: Translator = ENGLISH
    verbose: bool = False

    def scanning(self) -> AbstractContextManager[ProgressLine | None]:
        return show_progress(self.stream, self.translator)

    def hashing(self) -> AbstractContextManager[ProgressLine | None]:
        return show_progress(self.stream, self.translator, describe_hashing)

    def preparing(self) -> AbstractContextManager[ProgressLine | None]:
        return show_progress(self.stream, self.translator, describe_preparing)

    def editing(self) -> AbstractContextManager[ProgressLine | None]:
        return show_progress(self.stream, self.translator, describe_editing)

    def training(self, steps: int) -> AbstractContextManager[ShownEvents]:
        return watch_progress(self.stream, steps, verbose=self.verbose, translator=self.translator)
