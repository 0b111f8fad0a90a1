"""Learning rates and GPUs of a run in progress, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lorabake_schemas.messages import Message, join_list, literal, msg

MAX_NAMED_RATES = 2
MIB_PER_GIB = 1024


class GpuFacts(Protocol):
    """A GPU in an event, or in the state of a run."""

    @property
    def name(self) -> str: ...

    @property
    def used_mib(self) -> int: ...

    @property
    def total_mib(self) -> int: ...

    @property
    def temperature(self) -> int | None: ...


def describe_learning_rates(rates: Sequence[tuple[str, float]], d: float | None) -> Message | None:
    """One number if all parts have the same rate, and a range where there are too many to name."""
    values = [rate for _, rate in rates]
    if not values:
        return None
    if len(set(values)) == 1:
        said = msg("{rate:.3g}", rate=values[0])
    elif len(values) <= MAX_NAMED_RATES:
        said = join_list([msg("{part} {rate:.3g}", part=part, rate=rate) for part, rate in rates])
    else:
        said = msg("{lowest:.3g} to {highest:.3g}", lowest=min(values), highest=max(values))
    return said if d is None else msg("{rates}, d {d:.3g}", rates=said, d=d)


def describe_gpu(gpu: GpuFacts) -> Message:
    """The memory that is used on it, and its temperature."""
    used, total = gpu.used_mib / MIB_PER_GIB, gpu.total_mib / MIB_PER_GIB
    said = msg("VRAM {used:.1f} of {total:.1f} GiB", used=used, total=total)
    if gpu.temperature is None:
        return said
    return msg("{memory}, {degrees} °C", memory=said, degrees=gpu.temperature)


def describe_fullest_gpu(gpus: Sequence[GpuFacts]) -> Message | None:
    """For one line: of several GPUs the one with the least free memory."""
    if not gpus:
        return None
    fullest = min(gpus, key=lambda gpu: gpu.total_mib - gpu.used_mib)
    said = describe_gpu(fullest)
    return said if len(gpus) == 1 else msg("fullest of {n} GPUs: {gpu}", n=len(gpus), gpu=said)


def describe_gpus(gpus: Sequence[GpuFacts]) -> Message | None:
    """Each with its name."""
    named = [msg("{name}: {state}", name=literal(gpu.name or "GPU"), state=describe_gpu(gpu)) for gpu in gpus]
    return join_list(named) if named else None
