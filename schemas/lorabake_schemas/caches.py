"""Effects of leftover latent caches in a folder: the sizes sd-scripts takes from their names, the latents it reuses."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from posixpath import splitext

from lorabake_schemas.bucket_fit import Size
from lorabake_schemas.dataset import FolderFacts, ImageFacts

CACHE_EXTENSION = ".npz"
CACHE_INFO_FILE = "metadata_cache.json"  # what cache_info writes into an image folder (TU:1893)


def text_cache_name(image: str, suffix: str) -> str:
    """The cache of an image's text encoder outputs; ``suffix`` is the family's ``text_cache_suffix``."""
    return f"{splitext(image)[0]}{suffix}"


def latent_cache_name(image: str, size: Size, suffix: str, there: Collection[str]) -> str:
    """The cache of an image's latents: an old ``STEM.npz`` that exists, in both families (strategy_sd.py:152-157),
    else one such as ``STEM_0512x0768_sd.npz``."""
    stem, (width, height) = splitext(image)[0], size
    old = f"{stem}{CACHE_EXTENSION}"
    return old if old in there else f"{stem}_{width:04d}x{height:04d}{suffix}"


def get_header_size(image: ImageFacts) -> Size:
    """Width and height as sd-scripts reads them from the header: one pixel less for an extended WebP."""
    return image.seen or (image.width, image.height)


def find_image_sizes(folder: FolderFacts, suffix: str) -> tuple[Size, ...]:
    """Width and height of each image in order, as sd-scripts would take them into its buckets.

    ``suffix`` is the family's ``latent_cache_suffix``. sd-scripts believes the size in the name of a latent cache even
    when it caches nothing, and walks two sorted lists comparing as many characters as the image's stem has: ``1.png``
    may thus take the size of ``10_0512x0768_sd.npz`` (TU:2002-2035).
    """
    if not folder.caches or folder.metadata:  # of a metadata file, S50 reports what caches do
        return tuple(image.seen or (image.width, image.height) for image in folder.images)
    hits = match_size_caches(folder, suffix)
    return tuple(
        (_parse_cache_size(cache) if cache else None) or get_header_size(image)
        for image, cache in zip(folder.images, hits, strict=True)
    )


def match_size_caches(folder: FolderFacts, suffix: str) -> tuple[str | None, ...]:
    """For each image in order, the cache whose name gives sd-scripts the image's size; None without such a cache."""
    caches = [name for name in folder.caches if name.endswith(suffix)]
    caches.sort(key=lambda name: name.rsplit("_", maxsplit=2)[0])
    at, found = 0, list[str | None]()
    for image in folder.images:
        stem = splitext(image.name)[0]
        length = len(stem)
        while at < len(caches) and caches[at][:length] < stem:
            at += 1
        hit = at < len(caches) and caches[at][:length] == stem
        found.append(caches[at] if hit else None)
    return tuple(found)


def find_run_sizes(folder: FolderFacts, suffix: str, *, cache_info: bool) -> tuple[Size, ...]:
    """The same for a run: with cache_info sizes are those of the images, whatever the names of caches (TU:2099)."""
    return tuple(map(get_header_size, folder.images)) if cache_info else find_image_sizes(folder, suffix)


def find_missized_images(folder: FolderFacts, suffix: str) -> tuple[str, ...]:
    """The images that a left-over cache makes sd-scripts take for another size, by name."""
    if not folder.caches:
        return ()
    pairs = zip(folder.images, find_image_sizes(folder, suffix), strict=True)
    return tuple(image.name for image, size in pairs if size != get_header_size(image))


def find_missizing_caches(folder: FolderFacts, suffix: str) -> tuple[str, ...]:
    """The caches whose names give images a wrong size, by name. Without the first, the next one may take effect."""
    found = list[str]()
    while folder.caches:
        wrong = frozenset(find_missized_images(folder, suffix))
        givers = zip(folder.images, match_size_caches(folder, suffix), strict=True)
        more = sorted({cache for image, cache in givers if cache and image.name in wrong})
        if not more:
            break
        found += more
        folder = replace(folder, caches=tuple(name for name in folder.caches if name not in more))
    return tuple(found)


def find_reused_caches(folder: FolderFacts, suffix: str) -> tuple[str, ...]:
    """The left-over caches whose latents sd-scripts would train on when it caches on disk, by name."""
    there = frozenset(folder.caches)
    sizes = find_image_sizes(folder, suffix) if there else ()
    names = (
        latent_cache_name(image.name, size, suffix, there) for image, size in zip(folder.images, sizes, strict=False)
    )
    return tuple(dict.fromkeys(name for name in names if name in there))


def _parse_cache_size(cache: str) -> Size | None:
    width, _, height = cache.rsplit("_", maxsplit=2)[-2].partition("x")
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else None
