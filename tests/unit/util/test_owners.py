"""The owner of a lock: written, read, and considered dead only if that is proven."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from constant import returning
from lorabake.util import owners
from lorabake.util.owners import (
    LockOwner,
    current_owner,
    is_alive,
    is_gone,
    is_local_process,
    parse_owner,
    serialize_owner,
)

NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only where /proc is")


def dead() -> int:
    """The pid of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_an_owner_survives_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in owners.JOB_ID_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    owner = current_owner("x-001", flock=True)
    assert (owner.pid, owner.job, owner.use, owner.flock) == (os.getpid(), "4711", "x-001", True)
    found = parse_owner(serialize_owner(owner, mark="m") + b"the rest of a longer line\n")
    assert found is not None
    assert found[0] == owner
    assert found[1]["mark"] == "m"
    for part in (str(os.getpid()), owner.host, "4711", owner.since):
        assert part in owner.describe_owner()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"17\n", b"\xff\xfe", b'{"host": ', b"[" * 100_000, b"\0" * 50],
    ids=["empty", "no keys", "list", "number", "no text", "cut off", "deep", "zeros"],
)
def test_anything_else_is_no_owner(content: bytes) -> None:
    assert parse_owner(content) is None


@pytest.mark.parametrize("change", [{"pid": 0}, {"pid": -1}, {"pid": True}, {"pid": 2**40}, {"host": 1}, {"flock": 1}])
def test_odd_values_are_no_owner(change: dict[str, object]) -> None:
    assert parse_owner(serialize_owner(current_owner(), **change)) is None


@NEEDS_PROC
def test_a_living_process_is_not_gone() -> None:
    owner = current_owner()
    assert is_local_process(owner)
    assert is_alive(owner)
    assert not is_gone(owner, unlocked=False)
    assert not is_gone(owner, unlocked=True)  # it holds its file without flock


@NEEDS_PROC
def test_what_proves_that_an_owner_is_gone() -> None:
    owner = current_owner()
    assert is_gone(replace(owner, pid=dead()), unlocked=False)
    assert is_gone(replace(owner, started="1"), unlocked=False)  # its pid is another process' by now
    assert is_gone(replace(owner, boot="before", host="a"), unlocked=False) is False
    assert is_gone(replace(owner, boot="before"), unlocked=False)  # this host was started again
    assert is_gone(replace(owner, flock=True, space="pid:[1]", host="a"), unlocked=True)  # of the same kernel


@NEEDS_PROC
@pytest.mark.parametrize("unlocked", [False, True])
def test_what_proves_nothing(unlocked: bool) -> None:
    owner = replace(current_owner(), pid=dead())
    assert not is_gone(replace(owner, host="other", boot="other", flock=True), unlocked=unlocked)
    assert not is_gone(replace(owner, host="localhost", boot="other"), unlocked=unlocked)
    assert not is_gone(replace(owner, space="pid:[1]"), unlocked=unlocked)  # a container's pids cannot be looked up


def test_without_proc_the_host_and_the_pid_decide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(owners, "BOOT_ID_PATH", tmp_path / "none")
    monkeypatch.setattr(owners, "PID_NAMESPACE_PATH", tmp_path / "none")
    monkeypatch.setattr(owners, "read_process_stat", returning(("X", 0, "")))
    monkeypatch.setattr("socket.gethostname", lambda: "mac")
    owner = current_owner()
    assert owner == LockOwner("mac", os.getpid(), since=owner.since, job=owner.job)
    assert not is_gone(owner, unlocked=False)
    assert is_gone(replace(owner, pid=dead()), unlocked=False)
    assert not is_gone(replace(owner, pid=dead(), host="other"), unlocked=True)
    assert is_gone(replace(owner, flock=True), unlocked=True)
