"""lorabake's own memory of what each cache of sd-scripts' was made from, below its home, never beside the pictures.

An origin is found again by the SHA-256 of the cache itself: a cache that another program replaced is unknown, one that
was moved or copied with its pictures is not. The same cache may come of several: of two pictures with the same pixels,
of two base models with the same VAE, of two commits of sd-scripts. It fits when one of them does. What is forgotten or
torn is unknown, and never taken to fit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from lorabake.util.fact_cache import FactStore
from lorabake_schemas.cache_origins import CacheOrigin, CacheSettings

ORIGIN_KIND = "origin 1"  # the number changes when the same words would mean something else
RETENTION_DAYS = 400  # of a folder that no run was made with
ORIGIN_LIMIT = (
    8  # origins of one cache; of more the oldest are forgotten, but never one that was entered with the last run
)
Origins = Mapping[str, tuple[CacheOrigin, ...]]  # by the SHA-256 of the cache, the newest first


def origins_path(home: Path) -> Path:
    """Where origins are kept: not with the facts, which one may switch off or throw away at any time."""
    return home / "caches-1.sqlite3"


@dataclass(frozen=True)
class CacheIndex:
    """What there is to judge caches by.

    ``facts`` is where digests of files are kept, ``origins`` where the origins of caches are (None: nothing is known).
    ``commit`` is that of the sd-scripts that will run, where it is known; ``root`` the run folder, where it was named.
    """

    facts: Path | None = None
    origins: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    commit: str = ""
    root: Path | None = None
    progress: Callable[[int, int], None] | None = None

    @classmethod
    def of(cls, home: Path, env: Mapping[str, str], facts: Path | None, root: Path | None = None) -> Self:
        """What is kept below lorabake's home."""
        return cls(facts, origins_path(home), env, root=root)


class OriginStore:
    """Origins by the SHA-256 of their cache, kept by folder. ``path`` None knows nothing."""

    def __init__(self, path: Path | None) -> None:
        self._facts = FactStore(path, RETENTION_DAYS)

    def __enter__(self) -> OriginStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._facts.close()

    def known(self, place: str, wanted: Iterable[str]) -> dict[str, tuple[CacheOrigin, ...]]:
        """The origins of these caches, which may have been made in another folder."""
        missing = set(wanted)
        found = {
            sha: each for sha, each in _parse_origins(self._facts.known(ORIGIN_KIND, place)).items() if sha in missing
        }
        missing -= set(found)
        if found:
            self._facts.used((place,))
        if missing:
            for facts in self._facts.everywhere(ORIGIN_KIND):
                found |= {sha: each for sha, each in _parse_origins(facts).items() if sha in missing}
        return found

    def has_any(self) -> bool:
        """Whether anything at all is kept."""
        return next(iter(self._facts.everywhere(ORIGIN_KIND)), None) is not None

    def keep(self, place: str, origins: Origins) -> None:
        """From now on these are the origins of the caches in this folder."""
        self._facts.keep(ORIGIN_KIND, place, _serialize_origins(origins))
        self._facts.used((place,))


def merge_origins(made: Origins, before: Origins) -> dict[str, tuple[CacheOrigin, ...]]:
    """What was made now, and after it what was known before as far as there is room for it."""

    def of(sha: str) -> tuple[CacheOrigin, ...]:
        new = tuple(dict.fromkeys(made.get(sha, ())))
        old = tuple(origin for origin in before.get(sha, ()) if origin not in new)
        return new + old[: max(0, ORIGIN_LIMIT - len(new))]

    return {sha: of(sha) for sha in {**before, **made}}


def _serialize_origins(origins: Origins) -> list[Any]:
    """Conditions once, since all caches of a run share them; then one row for each cache."""
    numbers: dict[CacheSettings, int] = {}
    rows = [
        [
            sha,
            origin.source,
            numbers.setdefault(origin.conditions, len(numbers)),
            *(*origin.size, *origin.bucket, *origin.resized),
        ]
        for sha, several in sorted(origins.items())
        for origin in several
    ]
    return [[asdict(each) for each in numbers], rows]


def _parse_origins(facts: Any) -> dict[str, tuple[CacheOrigin, ...]]:
    """What ``_written`` wrote; nothing when it is anything else."""
    try:
        shared, rows = facts
        conditions: list[CacheSettings] = [_parse_cache_settings(each) for each in shared]
        found = defaultdict[str, list[CacheOrigin]](list)
        for sha, source, number, w, h, bucket_w, bucket_h, scaled_w, scaled_h in rows:
            under = conditions[int(number)]
            found[sha].append(CacheOrigin(source, under, (w, h), (bucket_w, bucket_h), (scaled_w, scaled_h)))
        return {sha: tuple(several) for sha, several in found.items()}
    except (TypeError, ValueError, KeyError, IndexError):
        return {}


def _parse_cache_settings(told: Any) -> CacheSettings:
    """Raises TypeError, ValueError or KeyError for what is none."""
    width, height = told["resolution"]
    return replace(CacheSettings(**told), resolution=(width, height))
