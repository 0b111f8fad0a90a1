"""A deep scan: every image is decoded as sd-scripts will decode it, and compared with every other by its pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from PIL import __version__ as pillow

from lorabake.inputs import duplicates
from lorabake.inputs.folders import FolderListing
from lorabake.inputs.images import DecodedImage, decode_image, ignore_pillow_warnings
from lorabake.util.fact_cache import FactStore, Row, is_settled
from lorabake_schemas.dataset import DuplicateGroup, FolderFacts, ImageFacts, ImageRef

PIXELS_KIND = f"pixels 1, Pillow {pillow}"


@dataclass(frozen=True, slots=True)
class DeepScanFolder:
    """One folder to scan: its names, its facts so far, and where an image of it is in the recipe."""

    names: FolderListing
    facts: FolderFacts
    place: Callable[[str], ImageRef]


def decode_folders(
    folders: Sequence[DeepScanFolder],
    equal: Iterable[DuplicateGroup],
    store: FactStore,
    now: int,
    step: Callable[[], None],
) -> tuple[list[FolderFacts], tuple[DuplicateGroup, ...]]:
    """The facts with what the pixels show, and the images that are alike without being equal."""
    found, small, met = list[FolderFacts](), list[duplicates.Thumbnail](), set[str]()
    with ignore_pillow_warnings(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for folder in folders:
            looks = _iter_decoded(folder, store, now, pool)
            images = list[ImageFacts]()
            for image, deep in zip(folder.facts.images, looks, strict=True):
                images.append(_with_pixels(image, deep))
                if deep.small and folder.names.identity not in met:
                    shape = image.width / image.height
                    small.append(duplicates.Thumbnail(folder.place(image.name), bytes.fromhex(deep.small), shape))
                step()
            met.add(folder.names.identity)
            found.append(replace(folder.facts, images=tuple(images)))
    return found, duplicates.find_near_duplicates(small, equal)


def _with_pixels(image: ImageFacts, deep: DecodedImage) -> ImageFacts:
    if image.problem is not None or not (deep.problem or deep.opaque):
        return image
    return image._replace(problem=deep.problem, opaque=deep.opaque)


def _iter_decoded(
    folder: DeepScanFolder, store: FactStore, now: int, pool: ThreadPoolExecutor
) -> Iterator[DecodedImage]:
    """One for each image of the folder, in order; an empty one for an image that already has a problem."""
    stamps = [folder.names.stamps.get(image.name, "") for image in folder.facts.images]
    rows = store.recall(PIXELS_KIND, folder.names.identity, stamps, len(DecodedImage._fields))
    kept = list[tuple[str, Row]]()
    wanted = [
        f"{folder.names.root}{os.sep}{image.name}"
        for image, row in zip(folder.facts.images, rows, strict=True)
        if image.problem is None and row is None
    ]
    fresh = pool.map(decode_image, wanted)
    for image, stamp, row in zip(folder.facts.images, stamps, rows, strict=True):
        if image.problem is not None:
            yield DecodedImage()
        elif row is not None:
            yield DecodedImage(*row)
        else:
            deep = next(fresh)
            if deep.problem is None and is_settled(stamp, now):
                kept.append((stamp, list(deep)))
            yield deep
    store.keep(PIXELS_KIND, folder.names.identity, kept)
