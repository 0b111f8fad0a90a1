"""A run belongs to its folder: the terminal that started it may leave, or be closed or killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from launch_runner import request
from test_kill import PATIENCE, alive, until

from lorabake.errors import MachineError
from lorabake.jobs.attach import attach_run, run_supervised
from lorabake.jobs.control import stop_run, wait_for_end
from lorabake.jobs.display import NO_DISPLAY, ignore_event
from lorabake.jobs.supervisor import launch_run
from lorabake.runs.finalize import complete_record
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun
from lorabake.runs.lock import find_active, read_claim
from lorabake.runs.record import read_record

if TYPE_CHECKING:
    from collections.abc import Generator

    from lorabake.runs.stop_request import StopMode
    from lorabake_schemas.record import Record

RUNNER = Path(__file__).with_name("supervised_runner.py")
pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found in /proc")


class Tree:
    """The processes of one run."""

    def __init__(self, viewer: subprocess.Popen[bytes], paths: RunPaths) -> None:
        self.viewer, self.paths = viewer, paths
        until(lambda: b'"step": 3,' in self.events(), "the third step")
        active, claim = find_active(paths, read_record(paths.record)), read_claim(paths)
        assert active is not None
        assert active.owner is not None
        assert claim is not None
        self.supervisor, self.guard, self.trainer = active.owner.pid, claim.owner.pid, claim.trainer

    def events(self) -> bytes:
        try:
            return self.paths.events.read_bytes()
        except FileNotFoundError:
            return b""

    def steps(self) -> int:
        return self.events().count(b'"event": "step"')

    def ended(self) -> bool:
        return not any(map(alive, (self.supervisor, self.guard, self.trainer)))

    def found(self) -> FoundRun:
        return FoundRun(self.paths, read_record(self.paths.record), self.paths.root.name)


def argv(root: Path, *flags: str) -> list[str]:
    return [sys.executable, str(RUNNER), str(root), *flags]


@contextmanager
def running(root: Path, *flags: str, steps: int = 1000) -> Generator[Tree]:
    """A supervised run of the fake trainer, some steps into it."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = argv(root, "--steps", str(steps), "--delay", "0.05", *flags)
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as viewer:
        tree = None
        try:
            tree = Tree(viewer, RunPaths(root))
            yield tree
        finally:
            viewer.kill()
            for pid in (tree.trainer, tree.guard, tree.supervisor) if tree is not None else ():
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


def last_event(paths: RunPaths) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(paths.events.read_text("utf-8").splitlines()[-1])
    return event


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_run_goes_on_without_its_terminal(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "x", steps=40) as tree:
        tree.viewer.send_signal(number)
        assert tree.viewer.wait(PATIENCE) == (-number if number == signal.SIGKILL else 129)
        before = tree.steps()
        until(lambda: tree.steps() > before + 3, "further steps")
        until(tree.ended, "the end of the run")
        assert tree.steps() == 40
        assert last_event(tree.paths)["event"] == read_record(tree.paths.record).status == "failed"  # it saves no LoRA


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_other_signals_to_the_terminal_stop_the_run(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path / "x") as tree:
        tree.viewer.send_signal(number)
        assert tree.viewer.wait(PATIENCE) == 130
        assert tree.ended()
        record = read_record(tree.paths.record)
        assert record.status == "interrupted"
        assert record.outcome is not None
        assert number.name in record.outcome.message


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_in_a_batch_job_the_run_ends_with_its_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with running(tmp_path / "x") as tree:
        tree.viewer.send_signal(number)
        assert tree.viewer.wait(PATIENCE) == (-number if number == signal.SIGKILL else 130)
        until(tree.ended, "the end of the run")
        assert read_record(tree.paths.record).status == "interrupted"


def test_in_a_batch_job_a_detached_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with running(tmp_path / "x", "--detach") as tree:
        assert tree.viewer.wait(PATIENCE) == 0
        before = tree.steps()
        until(lambda: tree.steps() > before + 3, "further steps")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_to_every_process_of_a_job_is_one_request(tmp_path: Path, number: signal.Signals) -> None:
    """The trainer takes a second to end after SIGINT, and notes the next rung, SIGTERM, if there is one."""
    heard = tmp_path / "heard"
    with running(tmp_path / "x", "--heard", str(heard)) as tree:
        os.kill(tree.guard, number)
        os.kill(tree.supervisor, number)
        until(heard.exists, "the trainer's first signal")
        tree.viewer.send_signal(number)
        assert tree.viewer.wait(PATIENCE) == 130
        assert tree.ended()
    assert heard.read_text("utf-8") == "SIGINT\n"


def test_a_second_ctrl_c_is_harder(tmp_path: Path) -> None:
    with running(tmp_path / "x", "--ignore", "--children", "session") as tree:
        for _ in range(3):
            tree.viewer.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert tree.viewer.wait(PATIENCE) == 130
        assert tree.ended()


def test_a_killed_supervisor_is_noticed_by_its_terminal(tmp_path: Path) -> None:
    with running(tmp_path / "x") as tree:
        os.kill(tree.supervisor, signal.SIGKILL)
        assert tree.viewer.wait(PATIENCE) == 130
        assert tree.ended()
        record = read_record(tree.paths.record)
        assert record.outcome is not None
        assert (record.status, record.outcome.code) == ("interrupted", "lorabake-killed")


def test_a_run_that_was_judged_is_shown_although_its_supervisor_was_killed_then(tmp_path: Path) -> None:
    def judged_and_killed() -> Record:
        record = launch_run(request(tmp_path / "x"), ignore_event)
        os.kill(os.getpid(), signal.SIGKILL)
        return record

    record = run_supervised(judged_and_killed, RunPaths(tmp_path / "x"), 4, NO_DISPLAY)
    assert record == read_record(RunPaths(tmp_path / "x").record)
    assert record.status == "failed"  # it saves no LoRA


@pytest.mark.parametrize("children", ["group", "session"])
def test_no_trainer_outlives_supervisor_and_guard(tmp_path: Path, children: str) -> None:
    with running(tmp_path / "x", "--ignore", "--children", children, "--pids", str(tmp_path / "pids")) as tree:
        pids = [int(pid) for pid in (tmp_path / "pids").read_text("utf-8").split()]
        os.kill(tree.supervisor, signal.SIGKILL)
        os.kill(tree.guard, signal.SIGKILL)
        until(lambda: not any(map(alive, pids)), "the end of the trainer")
        assert tree.viewer.wait(PATIENCE) == 130
        record = complete_record(tree.paths, read_record(tree.paths.record))
        assert record.outcome is not None
        assert (record.status, record.outcome.code) == ("interrupted", "lorabake-killed")


def test_it_returns_when_training_has_begun(tmp_path: Path) -> None:
    with running(tmp_path / "x", "--detach") as tree:
        said, _ = tree.viewer.communicate(timeout=PATIENCE)
        assert (tree.viewer.returncode, said) == (0, b"started\n")
        assert not tree.ended()
        stop_run(tree.found(), "soon")
        assert wait_for_end(tree.paths).status == "interrupted"
        assert tree.ended()


def test_detaching_from_a_failure_tells_it(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = argv(tmp_path / "x", "--steps", "0", "--fail", "no such file", "--detach")
    done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=PATIENCE)
    assert (done.returncode, read_record(RunPaths(tmp_path / "x").record).status) == (0, "failed")
    again = subprocess.run(command, env=env, capture_output=True, check=False, timeout=PATIENCE)
    assert again.returncode == 1  # the folder exists: said by the supervisor, heard here
    assert b"already exists" in again.stderr


def test_a_second_run_of_that_name_is_refused(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with running(tmp_path / "x", "--detach"):
        done = subprocess.run(argv(tmp_path / "y", "--steps", "4"), env=env, capture_output=True, check=False)
        assert done.returncode == 5
        assert not (tmp_path / "y").exists()


def test_one_ctrl_c_for_both_processes_is_one_request(tmp_path: Path) -> None:
    """As `pkill -INT lorabake` sends it: the viewer passes its own on."""
    with running(tmp_path / "x", "--ignore", "--children", "group") as tree:
        for pid in (tree.viewer.pid, tree.supervisor):
            os.kill(pid, signal.SIGINT)
        until(lambda: b"stopping" in tree.events(), "the word that it stops")
        assert tree.events().count(b'"event": "stopping"') == 1
        assert tree.viewer.wait(PATIENCE) == 130


def test_nobody_waits_for_what_the_supervisor_inherited(tmp_path: Path) -> None:
    """A pipe of the shell, or the lock of a cron job."""
    reading, writing = os.pipe()
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = argv(tmp_path / "x", "--steps", "1000", "--delay", "0.05", "--detach")
    subprocess.run(command, env=env, pass_fds=[writing], check=True, timeout=PATIENCE, capture_output=True)
    os.close(writing)
    assert os.read(reading, 1) == b""  # at once, though the run goes on
    os.close(reading)
    paths = RunPaths(tmp_path / "x")
    stop_run(FoundRun(paths, read_record(paths.record), "x"), "now")
    wait_for_end(paths)


@pytest.mark.parametrize("mode", ["soon", "now"])
def test_stopping_from_elsewhere(tmp_path: Path, mode: StopMode) -> None:
    flags = ("--ignore", "--children", "group") if mode == "now" else ()
    with running(tmp_path / "x", *flags) as tree:
        stop_run(tree.found(), mode)
        record = wait_for_end(tree.paths)
        assert tree.viewer.wait(PATIENCE) == 130
        assert tree.ended()
        assert record.outcome is not None
        assert record.outcome.code == "interrupted"
        assert record.outcome.returncode == (128 + 9 if mode == "now" else 128 + 2)


def test_stopping_after_a_save(tmp_path: Path) -> None:
    with running(tmp_path / "x", "--saves") as tree:
        stop_run(tree.found(), "after-save")
        assert wait_for_end(tree.paths).status == "interrupted"
        assert tree.events().count(b'"event": "saving"') or tree.events().count(b'"event": "saved"')


def test_what_is_in_the_place_of_the_request_is_named(tmp_path: Path) -> None:
    """To stop at once a signal is enough."""
    with running(tmp_path / "x") as tree:
        os.mkfifo(tree.paths.stop)
        with pytest.raises(MachineError) as refused:
            stop_run(tree.found(), "after-save")
        assert str(refused.value.message).startswith(f"cannot write {tree.paths.stop}: ")
        assert "space" not in str(refused.value.hint)
        stop_run(tree.found(), "soon")
        assert wait_for_end(tree.paths).status == "interrupted"


def test_nothing_to_stop(tmp_path: Path) -> None:
    with running(tmp_path / "x", steps=40) as tree:
        until(tree.ended, "the end of the run")
        with pytest.raises(MachineError):
            stop_run(tree.found(), "soon")


def test_attaching_shows_the_rest(tmp_path: Path) -> None:
    with running(tmp_path / "x", "--detach", steps=30) as tree:
        assert attach_run(tree.paths, NO_DISPLAY).status == "failed"
        assert tree.steps() == 30
