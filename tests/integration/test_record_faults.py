"""The record survives everything: killed or refused at any point of any write, it is the complete old one or the
complete new one. Each attempt is a fork of the test's own process, so that hundreds of them take seconds. Where it dies
is chosen in
three ways: at a random moment of writing without end; before each call that has to do with files, one after the other;
and in the middle of a file, when its size reaches a limit that the system kills for.
"""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from launch_runner import request
from test_guard import fake, guarding, heard, leave, ready, settings

from lorabake.errors import BusyError, ResourceError
from lorabake.runs.events import EventLog
from lorabake.runs.folder import RunPaths, create_run_folder, list_outputs, replace_file
from lorabake.runs.launch_request import build_initial_files, new_record
from lorabake.runs.lock import acquire_run_lock, find_active, new_claim
from lorabake.runs.record import read_record
from lorabake.util import process_guard
from lorabake.util.hashing import digest_bytes
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal
from lorabake_schemas.record import Inputs, Outcome, Record

KILLS = 220
LONGEST_S = 0.02  # between a start and its end
MOST_CALLS = 2000
SIZES = (0, 1, 4095, 4096, 4097, 30_000, 200_000)  # those of the middle of a long record
Act = Callable[[], object]
Write = Callable[[Path, bytes], None]


def by_lorabake(folder: Path, record: bytes) -> None:
    replace_file(RunPaths(folder).record, record, within=folder)


def by_the_guard(folder: Path, record: bytes) -> None:
    process_guard.replace_text(str(folder / "record.json"), record.decode())


WRITERS = pytest.mark.parametrize("write", [by_lorabake, by_the_guard])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def records(folder: Path) -> tuple[bytes, bytes]:
    """As a run's is at its start, and a much longer one as at its end."""
    start = new_record(request(folder))
    finding = Finding(rule="G1.1", severity=Severity.HINT, message=literal("ção " * 200), fix=literal("none"))
    outcome = Outcome(code="success", message=literal("it went well"), steps=4)
    changes = {"status": "finished", "outcome": outcome, "findings": (finding,) * 250}
    start_bytes, end_bytes = (
        (each.model_dump_json(indent=2) + "\n").encode() for each in (start, start.model_copy(update=changes))
    )
    assert len(start_bytes) < SIZES[-2]
    assert len(end_bytes) > SIZES[-1]
    return start_bytes, end_bytes


def forked(act: Act, *, kill_after_s: float | None = None) -> int:
    """The result of ``act`` in a separate process: 0, 1 for an exception, or less than 0 for the signal it died by."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with suppress(BaseException):
            act()
            code = 0
        os._exit(code)
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def killed_at_each_call(act: Act) -> Iterator[int]:
    """``act`` in one process after the other, each killed before one such call more, until one ends well."""
    for number in range(MOST_CALLS):
        code = forked(partial(dying, act, number))
        assert code in {0, -signal.SIGKILL}
        yield number
        if code == 0:
            return
    pytest.fail("it never ended")


def dying(act: Act, number: int) -> None:
    left = number

    def profile(_frame: object, event: str, about: Any) -> None:
        nonlocal left
        left -= event == "c_call" and is_about_files(about)
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)
    act()
    sys.setprofile(None)


def is_about_files(called: Any) -> bool:
    """Whether a function of C is one of ``os`` or ``open``, or a method of an open file."""
    return called.__module__ in {"posix", "_io", "io"} or type(called.__self__).__module__ == "_io"


def limited(act: Act, size: int, *, kills: bool) -> int:
    """``act`` where no file may grow beyond ``size``: the system refuses, as on a full disk, or kills in the middle."""

    def within() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL if kills else signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        act()

    return forked(within)


def now_in(folder: Path, *whole: bytes) -> Record:
    """The record there, which is one of these to the last byte."""
    path = folder / "record.json"
    assert path.read_bytes() in whole
    return read_record(path)


def is_left_over(folder: Path) -> bool:
    """Whether something was begun that nobody ended; nothing else may be there."""
    names = {path.name for path in folder.iterdir()} - {"record.json"}
    assert names <= {".record.json.part"}
    return bool(names)


@WRITERS
def test_killed_at_any_moment(folder: Path, write: Write) -> None:
    old, new = records(folder)
    write(folder, old)
    dice, seen = random.Random(7), Counter[str]()  # noqa: S311 - the same moments each time, as far as a machine can

    def without_end() -> None:
        while True:
            write(folder, new)
            write(folder, old)

    for _ in range(KILLS):
        assert forked(without_end, kill_after_s=dice.uniform(0, LONGEST_S)) == -signal.SIGKILL
        seen[now_in(folder, old, new).status] += 1
        seen["left over"] += is_left_over(folder)
    print(dict(seen))
    assert seen["started"]
    assert seen["finished"]
    assert seen["left over"]  # it was in the middle of writing, not only between two of them
    write(folder, new)
    now_in(folder, new)
    assert not is_left_over(folder)


@WRITERS
def test_killed_at_each_call(folder: Path, write: Write) -> None:
    old, new = records(folder)
    write(folder, old)
    seen = list[str]()
    for _ in killed_at_each_call(lambda: write(folder, new)):
        seen.append(now_in(folder, old, new).status + ("+" if is_left_over(folder) else ""))
        write(folder, old)
        assert not is_left_over(folder)
    assert len(seen) >= 5
    assert list(dict.fromkeys(seen)) == ["started", "started+", "finished"]  # from one to the other, and never back
    assert seen == sorted(seen, key=["started", "started+", "finished"].index)


@WRITERS
@pytest.mark.parametrize("size", SIZES)
def test_killed_in_the_middle_of_the_file(folder: Path, write: Write, size: int) -> None:
    old, new = records(folder)
    write(folder, old)
    assert limited(lambda: write(folder, new), size, kills=True) == -signal.SIGXFSZ
    now_in(folder, old)
    assert (folder / ".record.json.part").stat().st_size == size
    write(folder, new)
    now_in(folder, new)
    assert not is_left_over(folder)


@WRITERS
@pytest.mark.parametrize("size", SIZES)
def test_refused_in_the_middle_of_the_file(folder: Path, write: Write, size: int) -> None:
    old, new = records(folder)
    write(folder, old)
    refused = 1 if write is by_lorabake else 0  # the guard has nobody to tell
    assert limited(lambda: write(folder, new), size, kills=False) == refused
    now_in(folder, old)
    assert not is_left_over(folder)


def full(*_: Any, **__: Any) -> Any:
    """The error of every system call on a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["io.open", "os.fsync", "os.replace"])
def test_a_full_disk_at_each_call_of_lorabake(folder: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = records(folder)
    by_lorabake(folder, old)
    with monkeypatch.context() as patched:
        patched.setattr(call, full)
        with pytest.raises(ResourceError, match=r"record\.json: the disk is full"):
            by_lorabake(folder, new)
    now_in(folder, old)
    assert not is_left_over(folder)


@pytest.mark.parametrize("call", ["builtins.open", "os.fsync", "os.replace"])
def test_a_full_disk_at_each_call_of_the_guard(folder: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = records(folder)
    by_lorabake(folder, old)
    with monkeypatch.context() as patched:
        patched.setattr(call, full)
        by_the_guard(folder, new)
    now_in(folder, old)
    assert not is_left_over(folder)


def test_ctrl_c_in_the_middle_leaves_the_old_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = records(folder)
    by_lorabake(folder, old)

    def interrupt(_descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lorabake.runs.folder.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        by_lorabake(folder, new)
    now_in(folder, old)
    assert not is_left_over(folder)


def beginning(paths: RunPaths) -> Act:
    """A run folder as launch() makes it before the trainer starts, with everything that can be made ready before."""
    of = request(paths.root)
    inputs = (Inputs(inputs=()).model_dump_json() + "\n").encode() + b" " * 5000
    files = {**build_initial_files(of), "inputs.json": inputs}
    record = new_record(of).model_copy(update={"inputs_file": digest_bytes(inputs, "inputs.json")})
    data = (record.model_dump_json(indent=2) + "\n").encode()

    def begin() -> None:
        create_run_folder(paths, files)
        replace_file(paths.record, data, within=paths.root)

    return begin


def test_a_run_folder_with_a_record_has_everything_that_the_record_speaks_of(tmp_path: Path) -> None:
    paths, seen = RunPaths(tmp_path / "runs" / "x-001"), list[bool]()
    for _ in killed_at_each_call(beginning(paths)):
        seen.append(paths.record.exists())
        if seen[-1]:
            record = read_record(paths.record)
            assert record.inputs_file is not None
            for file in (record.recipe, *record.compiled, record.inputs_file):
                assert digest_bytes((paths.root / file.name).read_bytes(), file.name) == file
        shutil.rmtree(paths.root, ignore_errors=True)
    assert len(seen) > 50
    assert seen == sorted(seen)
    assert seen[-1]


@pytest.mark.parametrize("size", [0, 10, 600, 3000, 5010])
def test_a_full_disk_leaves_no_run_folder_that_was_begun(tmp_path: Path, size: int) -> None:
    paths = RunPaths(tmp_path / "runs" / "x-001")
    assert limited(beginning(paths), size, kills=False) == 1
    assert not paths.root.exists()


def orphaned(folder: Path) -> dict[str, Any]:
    """What the guard of a run receives."""
    return {
        "record": str(folder / "record.json"),
        "events": str(folder / "events.jsonl"),
        "room": str(folder / ".room"),
    }


def test_a_guard_that_is_killed_at_each_call_leaves_a_whole_record_and_whole_lines(folder: Path) -> None:
    old, _ = records(folder)
    first = '{"event":"started"}\n'
    seen = Counter[str]()
    for _ in killed_at_each_call(lambda: process_guard.write_interruption(orphaned(folder), 137, stopped=True)):
        record = read_record(folder / "record.json") if (folder / "record.json").exists() else None
        if record is not None:
            seen[record.status] += 1
        events = (folder / "events.jsonl").read_text("utf-8") if record else first
        assert [json.loads(line)["event"] for line in events.splitlines()] in (["started"], ["started", "interrupted"])
        by_lorabake(folder, old)
        (folder / "events.jsonl").write_text(first, "utf-8")
    assert seen["started"] >= 5
    assert seen["interrupted"] >= 5


def test_a_guard_whose_run_folder_was_taken_away_ends_in_peace(tmp_path: Path) -> None:
    process_guard.write_interruption(orphaned(tmp_path / "gone"), 137, stopped=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("torn", ['{"event":"started"}\n{"event":"st', '{"event', '{"event":"started"}\n', ""])
def test_half_a_line_of_the_events_spoils_no_other(folder: Path, torn: str) -> None:
    old, _ = records(folder)
    events = folder / "events.jsonl"
    halves = [] if not torn or torn.endswith("\n") else [torn.splitlines()[-1]]
    for add in (by_a_log, by_a_guard):
        events.write_text(torn, "utf-8")
        by_lorabake(folder, old)
        add(events)
        lines = events.read_text("utf-8").splitlines()
        assert json.loads(lines[-1])["event"] == "interrupted"
        assert [line for line in lines if not is_json(line)] == halves


def by_a_log(events: Path) -> None:
    log = EventLog(events)
    log.write([{"event": "interrupted"}])
    log.close()


def by_a_guard(events: Path) -> None:
    process_guard.write_interruption(orphaned(events.parent), 1, stopped=False)


def is_json(line: str) -> bool:
    try:
        return bool(json.loads(line))
    except ValueError:
        return False


def test_what_is_left_of_a_file_that_was_rewritten_is_no_output(tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "x-001")
    beginning(paths)()
    for name in ("x.safetensors", ".x.safetensors.part"):
        (paths.output / name).write_bytes(b"1")
    assert [file.name for file in list_outputs(paths)] == ["output/x.safetensors"]


def test_any_other_file_is_replaced_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    replace_file(path, b"old", within=path.parent)
    for _ in killed_at_each_call(lambda: replace_file(path, b"new content", within=path.parent)):
        assert path.read_bytes() in {b"old", b"new content"}


def test_nobody_goes_on_with_a_run_whose_guard_is_still_at_work(tmp_path: Path) -> None:
    """lorabake was killed, its name is free again, and the trainer ignores the guard's signals."""
    root, mark = tmp_path / "x-001", os.urandom(16).hex()
    (root / "logs").mkdir(parents=True)
    old, _ = records(root)
    path, told = new_claim(RunPaths(root), "x")
    claim, log = {"path": str(path), "told": told | {"mark": mark}}, str(root / "logs" / "trainer.log")
    changes = settings(root, claim=claim, log=log, mark=mark)
    with guarding(changes, *fake(root, "--delay", "600", "--ignore")) as process:
        by_lorabake(root, old)
        heard(process)
        ready(root)
        assert find_active(RunPaths(root), read_record(root / "record.json")) is not None
        leave(process)
        for other in ("x-001", "x-002"):
            paths = RunPaths(tmp_path / other)
            with pytest.raises(BusyError, match=r"is being stopped: process \d+"), acquire_run_lock(paths, "x"):
                pass
        with acquire_run_lock(RunPaths(tmp_path / "y-001"), "y"):  # a run of another name is nothing to this guard
            pass
        climb(process)
    found = read_record(root / "record.json")
    assert found.status == "interrupted"
    assert find_active(RunPaths(root), found) is None
    assert not (root / ".running").exists()
    with acquire_run_lock(RunPaths(root), "x"):
        pass


def climb(process: subprocess.Popen[bytes]) -> None:
    """Up the ladder to its last rung."""
    deadline = time.monotonic() + 30
    while process.poll() is None:
        assert time.monotonic() < deadline
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
