"""Locks: one holder on any file system, who it is, and no obstacle once the holder has ended."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from constant import returning
from lorabake.util import locks, process_guard
from lorabake.util.locks import Lock, LockHolder
from lorabake.util.owners import current_owner, serialize_owner

ERRORS = ["ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK"]
NEEDS_ROOT = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only root can become another user")
HOLDER = """
import errno, fcntl, os, sys, time
from pathlib import Path
sys.path[:0] = sys.argv[3].split(os.pathsep)
if sys.argv[2]:
    def refuse(*_):
        raise OSError(getattr(errno, sys.argv[2]), "no locks here")
    fcntl.flock = refuse
from lorabake.util import locks
print(type(locks.acquire_lock(Path(sys.argv[1]), "x-001")).__name__, flush=True)
time.sleep(600)
"""


@pytest.fixture(params=["", *ERRORS], ids=["flock", *ERRORS])
def system(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file system: what its flock fails with."""
    name = str(request.param)
    if name:

        def refuse(*_: object) -> None:
            raise OSError(getattr(errno, name), "no locks here")

        monkeypatch.setattr(fcntl, "flock", refuse)
    return name


@contextmanager
def other_holder(path: Path, error: str) -> Generator[subprocess.Popen[bytes]]:
    """A process that takes a lock and keeps it."""
    argv = [sys.executable, "-c", HOLDER, str(path), error, os.pathsep.join(each for each in sys.path if each)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"Lock\n"
            yield process
        finally:
            process.kill()


def test_a_free_lock_is_taken_without_a_word(tmp_path: Path, system: str) -> None:
    waited: list[LockHolder] = []
    for _ in range(2):
        with locks.hold_lock(tmp_path / "lock", waited.append):
            assert (tmp_path / "lock").exists()
        assert list(tmp_path.iterdir()) == []
    assert waited == []


def test_the_second_is_told_once_and_gets_it_afterwards(tmp_path: Path, system: str) -> None:
    told, release, order = list[LockHolder](), threading.Event(), list[str]()
    holding, waiting = threading.Event(), threading.Event()

    def first() -> None:
        with locks.hold_lock(tmp_path / "lock", told.append):
            holding.set()
            release.wait(10)
            order.append("first")

    def heard(other: LockHolder) -> None:
        told.append(other)
        waiting.set()

    def second() -> None:
        with locks.hold_lock(tmp_path / "lock", heard):
            order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert holding.wait(10)
    threads[1].start()
    assert waiting.wait(10)
    release.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
    assert [other.owner.pid for other in told if other.owner] == [os.getpid()]


def test_trying_never_waits(tmp_path: Path, system: str) -> None:
    path = tmp_path / "lock"
    with locks.try_lock(path, "x-001") as mine:
        assert mine is None
        with locks.try_lock(path) as theirs:
            assert theirs is not None
            assert theirs.owner is not None
            assert (theirs.owner.use, theirs.owner.pid, theirs.certain) == ("x-001", os.getpid(), True)
        seen = locks.find_holder(path)
        assert seen is not None
        assert seen.owner == theirs.owner
    assert locks.find_holder(path) is None
    with locks.try_lock(path) as again:
        assert again is None


def test_a_lock_is_freed_by_an_exception(tmp_path: Path, system: str) -> None:
    with pytest.raises(KeyboardInterrupt), locks.hold_lock(tmp_path / "lock", lambda _: None):
        raise KeyboardInterrupt
    with locks.try_lock(tmp_path / "lock") as mine:
        assert mine is None


def test_another_process_keeps_it_until_it_is_killed(tmp_path: Path, system: str) -> None:
    path = tmp_path / "lock"
    with other_holder(path, system) as process:
        found = locks.acquire_lock(path)
        assert isinstance(found, LockHolder)
        assert found.owner is not None
        assert (found.owner.pid, found.owner.flock) == (process.pid, not system)
        process.kill()
        process.wait()
        assert locks.find_holder(path) is None
        lock = locks.acquire_lock(path)
        assert isinstance(lock, Lock)
        with locks.try_lock(path) as busy:
            assert busy is not None
        lock.release()
    assert list(tmp_path.iterdir()) == []


def test_many_after_a_death_and_only_one_gets_it(tmp_path: Path, system: str) -> None:
    """Everybody finds the file of a dead owner at the same moment."""
    path, got, most = tmp_path / "lock", list[int](), 0
    inside, counting = [0], threading.Lock()

    def strive() -> None:
        nonlocal most
        with locks.hold_lock(path, lambda _: None), suppress(OSError):
            with counting:
                inside[0] += 1
                most = max(most, inside[0])
                got.append(1)
            time.sleep(0.001)
            with counting:
                inside[0] -= 1

    for _ in range(3):
        dead = replace(current_owner(), started="1", flock=not system)
        path.write_bytes(serialize_owner(dead))
        threads = [threading.Thread(target=strive) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert (len(got), most) == (18, 1)
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_another_host_is_never_broken(tmp_path: Path, system: str) -> None:
    """Also where flock says that it is free: on some network file systems that is true for one host only."""
    path = tmp_path / "lock"
    owner = replace(current_owner("x-001"), host="node7", boot="another", job="4711", flock=True)
    path.write_bytes(serialize_owner(owner))
    for found in (locks.acquire_lock(path), locks.find_holder(path)):
        assert isinstance(found, LockHolder)
        assert (found.owner, found.certain) == (owner, False)
        assert str(path) in found.hint
        for part in ("node7", "4711", str(owner.pid), owner.since):
            assert part in found.who
    assert path.read_bytes() == serialize_owner(owner)
    path.unlink()  # what the hint says
    with locks.try_lock(path) as busy:
        assert busy is None


def test_an_empty_file_is_in_nobodys_way_where_the_kernel_can_tell(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older lorabake left it, or a kill between making and writing it."""
    monkeypatch.setattr(locks, "RETRY_LIMIT_S", 0.05)
    path = tmp_path / "lock"
    path.touch()
    found = locks.acquire_lock(path)
    if system:
        assert isinstance(found, LockHolder)
        assert (found.owner, found.certain, found.path) == (None, False, path)
    else:
        assert isinstance(found, Lock)
        found.release()


def test_without_links_the_file_itself_is_made_exclusively(
    tmp_path: Path, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "lock"
    with locks.try_lock(path) as mine, locks.try_lock(path) as theirs:
        assert mine is None
        assert theirs is not None
    assert list(tmp_path.iterdir()) == []


def test_a_kill_while_a_dead_owners_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_guard, "flock", returning(None))
    monkeypatch.setattr(locks, "flock", returning(None))
    dead = serialize_owner(replace(current_owner(), started="1"))
    (tmp_path / "lock").write_bytes(dead)
    (tmp_path / "lock.breaking").write_bytes(dead)
    with locks.try_lock(tmp_path / "lock") as busy:
        assert busy is None
    assert list(tmp_path.iterdir()) == []


def test_who_looks_takes_nobody_for_a_holder_who_looks_as_well(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(serialize_owner(replace(current_owner(), started="1", flock=True)))
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert locks.find_holder(path) is None


def test_a_passing_look_keeps_nobody_from_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(serialize_owner(replace(current_owner(), started="1", flock=True)))
    with path.open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        timer = threading.Timer(0.1, fcntl.flock, (looking, fcntl.LOCK_UN))
        timer.start()
        with locks.try_lock(path) as busy:
            assert busy is None
        timer.join()


@contextmanager
def as_user(number: int) -> Generator[None]:
    os.setegid(number)
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that every user may write to."""
    folder = tmp_path / "shared"
    folder.mkdir()
    for path in (folder, *folder.parents):
        if path.is_relative_to("/tmp"):  # noqa: S108 - pytest's own folders are shut to others
            with suppress(OSError):
                path.chmod(path.stat().st_mode | 0o055)
    folder.chmod(0o777)
    return folder


@NEEDS_ROOT
@pytest.mark.parametrize("mode", [0o777, 0o1777], ids=["shared", "sticky"])
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_another_users_lock_is_no_obstacle_once_it_is_free(shared: Path, mode: int, umask: int) -> None:
    shared.chmod(mode)
    path, before = shared / "lock", os.umask(umask)
    try:
        with as_user(1001):
            lock = locks.acquire_lock(path, "first")
            assert isinstance(lock, Lock)
        with as_user(1002):
            found = locks.acquire_lock(path)
            assert isinstance(found, LockHolder)
            assert found.owner is not None
            assert found.owner.use == "first"
        os.close(lock.descriptor)  # a death: the file stays
        with as_user(1002):
            mine = locks.acquire_lock(path, "second")
            assert isinstance(mine, Lock)
            with locks.try_lock(path) as busy:
                assert busy is not None
            mine.release()
            assert locks.find_holder(path) is None
    finally:
        os.umask(before)


@NEEDS_ROOT
def test_an_older_lock_file_of_another_user_is_no_obstacle(shared: Path) -> None:
    path = shared / "lock"
    with as_user(1001):
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o644))
    with as_user(1002), locks.try_lock(path) as busy:
        assert busy is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine", "utf-8")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="lock"), locks.try_lock(tmp_path / "lock"):
        pass
    assert (tmp_path / "precious").read_text("utf-8") == "mine"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody makes files")
def test_a_place_that_takes_no_file_is_no_held_lock() -> None:
    with pytest.raises(OSError, match="lock"), locks.try_lock(Path("/proc/x.lock")):
        pass


def test_the_file_says_who_holds_it_in_one_line_of_json(tmp_path: Path) -> None:
    with locks.try_lock(tmp_path / "lock", "x-001"):
        told = json.loads((tmp_path / "lock").read_text("utf-8"))
    assert {"host", "pid", "boot", "space", "started", "job", "since", "use", "flock"} == set(told)
