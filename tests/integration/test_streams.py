"""Streams that are closed, full or of another encoding: no command stumbles, and a run goes on to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from test_cli import environment, make_project, with_base

Shell = Callable[..., subprocess.CompletedProcess[bytes]]
CLOSED = [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "</dev/null"]
FULL = [">/dev/full", "2>/dev/full", ">/dev/full 2>&1"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return with_base(make_project(tmp_path / "project"))


@pytest.fixture
def shell(project: Path, tmp_path: Path) -> Shell:
    """lorabake as a shell starts it, with its streams led elsewhere."""

    def run(line: str, streams: str = "", **env: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["bash", "-c", f'"$0" -m lorabake {line} {streams}', sys.executable],
            cwd=project,
            env=environment(tmp_path / "home") | env,
            capture_output=True,
            timeout=120,
            check=False,
        )

    return run


def record(project: Path) -> dict[str, str]:
    (path,) = project.glob("runs/*/record.json")
    return dict(json.loads(path.read_bytes()))


@pytest.mark.parametrize("streams", [*CLOSED, *FULL])
def test_a_run_goes_on_and_its_exit_code_is_the_runs(shell: Shell, project: Path, streams: str) -> None:
    done = shell("run lamp.toml --rehearse --verbose", streams)
    assert done.returncode == 0, done.stderr
    assert record(project)["status"] == "finished"
    assert not (project.parent / "home" / "lorabake" / "crashes").exists()


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize(("line", "code"), [("plan lamp.toml", 0), ("verify none", 1), ("nope", 2), ("--help", 0)])
def test_a_closed_stream_changes_no_exit_code(shell: Shell, line: str, code: int, streams: str) -> None:
    done = shell(line, streams)
    assert done.returncode == code, done.stderr
    assert not done.stderr.startswith(b"Exception")


def test_a_closed_stdout_is_not_the_next_file_that_is_opened(shell: Shell, project: Path) -> None:
    """Python gives an opened file the lowest free number; what is printed would go into it."""
    shell("compile lamp.toml -o out", ">&- <&- 2>&-")
    shell("compile lamp.toml -o other")
    for name in ("train.toml", "dataset.toml"):
        assert (project / "out" / name).read_bytes() == (project / "other" / name).read_bytes()


@pytest.mark.parametrize("line", ["plan lamp.toml", "check lamp.toml --json", "--help", "recipes list"])
def test_what_cannot_be_written_is_said_and_fails(shell: Shell, line: str) -> None:
    done = shell(line, ">/dev/full")
    assert done.returncode == 6
    assert done.stderr.startswith(b"error: ")
    assert b"Exception ignored" not in done.stderr
    assert shell(line, "2>/dev/full").returncode == 0


def test_a_reader_that_leaves_ends_the_command_and_not_a_run(shell: Shell, project: Path) -> None:
    left = shell("explain --all", '| true; exit "${PIPESTATUS[0]}"')
    assert left.returncode in {0, 1}  # 0 when it was quicker
    assert left.stderr == b""
    assert shell("run lamp.toml --rehearse --json", '| true; exit "${PIPESTATUS[0]}"').returncode == 0
    assert record(project)["status"] == "finished"


LOCALES = [
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii:strict"},
    {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "iso-8859-1:strict"},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii:strict"},
]


@pytest.mark.parametrize("env", LOCALES, ids=lambda env: "-".join(env.values()).replace(".", ""))
def test_what_an_encoding_lacks_is_escaped(shell: Shell, project: Path, env: dict[str, str]) -> None:
    recipe = (project / "lamp.toml").read_text("utf-8")
    (project / "lamp.toml").write_text(f'{recipe}[metadata]\ntitle = "é日→"\n', "utf-8")
    (project / "lamp.toml").rename(os.fsdecode(os.fsencode(project) + b"/r\xc3\xa9\xff.toml"))
    name = r"$'r\xc3\xa9\xff.toml'"
    for line in (f"check {name}", f"check {name} --lang pt_BR --output-format full", f"check none{name}"):
        done = shell(line, **env)
        assert done.returncode == (1 if "none" in line else 0), done.stderr
        assert b"Error" not in done.stderr
    plan = shell(f"plan {name}", **env)
    assert plan.returncode == 0, plan.stderr
    assert b"\\u65e5\\u2192" in plan.stdout
    told = json.loads(shell(f"plan {name} --json", **env).stdout.decode("latin-1"))
    assert "\u65e5" in json.dumps(told, ensure_ascii=False)
    done = shell(f"run {name} --rehearse --verbose", **env)
    assert done.returncode == 0, done.stderr
    assert record(project)["status"] == "finished"
