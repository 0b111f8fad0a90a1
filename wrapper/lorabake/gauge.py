"""How far a look at the pictures or a hashing is: one line that changes, on a terminal, when it takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from lorabake.speech import ENGLISH, Speech
from lorabake_schemas.words import Said, say

Progress = Callable[[int, int], None]
Words = Callable[[int, int], Said]
PATIENCE_S = 0.7  # a look that is over sooner needs no words
EVERY_S = 0.1


def looking(done: int, total: int) -> Said:
    """In pictures."""
    return say("looking at the pictures: {done} of {total}", done=done, total=total)


def hashing(done: int, total: int) -> Said:
    """In bytes, told in the unit that suits all of them."""
    if total < 1_000_000_000:
        return say("hashing: {done:.0f} of {total:.0f} MB", done=done / 1_000_000, total=total / 1_000_000)
    return say("hashing: {done:.1f} of {total:.1f} GB", done=done / 1_000_000_000, total=total / 1_000_000_000)


@contextmanager
def gauge(
    stream: TextIO,
    speech: Speech = ENGLISH,
    words: Words = looking,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Progress | None]:
    """Something to call with (done, all), None where nobody looks. The line is gone at the end."""
    if not stream.isatty():
        yield None
        return
    due, said = clock() + PATIENCE_S, False

    def progress(done: int, total: int) -> None:
        nonlocal due, said
        if clock() >= due:
            due, said = clock() + EVERY_S, True
            _write(stream, speech(words(done, total)))

    try:
        yield progress
    finally:
        if said:
            _write(stream, "")


def _write(stream: TextIO, line: str) -> None:
    with suppress(OSError, ValueError):
        stream.write(f"\r\x1b[2K{line}")
        stream.flush()


__all__ = ["Progress", "gauge", "hashing", "looking"]
