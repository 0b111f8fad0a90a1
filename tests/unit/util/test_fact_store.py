"""Facts kept between runs: found again while the file is the same, and never a reason to fail."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Generator
from pathlib import Path
from zlib import crc32

import pytest

from lorabake.util import fact_cache
from lorabake.util.fact_cache import (
    REFRESH_DAYS,
    UNUSED_DAYS,
    FactStore,
    Row,
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


def stamp(name: str, version: int = 1) -> str:
    return f"-:{name}:8:{version}:5:6:7"


def recall(store: FactStore, *stamps: str | None, folder: str = "1:2") -> list[Row | None]:
    return store.recall("size", folder, stamps, 1)


def keep(store: FactStore, *names: str, folder: str = "1:2", value: object = 1) -> None:
    store.keep("size", folder, [(stamp(name), [value]) for name in names])


def kept(path: Path, name: str = "a", folder: str = "1:2") -> Row | None:
    opened = FactStore(path)
    try:
        return recall(opened, stamp(name), folder=folder)[0]
    finally:
        opened.close()


def test_what_is_kept_is_known_to_the_next(store: FactStore, path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9.txt")
    keep(store, "a", "b", odd, value="ção")
    keep(store, "a", folder="1:3", value=3)
    assert [kept(path), kept(path, odd), kept(path, folder="1:3"), kept(path, "c")] == [["ção"], ["ção"], [3], None]
    assert store.recall("other", "1:2", [stamp("a")], 1) == [None]
    keep(store, "a", value=4)
    assert kept(path) == [4]


def test_files_are_known_in_any_order_and_by_their_stamp_alone(store: FactStore) -> None:
    keep(store, "a", "b")
    assert recall(store, stamp("b"), stamp("z"), None, "", stamp("a")) == [[1], None, None, None, [1]]
    assert recall(store, stamp("a", 2)) == [None]


def test_a_file_has_one_fact_of_a_kind(store: FactStore, path: Path) -> None:
    for version in range(3):
        store.keep("size", "1:2", [(stamp("a:1", version), [version])])
    with sqlite3.connect(path) as base:
        assert base.execute("SELECT count(*) FROM fact").fetchone() == (1,)
    base.close()
    assert recall(store, stamp("a:1", 1), stamp("a:1", 2)) == [None, [2]]


def test_nothing_is_kept_nowhere() -> None:
    store = FactStore(None)
    keep(store, "a")
    assert recall(store, stamp("a")) == [None]


def test_nothing_is_written_where_nothing_is_new(store: FactStore, path: Path) -> None:
    keep(store, "a")
    before = path.stat().st_mtime_ns
    store.keep("size", "1:2", [])
    assert recall(store, stamp("a")) == [[1]]
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("value", ["[1,2]", "[]", "{}", "1", "null", "[1", b"[1]", 7, None])
def test_facts_of_another_shape_are_unknown(store: FactStore, path: Path, value: object) -> None:
    keep(store, "a", "b")
    mark = crc32(stamp("a").encode() + value.encode()) if isinstance(value, str) else 0
    with sqlite3.connect(path) as base:
        base.execute("UPDATE fact SET value = ?, mark = ? WHERE name = ?", (value, mark, b"a"))
    base.close()
    assert kept(path) is None


def test_what_was_changed_behind_its_back_is_unknown(store: FactStore, path: Path) -> None:
    keep(store, "a")
    with sqlite3.connect(path) as base:
        base.execute("UPDATE fact SET value = '[2]'")
    base.close()
    assert kept(path) is None


@pytest.mark.parametrize(
    "content", [b"", b"not a database, but long enough to be looked at" * 50, b"SQLite format 3\0" + bytes(4000)]
)
def test_a_torn_file_is_made_anew(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = FactStore(path)
    keep(store, "a")
    store.close()
    assert kept(path) == [1]


def test_a_file_cut_or_overwritten_anywhere_is_no_error(store: FactStore, path: Path) -> None:
    names = [str(number) for number in range(2000)]
    keep(store, *names, value="digest")
    store.close()
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 23):
        for torn in (whole[:place], whole[:place] + bytes(5000) + whole[place + 5000 :]):
            path.write_bytes(torn)
            opened = FactStore(path)
            assert {str(row) for row in recall(opened, *map(stamp, names))} <= {"['digest']", "None"}
            keep(opened, "a")
            opened.close()


def test_another_programs_database_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as base:
        base.execute("CREATE TABLE theirs (x)")
    base.close()
    before = path.read_bytes()
    store = FactStore(path)
    keep(store, "a")
    assert recall(store, stamp("a")) == [None]
    store.close()
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    store = FactStore(tmp_path / "file" / "facts.sqlite3")
    keep(store, "a")
    assert recall(store, stamp("a")) == [None]
    (tmp_path / "folder.sqlite3").mkdir()
    assert kept(tmp_path / "folder.sqlite3") is None


@pytest.mark.usefixtures("ordinary")
def test_a_store_that_is_read_only_is_read(store: FactStore, path: Path) -> None:
    keep(store, "a")
    store.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        assert kept(path) == [1]
        keep(store, "a", value=2)
        assert kept(path) == [1]
    finally:
        path.parent.chmod(0o700)


def test_a_store_that_somebody_else_holds_is_done_without(
    store: FactStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabake.util.fact_cache.BUSY_TIMEOUT_S", 0.05)
    keep(store, "a")
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert kept(path) is None
    holder.execute("COMMIT")
    holder.close()
    assert kept(path) == [1]


def test_many_at_once_lose_nothing(path: Path) -> None:
    def work(number: int) -> None:
        store = FactStore(path)
        for turn in range(5):
            keep(store, str(turn), folder=f"1:{number}", value=number)
        store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [kept(path, str(turn), f"1:{number}") for number in range(6) for turn in range(5)] == [
        [number] for number in range(6) for _ in range(5)
    ]


def test_what_nobody_used_for_long_is_forgotten(store: FactStore, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_day(day: int) -> None:
        monkeypatch.setattr(fact_cache, "_today", lambda: day)

    on_day(1000)
    keep(store, "old", "used")
    on_day(1000 + REFRESH_DAYS)
    assert recall(store, stamp("used")) == [[1]]
    on_day(1000 + UNUSED_DAYS)
    keep(store, "new")
    monkeypatch.setattr(fact_cache, "REFRESH_DAYS", 1000)
    on_day(1001 + UNUSED_DAYS)
    keep(store, "newer")
    assert [kept(path, name) for name in ("old", "used", "new", "newer")] == [None, [1], [1], [1]]


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
    """FAT and sshfs number files again at each mount: only the name distinguishes two captions of one length."""
    (tmp_path / "1").touch()
    os.utime(tmp_path / "1", (1, 1))
    state = (tmp_path / "1").stat()
    one, other = make_stamp(state, "a.txt"), make_stamp(state, "b:1.txt")
    assert one != other
    assert is_file_stamp(one)
    assert is_file_stamp(other)
    assert is_settled(other, time.time_ns() + 10_000_000_000)
