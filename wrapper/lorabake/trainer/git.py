"""Git, as far as a pinned checkout needs it: one commit, shallow, sparse, and a look at what came."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from lorabake.errors import ResourceError, SetupError, UnreachableError
from lorabake.util.environment import make_child_env
from lorabake.util.process import CommandOutput, capture_output, find_program
from lorabake_schemas.messages import Message, msg

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# What stays of git's own variables: how the user reaches servers (keys, proxies, certificates), and which
# configuration files count. Everything else (GIT_DIR, GIT_INDEX_FILE, GIT_WORK_TREE ... set inside a hook, for example)
# would point git at another repository.
_KEPT_VARIABLES = (
    "GIT_ALLOW_PROTOCOL",
    "GIT_ASKPASS",
    "GIT_CONFIG_",
    "GIT_EXEC_PATH",
    "GIT_HTTP_",
    "GIT_PROXY_",
    "GIT_SSH",
    "GIT_SSL_",
    "GIT_TRACE",
)
# The user's global configuration stays in force: url.<mirror>.insteadOf, proxies and credentials are set there. These
# parts of it would change what lands on disk, run code, or wait for a server that never answers.
_SETTINGS = {
    "advice.detachedHead": "false",
    "core.autocrlf": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.ignoreStat": "false",
    "gc.auto": "0",
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
    "maintenance.auto": "false",
    "submodule.recurse": "false",
}
# These as well where lorabake makes a checkout; in one of the user's own they are the user's business.
_PINNED_SETTINGS = {
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "core.sparseCheckoutCone": "false",
    "core.symlinks": "true",
    "index.sparse": "false",
    "init.defaultObjectFormat": "sha1",
}
# Stronger than the attributes of the user, of the machine and of the commit itself: its bytes, as they are.
_ATTRIBUTES = "* -text -eol -working-tree-encoding -ident -filter\n"
_NO_SUCH_COMMIT = ("not our ref", "couldn't find remote ref", "unadvertised object", "no such remote ref")
_DISK_FULL = "No space left on device"


def git_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment git runs in: the user's way to servers, nobody else's repository, no questions, English."""
    kept = {
        name: value for name, value in env.items() if not name.startswith("GIT_") or name.startswith(_KEPT_VARIABLES)
    }
    return make_child_env(kept, GIT_TERMINAL_PROMPT="0", LC_ALL="C")


def _run_git(env: Mapping[str, str], *args: str, timeout: float | None = None, pinned: bool = False) -> CommandOutput:
    if find_program("git", env) is None:
        hint = msg("install git, or use --sd-scripts and --python")
        raise SetupError(msg("git not found on this machine"), hint)
    settings = _SETTINGS | (_PINNED_SETTINGS if pinned else {})
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return capture_output(["git", *options, *args], env=git_environment(env), timeout=timeout)


def _require_success(done: CommandOutput, message: Message) -> str:
    """Its output; raises SetupError with git's own message if it failed."""
    if done.ok:
        return done.stdout
    words = _describe_failure(done)
    if _DISK_FULL in done.stderr:
        raise ResourceError(msg("{problem}: the disk is full", problem=message), words)
    raise SetupError(message, words)


def _describe_failure(done: CommandOutput) -> Message:
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    fatal = [line for line in said if line.startswith(("fatal:", "error:"))]
    if not said:
        return msg("git exited with code {code} and no output", code=done.returncode)
    return msg("git reported: {words}", words=" / ".join((fatal or said)[-3:]))


def init_repository(repo: Path, env: Mapping[str, str]) -> None:
    """Make an empty repository, without the user's template (hooks could be in it), whose files are never converted."""
    problem = msg("cannot create a git repository in {folder}", folder=repo)
    _require_success(_run_git(env, "init", "--quiet", "--template=", str(repo), pinned=True), problem)
    _write_info(repo, "attributes", _ATTRIBUTES)


def _write_info(repo: Path, name: str, text: str) -> None:
    place = repo / ".git" / "info" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text(text, encoding="utf-8", newline="\n")


def fetch_commit(repo: Path, url: str, commit: str, env: Mapping[str, str]) -> None:
    """Fetch one commit without its history and, where the server can, without file contents.

    Raises SetupError when the url cannot be reached or has no such commit.
    """
    at = ("-C", str(repo))
    _require_success(_run_git(env, *at, "remote", "add", "origin", url), msg("cannot set the repository's URL"))
    done = _run_git(env, *at, "fetch", "--quiet", "--depth=1", "--no-tags", "--filter=blob:none", "origin", commit)
    if any(words in done.stderr for words in _NO_SUCH_COMMIT):
        raise SetupError(
            msg("{url} has no commit {commit}", url=url, commit=commit),
            msg("{words}; if it is a mirror, update it", words=_describe_failure(done)),
        )
    problem = msg("cannot fetch sd-scripts from {url}", url=url)
    if not done.ok and _DISK_FULL not in done.stderr:
        hint = msg(
            "{words}; check the network, or use a mirror (git config --global url.MIRROR.insteadOf {url})",
            words=_describe_failure(done),
            url=url,
        )
        raise UnreachableError(problem, hint)
    _require_success(done, problem)


def read_file_at(repo: Path, commit: str, name: str, env: Mapping[str, str]) -> str:
    """A file as it is in another commit of the repository's origin, which is fetched for that. Raises SetupError."""
    at, problem = ("-C", str(repo)), msg("cannot read {file} at {commit}", file=name, commit=commit)
    _require_success(
        _run_git(env, *at, "fetch", "--quiet", "--depth=1", "--no-tags", "--filter=blob:none", "origin", commit),
        problem,
    )
    return _require_success(_run_git(env, *at, "show", f"{commit}:{name}"), problem)


def checkout_commit(repo: Path, commit: str, sparse: Sequence[str], env: Mapping[str, str]) -> None:
    """Check the commit out, detached, without the folders that ``sparse`` (non-cone patterns) leaves out.

    File contents that were not fetched come now. Raises SetupError.
    """
    at = ("-C", str(repo))
    _require_success(
        _run_git(env, *at, "config", "core.sparseCheckout", "true"),
        msg("git cannot leave out the folders that lorabake does not need"),
    )
    # what git itself reads; `git sparse-checkout` came in 2.25
    _write_info(repo, "sparse-checkout", "".join(f"{pattern}\n" for pattern in sparse))
    done = _run_git(env, *at, "checkout", "--quiet", "--detach", commit, pinned=True)
    _require_success(done, msg("git cannot switch to commit {commit}", commit=commit))


def read_head(repo: Path, env: Mapping[str, str]) -> str | None:
    """The commit that is checked out; None when ``repo`` is not the top of a git checkout."""
    done = _run_git(env, "-C", str(repo), "rev-parse", "--show-cdup", "HEAD", timeout=10)
    cdup, _, commit = done.stdout.rstrip("\n").rpartition("\n")
    return commit if done.ok and cdup == "" else None


def list_repository_files(repo: Path, env: Mapping[str, str]) -> tuple[list[str], list[str]] | None:
    """The existing files that git tracks, and the others, without those it ignores; None if ``repo`` is not the top
    of a git checkout. Raises SetupError.
    """
    if read_head(repo, env) is None:
        return None
    done = _run_git(env, "-C", str(repo), "ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard")
    listed = _require_success(done, msg("cannot read the git state of {folder}", folder=repo)).split("\0")
    marked = [(line[:1], line[2:]) for line in listed if line]
    tracked = [name for mark, name in marked if mark != "?" and (repo / name).is_file()]
    return tracked, [name for mark, name in marked if mark == "?"]


def list_changed_files(repo: Path, env: Mapping[str, str], *, pinned: bool = False) -> tuple[str, ...]:
    """The files that are not as in the commit, also those that were added and that git does not ignore; in a
    ``pinned`` checkout, what the user has git ignore everywhere counts, too. Raises SetupError."""
    looking = ("--no-optional-locks", "-C", str(repo))
    done = _run_git(
        env, *looking, "status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", pinned=pinned
    )
    lines = _require_success(done, msg("cannot read the git state of {folder}", folder=repo)).split("\0")
    return tuple(line[3:] for line in lines if line)
