"""Files by SHA-256: streamed, kept while they are what they were, never trusted otherwise."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabake.util import hashing as module
from lorabake.util.hashing import (
    BLOCK_SIZE,
    FIRST_BLOCK_SIZE,
    FileHasher,
    FileSet,
    HashingStoppedError,
    hash_in_background,
)
from lorabake_schemas.record import FileDigest


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "home" / "facts.sqlite3"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written just now counts as old."""
    monkeypatch.setattr("lorabake.util.fact_cache.RACY_NS", -3_600_000_000_000)


def write(folder: Path, **files: bytes | str) -> None:
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def expected(folder: Path, name: str) -> FileDigest:
    data = (folder / name).read_bytes()
    return FileDigest(name=name, sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def read(store: Path | None, folder: Path, *names: str) -> tuple[dict[str, FileDigest | None], int]:
    """The digests, and how many bytes were read for them."""
    with FileHasher(store) as fingerprints:
        return fingerprints.of(folder, names), fingerprints.done


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        FIRST_BLOCK_SIZE - 1,
        FIRST_BLOCK_SIZE,
        FIRST_BLOCK_SIZE + 1,
        FIRST_BLOCK_SIZE + BLOCK_SIZE - 1,
        FIRST_BLOCK_SIZE + BLOCK_SIZE,
        FIRST_BLOCK_SIZE + BLOCK_SIZE + 1,
        3 * BLOCK_SIZE,
    ],
)
def test_a_digest_is_that_of_the_whole_file(folder: Path, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    write(folder, a=data)
    found, done = read(None, folder, "a")
    assert found == {"a": FileDigest(name="a", sha256=hashlib.sha256(data).hexdigest(), size=size)}
    assert done == size


def test_a_file_is_read_once_in_its_life(store: Path, folder: Path, settled: None) -> None:
    write(folder, a="one", b="two")
    first = read(store, folder, "a", "b")
    assert first == ({name: expected(folder, name) for name in ("a", "b")}, 6)
    assert read(store, folder, "a", "b") == (first[0], 0)
    assert read(store, folder, "b") == ({"b": first[0]["b"]}, 0)


def test_two_recipes_that_use_two_models_of_one_folder_do_not_forget_each_others(
    store: Path, folder: Path, settled: None
) -> None:
    write(folder, a="one", b="two", c="three")
    for name in ("a", "b", "c"):
        read(store, folder, name)
    assert read(store, folder, "a", "c")[1] == 0


def test_a_file_that_was_changed_a_moment_ago_is_not_kept(store: Path, folder: Path) -> None:
    write(folder, a="one")
    assert read(store, folder, "a")[1] == 3
    assert read(store, folder, "a")[1] == 3


def test_equal_size_and_time_with_another_content_is_found_out(store: Path, folder: Path, settled: None) -> None:
    write(folder, a="one")
    before = (folder / "a").stat()
    read(store, folder, "a")
    write(folder, a="two")
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    after = (folder / "a").stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert read(store, folder, "a") == ({"a": expected(folder, "a")}, 3)


def test_a_file_put_in_the_place_of_another_is_found_out(store: Path, folder: Path, settled: None) -> None:
    write(folder, a="one", b="two")
    read(store, folder, "a", "b")
    (folder / "b").replace(folder / "a")
    assert read(store, folder, "a", "b") == ({"a": expected(folder, "a"), "b": None}, 3)


def while_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[int], None]) -> None:
    """Call ``act`` with the number of the read before each one."""
    true, count = os.read, 0

    def reading(descriptor: int, size: int) -> bytes:
        nonlocal count
        count += 1
        act(count)
        return true(descriptor, size)

    monkeypatch.setattr("lorabake.util.hashing.os.read", reading)


def test_a_file_that_changes_while_it_is_read_is_read_again(
    store: Path, folder: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a=b"1" * (FIRST_BLOCK_SIZE + 5))

    def act(number: int) -> None:
        if number == 2:
            write(folder, a=b"2" * FIRST_BLOCK_SIZE + b"3")

    while_reading(monkeypatch, act)
    assert read(store, folder, "a")[0] == {"a": expected(folder, "a")}
    assert read(store, folder, "a") == ({"a": expected(folder, "a")}, 0)


def test_one_that_never_holds_still_is_told_and_not_kept(
    store: Path, folder: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a=b"")

    def act(_number: int) -> None:
        with (folder / "a").open("ab") as file:
            file.write(b"x")

    with monkeypatch.context() as patched:
        while_reading(patched, act)
        found = read(store, folder, "a")[0]["a"]
    assert found is not None
    assert found.size == module.ATTEMPT_LIMIT
    assert read(store, folder, "a")[1] == module.ATTEMPT_LIMIT  # it had to be read


def test_what_is_not_a_file_that_can_be_read_has_none(folder: Path) -> None:
    (folder / "inside").mkdir()
    (folder / "nowhere").symlink_to("not/there")
    (folder / "round").symlink_to("round")
    os.mkfifo(folder / "pipe")
    names = ("inside", "nowhere", "round", "pipe", "none", "no/such/folder", "a\0b")
    assert read(None, folder, *names)[0] == dict.fromkeys(names)


@pytest.mark.usefixtures("ordinary")
def test_a_file_that_may_not_be_read_has_none_and_others_have_theirs(folder: Path) -> None:
    write(folder, a="one", b="two")
    (folder / "a").chmod(0)
    assert read(None, folder, "a", "b")[0] == {"a": None, "b": expected(folder, "b")}


def test_a_read_error_is_told_as_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a="one")

    def act(_number: int) -> None:
        raise OSError(5, "Input/output error")

    while_reading(monkeypatch, act)
    assert read(None, folder, "a")[0] == {"a": None}


def test_a_file_system_that_gives_less_than_was_asked_for_is_read_to_the_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a=bytes(range(250)) * (BLOCK_SIZE // 100))
    true = os.read

    def a_little(file: int, size: int) -> bytes:
        return true(file, min(size, 70_001))

    monkeypatch.setattr("lorabake.util.hashing.os.read", a_little)
    assert read(None, folder, "a")[0] == {"a": expected(folder, "a")}


def test_a_file_that_ends_before_its_end_has_none(store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a=b"1" * (FIRST_BLOCK_SIZE + 5))
    true = os.read

    def cut(file: int, size: int) -> bytes:
        return b"" if os.lseek(file, 0, os.SEEK_CUR) else true(file, size)

    with monkeypatch.context() as patched:
        patched.setattr("lorabake.util.hashing.os.read", cut)
        assert read(store, folder, "a")[0] == {"a": None}
    assert read(store, folder, "a")[0] == {"a": expected(folder, "a")}


def test_links_are_followed_and_kept_by_what_they_lead_to(
    store: Path, tmp_path: Path, folder: Path, settled: None
) -> None:
    write(tmp_path / "far", real="one")
    (folder / "link").symlink_to(tmp_path / "far" / "real")
    (tmp_path / "alias").symlink_to(folder)
    assert read(store, folder, "link")[1] == 3
    found, done = read(store, tmp_path / "alias", "link")
    assert (found, done) == ({"link": expected(folder, "link")}, 0)
    write(tmp_path / "far", real="other")
    assert read(store, folder, "link") == ({"link": expected(folder, "link")}, 5)


def test_names_in_folders_below_and_above(store: Path, folder: Path, settled: None) -> None:
    write(folder, **{"unet/a": "one", "unet/deep/a": "two", "a": "three"})
    write(folder.parent, above="four")
    names = ("a", "unet/a", "unet/deep/a", "../above")
    assert read(store, folder, *names)[0] == {name: expected(folder, name) for name in names}
    assert read(store, folder, *names)[1] == 0
    assert read(store, folder / "unet", "a", "deep/a")[1] == 0


def test_a_folder_asked_for_twice_is_read_once(folder: Path) -> None:
    write(folder, a="one", b="two")
    with FileHasher(None) as fingerprints:
        found = fingerprints.hash_folders([FileSet(folder, ["a", "b"]), FileSet(folder, ["b"]), FileSet(folder, [])])
    assert found == [{name: expected(folder, name) for name in ("a", "b")}, {"b": expected(folder, "b")}, {}]
    assert fingerprints.done == 6


def test_odd_bytes_of_a_name_are_spelt_out(folder: Path) -> None:
    name = os.fsdecode(b"caf\xe9.txt")
    write(folder, **{name: "one"})
    found = read(None, folder, name)[0][name]
    assert found is not None
    assert found.name == "caf\\udce9.txt"


def torn(store: Path) -> None:
    store.write_bytes(store.read_bytes()[: store.stat().st_size // 2])


def foreign(store: Path) -> None:
    store.unlink()
    with sqlite3.connect(store) as base:
        base.execute("CREATE TABLE theirs (a)")
    base.close()


def noise(store: Path) -> None:
    store.write_bytes(os.urandom(8192))


def lies(store: Path) -> None:
    """Another digest behind the store's back."""
    with sqlite3.connect(store) as base:
        (value,) = base.execute("SELECT value FROM fact WHERE name = ?", (b"a",)).fetchone()
        digest = hashlib.sha256(b"one").hexdigest()
        assert digest in value
        base.execute("UPDATE fact SET value = ?", (value.replace(digest, "f" * 64),))
    base.close()


@pytest.mark.parametrize("spoil", [torn, foreign, noise, lies])
def test_a_spoilt_store_is_never_trusted(
    store: Path, folder: Path, settled: None, spoil: Callable[[Path], None]
) -> None:
    write(folder, a="one", b="two")
    first = read(store, folder, "a", "b")[0]
    spoil(store)
    assert read(store, folder, "a", "b") == (first, 6)
    known = 6 if spoil is foreign else 0  # another program's file is left alone, everything else made anew
    assert read(store, folder, "a", "b") == (first, known)


def test_a_store_that_is_locked_is_done_without(
    store: Path, folder: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lorabake.util.fact_cache.BUSY_TIMEOUT_S", 0.05)
    write(folder, a="one")
    read(store, folder, "a")
    holder = sqlite3.connect(store, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    assert read(store, folder, "a") == ({"a": expected(folder, "a")}, 3)
    holder.execute("COMMIT")
    holder.close()
    assert read(store, folder, "a")[1] == 0


def test_twenty_thousand_tiny_files(store: Path, folder: Path, settled: None) -> None:
    names = [f"{number:05}.txt" for number in range(20_000)]
    for name in names:
        (folder / name).write_text(name, encoding="utf-8")
    first, done = read(store, folder, *names)
    assert done == 9 * 20_000
    assert list(first) == names
    assert first["00000.txt"] == expected(folder, "00000.txt")
    assert first["19999.txt"] == expected(folder, "19999.txt")
    (folder / names[7]).write_text("changed!!", encoding="utf-8")
    second, done = read(store, folder, *names)
    assert done == 9
    assert [name for name in names if first[name] != second[name]] == [names[7]]


def test_progress_goes_from_nothing_to_all_and_is_told_by_the_thread_that_asks(folder: Path) -> None:
    write(folder, a=bytes(5 * BLOCK_SIZE), b=b"12")
    told = list[tuple[int, int, int]]()
    with FileHasher(None, lambda done, total: told.append((done, total, threading.get_ident()))) as fingerprints:
        fingerprints.of(folder, ["a", "b"])
    assert told[-1] == (5 * BLOCK_SIZE + 2, 5 * BLOCK_SIZE + 2, threading.get_ident())
    assert {total for _, total, _ in told} == {5 * BLOCK_SIZE + 2}
    assert sorted(told) == told
    assert {who for _, _, who in told} == {threading.get_ident()}


def test_nothing_is_told_where_everything_is_known(store: Path, folder: Path, settled: None) -> None:
    write(folder, a="one")
    read(store, folder, "a")
    told = list[int]()
    with FileHasher(store, lambda done, _total: told.append(done)) as fingerprints:
        fingerprints.of(folder, ["a"])
    assert told == []


def test_a_stop_ends_the_reading_and_keeps_what_is_done(
    store: Path, folder: Path, settled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, a=bytes(7 * BLOCK_SIZE), b="two")
    fingerprints = FileHasher(store, threads=1)
    files = FileSet(folder, ["b", "a"])

    def act(number: int) -> None:
        if number == 3:  # the second of the large file
            fingerprints.stop()

    with monkeypatch.context() as patched:
        while_reading(patched, act)
        with pytest.raises(HashingStoppedError):
            fingerprints.hash_folders([files])
    assert fingerprints.done < 3 * BLOCK_SIZE
    assert read(store, folder, "b")[1] == 0
    assert read(store, folder, "a")[1] == 7 * BLOCK_SIZE


def test_ctrl_c_while_hashing_ends_its_threads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a=bytes(64 * BLOCK_SIZE))
    monkeypatch.setattr(module, "PROGRESS_INTERVAL_S", 0.001)
    before = threading.active_count()

    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    with FileHasher(None, interrupt) as fingerprints, pytest.raises(KeyboardInterrupt):
        fingerprints.of(folder, ["a"])
    assert threading.active_count() == before


def test_a_fault_of_ours_in_a_thread_is_not_swallowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a="one")

    def act(_number: int) -> None:
        raise ZeroDivisionError

    while_reading(monkeypatch, act)
    with pytest.raises(ZeroDivisionError):
        read(None, folder, "a")


def test_hashing_beside_something_else(store: Path, folder: Path) -> None:
    write(folder, a="one")
    with hash_in_background(store, lambda fingerprints: fingerprints.of(folder, ["a"])) as wait:
        assert wait(None) == {"a": expected(folder, "a")}
        assert wait(None) == {"a": expected(folder, "a")}


def test_whoever_waits_is_told_how_far_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a=bytes(2 * BLOCK_SIZE))
    monkeypatch.setattr("lorabake.util.hashing.PROGRESS_INTERVAL_S", 0.001)
    heard, told = threading.Event(), list[tuple[int, int]]()

    def act(_number: int) -> None:
        heard.wait(30)

    while_reading(monkeypatch, act)

    def progress(done: int, total: int) -> None:
        told.append((done, total))
        heard.set()

    with hash_in_background(None, lambda fingerprints: fingerprints.of(folder, ["a"])) as wait:
        assert wait(progress) == {"a": expected(folder, "a")}
    assert told[0] == (0, 2 * BLOCK_SIZE)


class Slow(FileHasher):
    """Reports when it was asked to stop."""

    left: threading.Event

    def stop(self) -> None:
        super().stop()
        self.left.set()


def test_leaving_the_block_stops_the_hashing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, a=bytes(64 * BLOCK_SIZE))
    begun, left, counts = threading.Event(), threading.Event(), list[int]()

    def act(number: int) -> None:
        counts.append(number)
        begun.set()
        left.wait(30)

    while_reading(monkeypatch, act)
    monkeypatch.setattr(Slow, "left", left, raising=False)
    monkeypatch.setattr("lorabake.util.hashing.FileHasher", Slow)
    before = threading.active_count()

    def leave_early() -> None:
        with hash_in_background(None, lambda fingerprints: fingerprints.of(folder, ["a"])):
            begun.wait(30)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave_early()
    assert counts == [1]
    assert threading.active_count() == before


def test_an_error_of_what_is_made_reaches_whoever_waits(store: Path) -> None:
    def make(_fingerprints: FileHasher) -> None:
        raise LookupError("why")

    with hash_in_background(store, make) as wait, pytest.raises(LookupError, match="why"):
        wait(None)
