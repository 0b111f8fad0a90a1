"""Folders that have the images of another folder at another size, as exports at 512, 768 and 1024 pixels do."""

from __future__ import annotations

import os
from collections.abc import Sequence

from lorabake.inputs.duplicates import SHAPE_TOLERANCE, Thumbnail, find_near_duplicates
from lorabake.inputs.folders import file_stem
from lorabake.inputs.images import decode_image, ignore_pillow_warnings
from lorabake_schemas.dataset import FolderFacts, ImageFacts, ImageRef

SAMPLES = 6  # pairs of each two folders that are compared by their pixels
MOST = 0.9  # of the images that have another size; a small one may have been left as it was
Pair = tuple[ImageFacts, ImageFacts]


def find_resized_copies(folders: Sequence[FolderFacts]) -> dict[int, int]:
    """The folders to leave out, by number, each with the one that stays: that with more captions, else the larger."""
    order = sorted(range(len(folders)), key=lambda at: _rank(folders[at]), reverse=True)
    kept, found = list[int](), dict[int, int]()
    for at in order:
        same = next((other for other in kept if _is_copy(folders[at], folders[other])), None)
        if same is None:
            kept.append(at)
        else:
            found[at] = same
    return found


def _rank(folder: FolderFacts) -> tuple[int, int]:
    captions = sum(bool(image.caption.text) for image in folder.images)
    return captions, sum(image.width * image.height for image in folder.images)


def _is_copy(folder: FolderFacts, other: FolderFacts) -> bool:
    by_stem = {file_stem(image.name): image for image in other.images}
    pairs = [(image, by_stem[stem]) for image in folder.images if (stem := file_stem(image.name)) in by_stem]
    if len(pairs) < len(folder.images) or not all(_has_same_shape(*pair) and _adds_no_caption(*pair) for pair in pairs):
        return False
    resized = [pair for pair in pairs if pair[0].width != pair[1].width]
    if not resized or len(resized) < MOST * len(pairs):
        return False
    samples = resized[:: max(1, len(resized) // SAMPLES)][:SAMPLES]
    with ignore_pillow_warnings():
        return all(_looks_alike(folder, other, pair) for pair in samples)


def _adds_no_caption(one: ImageFacts, two: ImageFacts) -> bool:
    return one.caption.text in {"", two.caption.text}


def _has_same_shape(one: ImageFacts, two: ImageFacts) -> bool:
    if not (one.height and two.height):
        return False
    shape = one.width / one.height
    return abs(shape - two.width / two.height) <= SHAPE_TOLERANCE * shape


def _looks_alike(folder: FolderFacts, other: FolderFacts, pair: Pair) -> bool:
    small = list[Thumbnail]()
    for number, (place, image) in enumerate(zip((folder, other), pair, strict=True)):
        pixels = bytes.fromhex(decode_image(f"{place.path}{os.sep}{image.name}").small)
        if pixels:
            small.append(Thumbnail(ImageRef("concept", number, image.name), pixels, image.width / image.height))
    return bool(find_near_duplicates(small, ()))
