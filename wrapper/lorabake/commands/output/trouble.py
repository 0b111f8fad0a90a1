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
    StallSign,
    TrainerError,
    TrainerWarning,
)
from lorabake_schemas.messages import Message, clean_log_line, join_list, literal, msg

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


def describe_trouble(event: ProgressEvent) -> Message | None:
    """The line for an event that is trouble, or the end of it; None for others."""
    match event:
        case TrainerWarning(text, count):
            return msg("warning of the trainer: {text}", text=_with_count(text, count))
        case TrainerError(text, count):
            return msg("error of the trainer: {text}", text=_with_count(text, count))
        case BadLoss(number, loss):
            if loss < 0:
                return msg("the loss fell below zero at step {step} ({loss:.4g})", step=number, loss=loss)
            return msg("the loss became NaN or infinite at step {step}", step=number)
        case LossJump(number, before, after):
            return msg(
                "the average loss went from {before:.3g} to {after:.3g} around step {step} and stays there",
                before=before,
                after=after,
                step=number,
            )
        case DiskLow():
            return msg(
                "the disk will be full before {file} is saved at step {step}: {needed} needed, {free} free",
                file=event.file,
                step=event.number,
                needed=format_file_size(event.needed),
                free=format_file_size(event.free),
            )
        case Stalled():
            return _describe_stall(event)
        case StallEnded(seconds):
            return msg("the trainer is moving again, after {time}", time=format_duration(seconds))
        case _:
            return None


def _with_count(text: str, count: int) -> Message:
    cleaned = literal(clean_log_line(text))
    return cleaned if count == 1 else msg("{text} ({n} times)", text=cleaned, n=count)


def _describe_stall(stall: Stalled) -> Message:
    time, phase = format_duration(stall.seconds), PHASES[stall.phase]
    head = (
        msg("no progress for {time} ({phase})", time=time, phase=phase)
        if stall.usual is None
        else msg(
            "no progress for {time} ({phase}; usual: {usual})",
            time=time,
            phase=phase,
            usual=msg("{seconds:.3g} s", seconds=stall.usual),
        )
    )
    parts = [head, *map(describe_sign, stall.signs)]
    if stall.last_line:
        parts.append(msg("last line of the log: {text}", text=literal(clean_log_line(stall.last_line.strip()))))
    return join_list(parts, "; ")


def describe_sign(sign: StallSign) -> Message:
    """What the processes of a stalled trainer show."""
    match sign.kind:
        case "disk":
            return msg("it is waiting for a disk")
        case "stopped":
            return msg(
                "its processes were stopped by a signal; continue them with `kill -CONT {pids}`", pids=sign.detail
            )
        case "network":
            return msg("it is waiting for the network ({address})", address=sign.detail)
        case "proxy":
            return msg("it is waiting for the proxy {address}", address=sign.detail)
        case "shared-memory":
            return msg("/dev/shm is full; set max_data_loader_n_workers = 0, or give the container more shared memory")
        case "failed":
            return msg("the log has an error: {text}", text=literal(clean_log_line(sign.detail)))
        case "dead":
            return msg("one of its processes ended unnoticed ({names})", names=sign.detail)
        case "busy":
            return msg("it is computing ({cores} CPU cores in use)", cores=sign.detail)
        case "idle":
            return msg("it uses no CPU")
