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

from lorabake.reading.fact_store import FactStore
from lorabake_schemas.cache_origins import Conditions, Origin

KIND = "origin 1"  # the number changes when the same words would mean something else
KEPT_DAYS = 400  # of a folder that no run was made with
MANY = 8  # origins of one cache; of more the oldest are forgotten, but never one that was entered with the last run
Origins = Mapping[str, tuple[Origin, ...]]  # by the SHA-256 of the cache, the newest first


def origins_path(home: Path) -> Path:
    """Where origins are kept: not with the facts, which one may switch off or throw away at any time."""
    return home / "caches-1.sqlite3"


@dataclass(frozen=True)
class CacheMemory:
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
        self._facts = FactStore(path, KEPT_DAYS)

    def __enter__(self) -> OriginStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._facts.close()

    def known(self, place: str, wanted: Iterable[str]) -> dict[str, tuple[Origin, ...]]:
        """The origins of these caches, which may have been made in another folder."""
        missing = set(wanted)
        found = {sha: each for sha, each in _read(self._facts.known(KIND, place)).items() if sha in missing}
        missing -= set(found)
        if found:
            self._facts.used((place,))
        if missing:
            for facts in self._facts.everywhere(KIND):
                found |= {sha: each for sha, each in _read(facts).items() if sha in missing}
        return found

    def knows_any(self) -> bool:
        """Whether anything at all is kept."""
        return next(iter(self._facts.everywhere(KIND)), None) is not None

    def keep(self, place: str, origins: Origins) -> None:
        """From now on these are the origins of the caches in this folder."""
        self._facts.keep(KIND, place, _written(origins))
        self._facts.used((place,))


def with_new(made: Origins, before: Origins) -> dict[str, tuple[Origin, ...]]:
    """What was made now, and after it what was known before as far as there is room for it."""

    def of(sha: str) -> tuple[Origin, ...]:
        new = tuple(dict.fromkeys(made.get(sha, ())))
        old = tuple(origin for origin in before.get(sha, ()) if origin not in new)
        return new + old[: max(0, MANY - len(new))]

    return {sha: of(sha) for sha in {**before, **made}}


def _written(origins: Origins) -> list[Any]:
    """Conditions once, since all caches of a run share them; then one row for each cache."""
    numbers: dict[Conditions, int] = {}
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


def _read(facts: Any) -> dict[str, tuple[Origin, ...]]:
    """What ``_written`` wrote; nothing when it is anything else."""
    try:
        shared, rows = facts
        conditions: list[Conditions] = [_conditions(each) for each in shared]
        found = defaultdict[str, list[Origin]](list)
        for sha, source, number, w, h, bucket_w, bucket_h, scaled_w, scaled_h in rows:
            under = conditions[int(number)]
            found[sha].append(Origin(source, under, (w, h), (bucket_w, bucket_h), (scaled_w, scaled_h)))
        return {sha: tuple(several) for sha, several in found.items()}
    except (TypeError, ValueError, KeyError, IndexError):
        return {}


def _conditions(told: Any) -> Conditions:
    """Raises TypeError, ValueError or KeyError for what is none."""
    width, height = told["resolution"]
    return replace(Conditions(**told), resolution=(width, height))


__all__ = ["MANY", "CacheMemory", "OriginStore", "Origins", "origins_path", "with_new"]
