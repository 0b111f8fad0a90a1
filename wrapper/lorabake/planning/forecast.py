"""Counts what sd-scripts will do before it does it: samples, batches, steps, warm-up, saves. Pure.

The arithmetic is that of sd-scripts-facts 2.8 (TU:1050-1084, TU:2145-2182, TN:799-805, TN:978, TN:1497, TN:1694).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorabake.errors import RecipeError
from lorabake.planning.buckets import BucketRules, Size, placer
from lorabake_schemas.plan import Bucket, ConceptShare, Forecast, Save


@dataclass(frozen=True, slots=True)
class SubsetInput:
    """One ``[[datasets.subsets]]``: the sizes of its images in sd-scripts' order."""

    title: str
    sizes: tuple[Size, ...]
    num_repeats: int = 1
    is_reg: bool = False


@dataclass(frozen=True, slots=True)
class DatasetBlock:
    """One ``[[datasets]]``: its subsets in order, its bucket settings, its batch size."""

    subsets: tuple[SubsetInput, ...]
    rules: BucketRules
    batch_size: int = 1


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, in how many processes, and what is saved.

    Exactly one of ``max_train_epochs`` and ``max_train_steps``. ``lr_warmup_steps``: an int is steps, a float a
    share of all steps. ``extension`` is save_model_as.
    """

    output_name: str
    max_train_epochs: int | None = None
    max_train_steps: int | None = None
    gradient_accumulation_steps: int = 1
    num_processes: int = 1
    lr_warmup_steps: int | float = 0
    save_every_n_epochs: int | None = None
    save_every_n_steps: int | None = None
    extension: str = "safetensors"


def forecast(blocks: Sequence[DatasetBlock], schedule: Schedule) -> Forecast:
    """The whole run in numbers.

    Raises RecipeError where sd-scripts would stop: a resolution outside the bucket limits, a picture that fits no
    bucket, nothing to train on; and when not exactly one of epochs and steps is given.
    """
    repeats = [effective_repeats(block.subsets) for block in blocks]
    buckets = tuple(bucket for block, each in zip(blocks, repeats, strict=True) for bucket in _buckets(block, each))
    batches = sum(bucket.batches for bucket in buckets)
    if not batches:
        raise RecipeError("there is no picture to train on: sd-scripts would end with 'No data found' and exit code 0")
    per_epoch = math.ceil(batches / (schedule.num_processes * schedule.gradient_accumulation_steps))
    steps, epochs = _duration(schedule, per_epoch)
    shares = [
        _share(subset, used, steps / per_epoch)
        for block, each in zip(blocks, repeats, strict=True)
        for subset, used in zip(block.subsets, each, strict=True)
    ]
    return Forecast(
        train_samples=sum(share.samples_per_epoch for share in shares if not share.is_reg),
        reg_samples=sum(share.samples_per_epoch for share in shares if share.is_reg),
        batches_per_epoch=batches,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        steps=steps,
        warmup_steps=_warm_up(schedule, steps),
        buckets=buckets,
        shares=tuple(shares),
        saves=_saves(schedule, per_epoch, epochs, steps),
    )


def effective_repeats(subsets: Sequence[SubsetInput]) -> tuple[tuple[int, ...], ...]:
    """How often each image of each subset comes per epoch, after sd-scripts has balanced regularisation images.

    Subsets with less than one repeat are left out (TU:2124). Regularisation images are taken in order with their
    own repeats until they are as many as the training samples; if they are too few, each gets one more, round
    after round, until they are equal. Images never reached stay out (S13, TU:2166-2182).
    """
    kept = [subset if subset.num_repeats >= 1 else None for subset in subsets]
    wanted = sum(subset.num_repeats * len(subset.sizes) for subset in kept if subset and not subset.is_reg)
    order = [subset.num_repeats for subset in kept if subset and subset.is_reg for _ in subset.sizes]
    reg = iter(_balanced(order, wanted))
    return tuple(
        tuple(next(reg) if subset.is_reg else subset.num_repeats for _ in subset.sizes) if subset else ()
        for subset in kept
    )


def _balanced(own: Sequence[int], wanted: int) -> list[int]:
    """The loop of TU:2166-2182 in closed form: a first pass with own repeats, then whole and part rounds of one."""
    total, taken = 0, list[int]()
    for repeats in own:
        taken.append(repeats if total < wanted else 0)
        total += taken[-1]
    if total >= wanted or not taken:
        return taken
    rounds, rest = divmod(wanted - total, len(taken))
    return [repeats + rounds + (at < rest) for at, repeats in enumerate(taken)]


def _buckets(block: DatasetBlock, repeats: tuple[tuple[int, ...], ...]) -> list[Bucket]:
    place = placer(block.rules)
    samples: dict[Size, int] = {}
    for subset, each in zip(block.subsets, repeats, strict=True):
        for size, times in zip(subset.sizes, each, strict=False):  # a left-out subset has no repeats
            if times:
                bucket = place(size).bucket
                samples[bucket] = samples.get(bucket, 0) + times
    return [
        Bucket(width=width, height=height, samples=count, batches=-(-count // block.batch_size))
        for (width, height), count in sorted(samples.items())
    ]


def _duration(schedule: Schedule, steps_per_epoch: int) -> tuple[int, int]:
    """Optimizer steps and epochs, the last epoch perhaps cut short (TN:799-805, TN:978-979)."""
    match schedule.max_train_epochs, schedule.max_train_steps:
        case (int() as epochs, None):
            return epochs * steps_per_epoch, epochs
        case (None, int() as steps):
            return steps, math.ceil(steps / steps_per_epoch)
        case _:
            raise RecipeError(
                "a run needs exactly one of max_train_epochs and max_train_steps",
                hint="sd-scripts lets epochs win in silence, so leave one of them out",
            )


def _warm_up(schedule: Schedule, steps: int) -> int:
    """Optimizer steps of warm-up: a float is a share, floored (TU:5274-5277).

    accelerate moves the schedule on once per process and step, so a whole number of steps is over that much
    sooner (sd-scripts-facts 1.3 no. 39).
    """
    given, processes = schedule.lr_warmup_steps, schedule.num_processes
    ticks = int(given * (steps * processes)) if isinstance(given, float) else given
    return -(-ticks // processes)


def _share(subset: SubsetInput, repeats: tuple[int, ...], epochs: float) -> ConceptShare:
    used, samples = sum(times > 0 for times in repeats), sum(repeats)
    return ConceptShare(
        title=subset.title,
        images=len(subset.sizes),
        num_repeats=subset.num_repeats,
        samples_per_epoch=samples,
        exposures=samples / used * epochs if used else 0.0,
        is_reg=subset.is_reg,
        images_used=used,
    )


def _saves(schedule: Schedule, steps_per_epoch: int, epochs: int, steps: int) -> tuple[Save, ...]:
    """The files in the order of writing; the last epoch has no number of its own (sd-scripts-facts 5.4)."""
    name, suffix = schedule.output_name, f".{schedule.extension}"
    by_step, by_epoch = schedule.save_every_n_steps, schedule.save_every_n_epochs
    saves = [
        Save(file=f"{name}-step{step:08d}{suffix}", step=step)
        for step in (range(by_step, steps + 1, by_step) if by_step else ())
    ]
    saves += [
        Save(file=f"{name}-{epoch:06d}{suffix}", step=epoch * steps_per_epoch, epoch=epoch)
        for epoch in (range(by_epoch, epochs, by_epoch) if by_epoch else ())
    ]
    saves.sort(key=lambda save: (save.step, save.epoch is not None))
    return (*saves, Save(file=f"{name}{suffix}", step=steps, epoch=epochs))


__all__ = ["DatasetBlock", "Schedule", "SubsetInput", "effective_repeats", "forecast"]
