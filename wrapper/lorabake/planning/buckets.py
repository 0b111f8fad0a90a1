"""Bucket arithmetic of sd-scripts at the pin, to the pixel (TU:216-366, MU:1316-1344). Pure.

Sizes are (width, height) in pixels throughout. Float expressions keep sd-scripts' own order of operations, since
a bucket is chosen by comparing them.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabake.errors import RecipeError
from lorabake_schemas.fits import Fit, Size
from lorabake_schemas.words import say


@dataclass(frozen=True, slots=True)
class BucketRules:
    """The bucket settings of one ``[[datasets]]`` block, with sd-scripts' defaults (CU:235-247)."""

    resolution: Size
    enable_bucket: bool = False
    bucket_no_upscale: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64


def adjusted_limits(rules: BucketRules) -> tuple[int, int]:
    """min and max bucket side as sd-scripts rounds them: down and up to a multiple of the step (TU:747-773).

    Raises RecipeError when the resolution lies outside them, where sd-scripts stops with an AssertionError.
    """
    step = rules.bucket_reso_steps
    low, high = rules.min_bucket_reso // step * step, -(-rules.max_bucket_reso // step) * step
    small, large = min(rules.resolution), max(rules.resolution)
    if small < low:
        raise RecipeError(
            say("resolution {side} is below min_bucket_reso {limit}", side=small, limit=low),
            hint=say("set min_bucket_reso to {side} or less", side=small),
        )
    if large > high:
        raise RecipeError(
            say("resolution {side} is above max_bucket_reso {limit}", side=large, limit=high),
            hint=say("set max_bucket_reso to {side} or more", side=large),
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
            say(
                "min_bucket_reso {least} is below bucket_reso_steps {step}",
                least=rules.min_bucket_reso,
                step=rules.bucket_reso_steps,
            ),
            hint=say("sd-scripts would divide by zero: make it at least one step"),
        )
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    square = int(math.sqrt(area) // step) * step
    sizes = {(square, square)}
    for width in range(low, high + 1, step):
        height = min(high, area // width // step * step)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def placer(rules: BucketRules) -> Callable[[Size], Fit]:
    """A function that places an image by its size; it remembers what it has worked out.

    Making it raises RecipeError as ``bucket_sizes``; calling it raises RecipeError for a size that sd-scripts
    crashes on (no size at all, or a picture that leaves no room for a bucket).
    """
    sizes = bucket_sizes(rules)
    nearest = _by_ratio(sizes)
    there = frozenset(sizes)
    known: dict[Size, Fit] = {}

    def place(image: Size) -> Fit:
        found = known.get(image)
        if found is None:
            try:
                if there:
                    found = _covering(image, image if image in there else nearest(image[0] / image[1]))
                else:
                    found = _shrunk(image, rules)
            except ZeroDivisionError:
                raise RecipeError(
                    say(
                        "a picture of {width} x {height} pixels fits no bucket: sd-scripts would crash on it",
                        width=image[0],
                        height=image[1],
                    ),
                    hint=say("leave this picture out or crop it"),
                ) from None
            known[image] = found
        return found

    return place


def _by_ratio(sizes: Sequence[Size]) -> Callable[[float], Size]:
    """The bucket with the nearest aspect ratio, the first in their order where two are equally near (TU:287-293)."""
    first: dict[float, int] = {}
    for at, (width, height) in enumerate(sizes):
        first.setdefault(width / height, at)
    ratios = sorted(first)

    def nearest(ratio: float) -> Size:
        above = bisect_left(ratios, ratio)
        return sizes[min((abs(each - ratio), first[each]) for each in ratios[max(0, above - 1) : above + 1])[1]]

    return nearest


def _covering(image: Size, bucket: Size) -> Fit:
    """Scaled, up or down, until it just covers the bucket."""
    width, height = image
    scale = bucket[1] / height if width / height > bucket[0] / bucket[1] else bucket[0] / width
    return Fit(image, bucket, (int(width * scale + 0.5), int(height * scale + 0.5)))


def _shrunk(image: Size, rules: BucketRules) -> Fit:
    """bucket_no_upscale: never larger than it is, sides floored to the step (S16, TU:309-341)."""
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    resized = _fitted(image, area, step) if image[0] * image[1] > area else image
    bucket = (resized[0] - resized[0] % step, resized[1] - resized[1] % step)
    if 0 in bucket:
        raise ZeroDivisionError
    return Fit(image, bucket, resized)


def _fitted(image: Size, area: int, step: int) -> Size:
    """Scaled to the area with one side a multiple of the step: the side that keeps the aspect ratio better."""
    ratio = image[0] / image[1]
    width = math.sqrt(area * ratio)
    by_width = _floored(width, step)
    by_height = _floored(area / width, step)
    width_ratio = by_width / _floored(by_width / ratio, step)
    height_ratio = _floored(by_height * ratio, step) / by_height
    if abs(width_ratio - ratio) < abs(height_ratio - ratio):
        return by_width, int(by_width / ratio + 0.5)
    return int(by_height * ratio + 0.5), by_height


def _floored(side: float, step: int) -> int:
    whole = int(side + 0.5)
    return whole - whole % step


__all__ = ["BucketRules", "adjusted_limits", "bucket_sizes", "placer"]
