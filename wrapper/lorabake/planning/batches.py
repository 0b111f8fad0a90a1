"""How the images of an epoch, with their repeats, are sorted into buckets and batches. Pure.

The bucket of one image is computed in ``buckets``. The arithmetic is that of sd-scripts (TU:1050-1084, TU:2118-2182).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

from lorabake.errors import RecipeError
from lorabake.planning.buckets import BucketRules, bucket_assigner
from lorabake_schemas.bucket_fit import BucketFit, Size, SubsetFits
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import msg
from lorabake_schemas.plan import Bucket, UnderfilledBatches


@dataclass(frozen=True, slots=True)
class SubsetInput:
    """One ``[[datasets.subsets]]``: the sizes of its images in sd-scripts' order, and their names if known.

    ``held_out`` are the indices of images that are excluded from training for validation. ``folder`` is its folder as
    in the recipe, ``key`` is the same for one folder under two names, ``index`` its index in the recipe's table.
    ``owner`` is the concept or regularization set that it belongs to (None: a separate one).
    """

    title: str
    sizes: tuple[Size, ...]
    num_repeats: int = 1
    is_reg: bool = False
    names: tuple[str, ...] = ()
    held_out: frozenset[int] = field(default_factory=frozenset[int])
    folder: str = ""
    key: str = ""
    index: int | None = None
    owner: int | None = None


@dataclass(frozen=True, slots=True)
class DatasetBlock:
    """One ``[[datasets]]``: its subsets in order, its bucket settings, its batch size."""

    subsets: tuple[SubsetInput, ...]
    rules: BucketRules
    batch_size: int = 1


class BatchCounts(NamedTuple):
    """The content of an epoch of all blocks, whatever its schedule.

    ``subsets`` are those of all blocks in order, ``blocks`` is the block of each; ``repeats`` and ``fits`` have one
    entry for each image of each subset.
    """

    blocks: tuple[int, ...]
    subsets: tuple[SubsetInput, ...]
    repeats: tuple[tuple[int, ...], ...]
    fits: tuple[SubsetFits, ...]
    buckets: tuple[Bucket, ...]
    underfilled: UnderfilledBatches
    batch_size: int

    @property
    def batches(self) -> int:
        return sum(bucket.batches for bucket in self.buckets)


def count_batches(blocks: Sequence[DatasetBlock]) -> BatchCounts:
    """Every image placed and counted.

    Raises RecipeError where sd-scripts would stop: a resolution outside the bucket limits, images that fit no
    bucket (a finding for each subset that has some).
    """
    numbered = [(number, subset) for number, block in enumerate(blocks) for subset in block.subsets]
    repeats = tuple(each for block in blocks for each in effective_repeats(block.subsets))
    fits, buckets, extra, done = list[SubsetFits](), list[Bucket](), 0, 0
    for number, block in enumerate(blocks):
        own = repeats[done : done + len(block.subsets)]
        done += len(block.subsets)
        placed = _assign_buckets(block, own)
        found = _count_buckets(placed, own, block.batch_size, number)
        extra += sum(bucket.batches for bucket in found) - -(-sum(b.samples for b in found) // block.batch_size)
        fits += placed
        buckets += found
    largest = max((block.batch_size for block in blocks), default=1)
    return BatchCounts(
        blocks=tuple(number for number, _ in numbered),
        subsets=tuple(subset for _, subset in numbered),
        repeats=repeats,
        fits=tuple(fits),
        buckets=tuple(buckets),
        underfilled=_count_underfilled(buckets, extra),
        batch_size=largest,
    )


def group_by_owner(subsets: Sequence[SubsetInput]) -> tuple[tuple[int, ...], ...]:
    """The places of the subsets of each concept and each regularization set, whatever block they are in."""
    groups: dict[tuple[bool, int], list[int]] = {}
    for place, subset in enumerate(subsets):
        owner = -1 - place if subset.owner is None else subset.owner
        groups.setdefault((subset.is_reg, owner), []).append(place)
    return tuple(map(tuple, groups.values()))


def count_looks(blocks: Sequence[DatasetBlock]) -> Fraction:
    """How often an image of the concept with the most images is seen in one epoch, on average (F4)."""
    subsets = [subset for block in blocks for subset in block.subsets if not subset.is_reg]
    concepts = [[subsets[place] for place in group] for group in group_by_owner(subsets)]
    largest = max(concepts, key=count_distinct_images)
    trained = [replace(part, sizes=part.sizes[len(part.held_out) :]) for part in largest]
    samples = sum(len(part.sizes) * part.num_repeats for part in trained)
    return Fraction(samples, count_distinct_images(trained) or 1) or Fraction(1)


def count_distinct_images(subsets: Sequence[SubsetInput]) -> int:
    """Images of all folders, each folder once."""
    return sum({part.key or f"{place}": len(part.sizes) for place, part in enumerate(subsets)}.values())


def effective_repeats(subsets: Sequence[SubsetInput]) -> tuple[tuple[int, ...], ...]:
    """How often each image of each subset comes per epoch, after sd-scripts has balanced regularization images.

    Subsets with less than one repeat are left out (TU:2124). Regularization images are taken in order with their
    own repeats until they are as many as the training samples; if they are too few, each gets one more, round
    after round, until they are equal. Images never reached stay out (S13, TU:2166-2182).
    """
    kept = [subset if subset.num_repeats >= 1 else None for subset in subsets]
    wanted = sum(
        subset.num_repeats * (len(subset.sizes) - len(subset.held_out))
        for subset in kept
        if subset and not subset.is_reg
    )
    order = [subset.num_repeats for subset in kept if subset and subset.is_reg for _ in subset.sizes]
    reg = iter(_balance_regularization(order, wanted))
    return tuple(
        tuple(
            next(reg) if subset.is_reg else 0 if at in subset.held_out else subset.num_repeats
            for at, _ in enumerate(subset.sizes)
        )
        if subset
        else ()
        for subset in kept
    )


def _balance_regularization(own: Sequence[int], wanted: int) -> list[int]:
    """The loop of TU:2166-2182 in closed form: a first pass with own repeats, then full and partial rounds of one."""
    total, taken = 0, list[int]()
    for repeats in own:
        taken.append(repeats if total < wanted else 0)
        total += taken[-1]
    if total >= wanted or not taken:
        return taken
    rounds, rest = divmod(wanted - total, len(taken))
    return [repeats + rounds + (at < rest) for at, repeats in enumerate(taken)]


def _assign_buckets(block: DatasetBlock, repeats: Sequence[tuple[int, ...]]) -> list[SubsetFits]:
    place = bucket_assigner(block.rules)
    try:
        return [_assign_subset(subset, each, place) for subset, each in zip(block.subsets, repeats, strict=True)]
    except RecipeError as error:
        raise RecipeError(error.message, _unplaceable_findings(block, repeats, place), error.hint) from error


def _assign_subset(subset: SubsetInput, repeats: tuple[int, ...], place: Callable[[Size], BucketFit]) -> SubsetFits:
    if not repeats:
        return (None,) * len(subset.sizes)
    return tuple(
        place(size) if times or at in subset.held_out else None
        for at, (size, times) in enumerate(zip(subset.sizes, repeats, strict=True))
    )


def _unplaceable_findings(
    block: DatasetBlock, repeats: Sequence[tuple[int, ...]], place: Callable[[Size], BucketFit]
) -> tuple[Finding, ...]:
    """Findings for images on which sd-scripts divides by zero without naming them (TU:287, TU:319)."""
    found = list[Finding]()
    seen = Counter[str]()
    for subset, each in zip(block.subsets, repeats, strict=True):
        table = "regularization" if subset.is_reg else "concept"
        names = [
            subset.names[at] if subset.names else f"{size[0]}x{size[1]}"
            for at, (size, times) in enumerate(zip(subset.sizes, each, strict=False))
            if times and not _fits_bucket(size, place)
        ]
        if names:
            index = seen[table] if subset.index is None else subset.index
            found.append(_unplaceable_finding((table, index, "images"), names))
        seen[table] += 1
    return tuple(found)


def _fits_bucket(size: Size, place: Callable[[Size], BucketFit]) -> bool:
    try:
        place(size)
    except RecipeError:
        return False
    return True


def _unplaceable_finding(where: tuple[str | int, ...], names: Sequence[str]) -> Finding:
    message = msg(
        "images too narrow or too small for any bucket: {names}; sd-scripts would stop without naming them",
        names=", ".join(names),
    )
    fix = msg("crop or remove these images, or remove bucket_no_upscale")
    return Finding(rule="S16", severity=Severity.ERROR, where=where, message=message, fix=fix)


def _count_buckets(
    placed: Sequence[SubsetFits], repeats: Sequence[tuple[int, ...]], batch_size: int, dataset: int
) -> list[Bucket]:
    held, pictures = Counter[Size](), Counter[Size]()
    for fits, each in zip(placed, repeats, strict=True):
        for fit, times in zip(fits, each, strict=False):  # a left-out subset has no repeats
            if fit is not None and times:
                held[fit.bucket] += times
                pictures[fit.bucket] += 1
    return [
        Bucket(
            width=size[0],
            height=size[1],
            samples=count,
            batches=-(-count // batch_size),
            pictures=pictures[size],
            missing=-count % batch_size,
            dataset=dataset,
        )
        for size, count in sorted(held.items())
    ]


def _count_underfilled(buckets: Sequence[Bucket], extra: int) -> UnderfilledBatches:
    short = [bucket.missing for bucket in buckets if bucket.missing]
    batches = sum(bucket.batches for bucket in buckets)
    return UnderfilledBatches(
        batches=len(short),
        share=len(short) / batches if batches else 0.0,
        missing_samples=sum(short),
        extra_batches=extra,
        lone_buckets=sum(bucket.samples == 1 for bucket in buckets),
    )
