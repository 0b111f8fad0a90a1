"""`lorabake ls` and `status` beside a run that lives, is stopped, is killed, is resumed: what they say is so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import resume_runner
from test_cli import environment
from test_kill import running
from test_resume import killed

from lorabake.runs.folder import RunPaths
from published import hold

if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE = 5.0  # seconds after which a state has to be right


def lorabake(cwd: Path, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lorabake", *args]
    return subprocess.run(argv, cwd=cwd, env=environment(cwd), capture_output=True, text=True, timeout=60, check=False)


def ask(cwd: Path, *args: str) -> dict[str, Any]:
    """The only run in the answer."""
    done = lorabake(cwd, *args, "--json")
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    hold(table, "status")
    found: list[dict[str, Any]] = table["runs"]
    assert len(found) == 1
    return found[0]


@contextmanager
def becomes(cwd: Path, *states: str) -> Generator[dict[str, Any]]:
    """The run's status once its state is one of these, within the patience."""
    deadline = time.monotonic() + PATIENCE
    while (found := ask(cwd, "status", "run"))["state"] not in states:
        assert time.monotonic() < deadline, found
    yield found


def test_a_run_that_lives_and_is_stopped(tmp_path: Path) -> None:
    with running(tmp_path) as (supervisor, tree):
        found = ask(tmp_path, "status", "run")
        assert (found["state"], found["phase"]["name"], found["supervisor"]) == ("running", "training", supervisor.pid)
        assert set(tree[:1]) <= set(found["trainer"])
        assert found["steps_per_second"] > 0
        assert found["seconds_left"] > 0
        assert (found["ended"], found["supervised"], found["steps"]) == (None, True, 100000)
        listed = ask(tmp_path, "ls")
        assert (listed["state"], listed["name"]) == ("running", "run")
        assert ask(tmp_path, "ls", "run")["state"] == "running"
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(60) == 130
        with becomes(tmp_path, "interrupted") as found:
            assert (found["phase"]["name"], found["supervisor"]) == ("training", None)
            assert found["ended"] is not None


@pytest.mark.parametrize("victims", ["supervisor", "both"])
def test_a_killed_run_died_and_is_said_to(tmp_path: Path, victims: str) -> None:
    with running(tmp_path) as (supervisor, tree):
        if victims == "both":
            os.kill(tree[-1], signal.SIGKILL)
        supervisor.kill()
        supervisor.wait(60)
        with becomes(tmp_path, "stopping", "died", "running"):
            pass
        with becomes(tmp_path, "died") as found:
            assert found["code"] == "lorabake-killed"
            assert found["step"] >= 5
            assert found["ended"] >= found["started"]
        assert ask(tmp_path, "ls")["state"] == "died"
        text = lorabake(tmp_path, "ls").stdout
        assert "died" in text
        assert "\x1b" not in text


def test_a_resumed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    root = killed(tmp_path / "runs" / "x-001", 7)
    found = ask(tmp_path, "status", "x-001")
    assert found["state"] == "died"
    assert found["resume_step"] in {6, 8}
    assert resume_runner.go_on(root).status == "finished"
    found = ask(tmp_path, "status", "x-001")
    assert (found["state"], found["step"], found["lora"]) == ("finished", 15, "output/x.safetensors")
    assert found["last_save"]["file"].startswith("output/")
    assert lorabake(tmp_path, "status", "x-001", "x-001").stdout.count("x-001: finished") == 2


def test_it_finds_what_this_machine_knows(tmp_path: Path) -> None:
    (here := tmp_path / "here").mkdir()
    resume_runner.run(tmp_path / "far" / "away" / "x-001")
    index = tmp_path / "home" / "runs.jsonl"
    index.parent.mkdir()
    index.write_text(json.dumps({"run": str(tmp_path / "far" / "away" / "x-001"), "digest": None}) + "\n")
    env = environment(tmp_path) | {"LORABAKE_HOME": str(index.parent)}

    def names(*args: str) -> list[str]:
        argv = [sys.executable, "-m", "lorabake", "ls", "--json", *args]
        done = subprocess.run(argv, cwd=here, env=env, capture_output=True, text=True, timeout=60, check=True)
        return [Path(each["folder"]).name for each in json.loads(done.stdout)["runs"]]

    assert (names(), names("--all"), names(".."), names("../far")) == ([], ["x-001"], ["x-001"], ["x-001"])


def test_no_such_folder_and_no_such_run(tmp_path: Path) -> None:
    assert lorabake(tmp_path, "ls", "nowhere").returncode == 1
    assert lorabake(tmp_path, "status", "nowhere").returncode == 1
    assert lorabake(tmp_path, "status").returncode == 2
    done = lorabake(tmp_path, "ls")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_strangers_record_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "runs" / "odd").mkdir(parents=True)
    RunPaths(tmp_path / "runs" / "odd").record.write_text("[]")
    table = json.loads(lorabake(tmp_path, "ls", "--json").stdout)
    assert (table["runs"], len(table["unreadable"])) == ([], 1)
    assert "odd" in lorabake(tmp_path, "ls").stdout
