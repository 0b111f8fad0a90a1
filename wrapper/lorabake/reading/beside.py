"""Hashing in a thread of its own, beside whatever else there is to do before a trainer can start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lorabake.reading.fingerprints import EVERY_S, Fingerprints, Progress

Made = TypeVar("Made")


@contextmanager
def beside(store: Path | None, make: Callable[[Fingerprints], Made]) -> Generator[Callable[[Progress | None], Made]]:
    """``make`` begins at once in a thread of its own; what is yielded waits for what it makes, telling how far it is.

    Leaving the block stops it.
    """
    from concurrent.futures import ThreadPoolExecutor

    with Fingerprints(store) as fingerprints, ThreadPoolExecutor(1, "fingerprints") as pool:
        made = pool.submit(make, fingerprints)

        def wait(progress: Progress | None = None) -> Made:
            while not made.done():
                try:
                    made.exception(EVERY_S)
                except TimeoutError:
                    if progress is not None and fingerprints.total:
                        progress(min(fingerprints.done, fingerprints.total), fingerprints.total)
            return made.result()

        try:
            yield wait
        finally:
            fingerprints.stop()


__all__ = ["beside"]
