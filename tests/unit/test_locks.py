"""Locks: one holder, a word to who waits, nothing for who only tries."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from lorabake import locks


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path) -> None:
    waited: list[str] = []
    for _ in range(2):  # the file stays, and does not keep anybody out
        with locks.held(tmp_path / "lock", lambda: waited.append("waited")):
            assert (tmp_path / "lock").exists()
    assert waited == []


def test_the_second_is_told_once_and_gets_it_afterwards(tmp_path: Path) -> None:
    told, release, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        with locks.held(tmp_path / "lock", lambda: None):
            holding.set()
            release.wait(10)
            order.append("first")

    def second() -> None:
        with locks.held(tmp_path / "lock", told.set):
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


def test_trying_never_waits(tmp_path: Path) -> None:
    with locks.try_held(tmp_path / "lock") as mine:
        assert mine
        with locks.try_held(tmp_path / "lock") as theirs:
            assert not theirs
    with locks.try_held(tmp_path / "lock") as again:
        assert again


def test_a_lock_is_freed_by_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locks.held(tmp_path / "lock", lambda: None):
        raise KeyboardInterrupt
    with locks.try_held(tmp_path / "lock") as mine:
        assert mine
