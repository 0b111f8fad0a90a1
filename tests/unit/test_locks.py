"""Locks: one holder, a word to who waits, nothing for who only tries."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest

from lorabake import guard, locks


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


@pytest.mark.skipif(sys.platform == "win32", reason="the guard holds no folder there")
def test_who_looks_at_a_folder_takes_no_other_who_looks_for_a_guard(tmp_path: Path) -> None:
    import fcntl

    with closing(os.fdopen(os.open(tmp_path / "looked-at", os.O_RDWR | os.O_CREAT))) as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert not locks.is_held(tmp_path / "looked-at")
        fcntl.flock(looking, fcntl.LOCK_EX)
        assert locks.is_held(tmp_path / "looked-at")


@pytest.mark.skipif(sys.platform == "win32", reason="the guard holds no folder there")
def test_a_guard_that_starts_while_somebody_looks_holds_its_folder_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    looking, waits = os.open(tmp_path, os.O_RDONLY), list[float]()

    def waited(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.close(looking)

    def remembered(path: str, flags: int) -> int:
        opened.append(really_open(path, flags))
        return opened[-1]

    really_open, opened = os.open, list[int]()
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", waited)
    monkeypatch.setattr("os.open", remembered)
    guard.hold(str(tmp_path / "record.json"))
    monkeypatch.undo()
    assert len(waits) == 3
    assert locks.is_held(tmp_path)
    os.close(opened[0])
    assert not locks.is_held(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="the guard holds no folder there")
def test_a_guard_does_not_wait_for_ever_for_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    holding, waits = os.open(tmp_path, os.O_RDONLY), list[float]()
    fcntl.flock(holding, fcntl.LOCK_EX)
    monkeypatch.setattr("time.sleep", waits.append)
    guard.hold(str(tmp_path / "record.json"))
    assert sum(waits) == pytest.approx(1)
    os.close(holding)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody makes files")
def test_a_place_that_takes_no_file_is_no_held_lock() -> None:
    with pytest.raises(OSError, match="lock"), locks.try_held(Path("/proc/x.lock")):
        pass
