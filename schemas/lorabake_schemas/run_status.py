"""What `lorabake ls`, `status` and `logs` print: the state of runs, as locks, processes and records show it."""

from typing import Literal

from pydantic import Field, JsonValue

from lorabake_schemas.base import EscapedText, MessageText, StrictModel, TupleOf
from lorabake_schemas.events import PhaseName

# running: its supervisor or its trainer is alive. stopping: it is alive, and was asked to end or has lost its
# supervisor. elsewhere: another host started it, and only that host knows whether it is alive. died: its supervisor was
# killed or lost power, and nobody wrote an end. The others are those of the record.
RunState = Literal[
    "running", "stopping", "elsewhere", "finished", "inputs-changed", "failed", "interrupted", "died"
]  # fmt: skip


class PhaseProgress(StrictModel):
    """What the trainer is doing; ``done`` of ``total`` images, steps or samples where it counts them. Caching has
    ``of``: "latents" or "text encoder outputs".
    """

    name: PhaseName
    of: EscapedText | None = None
    done: int | None = None
    total: int | None = None


class SavedFile(StrictModel):
    """A file that the trainer saved: its path in the run folder, and when. ``step`` is the step that it is of."""

    file: EscapedText
    time: str
    step: int


class GpuStatus(StrictModel):
    """A GPU that a run in progress trains on: the memory in MiB that all programs use on it, and its temperature in
    degrees Celsius, at most some seconds old.
    """

    uuid: EscapedText
    name: EscapedText
    used_mib: int
    total_mib: int
    temperature: int | None = None


class RunNotice(StrictModel):
    """Something that the trainer, or whoever watches it, reported while it ran. ``kind`` is the event in events.jsonl
    (trainer_warning, trainer_error, stalled, bad_loss, loss_jump, disk_low), ``values`` are its other fields.
    """

    kind: str
    time: str
    values: dict[str, JsonValue]


class RunSummary(StrictModel):
    """One run. Times are UTC, ISO 8601; durations are in seconds; what is not known is null.

    ``name`` is what the run may be called from the current folder, ``folder`` its absolute path. ``phase`` is what the
    trainer is doing, or did last in a run that is over and was not finished. ``step`` steps of ``steps`` are done.
    ``loss_average`` is sd-scripts' average over the last epoch, ``loss`` that of the last step; "nan", "inf" and "-inf"
    are strings. ``learning_rates`` are those of the last steps by sd-scripts' names, ``d`` the factor that Prodigy or
    D-Adaptation found, ``gpus`` what the driver measures; these three only while it is in progress.
    ``steps_per_second`` is the pace of the last minute of training without pauses; ``seconds_left`` follows from it.
    ``last_activity`` is the last event or the last line of the log. ``code``, ``message`` and ``hint`` are the verdict
    of a run that is over. ``lora`` is the finished LoRA, ``resume_step`` the step from which it can be resumed.
    ``supervisor`` and ``trainer`` are process ids on ``host``; ``supervised`` is false if only the trainer is left.
    ``stop_after`` is what a requested stop waits for: "after-epoch" or "after-save". ``stalled`` means that nothing has
    moved for far longer than usual. ``settings`` (of `ls`) are the recipe's keys that are not the same in all listed
    runs of its recipe, with the value in this run; null if its recipe does not have that key.
    """

    name: EscapedText
    folder: EscapedText
    state: RunState
    rehearsal: bool
    phase: PhaseProgress | None = None
    step: int
    steps: int
    epoch: int | None = None
    epochs: int | None = None
    loss_average: float | str | None = None
    loss: float | str | None = None
    learning_rates: dict[EscapedText, float | str] = Field(default_factory=dict)
    d: float | str | None = None
    gpus: TupleOf[GpuStatus] = ()
    steps_per_second: float | None = None
    seconds_left: float | None = None
    started: str
    ended: str | None = None
    last_activity: str | None = None
    last_save: SavedFile | None = None
    lora: EscapedText | None = None
    resume_step: int | None = None
    code: str | None = None
    message: MessageText | None = None
    hint: MessageText | None = None
    stalled: bool = False
    notices: TupleOf[RunNotice] = ()
    stop_after: str | None = None
    supervised: bool | None = None
    supervisor: int | None = None
    trainer: TupleOf[int] = ()
    host: EscapedText | None = None
    digest: str
    settings: dict[str, JsonValue] = Field(default_factory=dict[str, JsonValue])


class StatusReport(StrictModel):
    """What `lorabake ls --json` and `lorabake status --json` print. ``unreadable`` are folders with a record.json that
    is not a record.
    """

    version: Literal[1] = 1
    runs: TupleOf[RunSummary]
    unreadable: TupleOf[EscapedText] = ()


class LogExcerpt(StrictModel):
    """What `lorabake logs --json` prints: the lines of the trainer's log without its progress bars, and the last state
    of the bar that it is drawing.
    """

    version: Literal[1] = 1
    run: EscapedText
    state: RunState
    lines: TupleOf[EscapedText]
    bar: EscapedText | None = None
