"""TensorBoard over some runs: whose Python, which port, what it is given, and how its end is reported."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path

import pytest

from ended_runs import record
from lorabake.errors import BusyError, MachineError, SetupError
from lorabake.jobs.tensorboard import HOST, choose_port, find_tensorboard, serve_tensorboard
from lorabake.runs.folder import RunPaths
from lorabake.runs.index import FoundRun

FAKE = """
import json, os, socket, sys
logdir, port = (sys.argv[sys.argv.index(name) + 1] for name in ("--logdir", "--port"))
told = {"argv": sys.argv[1:], "safe": os.environ.get("PYTHONSAFEPATH"), "path": os.environ.get("PYTHONPATH")}
told["runs"] = {name: os.path.realpath(os.path.join(logdir, name)) for name in sorted(os.listdir(logdir))}
open(TOLD, "w").write(json.dumps(told))
server = socket.create_server(("127.0.0.1", int(port)))
server.accept()
print("the last words\\n")
sys.exit(3)
"""


def run(folder: Path) -> FoundRun:
    paths = RunPaths(folder)
    paths.tensorboard.mkdir(parents=True)
    return FoundRun(paths, record("finished", None), folder.name)


def test_it_serves_the_runs_and_nothing_of_theirs_is_started(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a" / "x-001"), run(tmp_path / "b" / "x-001"), run(tmp_path / "c")]
    runs[2].paths.tensorboard.rmdir()
    runs[2].paths.tensorboard.symlink_to("/etc")  # a stranger's
    python = tmp_path / "python"
    told = tmp_path / "told"
    (tmp_path / "fake.py").write_text(f"TOLD = {str(told)!r}\n{FAKE}")
    python.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "fake.py"} "$@"\n')
    python.chmod(0o755)
    port, urls = choose_port(None), list[str]()
    with pytest.raises(SetupError, match="the last words"):
        serve_tensorboard(runs, python, port, {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/x"}, urls.append)
    assert urls == [f"http://{HOST}:{port}/"]
    found = json.loads(told.read_text())
    assert found["argv"][:2] == ["-m", "tensorboard.main"]
    assert found["argv"][found["argv"].index("--host") + 1] == HOST
    assert (found["safe"], found["path"]) == ("1", None)
    assert found["runs"] == {
        "x-001": str(runs[0].paths.tensorboard), "x-001+": str(runs[1].paths.tensorboard),
    }  # fmt: skip


def test_runs_without_anything_to_show(tmp_path: Path) -> None:
    with pytest.raises(MachineError):
        serve_tensorboard([], tmp_path / "python", 1, {}, lambda _: None)


def test_a_port_that_is_taken() -> None:
    with socket.create_server((HOST, 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(BusyError):
            choose_port(taken)
        assert choose_port(None) != taken
    assert choose_port(taken) == taken


def test_without_a_trainer(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        find_tensorboard([run(tmp_path / "x-001")], {"LORABAKE_HOME": str(tmp_path / "home")})
    given = (tmp_path / "sd-scripts", tmp_path / "python")
    assert find_tensorboard([], {}, given) == given[1]
