"""The door to subprocesses, without opening it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lorabake.errors import ResourceError
from lorabake.util.environment import make_child_env, read_environment
from lorabake.util.process import Command, CommandOutput, SupervisionOptions, supervise


def test_a_childs_environment_is_a_copy_with_changes() -> None:
    base = {"PATH": "/bin", "GIT_DIR": "/x", "GIT_EDITOR": "vi", "LANG": "C"}
    assert make_child_env(base, drop=("GIT_",), LANG="C.UTF-8", A="b") == {"PATH": "/bin", "LANG": "C.UTF-8", "A": "b"}
    assert make_child_env(base) == base
    assert make_child_env(base) is not base


def test_a_change_wins_over_a_drop() -> None:
    assert make_child_env({"GIT_DIR": "/x"}, drop=("GIT_",), GIT_TERMINAL_PROMPT="0") == {"GIT_TERMINAL_PROMPT": "0"}


def test_a_command_does_not_print_its_environment() -> None:
    assert "hf_secret" not in repr(Command(("python",), Path("run"), {"HF_TOKEN": "hf_secret"}))


def test_an_output_is_ok_by_its_exit_code() -> None:
    assert CommandOutput((), 0, "", "an error stream proves nothing").ok
    assert not CommandOutput((), 1, "", "").ok


def test_the_environment_is_read_in_one_place() -> None:
    assert read_environment() == make_child_env(os.environ)


@pytest.mark.parametrize(
    "name",
    ["XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_DIRS", "HOME", "TMPDIR", "HF_HOME", "MPLCONFIG_DIR", "X_CACHE"],
)
def test_a_folder_that_is_set_but_empty_is_unset(name: str) -> None:
    assert make_child_env({name: "", "PATH": "/bin"}) == {"PATH": "/bin"}
    assert make_child_env({name: "/there"}) == {name: "/there"}


@pytest.mark.parametrize("name", ["CUDA_VISIBLE_DEVICES", "HTTP_PROXY", "GIT_ASKPASS", "LD_LIBRARY_PATH"])
def test_empty_means_something_for_other_variables(name: str) -> None:
    assert make_child_env({name: ""}) == {name: ""}


def test_a_relative_folder_is_meant_from_here_or_is_invalid() -> None:
    here = {"TMPDIR": "scratch", "HF_HOME": "~/hub", "XDG_CACHE_HOME": "cache", "XDG_CONFIG_DIRS": "a:/etc/xdg::/b"}
    assert make_child_env(here) == {
        "TMPDIR": str(Path.cwd() / "scratch"),
        "HF_HOME": "~/hub",
        "XDG_CONFIG_DIRS": "/etc/xdg:/b",
    }


def test_on_windows_a_run_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    command, how = Command(("python",), Path(), {}), SupervisionOptions(Path("log"))
    with monkeypatch.context() as windows:
        windows.setattr(os, "name", "nt")
        with pytest.raises(ResourceError, match="Linux or macOS"), supervise(command, how):
            pass
