"""Images that are the same: byte for byte, or to the eye (the same image in another size or compression)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Generic, NamedTuple, TypeVar

from lorabake_schemas.dataset import DuplicateGroup, ImageRef

THUMBNAIL_SIZE = 8  # side of the small images that are compared, in pixels
# Two images are one to the eye when their values (0 to 255) vary in step and differ by no more than this on average:
# a smaller copy differs by 1, one cropped by 2 % or a little lighter by up to 10, drawings of one hand vary by 0.8 in
# step at most. Flat ones have nothing to vary.
MAX_DIFFERENCE, MIN_CORRELATION, FLAT_SPREAD, FLAT_MAX_DIFFERENCE = 10.0, 0.985, 3.0, 3.0
SHAPE_TOLERANCE = 0.05  # the same image has about the same shape
Key = TypeVar("Key")


class DuplicateCandidate(NamedTuple):
    """An image that may have twins, with the digest of its file."""

    place: ImageRef
    digest: str


def find_exact_duplicates(candidates: Iterable[DuplicateCandidate]) -> tuple[DuplicateGroup, ...]:
    """Groups of equal files, in the candidates' order."""
    groups: dict[str, list[ImageRef]] = {}
    for one in candidates:
        groups.setdefault(one.digest, []).append(one.place)
    return tuple(DuplicateGroup(tuple(places)) for places in groups.values() if len(places) > 1)


class Thumbnail(NamedTuple):
    """An image at 8 by 8 pixels, RGB, and its true width by height."""

    place: ImageRef
    pixels: bytes
    shape: float


def find_near_duplicates(
    thumbnails: Sequence[Thumbnail], equal: Iterable[DuplicateGroup]
) -> tuple[DuplicateGroup, ...]:
    """Groups of images that are alike, without those that are equal files anyway."""
    known = {frozenset(pair) for twins in equal for pair in combinations(twins.places, 2)}
    groups = _DisjointSets[ImageRef]()
    for one, two in _iter_similar_pairs(thumbnails):
        if frozenset((one.place, two.place)) not in known:
            groups.join(one.place, two.place)
    order = {small.place: number for number, small in enumerate(thumbnails)}
    found = sorted((sorted(group, key=order.__getitem__) for group in groups.all()), key=lambda group: order[group[0]])
    return tuple(DuplicateGroup(tuple(group), near=True) for group in found)


def _iter_similar_pairs(thumbnails: Sequence[Thumbnail]) -> Iterator[tuple[Thumbnail, Thumbnail]]:
    """Similar pairs. Sorted by brightness, each image is compared only with those that can be similar."""
    import numpy as np

    if len(thumbnails) < 2:
        return
    ordered = sorted(thumbnails, key=lambda small: sum(small.pixels))
    pixels = np.frombuffer(b"".join(small.pixels for small in ordered), np.uint8).reshape(len(ordered), -1)
    values = pixels.astype(np.float32)
    means = values.mean(axis=1)
    centred = values - means[:, None]
    spread = np.sqrt((centred**2).mean(axis=1))
    shapes = np.array([small.shape for small in ordered])
    brightness = [sum(small.pixels) / values.shape[1] for small in ordered]
    for number in range(1, len(ordered)):
        others = slice(bisect_left(brightness, brightness[number] - MAX_DIFFERENCE), number)
        product = (centred[others] @ centred[number]) / values.shape[1]
        flat = (spread[others] < FLAT_SPREAD) & (spread[number] < FLAT_SPREAD)
        same = flat | (product >= MIN_CORRELATION * spread[others] * spread[number])
        same &= np.abs(shapes[others] - shapes[number]) <= SHAPE_TOLERANCE * shapes[number]
        near_by = np.flatnonzero(same) + others.start
        if len(near_by):
            differences = np.abs(values[near_by] - values[number]).mean(axis=1)
            allowed = np.where(flat[near_by - others.start], FLAT_MAX_DIFFERENCE, MAX_DIFFERENCE)
            yield from ((ordered[other], ordered[number]) for other in near_by[differences <= allowed])


class _DisjointSets(Generic[Key]):
    """Who is joined with whom, directly or through others."""

    def __init__(self) -> None:
        self._group: dict[Key, list[Key]] = {}

    def join(self, one: Key, two: Key) -> None:
        first, second = self._group.setdefault(one, [one]), self._group.setdefault(two, [two])
        if first is second:
            return
        first += second
        for each in second:
            self._group[each] = first

    def all(self) -> list[list[Key]]:
        return list({id(group): group for group in self._group.values()}.values())
