"""Bucket arithmetic of sd-scripts at the pin, to the pixel (TU:216-366, MU:1316-1344). Pure.

Sizes are (width, height) in pixels throughout. Float expressions keep sd-scripts' own order of operations, since
a bucket is chosen by comparing them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lorabake.errors import RecipeError

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class BucketRules:
    """The bucket settings of one ``[[datasets]]`` block, with sd-scripts' defaults (CU:235-247)."""

    resolution: Size
    enable_bucket: bool = False
    bucket_no_upscale: bool = False
    min_bucket_reso: int = 256
    max_bucket_reso: int = 1024
    bucket_reso_steps: int = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an image goes: its bucket, and its size after resizing, before the centre crop to the bucket."""

    bucket: Size
    resized: Size

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """left, upper, right, lower of the centre crop in the resized image (TU:2965-2993, no random crop)."""
        left = max(0, self.resized[0] - self.bucket[0]) // 2
        upper = max(0, self.resized[1] - self.bucket[1]) // 2
        return left, upper, left + self.bucket[0], upper + self.bucket[1]


def adjusted_limits(rules: BucketRules) -> tuple[int, int]:
    """min and max bucket side as sd-scripts rounds them: down and up to a multiple of the step (TU:747-773).

    Raises RecipeError when the resolution lies outside them, where sd-scripts stops with an AssertionError.
    """
    step = rules.bucket_reso_steps
    low, high = rules.min_bucket_reso // step * step, -(-rules.max_bucket_reso // step) * step
    small, large = min(rules.resolution), max(rules.resolution)
    if small < low:
        raise RecipeError(
            f"resolution {small} is below min_bucket_reso {low}", hint=f"set min_bucket_reso to {small} or less"
        )
    if large > high:
        raise RecipeError(
            f"resolution {large} is above max_bucket_reso {high}", hint=f"set max_bucket_reso to {large} or more"
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
            f"min_bucket_reso {rules.min_bucket_reso} is below bucket_reso_steps {rules.bucket_reso_steps}",
            hint="sd-scripts would divide by zero: make it at least one step",
        )
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    square = int(math.sqrt(area) // step) * step
    sizes = {(square, square)}
    for width in range(low, high + 1, step):
        height = min(high, area // width // step * step)
        if height >= low:
            sizes |= {(width, height), (height, width)}
    return tuple(sorted(sizes))


def placer(rules: BucketRules) -> Callable[[Size], Placement]:
    """A function that places an image by its size; it remembers what it has worked out.

    Making it raises RecipeError as ``bucket_sizes``; calling it raises RecipeError for a size that sd-scripts
    crashes on (no size at all, or a picture that leaves no room for a bucket).
    """
    sizes = bucket_sizes(rules)
    grow = bool(sizes)
    ratios = tuple(width / height for width, height in sizes)
    known: dict[Size, Placement] = {}

    def place(image: Size) -> Placement:
        found = known.get(image)
        if found is None:
            try:
                found = _nearest(image, sizes, ratios) if grow else _shrunk(image, rules)
            except ZeroDivisionError:
                raise RecipeError(_NO_ROOM.format(*image), hint="leave this picture out or crop it") from None
            known[image] = found
        return found

    return place


_NO_ROOM = "a picture of {} x {} pixels fits no bucket: sd-scripts would crash on it (TU:287, TU:319)"


def _nearest(image: Size, sizes: tuple[Size, ...], ratios: tuple[float, ...]) -> Placement:
    """The bucket of exactly this size, else the first with the nearest aspect ratio; the image covers it."""
    width, height = image
    ratio = width / height
    bucket = image if image in sizes else sizes[min(range(len(sizes)), key=lambda at: abs(ratios[at] - ratio))]
    scale = bucket[1] / height if ratio > bucket[0] / bucket[1] else bucket[0] / width
    return Placement(bucket, (int(width * scale + 0.5), int(height * scale + 0.5)))


def _shrunk(image: Size, rules: BucketRules) -> Placement:
    """bucket_no_upscale: never larger than it is, sides floored to the step (S16, TU:309-341)."""
    step, area = rules.bucket_reso_steps, rules.resolution[0] * rules.resolution[1]
    resized = _fitted(image, area, step) if image[0] * image[1] > area else image
    bucket = (resized[0] - resized[0] % step, resized[1] - resized[1] % step)
    if 0 in bucket:
        raise ZeroDivisionError
    return Placement(bucket, resized)


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


__all__ = ["BucketRules", "Placement", "Size", "adjusted_limits", "bucket_sizes", "placer"]
