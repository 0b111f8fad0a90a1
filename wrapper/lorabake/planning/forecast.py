"""Counts what sd-scripts will do before it does it: samples, batches, steps, warm-up, saves. Pure.

The arithmetic is that of sd-scripts-facts 2.8 (TN:799-805, TN:978, TN:1497, TN:1694).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lorabake.errors import RecipeError
from lorabake.planning.batches import BatchCounts, DatasetBlock, count_batches, count_distinct_images, group_by_owner
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import Message, msg
from lorabake_schemas.plan import BatchDistribution, ConceptShare, FolderShare, Forecast, PlannedSave
from lorabake_schemas.saved_names import epoch_name, step_name
from lorabake_schemas.values import MAX_STEPS

MAX_SAVES = 20_000


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, in how many processes, and what is saved.

    Exactly one of ``max_train_epochs`` and ``max_train_steps`` is set. ``lr_warmup_steps``: an int is steps, a float a
    share of all steps. ``cycles`` are those of cosine_with_restarts, 0 for any other scheduler. ``extension`` is
    save_model_as.
    """

    output_name: str
    max_train_epochs: int | None = None
    max_train_steps: int | None = None
    gradient_accumulation_steps: int = 1
    num_processes: int = 1
    lr_warmup_steps: int | float = 0
    cycles: int = 0
    save_every_n_epochs: int | None = None
    save_every_n_steps: int | None = None
    save_last_n_epochs: int | None = None
    save_last_n_steps: int | None = None
    extension: str = "safetensors"


def forecast_run(blocks: Sequence[DatasetBlock], schedule: Schedule) -> Forecast:
    """The whole run in numbers.

    Raises RecipeError where sd-scripts would stop: a resolution outside the bucket limits, an image that fits no
    bucket, nothing to train on; and when not exactly one of epochs and steps is given.
    """
    return forecast_from_counts(count_batches(blocks), schedule)


def forecast_from_counts(held: BatchCounts, schedule: Schedule) -> Forecast:
    """The same of images that are counted already."""
    if not held.batches:
        raise RecipeError(msg("there are no images to train on; sd-scripts would exit with 'No data found' and code 0"))
    dealing = _distribute_batches(held, schedule)
    per_epoch = -(-dealing.batches_per_process // dealing.accumulation)
    steps, epochs = _count_steps(schedule, held.batches, per_epoch)
    _reject_excessive_length(schedule, steps, epochs)
    shares = tuple(_concept_share(held, places, steps / per_epoch) for places in group_by_owner(held.subsets))
    return Forecast(
        train_samples=sum(share.samples_per_epoch for share in shares if not share.is_reg),
        reg_samples=sum(share.samples_per_epoch for share in shares if share.is_reg),
        batches_per_epoch=held.batches,
        steps_per_epoch=per_epoch,
        epochs=epochs,
        steps=steps,
        warmup_steps=-(-_warmup_ticks(schedule, steps) // schedule.num_processes),
        restarts=_restart_steps(schedule, steps),
        dealing=dealing,
        buckets=held.buckets,
        underfilled=held.underfilled,
        shares=shares,
        saves=_planned_saves(schedule, per_epoch, epochs, steps),
    )


def _distribute_batches(held: BatchCounts, schedule: Schedule) -> BatchDistribution:
    """accelerate gives each process every n-th batch and repeats the first ones to make the number even
    (accelerate/data_loader.py, BatchSamplerShard); a step is shorter at the end of an epoch (_do_sync).
    """
    processes, accumulation = schedule.num_processes, schedule.gradient_accumulation_steps
    each = -(-held.batches // processes)
    return BatchDistribution(
        processes=processes,
        accumulation=accumulation,
        batches_per_process=each,
        samples_per_step=held.batch_size * processes * accumulation,
        repeated_batches=each * processes - held.batches,
        last_step_batches=each % accumulation or accumulation,
    )


def _count_steps(schedule: Schedule, batches: int, steps_per_epoch: int) -> tuple[int, int]:
    """Optimizer steps and epochs, the last epoch perhaps cut short (TN:799-805, TN:978-979)."""
    match schedule.max_train_epochs, schedule.max_train_steps:
        case (int() as epochs, None):
            # in sd-scripts' own order of divisions, which are of floats
            steps = epochs * math.ceil(batches / schedule.num_processes / schedule.gradient_accumulation_steps)
            return steps, math.ceil(steps / steps_per_epoch)
        case (None, int() as steps):
            return steps, math.ceil(steps / steps_per_epoch)
        case _:
            raise RecipeError(
                msg("exactly one of max_train_epochs and max_train_steps is required"),
                hint=msg("remove one of them; sd-scripts would silently use the epochs"),
            )


def _reject_excessive_length(schedule: Schedule, steps: int, epochs: int) -> None:
    """Raises RecipeError for an impossibly long run: each of its numbers is allowed, but not all together."""
    length = ("train", "max_train_epochs" if schedule.max_train_epochs is not None else "max_train_steps")
    if steps > MAX_STEPS:
        raise _too_many_error(length, msg("{n} steps", n=steps), msg("fewer epochs or a lower num_repeats"))
    by_steps, by_epochs = schedule.save_every_n_steps, schedule.save_every_n_epochs
    for name, count in (
        ("save_every_n_steps", steps // by_steps if by_steps else 0),
        ("save_every_n_epochs", epochs // by_epochs if by_epochs else 0),
    ):
        if count > MAX_SAVES:
            raise _too_many_error(("save", name), msg("{n} files", n=count), msg("a larger number"))


def _too_many_error(where: tuple[str, ...], what: Message, fix: Message) -> RecipeError:
    said = msg("would result in {what}, more than any training needs", what=what)
    fix = msg("write {what}", what=fix)
    finding = Finding(rule="out-of-range", severity=Severity.ERROR, where=where, message=said, fix=fix)
    return RecipeError(said, [finding], fix)


def _warmup_ticks(schedule: Schedule, steps: int) -> int:
    """The scheduler's ticks of warm-up: a float is a share, floored (TU:5274-5277).

    accelerate moves the schedule on once per process and step, so a whole number of steps is over that much
    sooner (sd-scripts-facts 1.3 no. 39).
    """
    given = schedule.lr_warmup_steps
    return int(given * (steps * schedule.num_processes)) if isinstance(given, float) else given


def _restart_steps(schedule: Schedule, steps: int) -> tuple[int, ...]:
    """Steps after which the rate is at its peak, by transformers' own formula, its floats included (T14)."""
    processes, cycles, first = schedule.num_processes, schedule.cycles, _warmup_ticks(schedule, steps)
    span = max(1, steps * processes - first)

    def begun(tick: int) -> int:
        return math.floor(float(cycles) * (float(tick - first) / float(span)))

    peaks = set[int]()
    for cycle in range(cycles):
        tick = first + cycle * span // cycles
        while begun(tick) < cycle:
            tick += 1
        peaks.add(-(-tick // processes))
    return tuple(sorted(step for step in peaks if step < steps))


def _concept_share(held: BatchCounts, places: Sequence[int], epochs: float) -> ConceptShare:
    """Of all subsets of one concept or regularization set."""
    used: dict[tuple[str, int], int] = {}  # of each image, in all its blocks
    for place in places:
        key = held.subsets[place].key or f"{place}"
        for at, times in enumerate(held.repeats[place]):
            used[key, at] = used.get((key, at), 0) + times
    folders = tuple(_folder_share(held, place, epochs) for place in places)
    seen, samples = sum(times > 0 for times in used.values()), sum(used.values())
    first = held.subsets[places[0]]
    return ConceptShare(
        title=first.title,
        images=count_distinct_images([held.subsets[place] for place in places]),
        images_used=seen,
        samples_per_epoch=samples,
        exposures=samples / seen * epochs if seen else 0.0,
        is_reg=first.is_reg,
        folders=folders,
    )


def _folder_share(held: BatchCounts, place: int, epochs: float) -> FolderShare:
    subset, repeats = held.subsets[place], held.repeats[place]
    used, samples = sum(times > 0 for times in repeats), sum(repeats)
    return FolderShare(
        folder=subset.folder or subset.title,
        dataset=held.blocks[place],
        images=len(subset.sizes),
        images_used=used,
        num_repeats=subset.num_repeats,
        samples_per_epoch=samples,
        exposures=samples / used * epochs if used else 0.0,
    )


def _planned_saves(schedule: Schedule, steps_per_epoch: int, epochs: int, steps: int) -> tuple[PlannedSave, ...]:
    """The files in the order of writing; the file of the last epoch has no number (sd-scripts-facts 5.4)."""
    name, suffix = schedule.output_name, f".{schedule.extension}"
    at_steps = _save_points(schedule.save_every_n_steps, steps + 1)
    at_epochs = _save_points(schedule.save_every_n_epochs, epochs)
    gone_steps, gone_epochs = _removed_steps(schedule, at_steps), _removed_epochs(schedule, at_epochs)
    saves = [
        PlannedSave(file=step_name(name, step) + suffix, step=step, kept=step not in gone_steps) for step in at_steps
    ]
    saves += [
        PlannedSave(
            file=epoch_name(name, epoch) + suffix,
            step=epoch * steps_per_epoch,
            epoch=epoch,
            kept=epoch not in gone_epochs,
        )
        for epoch in at_epochs
    ]
    saves.sort(key=lambda save: (save.step, save.epoch is not None))
    return (*saves, PlannedSave(file=f"{name}{suffix}", step=steps, epoch=epochs))


def _save_points(interval: int | None, end: int) -> range:
    return range(interval, end, interval) if interval else range(0)


def _removed_epochs(schedule: Schedule, saved: range) -> set[int]:
    """Each save deletes one that is old enough (TU:5786)."""
    keep = schedule.save_last_n_epochs
    return set() if keep is None else {epoch - saved.step * keep for epoch in saved}


def _removed_steps(schedule: Schedule, saved: range) -> set[int]:
    """``save_last_n_steps`` counts steps, not files (TU:5796)."""
    keep = schedule.save_last_n_steps
    return set() if keep is None else {(step - keep - 1) // saved.step * saved.step for step in saved}
