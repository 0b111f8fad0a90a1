"""Facts kept between runs: found again while the file is the same, and never a reason to fail."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from lorabake.util.fact_cache import (
    UNUSED_DAYS,
    FactCache,
    FactStore,
    fact_store_path,
    is_file_stamp,
    is_settled,
    make_stamp,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "facts.sqlite3"


@pytest.fixture
def store(path: Path) -> Generator[FactStore]:
    opened = FactStore(path)
    yield opened
    opened.close()


def kept(path: Path | None, kind: str = "size", place: str = "1:2") -> object:
    opened = FactStore(path)
    try:
        return opened.known(kind, place)
    finally:
        opened.close()


def test_what_is_kept_is_known_to_the_next(store: FactStore, path: Path) -> None:
    store.keep("size", "1:2", {"a": [1, "ção"], "b": [2]})
    store.keep("size", "1:3", {"c": [3]})
    assert kept(path) == {"a": [1, "ção"], "b": [2]}
    assert kept(path, place="1:3") == {"c": [3]}
    assert kept(path, kind="other") is None
    store.keep("size", "1:2", {"b": [4]})
    assert kept(path) == {"b": [4]}


def test_nothing_is_kept_nowhere() -> None:
    store = FactStore(None)
    store.keep("size", "1:2", {"a": 1})
    store.used(("1:2",))
    assert store.known("size", "1:2") is None


def remembered(store: FactStore, *stamps: str) -> list[object]:
    return list(FactCache(store, "size", "1:2", 1).recall(list(stamps)))


def test_a_memory_knows_files_in_any_order_and_only_those_of_last_time(store: FactStore) -> None:
    FactCache(store, "size", "1:2", 1).keep(["a", "b", "c"], [["A"], None, ["C"]])
    assert remembered(store, "a", "b", "c") == [["A"], None, ["C"]]
    assert remembered(store, "c", "z", "a", "") == [["C"], None, ["A"], None]
    FactCache(store, "size", "1:2", 1).keep(["c"], [["D"]])
    assert remembered(store, "a", "b", "c") == [None, None, ["D"]]


def test_a_memory_writes_only_what_is_new(store: FactStore, path: Path) -> None:
    FactCache(store, "size", "1:2", 1).keep(["a"], [["A"]])
    before = path.stat().st_mtime_ns
    memory = FactCache(store, "size", "1:2", 1)
    rows = memory.recall(["a"])
    memory.keep(["a"], rows)
    assert path.stat().st_mtime_ns == before
    rows[0] = ["B"]
    memory.keep(["a"], rows)
    assert remembered(store, "a") == [["B"]]


@pytest.mark.parametrize(
    "facts", [{"a": 1}, [], [["a"], [[1, 2]]], [["a"], ["text"]], [["a", "b"], [[1]]], [["a"], [[1]], 3], "a", 7, None]
)
def test_facts_of_another_shape_are_unknown(store: FactStore, facts: object) -> None:
    store.keep("size", "1:2", facts)
    assert remembered(store, "a") == [None]


def test_what_was_changed_behind_its_back_is_unknown(store: FactStore, path: Path) -> None:
    store.keep("size", "1:2", {"a": [1]})
    with sqlite3.connect(path) as base:
        base.execute("UPDATE fact SET facts = '{\"a\":[2]}'")
    base.close()
    assert kept(path) is None


@pytest.mark.parametrize(
    "content", [b"", b"not a database, but long enough to be looked at" * 50, b"SQLite format 3\0" + bytes(4000)]
)
def test_a_torn_file_is_made_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = FactStore(path)
    store.keep("size", "1:2", {"a": [1]})
    store.close()
    assert kept(path) == {"a": [1]}


def test_a_file_cut_or_overwritten_anywhere_is_no_error(store: FactStore, path: Path) -> None:
    store.keep("size", "1:2", {str(number): [number] * 20 for number in range(2000)})
    store.close()
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 23):
        for torn in (whole[:place], whole[:place] + bytes(5000) + whole[place + 5000 :]):
            path.write_bytes(torn)
            found = kept(path)
            assert found is None or found == {str(number): [number] * 20 for number in range(2000)}
            again = FactStore(path)
            again.keep("size", "1:2", {"a": [1]})
            again.close()


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE theirs (x)")
    base.close()
    before = path.read_bytes()
    store = FactStore(path)
    store.keep("size", "1:2", {"a": [1]})
    assert store.known("size", "1:2") is None
    store.close()
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = FactStore(tmp_path / "file" / "facts.sqlite3")
    store.keep("size", "1:2", {"a": [1]})
    assert store.known("size", "1:2") is None
    (tmp_path / "folder.sqlite3").mkdir()
    assert kept(tmp_path / "folder.sqlite3") is None


@pytest.mark.usefixtures("ordinary")
def test_a_store_that_is_read_only_is_read(store: FactStore, path: Path) -> None:
    store.keep("size", "1:2", {"a": [1]})
    store.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert kept(path) == {"a": [1]}
        store.keep("size", "1:2", {"a": [2]})
        assert kept(path) == {"a": [1]}
    finally:
        path.parent.chmod(0o700)


def test_a_store_that_somebody_else_holds_is_done_without(
    store: FactStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabake.util.fact_cache.BUSY_TIMEOUT_S", 0.05)
    store.keep("size", "1:2", {"a": [1]})
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert kept(path) is None
    holder.execute("COMMIT")
    holder.close()
    assert kept(path) == {"a": [1]}


def test_many_at_once_lose_nothing(path: Path) -> None:
    def work(number: int) -> None:
        store = FactStore(path)
        for turn in range(5):
            store.keep("size", f"1:{number}", {f"{turn}": [number]})
        store.used((f"1:{number}",))
        store.close()

    FactStore(path).known("size", "")
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kept(path, place=f"1:{number}") for number in range(6)] == [{"4": [number]} for number in range(6)]


def test_what_nobody_used_for_long_is_forgotten(store: FactStore, path: Path) -> None:
    for place in ("old", "new"):
        store.keep("size", place, {"a": [1]})
    store.used(("old", "new"), today=1000)
    store.used(("new",), today=1000 + UNUSED_DAYS)
    assert kept(path, place="old") == {"a": [1]}
    store.used(("new",), today=1001 + UNUSED_DAYS)
    assert kept(path, place="old") is None
    assert kept(path, place="new") == {"a": [1]}


def test_a_stamp_tells_files_and_their_versions_apart(tmp_path: Path) -> None:
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_text("a")
    two.write_text("a")
    before = make_stamp(one.stat())
    assert before != make_stamp(two.stat())
    one.write_text("bc")
    changed = make_stamp(one.stat())
    assert changed != before
    os.utime(one, ns=(5, 5))
    assert make_stamp(one.stat()) != changed


def test_what_kind_of_thing_it_is(tmp_path: Path) -> None:
    things = [make_stamp(path.stat()) for path in (Path(__file__), tmp_path, Path(os.devnull))]
    assert [stamp[0] for stamp in things] == ["-", "d", "?"]
    assert [is_file_stamp(stamp) for stamp in (*things, None)] == [True, False, False, False]


def test_a_file_that_was_written_just_now_may_change_unseen(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("a")
    stamp = make_stamp((tmp_path / "1").stat())
    assert not is_settled(stamp, time.time_ns())
    assert is_settled(stamp, time.time_ns() + 3_000_000_000)
    os.utime(tmp_path / "1", ns=(5, 5))  # as cp -p would: what it was changed by shows elsewhere
    assert not is_settled(make_stamp((tmp_path / "1").stat()), time.time_ns())


@pytest.mark.parametrize(("value", "off"), [("", False), ("on", False), ("0", True), ("Off", True), ("no", True)])
def test_the_environment_can_turn_it_off(value: str, *, off: bool) -> None:
    found = fact_store_path(Path("home"), {"LORABAKE_SCAN_CACHE": value})
    assert (found is None) is off
    assert found is None or found.parent == Path("home")


def test_a_name_is_part_of_the_stamp(tmp_path: Path) -> None:
    """FAT and sshfs number files anew at each mount: only the name tells two captions of one length apart."""
    (tmp_path / "1").touch()
    os.utime(tmp_path / "1", (1, 1))
    state = (tmp_path / "1").stat()
    one, other = make_stamp(state, "a.txt"), make_stamp(state, "b:1.txt")
    assert one != other
    assert is_file_stamp(one)
    assert is_file_stamp(other)
    assert is_settled(other, time.time_ns() + 10_000_000_000)
