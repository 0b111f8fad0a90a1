"""Hashing in a thread of its own, beside whatever else there is to do before a trainer can start."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lorabake.util.hashing import PROGRESS_INTERVAL_S, FileHasher, ProgressCallback

Made = TypeVar("Made")


@contextmanager
def hash_in_background(
    store: Path | None, make: Callable[[FileHasher], Made]
) -> Generator[Callable[[ProgressCallback | None], Made]]:
    """``make`` begins at once in a thread of its own; what is yielded waits for what it makes, telling how far it is.

    Leaving the block stops it.
    """
    from concurrent.futures import ThreadPoolExecutor

    with FileHasher(store) as fingerprints, ThreadPoolExecutor(1, "fingerprints") as pool:
        made = pool.submit(make, fingerprints)

        def wait(progress: ProgressCallback | None = None) -> Made:
            while not made.done():
                try:
                    made.exception(PROGRESS_INTERVAL_S)
                except TimeoutError:
                    if progress is not None and fingerprints.total:
                        progress(min(fingerprints.done, fingerprints.total), fingerprints.total)
            return made.result()

        try:
            yield wait
        finally:
            fingerprints.stop()
