"""The trainer's log without its bars, cut anywhere; and the last bytes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lorabake.runs.folder import RunPaths
from lorabake.runs.log_lines import MAX_LINE_BYTES, LogLines, LogTail, keep_last

BAR = "steps:  {0}%|#         | {0}/100 [00:0{0}<00:09,  1.00it/s, avr_loss=0.1]"
LOG = (
    "\x1b[32mINFO\x1b[0m caching latents.\n"
    "\r 25%|##        | 1/4 [00:00<00:01]\r100%|##########| 4/4 [00:01<00:00,  3.9it/s]\n\n"
    f"epoch 1/2\n\r{BAR.format(1)}\r{BAR.format(2)}saving checkpoint: x\n"
    f"\r{BAR.format(3)}"
).encode()
LINES = ["INFO caching latents.", "epoch 1/2", "saving checkpoint: x"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(LOG)])
def test_lines_and_the_bar_however_it_is_cut(size: int) -> None:
    log, found = LogLines(), list[str]()
    for start in range(0, len(LOG), size):
        found += log.feed(LOG[start : start + size])
    assert found == LINES
    assert log.bar == BAR.format(3)
    assert log.close() == []
    assert log.bar == BAR.format(3)


def test_a_bar_that_a_line_followed_is_over() -> None:
    log = LogLines()
    log.feed(LOG + b"\nTraceback\n")
    assert log.bar is None
    assert log.feed(b"the last words") == []
    assert log.close() == ["the last words"]


def test_a_line_without_an_end() -> None:
    log = LogLines()
    assert [len(line) for line in log.feed(b"x" * (2 * MAX_LINE_BYTES + 5))] == [MAX_LINE_BYTES] * 2
    assert log.close() == ["xxxxx"]
    assert log.feed(b"\xff\x00\n") == ["\ufffd\x00"]


@pytest.mark.parametrize("lines", range(7))
@pytest.mark.parametrize("content", [b"", b"one", b"one\n", b"one\ntwo\n\nfour", b"one\ntwo\n\nfour\n"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_last_lines(content: bytes, lines: int, size: int) -> None:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    whole = content.splitlines(keepends=True)
    assert keep_last(pieces, lines) == b"".join(whole[-lines:] if lines else [])


def test_a_log_that_grows_and_one_that_was_replaced(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path)
    with LogTail(paths) as tail:
        assert b"".join(tail.read()) == b""
        paths.log.parent.mkdir()
        paths.log.write_bytes(b"one")
        assert b"".join(tail.read()) == b"one"
        with paths.log.open("ab") as log:
            log.write(b"two")
        assert b"".join(tail.read()) == b"two"
        paths.log.unlink()
        assert b"".join(tail.read()) == b""
        paths.log.write_bytes(b"a new one")
        assert b"".join(tail.read()) == b"a new one"
        paths.log.write_bytes(b"short")
        assert b"".join(tail.read()) == b"short"
