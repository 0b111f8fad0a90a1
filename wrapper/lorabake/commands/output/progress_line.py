"""How far a look at the pictures or a hashing is: one line that changes, on a terminal, when it takes a while."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import TextIO

from lorabake.commands.output.console import write_to
from lorabake.util.i18n import ENGLISH, Translator
from lorabake_schemas.messages import Message, msg

ProgressCallback = Callable[[int, int], None]
ProgressMessage = Callable[[int, int], Message]
DELAY_SECONDS = 0.7  # a look that is over sooner needs no words
UPDATE_SECONDS = 0.1


def describe_scan(done: int, total: int) -> Message:
    """In pictures."""
    return msg("scanning images: {done} of {total}", done=done, total=total)


def describe_hashing(done: int, total: int) -> Message:
    """In bytes, told in the unit that suits all of them."""
    if total < 1_000_000_000:
        return msg("hashing: {done:.0f} of {total:.0f} MB", done=done / 1_000_000, total=total / 1_000_000)
    return msg("hashing: {done:.1f} of {total:.1f} GB", done=done / 1_000_000_000, total=total / 1_000_000_000)


class ProgressLine:
    """To be called with (done, all), of what ``words`` tell; ``hashing`` tells of bytes on the same line."""

    def __init__(self, stream: TextIO, speech: Translator, words: ProgressMessage, clock: Callable[[], float]) -> None:
        self._stream, self._speech, self._words, self._clock = stream, speech, words, clock
        self._due, self._said = clock() + DELAY_SECONDS, False

    def __call__(self, done: int, total: int) -> None:
        self._tell(self._words, done, total)

    def hashing(self, done: int, total: int) -> None:
        self._tell(describe_hashing, done, total)

    def _tell(self, words: ProgressMessage, done: int, total: int) -> None:
        if self._clock() >= self._due:
            self._due, self._said = self._clock() + UPDATE_SECONDS, True
            _write_line(self._stream, self._speech(words(done, total)))

    def over(self) -> None:
        if self._said:
            _write_line(self._stream, "")


@contextmanager
def show_progress(
    stream: TextIO,
    speech: Translator = ENGLISH,
    words: ProgressMessage = describe_scan,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[ProgressLine | None]:
    """Something to tell how far it is, None where nobody looks. The line is gone at the end."""
    if not stream.isatty():
        yield None
        return
    telling = ProgressLine(stream, speech, words, clock)
    try:
        yield telling
    finally:
        telling.over()


def _write_line(stream: TextIO, line: str) -> None:
    with suppress(OSError, ValueError):
        write_to(stream, line, clear=True)
