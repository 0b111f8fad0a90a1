"""How far a look at the pictures or a hashing is: one line that changes, on a terminal, when it takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from lorabake.output import write_to
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


class Gauge:
    """To be called with (done, all), of what ``words`` tell; ``hashing`` tells of bytes on the same line."""

    def __init__(self, stream: TextIO, speech: Speech, words: Words, clock: Callable[[], float]) -> None:
        self._stream, self._speech, self._words, self._clock = stream, speech, words, clock
        self._due, self._said = clock() + PATIENCE_S, False

    def __call__(self, done: int, total: int) -> None:
        self._tell(self._words, done, total)

    def hashing(self, done: int, total: int) -> None:
        self._tell(hashing, done, total)

    def _tell(self, words: Words, done: int, total: int) -> None:
        if self._clock() >= self._due:
            self._due, self._said = self._clock() + EVERY_S, True
            _write(self._stream, self._speech(words(done, total)))

    def over(self) -> None:
        if self._said:
            _write(self._stream, "")


@contextmanager
def gauge(
    stream: TextIO,
    speech: Speech = ENGLISH,
    words: Words = looking,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Gauge | None]:
    """Something to tell how far it is, None where nobody looks. The line is gone at the end."""
    if not stream.isatty():
        yield None
        return
    telling = Gauge(stream, speech, words, clock)
    try:
        yield telling
    finally:
        telling.over()


def _write(stream: TextIO, line: str) -> None:
    with suppress(OSError, ValueError):
        write_to(stream, line, clear=True)


__all__ = ["Gauge", "Progress", "gauge", "hashing", "looking"]
