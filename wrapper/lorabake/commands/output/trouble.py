"""How trouble of a running training is worded: stalls, the trainer's warnings and errors, the loss, the disk."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lorabake.commands.output.layout import format_duration, format_file_size
from lorabake_schemas.events import (
    BadLoss,
    DiskLow,
    LossJump,
    PhaseName,
    ProgressEvent,
    Stalled,
    StallEnded,
    StallKind,
    TrainerError,
    TrainerWarning,
)
from lorabake_schemas.messages import Message, MessageTemplate, clean_log_line, join_list, literal, msg, template

PHASES: Mapping[PhaseName, Message] = MappingProxyType(
    {
        "loading": msg("loading"),
        "caching": msg("caching"),
        "training": msg("training"),
        "validating": msg("validating"),
        "sampling": msg("making sample images"),
        "saving": msg("saving"),
    }
)


SIGNS: Mapping[StallKind, MessageTemplate] = MappingProxyType(
    {
        "disk": template("it is waiting for a disk"),
        "stopped": template("its processes were stopped by a signal (continue them with `kill -CONT {detail}`)"),
        "network": template("it is waiting for the network ({detail})"),
        "proxy": template("it is waiting for the proxy {detail}"),
        "shared-memory": template(
            "shared memory (/dev/shm) is full: set max_data_loader_n_workers = 0, or give the container more"
        ),
        "failed": template("the log has an error: {detail}"),
        "dead": template("one of its processes ended unnoticed ({detail})"),
        "busy": template("it is computing (CPU cores in use: {detail})"),
        "idle": template("it uses no CPU"),
    }
)


def describe_trouble(event: ProgressEvent) -> Message | None:
    """The line for an event that is trouble, or the end of it; None for others."""
    line: Message | None = None
    match event:
        case TrainerWarning(text, count):
            line = msg("warning of the trainer: {text}", text=_with_count(text, count))
        case TrainerError(text, count):
            line = msg("error of the trainer: {text}", text=_with_count(text, count))
        case BadLoss(number, loss) if loss < 0:
            line = msg("the loss fell below zero at step {step} ({loss:.4g})", step=number, loss=loss)
        case BadLoss(number):
            line = msg("the loss became NaN or infinite at step {step}", step=number)
        case LossJump(number, before, after):
            line = msg(
                "the average loss went from {before:.3g} to {after:.3g} around step {step} and stays there",
                before=before,
                after=after,
                step=number,
            )
        case DiskLow():
            line = msg(
                "the disk will be full before {file} is saved at step {step} (needed: {needed}, free: {free})",
                file=event.file,
                step=event.number,
                needed=format_file_size(event.needed),
                free=format_file_size(event.free),
            )
        case Stalled():
            line = _describe_stall(event)
        case StallEnded(seconds):
            line = msg("the trainer is moving again after {time}", time=format_duration(seconds))
        case _:
            pass
    return line


def _with_count(text: str, count: int) -> Message:
    cleaned = literal(clean_log_line(text))
    return cleaned if count == 1 else msg("{text} ({n} times)", text=cleaned, n=count)


def _describe_stall(stall: Stalled) -> Message:
    time, phase = format_duration(stall.seconds), PHASES[stall.phase]
    head = msg("no progress for {time} ({phase})", time=time, phase=phase)
    if stall.usual is not None:
        usual = format_duration(max(stall.usual, 1.0))
        head = msg("no progress for {time} ({phase}, usually {usual})", time=time, phase=phase, usual=usual)
    signs = [SIGNS[sign.kind].fill({"detail": clean_log_line(sign.detail)}) for sign in stall.signs]
    last = (stall.last_line or "").strip()
    last = "" if any(sign.detail == last for sign in stall.signs) else last  # said already
    return join_list(
        [head, *signs, *([msg("last line of the log: {text}", text=clean_log_line(last))] if last else [])], "; "
    )
