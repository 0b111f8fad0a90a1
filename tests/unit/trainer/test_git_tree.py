"""What a commit's files should be, whatever the index, the settings and the replacements of a repository say."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from lorabake.errors import SetupError
from lorabake.trainer import git_tree
from lorabake.util import resources

ENV = {"PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
FILES = {"a.py": "a\n", "a/b.py": "b\n", "a-b/c.py": "c\n", "a0": "0", "deep/er/d.py": "d", "ümlaut.py": "u\n"}


def git(repo: Path, *args: str) -> str:
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    return subprocess.run(["git", *who, *args], cwd=repo, env=ENV, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repo = tmp_path / "repo"
    for name, content in FILES.items():
        if name == "a.py":
            continue
        (repo / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / name).write_text(content)
    (repo / "a.py").write_text("a\n")
    (repo / "run.sh").write_text("x\n")
    (repo / "run.sh").chmod(0o755)
    (repo / "link").symlink_to("a.py")
    git(repo, "init", "-q", "-b", "main", ".")
    git(repo, "add", ".")
    git(repo, "commit", "-qm", "première")
    return repo


def head(repo: Path) -> str:
    return git(repo, "rev-parse", "HEAD").strip()


def test_the_files_of_a_commit_lead_to_its_id(repo: Path) -> None:
    blobs = git_tree.read_commit_blobs(repo, head(repo), ENV)
    assert set(blobs) == {*FILES, "run.sh", "link"}
    assert git_tree.find_changed_blobs(repo, blobs) == ()
    assert git_tree.parse_blobs(git_tree.format_blobs(blobs)) == blobs


@pytest.mark.parametrize("trick", ["assume-unchanged", "skip-worktree", "commit", "replace", "filter", "same size"])
def test_what_git_does_not_see_is_seen(repo: Path, trick: str) -> None:
    commit = head(repo)
    if trick in {"assume-unchanged", "skip-worktree"}:
        git(repo, "update-index", f"--{trick}", "a.py")
    if trick == "filter":
        (repo / ".git" / "info" / "attributes").write_text("a.py filter=x\n")
        git(repo, "config", "filter.x.clean", "printf 'a\\n'")
    state = (repo / "a.py").stat()
    (repo / "a.py").write_text("b\n")
    os.utime(repo / "a.py", ns=(state.st_atime_ns, state.st_mtime_ns))
    if trick == "commit":
        git(repo, "commit", "-qam", "two")
    if trick == "replace":
        git(repo, "commit", "-qam", "two")
        git(repo, "replace", commit, "HEAD")
    assert git_tree.find_changed_blobs(repo, git_tree.read_commit_blobs(repo, commit, ENV)) == ("a.py",)


def test_a_missing_file_and_another_link_are_seen(repo: Path) -> None:
    blobs = git_tree.read_commit_blobs(repo, head(repo), ENV)
    (repo / "a0").unlink()
    (repo / "link").unlink()
    (repo / "link").symlink_to("a0")
    assert git_tree.find_changed_blobs(repo, blobs) == ("a0", "link")
    (repo / "a.py").unlink()
    (repo / "a.py").symlink_to("a-b/../a0")
    assert "a.py" in git_tree.find_changed_blobs(repo, blobs)


def test_objects_that_do_not_lead_to_the_commit_are_refused(repo: Path) -> None:
    commit, tree = head(repo), git(repo, "rev-parse", "HEAD^{tree}").strip()
    path = repo / ".git" / "objects" / tree[:2] / tree[2:]
    path.unlink()
    for unknown in (commit, "0" * 40):
        with pytest.raises(SetupError):
            git_tree.read_commit_blobs(repo, unknown, ENV)


def test_what_a_sparse_checkout_leaves_out_is_not_missed() -> None:
    blobs = {"a.py": "1", "big/x": "2", "bigger/x": "3"}
    assert set(git_tree.filter_sparse(blobs, ("/*", "!/big/"))) == {"a.py", "bigger/x"}
    assert git_tree.filter_sparse(blobs, ("/*",)) == blobs


def test_the_shipped_list_has_the_pins_scripts_and_plain_names() -> None:
    blobs = git_tree.parse_blobs(resources.read_vendor_text(resources.PIN_FILE_LIST))
    assert {"train_network.py", "sdxl_train_network.py", "library/train_util.py", "networks/lora.py"} <= set(blobs)
    assert all(len(blob) == 40 and not name.startswith("/") and ".." not in name for name, blob in blobs.items())
