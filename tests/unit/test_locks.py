"""Locks: one holder, a word to who waits, nothing for who only tries."""

from __future__ import annotations

import threading
from pathlib import Path

from lorabake import locks


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    waited: list[locks.Held] = []
    for _ in range(2):
        with locks.held(tmp_path / "lock", waited.append):
            assert (tmp_path / "lock").exists()
        assert list(tmp_path.iterdir()) == []
    assert waited == []


def test_the_second_is_told_once_and_gets_it_afterwards(tmp_path: Path) -> None:
    told, release, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with locks.held(tmp_path / "lock", lambda _: None):
            holding.set()
            release.wait(10)
            order.append("first")

    def second() -> None:
        with locks.held(tmp_path / "lock", lambda _: told.set()):
            order.append("second")

    holding = threading.Event()
    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert holding.wait(10)
    threads[1].start()
    assert told.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
