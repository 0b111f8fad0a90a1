"""How each kind of progress event looks in events.jsonl: one table for writing and for reading.

A file may come from a stranger, so every value is checked when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple, cast, get_args

from lorabake_schemas.events import (
    BadLoss,
    DiskLow,
    EmptyDataset,
    Epoch,
    GpuReading,
    LossJump,
    Metrics,
    ModelLoaded,
    Phase,
    PhaseName,
    ProgressEvent,
    RunTotals,
    Saved,
    Saving,
    Stalled,
    StallEnded,
    StallKind,
    StallSign,
    Started,
    Step,
    Stopping,
    TrainerError,
    TrainerWarning,
)

MAX_COUNT = 1 << 63  # no number of steps, images or bytes is as large
PHASE_NAMES: tuple[PhaseName, ...] = get_args(PhaseName)
STALL_KINDS: tuple[StallKind, ...] = get_args(StallKind)


def encode_plain(value: object) -> object:
    return value


def encode_number(number: float | None) -> float | str | None:
    """JSON knows no NaN and no infinity: those become the strings "nan", "inf", "-inf"."""
    return number if number is None or math.isfinite(number) else str(number)


def encode_signs(signs: tuple[StallSign, ...]) -> list[dict[str, str]]:
    return [{"kind": sign.kind, "detail": sign.detail} for sign in signs]


def decode_text(value: object) -> str:
    """Raises TypeError, as the others do; some raise ValueError, too."""
    if not isinstance(value, str):
        raise TypeError
    return value


def decode_count(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    if not 0 <= value < MAX_COUNT:
        raise ValueError
    return value


def decode_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    return float(value)


def decode_phase(value: object) -> PhaseName:
    return PHASE_NAMES[PHASE_NAMES.index(cast("Any", value))]


def decode_signs(value: object) -> tuple[StallSign, ...]:
    return tuple(map(_decode_sign, _decode_list(value)))


def _decode_sign(value: object) -> StallSign:
    sign = _decode_table(value)
    return StallSign(STALL_KINDS[STALL_KINDS.index(cast("Any", sign["kind"]))], decode_text(sign["detail"]))


def encode_rates(rates: tuple[tuple[str, float], ...]) -> dict[str, float | str | None]:
    return {name: encode_number(rate) for name, rate in rates}


def decode_rates(value: object) -> tuple[tuple[str, float], ...]:
    return tuple((name, decode_number(rate)) for name, rate in _decode_table(value).items())


def encode_readings(gpus: tuple[GpuReading, ...]) -> list[dict[str, object]]:
    return [asdict(gpu) for gpu in gpus]


def decode_readings(value: object) -> tuple[GpuReading, ...]:
    return tuple(map(_decode_reading, _decode_list(value)))


def _decode_reading(value: object) -> GpuReading:
    gpu = _decode_table(value)
    return GpuReading(
        decode_text(gpu["uuid"]),
        decode_text(gpu["name"]),
        decode_count(gpu["used_mib"]),
        decode_count(gpu["total_mib"]),
        None if gpu["temperature"] is None else decode_count(gpu["temperature"]),
    )


def _decode_list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return cast("list[object]", value)


def _decode_table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError
    return cast("dict[str, object]", value)


class EventField(NamedTuple):
    """A value of an event: its key in the file, its attribute, and how it is written and read."""

    key: str
    attribute: str
    decode: Callable[[object], object]
    encode: Callable[[Any], object] = encode_plain
    optional: bool = False

    def read(self, fields: Mapping[str, object]) -> object:
        value = fields[self.key]
        return None if self.optional and value is None else self.decode(value)


class EventKind(NamedTuple):
    """A kind of event by its name in the file."""

    name: str
    form: Callable[..., ProgressEvent]
    fields: tuple[EventField, ...] = ()

    def encode(self, event: ProgressEvent) -> dict[str, object]:
        values = {each.key: each.encode(getattr(event, each.attribute)) for each in self.fields}
        return {"event": self.name, **values}

    def decode(self, fields: Mapping[str, object]) -> ProgressEvent:
        """Raises ValueError, TypeError, LookupError, OverflowError."""
        return self.form(**{each.attribute: each.read(fields) for each in self.fields})


def _text(key: str, attribute: str | None = None, *, optional: bool = False) -> EventField:
    return EventField(key, attribute or key, decode_text, optional=optional)


def _count(key: str, attribute: str | None = None, *, optional: bool = False) -> EventField:
    return EventField(key, attribute or key, decode_count, optional=optional)


def _number(key: str, *, optional: bool = False) -> EventField:
    return EventField(key, key, decode_number, encode_number, optional=optional)


EVENT_KINDS = (
    EventKind("device", Started, (_text("device"),)),
    EventKind("model_loaded", ModelLoaded),
    EventKind(
        "totals",
        RunTotals,
        tuple(map(_count, ("train_samples", "reg_samples", "batches_per_epoch", "epochs", "steps"))),
    ),
    EventKind("epoch", Epoch, (_count("epoch", "number"), _count("total"))),
    EventKind(
        "step",
        Step,
        (
            _count("step", "number"),
            _count("total"),
            _number("loss_average", optional=True),
            _number("loss_current", optional=True),
        ),
    ),
    EventKind("bad_loss", BadLoss, (_count("step", "number"), _number("loss"))),
    EventKind("saved", Saving, (_text("file", "path"),)),
    EventKind("model_saved", Saved),
    EventKind("no_data", EmptyDataset),
    EventKind(
        "phase",
        Phase,
        (
            EventField("phase", "name", decode_phase),
            _count("done", optional=True),
            _count("total", optional=True),
            _text("of", optional=True),
        ),
    ),
    EventKind("trainer_warning", TrainerWarning, (_text("text"), _count("count"))),
    EventKind("trainer_error", TrainerError, (_text("text"), _count("count"))),
    EventKind(
        "stalled",
        Stalled,
        (
            EventField("phase", "phase", decode_phase),
            _number("seconds"),
            _number("usual", optional=True),
            EventField("signs", "signs", decode_signs, encode_signs),
            _text("last_line", optional=True),
        ),
    ),
    EventKind("stall_ended", StallEnded, (_number("seconds"),)),
    EventKind("loss_jump", LossJump, (_count("step", "number"), _number("before"), _number("after"))),
    EventKind("disk_low", DiskLow, (_text("file"), _count("step", "number"), _count("free"), _count("needed"))),
    EventKind(
        "metrics",
        Metrics,
        (
            EventField("learning_rates", "learning_rates", decode_rates, encode_rates),
            _number("d", optional=True),
            EventField("gpus", "gpus", decode_readings, encode_readings),
        ),
    ),
    EventKind("stopping", Stopping, (_text("signal"),)),
)
KINDS_BY_NAME: Mapping[str, EventKind] = MappingProxyType({kind.name: kind for kind in EVENT_KINDS})
KINDS_BY_CLASS: Mapping[object, EventKind] = MappingProxyType({kind.form: kind for kind in EVENT_KINDS})
