"""lorabake and guard are killed together: the trainer is found, no second one starts, its record is completed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import without_flock
from launch_runner import request
from resume_runner import go_on, run

from lorabake.analysis.verify import describe_unfinished
from lorabake.errors import BusyError, MachineError
from lorabake.jobs.control import stop_run
from lorabake.jobs.resume.prepare import prepare_resume
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import find_run
from lorabake.runs.lock import find_active, find_running_trainer, new_claim, read_claim
from lorabake.runs.record import first_part, read_record, write_record
from lorabake.util import process_guard
from lorabake.util.owners import current_owner, serialize_owner
from lorabake.util.process import Command, SupervisionOptions, supervise

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

RUNNER = Path(__file__).with_name("resume_runner.py")
NEEDS_PROC = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found through /proc")
BAR = b"\rsteps:  28%|##        | 2/7 [00:01<00:06,  3.30it/s, avr_loss=0.1]"
STARTER = "import sys, without_flock; without_flock.patched(); import resume_runner; sys.exit(resume_runner.main())"


def until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def steps(root: Path) -> int:
    """The last step in the events."""
    path = root / "events.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return max((event["step"] for line in lines if (event := json.loads(line))["event"] == "step"), default=0)


@contextmanager
def orphan(root: Path, error: str = "", delay: float = 0.5) -> Generator[int]:
    """A trainer some steps on, without lorabake and both guards; its pid."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path), without_flock.ERRNO: error}
    argv = [sys.executable, "-c", STARTER, "run", str(root), f"delay = {delay}"]
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as lorabake:
        until(lambda: steps(root) >= 4, "the fourth step")
        claim = read_claim(RunPaths(root))
        assert claim is not None
        assert claim.owner.flock == (not error)
        os.kill(_second_guard(claim.owner.pid), signal.SIGKILL)
        lorabake.kill()
        os.kill(claim.owner.pid, signal.SIGKILL)
        lorabake.wait()
    until(
        lambda: (active := find_running_trainer(RunPaths(root))) is not None and not active.is_guarded,
        "the guard's death",
    )
    try:
        yield claim.trainer
    finally:
        with suppress(ProcessLookupError):
            os.kill(claim.trainer, signal.SIGKILL)


def _second_guard(guard: int) -> int:
    """The guard's child that leads a session: its other one, the trainer, leads only a group."""
    children = Path(f"/proc/{guard}/task/{guard}/children").read_text("utf-8").split()
    return next(pid for pid in map(int, children) if os.getsid(pid) == pid)


def until_gone(root: Path) -> None:
    until(lambda: find_running_trainer(RunPaths(root)) is None, "the trainer's end")


@pytest.fixture(params=["", "ENOSYS"], ids=["flock", "no flock"])
def error(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What flock fails with, here and in the processes of the run."""
    import fcntl

    name = str(request.param)
    if name:
        monkeypatch.setenv(without_flock.ERRNO, name)
        monkeypatch.setattr(fcntl, "flock", without_flock.refuse)
        monkeypatch.setattr(process_guard, "__file__", without_flock.__file__)
    return name


@NEEDS_PROC
def test_a_trainer_that_goes_on_alone_is_found_by_every_command(tmp_path: Path, error: str) -> None:
    root = tmp_path / "x-001"
    with orphan(root, error) as pid:
        found = find_run(root, tmp_path)
        assert found.record.status == "started"
        active = find_active(found.paths, found.record)
        assert active is not None
        assert (active.pids, active.is_supervised, active.is_guarded, active.certain) == ((pid,), False, False, True)
        assert "lorabake stop" in describe_unfinished(found)
        for refused in (
            lambda: go_on(root),
            lambda: prepare_resume(found),
            lambda: launch_run(request(tmp_path / "x-002"), lambda _: None),
        ):
            with pytest.raises(BusyError) as caught:
                refused()
            assert str(pid) in caught.value.message
            assert "lorabake stop" in (caught.value.hint or "")
        assert not (tmp_path / "x-002").exists()
        launch_run(request(tmp_path / "y-001", name="y"), lambda _: None)  # another name is nothing to it
        stop_run(found, "soon")  # as the hint says
        until_gone(root)
        record = find_run(root, tmp_path).record
        assert record.status == "interrupted"
        assert record.outcome is not None
        assert record.outcome.code == "lorabake-killed"
        assert (record.outcome.steps or 0) >= 4
        assert go_on(root).status == "finished"
    assert [path.name for path in (*tmp_path.glob(".*"), *root.glob(".*"))] == []


@NEEDS_PROC
def test_a_trainer_that_ended_alone_is_judged_by_resume(tmp_path: Path) -> None:
    root = tmp_path / "x-001"
    with orphan(root, delay=0.02):
        until_gone(root)
    record = find_run(root, tmp_path).record
    assert record.status == "interrupted"
    assert record.outcome is not None
    assert (record.outcome.steps, record.outcome.code) == (15, "lorabake-killed")
    assert "lorabake resume" in (record.outcome.hint or "")
    assert "output/x.safetensors" in {file.name for file in record.outcome.outputs}
    record = go_on(root)
    assert (record.status, record.parts) == ("finished", ())


@pytest.mark.parametrize("lives", [False, True])
def test_nothing_is_left_of_processes_that_were_killed_after_the_verdict(tmp_path: Path, lives: bool) -> None:
    root = tmp_path / "x-001"
    run(root)
    owner = current_owner("x-001")
    owner = owner if lives else replace(owner, started="another process' time")
    lock, claim = tmp_path / ".x.lock", root / ".running"
    lock.write_bytes(serialize_owner(owner))
    claim.write_bytes(serialize_owner(replace(owner, use="x"), mark="m", folder=root.stat().st_ino))
    assert find_run(root, tmp_path).record.status == "finished"
    assert [path.exists() for path in (lock, claim)] == [lives, lives]


def killed_wholly(root: Path, **changes: Any) -> Path:
    """A run whose record has it as running while no process is left: cut off after step 9."""
    run(root)
    record = json.loads((root / "record.json").read_text("utf-8"))
    record |= {"status": "started", "ended": None, "outcome": None, **changes}
    (root / "record.json").write_text(json.dumps(record), "utf-8")
    log = root / "logs" / "trainer.log"
    log.write_bytes(log.read_bytes().partition(b"| 10/15 ")[0])
    lines = (root / "events.jsonl").read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if (json.loads(line).get("step") or 0) < 8 and '"finished"' not in line]
    (root / "events.jsonl").write_text("".join(kept) + '{"event": "st', "utf-8")
    for name in ("x", "x-step00000010", "x-step00000012", "x-step00000014", "x-000002"):
        (root / "output" / f"{name}.safetensors").unlink()
        shutil.rmtree(root / "output" / f"{name}-state")
    os.utime(log, (1_700_000_000, 1_700_000_000))
    return root


def test_the_record_of_a_run_that_was_killed_wholly_is_completed(tmp_path: Path) -> None:
    """The log continues after the last event, because lorabake wrote the events."""
    root = killed_wholly(tmp_path / "x-001")
    record = find_run(root, tmp_path).record
    assert (record.status, record.ended) == ("interrupted", "2023-11-14T22:13:20.000Z")
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.steps, record.outcome.resume_step) == ("lorabake-killed", 9, 8)
    names = {file.name for file in record.outcome.outputs}
    assert {"output/x-step00000008.safetensors", "output/x-step00000008-state/optimizer.bin"} <= names
    assert read_record(root / "record.json") == record
    last = (root / "events.jsonl").read_text("utf-8").splitlines()[-1]
    assert (json.loads(last)["event"], json.loads(last)["code"]) == ("interrupted", "lorabake-killed")
    assert not (root / ".room").exists()
    assert find_run(root, tmp_path).record == record
    assert go_on(root).status == "finished"


def test_what_a_guard_wrote_is_completed(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "x-001")
    record = json.loads((root / "record.json").read_text("utf-8"))
    outcome = {"code": "lorabake-killed", "message": "lorabake was killed", "returncode": 130}
    record |= {"status": "interrupted", "ended": "2026-01-31T09:30:00.000Z", "outcome": outcome}
    (root / "record.json").write_text(json.dumps(record), "utf-8")
    found = find_run(root, tmp_path).record
    assert (found.status, found.ended) == ("interrupted", record["ended"])
    assert found.outcome is not None
    assert (found.outcome.returncode, found.outcome.steps, found.outcome.resume_step) == (130, 9, 8)
    assert found.outcome.outputs


def test_a_trainer_that_failed_by_itself_is_told_as_failed(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "x-001")
    with (root / "logs" / "trainer.log").open("ab") as log:
        log.write(b'\nTraceback (most recent call last):\n  File "x.py", line 1, in <module>\nRuntimeError: boom\n')
    record = find_run(root, tmp_path).record
    assert record.status == "failed"
    assert record.outcome is not None
    assert (record.outcome.code, record.outcome.steps, record.outcome.returncode) == ("crashed", 9, None)


@pytest.mark.parametrize("said", [b"", b"accelerator device: cpu\n", BAR])
def test_a_continuation_that_was_killed_is_not_told_as_the_part_before_it(tmp_path: Path, said: bytes) -> None:
    """That part had failed, and its output is in the same log."""
    root = killed_wholly(tmp_path / "x-001")
    log = root / "logs" / "trainer.log"
    with log.open("ab") as file:
        file.write(b'\nTraceback (most recent call last):\n  File "x.py", line 1, in <module>\nRuntimeError: boom\n')
    before = log.stat().st_size
    with log.open("ab") as file:
        file.write(said)
    record = read_record(root / "record.json")
    first = first_part(record).model_copy(update={"status": "failed"})
    second = first.model_copy(update={"number": 2, "status": "started", "first_step": 8, "log_from": before})
    write_record(RunPaths(root), record.model_copy(update={"parts": (first, second)}))
    record = find_run(root, tmp_path).record
    assert record.status == record.parts[-1].status == "interrupted"
    assert record.outcome is not None
    assert record.outcome.steps == (10 if said == BAR else 8)
    assert record.outcome.resume_step == 8


@pytest.mark.parametrize("how", ["a copy elsewhere", "read-only"])
def test_a_folder_that_is_not_ours_is_read_and_not_written(tmp_path: Path, how: str) -> None:
    root = killed_wholly(tmp_path / "x-001")
    if how == "a copy elsewhere":
        root = root.rename(tmp_path / "received")
    else:
        if os.geteuid() == 0:
            os.chown(root, 1001, 1001)
        root.chmod(0o555)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    record = find_run(root, tmp_path).record
    assert record.status == "interrupted"
    assert record.outcome is not None
    assert (record.outcome.steps, record.outcome.resume_step) == (9, 8)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    root.chmod(0o755)


def test_a_run_on_another_host_may_be_in_progress(tmp_path: Path) -> None:
    """This machine cannot know; the pids in its files are ignored."""
    root = killed_wholly(tmp_path / "x-001")
    owner = replace(current_owner("x"), host="node7", boot="another", pid=os.getpid(), job="4711", flock=True)
    (root / ".running").write_bytes(serialize_owner(owner, mark="m", folder=root.stat().st_ino, trainer=os.getpid()))
    before = (root / "record.json").read_bytes()
    found = find_run(root, tmp_path)
    assert found.record.status == "started"
    active = find_active(found.paths, found.record)
    assert active is not None
    assert (active.owner, active.certain, active.pids) == (owner, False, ())
    with pytest.raises(BusyError, match="node7, job 4711") as caught:
        go_on(root)
    assert str(root / ".running") in (caught.value.hint or "")
    assert (root / "record.json").read_bytes() == before
    (root / ".running").unlink()  # as the hint says
    assert find_run(root, tmp_path).record.status == "interrupted"


def test_another_host_that_holds_the_name(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "x-001")
    owner = replace(current_owner("x-001"), host="node7", boot="another", flock=True)
    (tmp_path / ".x.lock").write_bytes(serialize_owner(owner))
    assert find_run(root, tmp_path).record.status == "started"
    with pytest.raises(BusyError, match="node7") as caught:
        go_on(root)
    assert str(tmp_path / ".x.lock") in (caught.value.hint or "")


def test_a_copy_of_a_running_run_is_not_running(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "x-001")
    (root / ".running").write_bytes(serialize_owner(current_owner("x"), mark="m", folder=root.stat().st_ino))
    assert find_running_trainer(RunPaths(root)) is not None
    shutil.copytree(root, tmp_path / "copy")
    assert find_running_trainer(RunPaths(tmp_path / "copy")) is None
    assert find_run(tmp_path / "copy", tmp_path).record.status == "interrupted"


@pytest.mark.parametrize("content", [b"", b"{}", b'{"pid": 1}', b"\0" * 5000, b"[" * 4000])
def test_a_planted_claim_is_nothing(tmp_path: Path, content: bytes) -> None:
    root = killed_wholly(tmp_path / "x-001")
    (root / ".running").write_bytes(content)
    assert find_running_trainer(RunPaths(root)) is None
    assert find_run(root, tmp_path).record.status == "interrupted"


def test_a_planted_link_or_pipe_is_nothing(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "x-001")
    os.mkfifo(root / ".running")
    assert find_running_trainer(RunPaths(root)) is None
    (root / ".running").unlink()
    (tmp_path / "precious").write_text("mine", "utf-8")
    (root / ".running").symlink_to(tmp_path / "precious")
    assert find_running_trainer(RunPaths(root)) is None
    assert find_run(root, tmp_path).record.status == "interrupted"
    assert (tmp_path / "precious").read_text("utf-8") == "mine"


def test_a_planted_name_leads_to_no_other_folder(tmp_path: Path) -> None:
    root = killed_wholly(tmp_path / "runs" / "x-001", name="../../planted")
    with pytest.raises(MachineError, match="name"):
        find_run(root, tmp_path)
    with suppress(MachineError):
        go_on(root)
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["x-001"]


def test_no_second_guard_in_a_run_folder(tmp_path: Path, error: str) -> None:
    """Such as one that was slow to start, while its lorabake was killed and the run resumed."""
    root = tmp_path / "x-001"
    (root / "logs").mkdir(parents=True)
    paths = RunPaths(root)
    how = SupervisionOptions(log=paths.log, claim=new_claim(paths, "x"))
    sleeping = Command((sys.executable, "-c", "import time; time.sleep(600)"), root, dict(os.environ))
    with supervise(sleeping, how) as running:
        with pytest.raises(Exception, match="running already"), supervise(sleeping, how):
            pass
        running.stop()
        until(lambda: running.wait(0.1), "the end")
    assert not paths.running.exists()
