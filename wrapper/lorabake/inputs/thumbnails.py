"""Small JPEGs of images, as sd-scripts sees them: EXIF's rotation and transparency are ignored."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from lorabake.inputs.images import ignore_pillow_warnings, open_image

PROGRESS_INTERVAL = 8
# Longest side in pixels and quality, by the number of images: the HTML of 2,000 stays below 30 MB.
STEPS = ((48, 512, 82), (240, 384, 78), (800, 288, 74))
SMALLEST = (224, 68)


class Thumbnail(NamedTuple):
    """A JPEG and its size in pixels."""

    data: bytes
    width: int
    height: int


def choose_thumbnail_size(images: int) -> tuple[int, int]:
    """The longest side and the quality for so many images."""
    return next(((side, quality) for most, side, quality in STEPS if images <= most), SMALLEST)


def make_thumbnails(
    paths: Sequence[str], progress: Callable[[int, int], None] | None = None
) -> Iterator[Thumbnail | None]:
    """One for each path, in order; None for an image that cannot be decoded."""
    side, quality = choose_thumbnail_size(len(paths))
    # Pillow decodes without Python's lock. The filter of warnings is for the process, so it is set once, out here.
    with ignore_pillow_warnings(), ThreadPoolExecutor(os.cpu_count()) as threads:
        made = threads.map(partial(_make_thumbnail, side=side, quality=quality), paths)
        for done, found in enumerate(made, start=1):
            if progress is not None and (done % PROGRESS_INTERVAL == 0 or done == len(paths)):
                progress(done, len(paths))
            yield found


def _make_thumbnail(path: str, side: int, quality: int) -> Thumbnail | None:
    try:
        with open_image(path) as image:
            image.draft("RGB", (3 * side // 2, 3 * side // 2))  # a JPEG is decoded no larger than needed
            small = image.convert("RGB")
            small.thumbnail((side, side), reducing_gap=2.0)
            made = io.BytesIO()
            small.save(made, "JPEG", quality=quality, optimize=True)
            return Thumbnail(made.getvalue(), *small.size)
    except Exception:  # noqa: BLE001 - damaged images raise almost anything out of Pillow's readers
        return None
