"""Progress of a scan: shown on a terminal if it takes a while, and removed afterwards."""

from __future__ import annotations

import io

import pytest

from lorabake.commands.output.progress import LINE_DELAY_SECONDS as DELAY_SECONDS
from lorabake.commands.output.progress import LINE_UPDATE_SECONDS as UPDATE_SECONDS
from lorabake.commands.output.progress import describe_hashing, show_progress
from terminals import Clock, Terminal


def shown(stream: io.StringIO, *, tick: float, calls: int) -> str:
    clock = Clock(tick)
    with show_progress(stream, clock=clock) as progress:
        for number in range(calls):
            clock.now += tick
            if progress is not None:
                progress(number + 1, calls)
    return stream.getvalue()


def test_a_quick_look_says_nothing() -> None:
    assert shown(Terminal(), tick=DELAY_SECONDS / 20, calls=10) == ""


def test_a_long_one_is_told_on_one_line_that_is_gone_at_the_end() -> None:
    text = shown(Terminal(), tick=DELAY_SECONDS, calls=3)
    assert text.split("\r\x1b[2K") == [
        "", "scanning images: 1 of 3", "scanning images: 2 of 3", "scanning images: 3 of 3", "",
    ]  # fmt: skip


def test_it_is_told_ten_times_a_second_at_most() -> None:
    lines = shown(Terminal(), tick=UPDATE_SECONDS / 10, calls=200).split("\r")
    assert 10 <= len(lines) <= 200 / 10


def test_nobody_looks_at_a_pipe() -> None:
    assert shown(io.StringIO(), tick=DELAY_SECONDS, calls=3) == ""


def look_and_stop(stream: Terminal, clock: Clock) -> None:
    with show_progress(stream, clock=clock) as progress:
        clock.now += 10
        assert progress is not None
        progress(1, 2)
        raise RuntimeError


def test_the_line_is_gone_after_an_error_and_a_closed_terminal_is_no_error() -> None:
    stream, clock = Terminal(), Clock(1)
    with pytest.raises(RuntimeError):
        look_and_stop(stream, clock)
    assert stream.getvalue().endswith("\r\x1b[2K")
    with show_progress(stream, clock=clock) as progress:
        clock.now += 10
        stream.close()
        assert progress is not None
        progress(1, 2)


@pytest.mark.parametrize(
    ("done", "total", "told"),
    [
        (1_230_000_000, 6_940_000_000, "hashing: 1.2 of 6.9 GB"),
        (0, 6_940_000_000, "hashing: 0.0 of 6.9 GB"),
        (80_400_000, 512_000_000, "hashing: 80 of 512 MB"),
    ],
)
def test_a_hashing_is_told_in_bytes(done: int, total: int, told: str) -> None:
    stream, clock = Terminal(), Clock(1)
    with show_progress(stream, describe=describe_hashing, clock=clock) as progress:
        assert progress is not None
        progress(done, total)
        assert stream.getvalue() == ""
        clock.now += DELAY_SECONDS
        progress(done, total)
    assert stream.getvalue().split("\r\x1b[2K") == ["", told, ""]


def test_images_and_bytes_share_one_line() -> None:
    stream, clock = Terminal(), Clock(1)
    with show_progress(stream, clock=clock) as progress:
        assert progress is not None
        clock.now += DELAY_SECONDS
        progress(3, 4)
        progress.hashing(1, 2)  # too soon
        clock.now += UPDATE_SECONDS
        progress.hashing(1_000_000, 2_000_000)
    told = ["", "scanning images: 3 of 4", "hashing: 1 of 2 MB", ""]
    assert stream.getvalue().split("\r\x1b[2K") == told
