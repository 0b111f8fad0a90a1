"""Git's environment: the user's way to servers stays, other repositories and questions do not."""

from __future__ import annotations

import pytest

from lorabake.trainer import git


@pytest.mark.parametrize(
    "name",
    ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_TEMPLATE_DIR", "GIT_EDITOR"],
)
def test_other_repositories_do_not_reach_git(name: str) -> None:
    assert name not in git.git_environment({name: "/elsewhere", "PATH": "/bin"})


@pytest.mark.parametrize(
    "name",
    ["GIT_SSL_CAINFO", "GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_COUNT", "GIT_ASKPASS", "HTTPS_PROXY"],
)
def test_the_users_way_to_servers_stays(name: str) -> None:
    assert git.git_environment({name: "mine"})[name] == "mine"


def test_git_asks_nothing_and_speaks_english() -> None:
    env = git.git_environment({"GIT_TERMINAL_PROMPT": "1", "LC_ALL": "de_DE.UTF-8"})
    assert env == {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


def test_an_empty_folder_does_not_reach_git() -> None:
    assert "XDG_CONFIG_HOME" not in git.git_environment({"XDG_CONFIG_HOME": "", "HOME": "/home/me"})
