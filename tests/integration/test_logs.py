"""`lorabake logs` in real terminals and pipes, errors as JSON, and the completion of runs in a real bash."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import resume_runner
from test_cli import environment
from test_kill import running
from test_status import lorabake

from lorabake.commands.json_schema import SchemaName
from published import hold

if TYPE_CHECKING:
    from collections.abc import Iterator


NAMED = "from lorabake.cli import main; main(prog_name='lorabake')"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs")
    assert resume_runner.run(folder / "runs" / "x-001").status == "finished"
    return folder


def test_lines_without_bars(finished: Path) -> None:
    done = lorabake(finished, "logs", "x-001")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert "saving checkpoint: output/x.safetensors" in lines
    assert not [line for line in lines if line.startswith("steps:")]
    assert lorabake(finished, "logs", "x-001", "-n", "2").stdout.splitlines() == lines[-2:]
    assert lorabake(finished, "logs", "x-001", "-f").stdout.splitlines() == lines
    table = json.loads(lorabake(finished, "logs", "x-001", "--json").stdout)
    hold(table, "logs")
    assert (table["lines"], table["bar"], table["state"]) == (lines, None, "finished")


def test_raw_is_the_log_itself(finished: Path) -> None:
    log = (finished / "runs" / "x-001" / "logs" / "trainer.log").read_bytes()
    argv = [sys.executable, "-m", "lorabake", "logs", "x-001", "--raw"]
    for more, expected in (([], log), (["-f"], log), (["-n", "3"], b"".join(log.splitlines(keepends=True)[-3:]))):
        done = subprocess.run([*argv, *more], cwd=finished, env=environment(finished), capture_output=True, check=True)
        assert done.stdout.endswith(expected[-200:])
        if not more or more == ["-f"]:
            assert done.stdout == expected


def test_a_reader_that_leaves(finished: Path) -> None:
    command = f"{sys.executable} -m lorabake logs x-001 --raw | head -c 10 >/dev/null; exit ${{PIPESTATUS[0]}}"
    env = environment(finished)
    done = subprocess.run(["bash", "-c", command], cwd=finished, env=env, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in {0, 1}


def test_following_ends_with_the_run(tmp_path: Path) -> None:
    with running(tmp_path) as (supervisor, _):
        argv = [sys.executable, "-m", "lorabake", "logs", "run", "-f"]
        with subprocess.Popen(
            argv, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as viewer:
            assert viewer.stdout is not None
            assert viewer.stdout.readline() != ""
            assert viewer.poll() is None
            supervisor.send_signal(signal.SIGTERM)
            out, err = viewer.communicate(timeout=60)
        assert (viewer.returncode, err) == (0, "")
        assert out.splitlines()[-1] != ""


def test_ctrl_c_leaves_the_viewer_and_not_the_run(tmp_path: Path) -> None:
    with running(tmp_path) as (supervisor, _):
        argv = [sys.executable, "-m", "lorabake", "logs", "run", "-f"]
        with subprocess.Popen(
            argv, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as viewer:
            assert viewer.stdout is not None
            viewer.stdout.readline()
            viewer.send_signal(signal.SIGINT)
            _, err = viewer.communicate(timeout=60)
        assert viewer.returncode == 130
        assert "Traceback" not in err
        assert supervisor.poll() is None


@pytest.mark.parametrize(
    "args",
    [
        ("status", "nowhere"),
        ("logs", "nowhere"),
        ("ls", "nowhere"),
        ("verify", "nowhere"),
        ("compare", "nowhere", "nowhere"),
    ],
)
def test_an_error_is_json_too(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = lorabake(tmp_path, *args, "--json")
    what: SchemaName = "error"
    table = json.loads(done.stdout)
    hold(table, what)
    assert table["error"]["exit_code"] == done.returncode == 1
    assert table["error"]["message"] in done.stderr
    assert lorabake(tmp_path, *args).stdout == ""


def completed(folder: Path, *words: str) -> Iterator[str]:
    """What bash would offer for the last word, by the script that lorabake gives it."""
    bash = shutil.which("bash") or "bash"
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin" / "lorabake"
    program.write_text(f"#!{sys.executable}\n{NAMED}\n")
    program.chmod(0o755)
    line = " ".join(f"'{word}'" for word in words)
    script = (
        'eval "$(_LORABAKE_COMPLETE=bash_source lorabake)"\n'
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; compopt() {{ :; }}\n"
        '_lorabake_completion lorabake; printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = environment(folder) | {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [bash, "--norc", "-c", script], cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stderr == ""
    yield from filter(None, done.stdout.split())


def test_bash_completes_runs(finished: Path) -> None:
    assert list(completed(finished, "lorabake", "status", "x")) == ["x-001"]
    assert list(completed(finished, "lorabake", "resume", "")) == ["x-001"]
    assert list(completed(finished, "lorabake", "diff", "x-001", "x-")) == ["x-001"]
    assert list(completed(finished, "lorabake", "logs", "y")) == []
    assert "status" in completed(finished, "lorabake", "st")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_shells_are_answered(finished: Path, shell: str) -> None:
    words = {"COMP_WORDS": "lorabake status x", "COMP_CWORD": "2" if shell == "zsh" else "x"}
    env = environment(finished) | {"_LORABAKE_COMPLETE": f"{shell}_complete", **words}
    done = subprocess.run(
        [sys.executable, "-c", NAMED], cwd=finished, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert "x-001" in done.stdout
