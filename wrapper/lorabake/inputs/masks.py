"""The masks of a folder's images: which file sd-scripts takes for each, and whether it can (TU:2640-2690, 2715-2760).

sd-scripts pairs by stem, whatever the extension, stops where an image has no mask or a mask no image, and takes the
red channel: white is learned, black is not.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import __version__ as pillow

from lorabake.inputs.folders import FolderListing, file_stem, list_folder
from lorabake.inputs.images import ignore_pillow_warnings, open_image
from lorabake.util.fact_cache import FactStore, Row, is_file_stamp, is_settled
from lorabake_schemas.dataset import CAPTION_EXTENSION, ImageFacts, MaskFacts

MASK_KIND = f"mask 1, Pillow {pillow}"
ROW_WIDTH = 4


class MaskFile(NamedTuple):
    """A mask: its size, Pillow's mode, and the darkest and brightest value of its red channel (0 to 255)."""

    width: int
    height: int
    mode: str
    values: tuple[int, int]


def read_masks(folder: Path, images: Sequence[ImageFacts], root: str, store: FactStore, now: int) -> MaskFacts:
    """The masks in ``folder`` for the images of the folder ``root``. Never raises for what is on the disk."""
    found = list_folder(folder, CAPTION_EXTENSION)
    if found.problem is not None:
        return MaskFacts(found.root, problem=found.problem)
    if os.path.realpath(root) == os.path.realpath(found.root):
        return MaskFacts(found.root, problem="images")
    by_stem: dict[str, str] = {}
    for name in sorted(found.images):
        by_stem.setdefault(file_stem(name), name)  # glob's first (TU:2652)
    known = dict(zip(by_stem, _read_files(found, [*by_stem.values()], store, now), strict=True))
    stems = {_stem(image) for image in images}
    pairs = [(image, stem) for image in images if (stem := _stem(image)) in by_stem]
    there = {stem: file for stem, file in known.items() if stem in stems}
    usable = {stem: file for stem, file in there.items() if file is not None}
    return MaskFacts(
        found.root,
        count=len(there),
        missing=tuple(image.name for image in images if _stem(image) not in by_stem),
        extra=tuple(name for name in found.images if file_stem(name) not in stems),
        broken=tuple(by_stem[stem] for stem, file in there.items() if file is None),
        missized=tuple(
            by_stem[stem]
            for image, stem in pairs
            if stem in usable and image.problem is None and usable[stem][:2] != (image.width, image.height)
        ),
        wide=tuple(by_stem[stem] for stem, file in usable.items() if file.mode.startswith(("I", "F"))),
        black=tuple(by_stem[stem] for stem, file in usable.items() if file.values == (0, 0)),
        white=tuple(by_stem[stem] for stem, file in usable.items() if file.values == (255, 255)),
        transparent=tuple(by_stem[stem] for stem, file in usable.items() if file.mode in {"LA", "RGBA", "PA"}),
    )


def _stem(image: ImageFacts) -> str:
    return file_stem(image.name.rpartition("/")[2])


def _read_files(found: FolderListing, names: Sequence[str], store: FactStore, now: int) -> list[MaskFile | None]:
    """Each mask; None for one that cannot be decoded."""
    stamps = [found.stamps.get(name) for name in names]
    rows = store.recall(MASK_KIND, found.identity, stamps, ROW_WIDTH)
    files, fresh = list[MaskFile | None](), list[tuple[str, Row]]()
    with ignore_pillow_warnings():
        for name, stamp, row in zip(names, stamps, rows, strict=True):
            file = MaskFile(row[0], row[1], row[2], (row[3][0], row[3][1])) if row else None
            if file is None and is_file_stamp(stamp):
                file = _decode_mask(f"{found.root}{os.sep}{name}")
                if file and stamp and is_settled(stamp, now):
                    fresh.append((stamp, list(file)))
            files.append(file)
    store.keep(MASK_KIND, found.identity, fresh)
    return files


def _decode_mask(path: str) -> MaskFile | None:
    """As sd-scripts opens it (TU:2948): converted to RGB, whose red channel counts."""
    try:
        with open_image(path) as image:
            low, high = image.convert("RGB").getchannel("R").getextrema()
            return MaskFile(*image.size, image.mode, (int(str(low)), int(str(high))))
    except Exception:  # noqa: BLE001 - damaged files raise almost anything out of Pillow's readers
        return None
