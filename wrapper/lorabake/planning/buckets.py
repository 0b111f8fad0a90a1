"""The bucket of one image, as sd-scripts computes it, to the pixel (TU:216-366, MU:1316-1344). Pure.

How the images of a dataset are sorted into buckets and batches is in ``batches``.

Sizes are (width, height) in pixels throughout. Float expressions keep sd-scripts' own order of operations, since
a bucket is chosen by comparing them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lorabake.errors import RecipeError
from lorabake_schemas.bucket_fit import BucketFit, Size
from lorabake_schemas.messages import msg


class BucketRules(NamedTuple):
    """The bucket settings of one ``[[datasets]]`` block, with sd-scripts' defaults (CU:235-247)."""

    resolution: Size
    enable_bucket: bool = False
    bucket_no_upscale: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64


def adjusted_limits(rules: BucketRules) -> tuple[int, int]:
    """min and max bucket side as sd-scripts rounds them: down and up to a multiple of the step (TU:747-773).

    Raises RecipeError if the resolution is outside of them, where sd-scripts stops with an AssertionError.
    """
    step = rules.bucket_reso_steps
    low, high = rules.min_bucket_reso // step * step, -(-rules.max_bucket_reso // step) * step
    small, large = min(rules.resolution), max(rules.resolution)
    if small < low:
        raise RecipeError(
            msg("resolution {side} is below min_bucket_reso {limit}", side=small, limit=low),
            hint=msg("set min_bucket_reso to {side} or less", side=small),
        )
    if large > high:
        raise RecipeError(
            msg("resolution {side} is above max_bucket_reso {limit}", side=large, limit=high),
            hint=msg("set max_bucket_reso to {side} or more", side=large),
        )
    return low, high


def bucket_sizes(rules: BucketRules) -> tuple[Size, ...]:
    """Every bucket there could be, sorted; without buckets the resolution alone.

    Empty with ``bucket_no_upscale``, where each image makes its own. Raises RecipeError as ``adjusted_limits``,
    and for a min_bucket_reso below one step.
    """
    if not rules.enable_bucket:
        return (rules.resolution,)
    low, high = adjusted_limits(rules)
    if rules.bucket_no_upscale:
        return ()
    if low < 1:
        raise RecipeError(
            msg(
                "min_bucket_reso {least} is below bucket_reso_steps {step}",
                least=rules.min_bucket_reso,
                step=rules.bucket_reso_steps,
            ),
            hint=msg("set it to at least one step, or sd-scripts would divide by zero"),
        )
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    square = int(math.sqrt(area) // step) * step
    sizes = {(square, square)}
    for width in range(low, high + 1, step):
        height = min(high, area // width // step * step)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def bucket_assigner(rules: BucketRules) -> Callable[[Size], BucketFit]:
    """A function that assigns a bucket to an image by its size; it remembers its results.

    Making it raises RecipeError as ``bucket_sizes``. Calling it raises RecipeError for a size that sd-scripts crashes
    on (no size at all, or an image that leaves no space for a bucket).
    """
    sizes = bucket_sizes(rules)
    nearest = _nearest_ratio_finder(sizes)
    there = frozenset(sizes)
    known: dict[Size, BucketFit] = {}

    def place(image: Size) -> BucketFit:
        found = known.get(image)
        if found is None:
            try:
                if there:
                    found = _scale_to_cover(image, image if image in there else nearest(image[0] / image[1]))
                else:
                    found = _fit_without_upscale(image, rules)
            except ZeroDivisionError:
                raise RecipeError(
                    msg(
                        "an image of {width} x {height} pixels fits no bucket; sd-scripts would crash on it",
                        width=image[0],
                        height=image[1],
                    ),
                    hint=msg("crop or remove this image"),
                ) from None
            known[image] = found
        return found

    return place


def _nearest_ratio_finder(sizes: Sequence[Size]) -> Callable[[float], Size]:
    """The bucket with the nearest aspect ratio, the first in their order where two are equally near (TU:287-293)."""
    first: dict[float, int] = {}
    for at, (width, height) in enumerate(sizes):
        first.setdefault(width / height, at)
    ratios = sorted(first)

    def nearest(ratio: float) -> Size:
        above = bisect_left(ratios, ratio)
        return sizes[min((abs(each - ratio), first[each]) for each in ratios[max(0, above - 1) : above + 1])[1]]

    return nearest


def _scale_to_cover(image: Size, bucket: Size) -> BucketFit:
    """Scaled, up or down, until it just covers the bucket."""
    width, height = image
    scale = bucket[1] / height if width / height > bucket[0] / bucket[1] else bucket[0] / width
    return BucketFit(image, bucket, (int(width * scale + 0.5), int(height * scale + 0.5)))


def _fit_without_upscale(image: Size, rules: BucketRules) -> BucketFit:
    """bucket_no_upscale: never larger than it is, sides floored to the step (S16, TU:309-341)."""
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    resized = _scale_to_area(image, area, step) if image[0] * image[1] > area else image
    bucket = (resized[0] - resized[0] % step, resized[1] - resized[1] % step)
    if 0 in bucket:
        raise ZeroDivisionError
    return BucketFit(image, bucket, resized)


def _scale_to_area(image: Size, area: int, step: int) -> Size:
    """Scaled to the area with one side a multiple of the step: the side that keeps the aspect ratio better."""
    ratio = image[0] / image[1]
    width = math.sqrt(area * ratio)
    by_width = _floor_to_step(width, step)
    by_height = _floor_to_step(area / width, step)
    width_ratio = by_width / _floor_to_step(by_width / ratio, step)
    height_ratio = _floor_to_step(by_height * ratio, step) / by_height
    if abs(width_ratio - ratio) < abs(height_ratio - ratio):
        return by_width, int(by_width / ratio + 0.5)
    return int(by_height * ratio + 0.5), by_height


def _floor_to_step(side: float, step: int) -> int:
    whole = int(side + 0.5)
    return whole - whole % step
