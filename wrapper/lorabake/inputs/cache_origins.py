"""The file next to sd-scripts' caches that records what each of them was made from.

An origin is found by the SHA-256 of the cache itself: a cache that another program replaced is unknown, one that was
renamed, moved or copied with its folder is not. The same cache can come from several origins: from two images with the
same pixels, two base models with the same VAE, two commits of sd-scripts. It fits if one of them does. The file may
come from a stranger: content that lorabake did not write is ignored, and no cache counts as fitting.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from lorabake.util.files import read_bytes, replace_bytes
from lorabake_schemas.cache_origins import ORIGINS_FILE, CacheOrigin, CacheOriginsFile, CacheSettings

ORIGINS_LIMIT = 64 << 20  # bytes; a row takes about 220
Origins = Mapping[str, tuple[CacheOrigin, ...]]  # by the SHA-256 of the cache


def read_cache_origins(folder: Path) -> Origins:
    """The origins in a folder's file; empty if it is missing or has any other content."""
    found = defaultdict[str, list[CacheOrigin]](list)
    try:
        kept = CacheOriginsFile.model_validate_json(read_bytes(folder / ORIGINS_FILE, ORIGINS_LIMIT))
        for sha256, source, index, *sizes in kept.caches:
            found[sha256].append(CacheOrigin(source, kept.settings[index], *sizes))
    except (OSError, ValidationError, IndexError):
        return {}
    return {sha256: tuple(several) for sha256, several in found.items()}


def write_cache_origins(folder: Path, origins: Origins) -> None:
    """From now on these are the origins of the caches in this folder. Raises OSError."""
    indices: dict[CacheSettings, int] = {}
    rows = [
        (sha256, each.source, indices.setdefault(each.settings, len(indices)), each.size, each.bucket, each.resized)
        for sha256, several in sorted(origins.items())
        for each in several
    ]
    kept = CacheOriginsFile(settings=tuple(indices), caches=tuple(rows))
    replace_bytes(folder / ORIGINS_FILE, kept.model_dump_json().encode())
