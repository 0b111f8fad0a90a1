"""The error boundary: expected failures with message and exit code, bugs with a crash file, click's errors as usage
errors.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from lorabake import __version__
from lorabake.commands.error_handler import error_boundary, format_crash_report
from lorabake.errors import (
    BusyError,
    InterruptedRunError,
    LorabakeError,
    MachineError,
    RecipeError,
    ResourceError,
    SetupError,
)
from lorabake_schemas.findings import Finding, Severity
from lorabake_schemas.messages import literal

FINDING = Finding(rule="S1", severity=Severity.ERROR, message=literal("m"), fix=literal("f"))


def run(error: BaseException, env: Mapping[str, str], *, debug: bool = False) -> object:
    with pytest.raises(SystemExit) as caught, error_boundary(env, debug=debug):
        raise error
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError(literal("bad")), 1),
        (MachineError(literal("full")), 1),
        (BusyError(literal("busy")), 5),
        (ResourceError(literal("no GPU")), 6),
        (SetupError(literal("no git")), 4),
        (InterruptedRunError(literal("stopped")), 130),
        (LorabakeError(literal("other")), 1),
    ],
)
def test_expected_failures_are_words_and_a_code(
    error: LorabakeError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(error, {}) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert click.unstyle(err) == f"error: {error.message}\n"


def test_a_hint_goes_below(capsys: pytest.CaptureFixture[str]) -> None:
    run(SetupError(literal("no git"), hint=literal("install git")), {})
    assert click.unstyle(capsys.readouterr().err) == "error: no git\n  install git\n"


def test_a_recipe_with_errors_is_never_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """Commands show the findings themselves; whoever forgets still gives a reason."""
    assert run(RecipeError(literal("1 error in r.toml"), (FINDING,)), {}) == 1
    assert capsys.readouterr().err == "error: 1 error in r.toml\n"


def test_a_full_disk_is_no_bug_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"LORABAKE_HOME": str(tmp_path)}
    assert run(OSError(errno.ENOSPC, "No space left on device"), env) == 6
    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n  free some space and try again\n"
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(KeyboardInterrupt(), {}) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("error", [click.exceptions.Exit(0), click.Abort()])
def test_what_is_clicks_stays_clicks(error: Exception, tmp_path: Path) -> None:
    """--help is no bug."""
    with pytest.raises(type(error)), error_boundary({"LORABAKE_HOME": str(tmp_path)}):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_success_passes_through() -> None:
    with error_boundary({}):
        pass


def test_a_bug_leaves_a_crash_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ZeroDivisionError(literal("oops")), {"LORABAKE_HOME": str(tmp_path)}) == 3
    files = list((tmp_path / "crashes").iterdir())
    assert len(files) == 1
    text = files[0].read_text(encoding="utf-8")
    assert "ZeroDivisionError: oops" in text
    assert f"lorabake {__version__}" in text
    err = click.unstyle(capsys.readouterr().err)
    assert "this is a bug in lorabake: ZeroDivisionError: oops" in err
    assert str(files[0]) in err
    assert "Traceback" not in err


def test_only_the_last_crash_files_are_kept(tmp_path: Path) -> None:
    for number in range(15):
        run(ValueError(str(number)), {"LORABAKE_HOME": str(tmp_path)})
    files = sorted((tmp_path / "crashes").iterdir())
    assert len(files) == 10
    assert "ValueError: 14" in files[-1].read_text(encoding="utf-8")
    assert "ValueError: 5" in files[0].read_text(encoding="utf-8")


def test_a_bug_with_nowhere_to_write_is_told_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert run(ValueError(literal("oops")), {"LORABAKE_HOME": str(tmp_path / "file")}) == 3
    assert "Traceback" in capsys.readouterr().err


def test_debug_lets_a_bug_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), error_boundary({"LORABAKE_HOME": str(tmp_path)}, debug=True):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_report_is_ready_to_paste() -> None:
    report = format_crash_report(ValueError(literal("why")))
    assert report.splitlines()[0].startswith(f"lorabake {__version__}, Python 3")
    assert "command: " in report
    assert report.endswith("ValueError: why\n")


def test_a_current_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    here.rmdir()
    with pytest.raises(SystemExit) as caught, error_boundary({"LORABAKE_HOME": str(tmp_path)}):
        Path.cwd()
    assert caught.value.code == 1
    words = "error: the current folder no longer exists\n  go to another folder and try again\n"
    assert click.unstyle(capsys.readouterr().err) == words
    monkeypatch.chdir(tmp_path)
    assert run(FileNotFoundError(2, "x"), {"LORABAKE_HOME": str(tmp_path)}) == 3


def test_a_bug_about_a_path_that_is_no_utf_8_is_kept_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RuntimeError("caf\udce9"), {"LORABAKE_HOME": str(tmp_path)}) == 3
    (kept,) = (tmp_path / "crashes").iterdir()
    assert "caf\\udce9" in kept.read_text("utf-8")
    assert str(kept) in capsys.readouterr().err.replace("\n", "")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EROFS])
def test_what_the_disk_refuses_is_the_machines(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = {"LORABAKE_HOME": str(tmp_path)}
    assert run(OSError(number, os.strerror(number), "models/a.ckpt"), env) == 1
    assert "models/a.ckpt" in capsys.readouterr().err
    assert run(OSError(number, os.strerror(number)), env) == 3, "of no file: nobody but we could know what it was"
