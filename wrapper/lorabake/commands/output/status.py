"""The state of runs: a list with a line for each, or all about some of them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from lorabake.commands.output.columns import Column, format_columns, make_setting_columns
from lorabake.commands.output.layout import TextLayout, align_rows, bold, format_duration
from lorabake.commands.output.metrics import describe_gpus, describe_learning_rates
from lorabake.commands.output.progress import describe_event, format_speed
from lorabake.runs.events import decode_event
from lorabake_schemas.messages import Message, join_list, literal, msg, nmsg

if TYPE_CHECKING:
    from lorabake_schemas.events import PhaseName
    from lorabake_schemas.run_status import (
        PhaseProgress,
        RunNotice,
        RunState,
        RunSummary,
        SavedFile,
        StatusReport,
    )

STATE_LABELS: Mapping[RunState, Message] = MappingProxyType(
    {
        "running": msg("running"),
        "stopping": msg("stopping"),
        "finished": msg("finished"),
        "inputs-changed": msg("inputs changed"),
        "failed": msg("failed"),
        "interrupted": msg("interrupted"),
        "died": msg("died"),
    }
)
STATE_COLORS: Mapping[RunState, str] = MappingProxyType(
    {
        "running": "cyan",
        "stopping": "yellow",
        "elsewhere": "cyan",
        "finished": "green",
        "inputs-changed": "yellow",
        "failed": "red",
        "interrupted": "yellow",
        "died": "red",
    }
)
PHASE_LABELS: Mapping[PhaseName, Message] = MappingProxyType(
    {
        "loading": msg("loading"),
        "caching": msg("caching"),
        "training": msg("training"),
        "validating": msg("validating"),
        "sampling": msg("sampling"),
        "saving": msg("saving"),
    }
)
MAX_NOTICES_SHOWN = 5
SETTINGS_BEFORE_AGE = 3  # settings that a narrow list shows rather than when a run was
MINUTE_S, HOUR_S, DAY_S, WEEK_S = 60, 3600, 86400, 604800


def format_status_json(report: StatusReport) -> str:
    return json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False)


def format_tensorboard_url(url: str, page: TextLayout, *, as_json: bool) -> str:
    return json.dumps({"version": 1, "url": url}) if as_json else page(msg("{url} (Ctrl-C ends it)", url=url))


def format_run_list(report: StatusReport, now: datetime, page: TextLayout, *, everywhere: bool = False) -> str:
    """A line for each run, the newest first, with the settings in which runs of one recipe differ. ``everywhere`` is
    whether these are all that this machine knows.
    """
    lines: list[str] = []
    if report.runs:
        lines += _list_runs(report.runs, now, page)
    elif not report.unreadable:
        here = msg("no runs here (`lorabake ls --all` lists all that this machine knows)")
        lines.append(page(msg("no runs here, and no other trainings on this machine") if everywhere else here))
    lines += [page(msg("{path} has a record.json that cannot be read", path=path)) for path in report.unreadable]
    return "\n".join(lines)


def _list_runs(runs: Sequence[RunSummary], now: datetime, page: TextLayout) -> list[str]:
    """A narrow terminal shows three settings rather than when a run was, and the loss rather than more settings."""
    states = [click.style(page(describe_state(run)), fg=STATE_COLORS[run.state]) for run in runs]
    lefts = ["" if run.seconds_left is None else format_duration(run.seconds_left) for run in runs]
    settings = make_setting_columns([run.settings for run in runs])
    loss = Column(page(msg("loss")), [_format_loss(run.loss_average) for run in runs], is_number=True)
    left = Column(page(msg("left")), lefts, is_number=True)
    when = Column(page(msg("when")), [page(describe_age(run.ended or run.started, now)) for run in runs])
    columns = (
        Column(page(msg("run")), [page(literal(run.name)) for run in runs]),
        Column(page(msg("state")), states),
        Column(page(msg("steps")), [f"{run.step}/{run.steps}" for run in runs], is_number=True),
        *settings, loss, left, when,
    )  # fmt: skip
    first, more = settings[:SETTINGS_BEFORE_AGE], settings[SETTINGS_BEFORE_AGE:]
    dropped = (left, *reversed(more), when, *reversed(first), loss) if settings else (left, loss, when)
    return format_columns(columns, dropped, page)


def describe_state(run: RunSummary) -> Message:
    """The state, with the phase of a run in progress, and the host if it is another one."""
    if run.state == "elsewhere":
        state = msg("on {host}", host=run.host or "?")
    elif run.state == "running" and run.phase is not None:
        state = _describe_phase(run.phase)
    else:
        state = STATE_LABELS[run.state]
    if run.state == "running" and run.supervised is False:
        state = msg("{state} unsupervised", state=state)
    if run.stalled:
        state = msg("{state}, stalled", state=state)
    return msg("{state} (rehearsal)", state=state) if run.rehearsal else state


def _describe_phase(phase: PhaseProgress) -> Message:
    name = PHASE_LABELS[phase.name]
    if phase.done is None or phase.name == "training":
        return name
    return msg("{phase} {done}/{total}", phase=name, done=phase.done, total="?" if phase.total is None else phase.total)


def _format_loss(loss: float | str | None) -> str:
    return "" if loss is None else loss if isinstance(loss, str) else f"{loss:.4g}"


def _parse_time(time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(time)
    except ValueError:
        return None


def describe_age(time: str, now: datetime) -> Message:
    """How long ago a moment was; the day of one that is a week ago."""
    then = _parse_time(time)
    if then is None or then.tzinfo is None:
        return literal(time)
    seconds = max((now - then).total_seconds(), 0)
    if seconds < MINUTE_S:
        return msg("{n} s ago", n=int(seconds))
    if seconds < HOUR_S:
        return msg("{n} min ago", n=int(seconds // MINUTE_S))
    if seconds < DAY_S:
        return msg("{n} h ago", n=int(seconds // HOUR_S))
    if seconds < WEEK_S:
        return nmsg(int(seconds // DAY_S), "{n} day ago", "{n} days ago")
    return literal(f"{then:%Y-%m-%d}")


def format_statuses(report: StatusReport, now: datetime, page: TextLayout) -> str:
    """All about some runs."""
    return "\n\n".join("\n".join(_iter_status_lines(each, now, page)) for each in report.runs)


def _iter_status_lines(run: RunSummary, now: datetime, page: TextLayout) -> Iterator[str]:
    state = click.style(page(describe_state(run)), fg=STATE_COLORS[run.state], bold=True)
    yield f"{bold(page(literal(run.name)))}: {state}"
    rows = [(page(label), page(value)) for label, value in _iter_facts(run, now) if value]
    yield from ("  " + line for row in align_rows(rows, room=_room(page)) for line in row)
    hidden = len(run.notices) - MAX_NOTICES_SHOWN
    for notice in run.notices[-MAX_NOTICES_SHOWN:]:
        yield from page.paragraph(_describe_notice(notice, now), first="  ", rest="    ")
    if hidden > 0:
        yield "  " + page(msg("and {n} more (list all with --json)", n=hidden))


def _room(page: TextLayout) -> int | None:
    return None if page.columns is None else page.columns - 2


def _iter_facts(run: RunSummary, now: datetime) -> Iterator[tuple[Message, Message | None]]:
    yield msg("progress"), _describe_progress(run)
    yield msg("loss"), _describe_losses(run)
    rates = [(name, float(rate)) for name, rate in run.learning_rates.items()]
    yield msg("learning rate"), describe_learning_rates(rates, None if run.d is None else float(run.d))
    yield msg("speed"), _describe_speed(run)
    yield msg("GPU"), describe_gpus(run.gpus)
    yield msg("started"), _describe_moment(run.started, now)
    yield msg("ended"), _describe_moment(run.ended, now)
    if run.ended is None:
        yield msg("last activity"), _describe_moment(run.last_activity, now)
    yield msg("last save"), _describe_save(run.last_save, now)
    yield msg("host"), None if run.host is None else literal(run.host)
    yield msg("process"), _describe_processes(run)
    yield msg("stop"), _describe_stop(run)
    yield msg("verdict"), run.message
    yield msg("advice"), run.hint if run.state != "finished" else None
    yield msg("resume"), _describe_resume(run)
    yield msg("LoRA"), None if run.lora is None else literal(f"{run.folder}/{run.lora}")
    yield msg("folder"), literal(run.folder)


def _describe_progress(run: RunSummary) -> Message:
    share = 100 * run.step // run.steps if run.steps else 0
    said = msg("step {step} of {steps} ({percent} %)", step=run.step, steps=run.steps, percent=share)
    if run.epoch is not None and run.epochs is not None:
        said = msg("{steps}, epoch {epoch} of {epochs}", steps=said, epoch=run.epoch, epochs=run.epochs)
    if run.phase is not None and run.state in {"died", "failed", "interrupted", "stopping"}:
        said = msg("{steps}, last phase: {phase}", steps=said, phase=_describe_phase(run.phase))
    return said


def _describe_losses(run: RunSummary) -> Message | None:
    if run.loss_average is None:
        return None
    said = msg("average {loss}", loss=_format_loss(run.loss_average))
    return said if run.loss is None else msg("{average}, last step {loss}", average=said, loss=_format_loss(run.loss))


def _describe_speed(run: RunSummary) -> Message | None:
    if run.steps_per_second is None:
        return None
    speed = format_speed(1 / run.steps_per_second)
    if run.seconds_left is None:
        return speed
    return msg("{speed}, {time} left", speed=speed, time=format_duration(run.seconds_left))


def _describe_moment(time: str | None, now: datetime) -> Message | None:
    if time is None:
        return None
    then = _parse_time(time)
    if then is None or then.tzinfo is None:
        return literal(time)
    local = then.astimezone(now.tzinfo).isoformat(" ", "seconds")[:19]
    if (now - then).total_seconds() >= WEEK_S:
        return literal(local)
    return msg("{time} ({ago})", time=local, ago=describe_age(time, now))


def _describe_save(saved: SavedFile | None, now: datetime) -> Message | None:
    if saved is None:
        return None
    return msg("{file}, step {step}, {ago}", file=saved.file, step=saved.step, ago=describe_age(saved.time, now))


def _describe_processes(run: RunSummary) -> Message | None:
    pids = " ".join(map(str, run.trainer))
    parts = [msg("supervisor {pid}", pid=str(run.supervisor))] if run.supervisor is not None else []
    parts += [msg("trainer {pids}", pids=pids)] if pids else []
    if run.supervised is False:
        parts.append(msg("lorabake was killed"))
    return join_list(parts) if parts else None


def _describe_stop(run: RunSummary) -> Message | None:
    match run.stop_after:
        case None:
            return None
        case "after-epoch":
            return msg("requested, after this epoch")
        case "after-save":
            return msg("requested, after the next save")
        case _:
            return msg("requested")


def _describe_resume(run: RunSummary) -> Message | None:
    if run.resume_step is None:
        return None
    return msg("`lorabake resume {run}` continues from step {step}", run=shlex.quote(run.name), step=run.resume_step)


def _describe_notice(notice: RunNotice, now: datetime) -> Message:
    event = decode_event({"event": notice.kind, **notice.values})
    said = describe_event(event, 0) if event is not None else None
    if said is None:
        said = msg("{kind}: {text}", kind=notice.kind, text=str(notice.values.get("text", "")))
    return msg("{ago}: {text}", ago=describe_age(notice.time, now), text=said)
