"""A deep look: every picture decoded as sd-scripts will decode it, and compared with every other by its looks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from PIL import __version__ as pillow

from lorabake.reading import decoding, twins
from lorabake.reading.fact_store import FactStore, Memory, is_settled
from lorabake.reading.folders import Listing
from lorabake_schemas.dataset import FolderFacts, ImageFacts, Place, Twins

KIND = f"pixels 1, Pillow {pillow}"


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder to look into: its names, its facts so far, and where a picture of it is in the recipe."""

    names: Listing
    facts: FolderFacts
    place: Callable[[str], Place]


def look(
    folders: Sequence[Folder], equal: Iterable[Twins], store: FactStore, now: int, step: Callable[[], None]
) -> tuple[list[FolderFacts], tuple[Twins, ...]]:
    """The facts with what the pixels told, and the pictures that are alike without being equal."""
    found, small, met = list[FolderFacts](), list[twins.Small](), set[str]()
    with decoding.quiet(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for folder in folders:
            looks = _looks(folder, store, now, pool)
            images = list[ImageFacts]()
            for image, deep in zip(folder.facts.images, looks, strict=True):
                images.append(_with(image, deep))
                if deep.small and folder.names.identity not in met:
                    shape = image.width / image.height
                    small.append(twins.Small(folder.place(image.name), bytes.fromhex(deep.small), shape))
                step()
            met.add(folder.names.identity)
            found.append(replace(folder.facts, images=tuple(images)))
    return found, twins.near(small, equal)


def _with(image: ImageFacts, deep: decoding.DeepLook) -> ImageFacts:
    if image.problem is not None or not (deep.problem or deep.opaque):
        return image
    return image._replace(problem=deep.problem, opaque=deep.opaque)


def _looks(folder: Folder, store: FactStore, now: int, pool: ThreadPoolExecutor) -> Iterator[decoding.DeepLook]:
    """One for each picture of the folder, in order; an empty one for a picture that has a problem already."""
    memory = Memory(store, KIND, folder.names.identity, len(decoding.DeepLook._fields))
    stamps = [folder.names.stamps.get(image.name, "") for image in folder.facts.images]
    rows = memory.recall(stamps)
    wanted = [
        f"{folder.names.root}{os.sep}{image.name}"
        for image, row in zip(folder.facts.images, rows, strict=True)
        if image.problem is None and row is None
    ]
    fresh = pool.map(decoding.look_deep, wanted)
    for at, (image, stamp) in enumerate(zip(folder.facts.images, stamps, strict=True)):
        row = rows[at]
        if image.problem is not None:
            yield decoding.DeepLook()
        elif row is not None:
            yield decoding.DeepLook(*row)
        else:
            deep = next(fresh)
            rows[at] = list(deep) if deep.problem is None and is_settled(stamp, now) else None
            yield deep
    memory.keep(stamps, rows)


__all__ = ["Folder", "look"]
