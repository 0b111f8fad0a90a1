"""The files of a commit and their hashes, counted up to the commit's own: nothing of git's word is taken.

``git status`` believes the index (``--assume-unchanged``), .git/info/exclude, replacement refs and filters. Here the
listing that git gives is hashed as git hashes its trees and commits, which has to lead to the commit's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lorabake.errors import SetupError
from lorabake.trainer import git
from lorabake.util.process import capture_output
from lorabake_schemas.messages import msg

LINK_MODE, SUBMODULE_MODE, FOLDER_MODE = "120000", "160000", "40000"
Blobs = dict[str, str]  # a file's name, and git's hash of its content


def read_commit_blobs(repo: Path, commit: str, env: Mapping[str, str]) -> Blobs:
    """The blob of each file of a commit. Raises SetupError when git does not have it, or its objects do not fit."""
    asked = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
    ask = ("git", "-c", "core.fsmonitor=false", "-C", str(repo))
    told = capture_output([*ask, "cat-file", "commit", commit], env=git.git_environment(env) | asked, timeout=10)
    listed = capture_output(
        [*ask, "ls-tree", "-r", "-z", "--full-tree", commit], env=git.git_environment(env) | asked, timeout=10
    )
    entries = [_parse_entry(line) for line in listed.stdout.split("\0") if line]
    content = told.stdout.encode()
    fits = _hash_object("commit", content) == commit and content.startswith(
        f"tree {compute_tree_id(entries)}\n".encode()
    )
    if not (told.ok and listed.ok and fits):
        said = msg("cannot read the files of sd-scripts {commit} from {folder}", commit=commit, folder=repo)
        raise SetupError(said, msg("its git objects are missing, replaced or damaged; fetch it again"))
    return {name: blob for name, mode, blob in entries if mode != SUBMODULE_MODE}


def _parse_entry(line: str) -> tuple[str, str, str]:
    head, _, name = line.partition("\t")
    mode, _, blob = head.split(" ")
    return name, mode, blob


def compute_tree_id(entries: Iterable[tuple[str, str, str]]) -> str:
    """Git's hash of a tree with these files: name, mode and hash of each."""
    here: list[tuple[str, str, str]] = []
    below: dict[str, list[tuple[str, str, str]]] = {}
    for name, mode, blob in entries:
        folder, slash, rest = name.partition("/")
        if slash:
            below.setdefault(folder, []).append((rest, mode, blob))
        else:
            here.append((name, mode, blob))
    here += [(name, FOLDER_MODE, compute_tree_id(inside)) for name, inside in below.items()]
    here.sort(key=lambda entry: (entry[0] + ("/" if entry[1] == FOLDER_MODE else "")).encode())
    return _hash_object(
        "tree", b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(blob) for name, mode, blob in here)
    )


def _hash_object(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def compute_blob_id(path: Path) -> str | None:
    """Git's hash of a file as it is, or of where a link leads; None when it cannot be read."""
    try:
        content = str(path.readlink()).encode("utf-8", "surrogateescape") if path.is_symlink() else path.read_bytes()
    except OSError:
        return None
    return _hash_object("blob", content)


def find_changed_blobs(checkout: Path, blobs: Mapping[str, str]) -> tuple[str, ...]:
    """The files of a checkout that are not as in the commit."""
    return tuple(name for name, blob in blobs.items() if compute_blob_id(checkout / name) != blob)


def filter_sparse(blobs: Mapping[str, str], sparse: Iterable[str]) -> Blobs:
    """Without the folders that a sparse checkout leaves out ("!/folder/")."""
    left_out = tuple(pattern[2:] for pattern in sparse if pattern.startswith("!/"))
    return {name: blob for name, blob in blobs.items() if not name.startswith(left_out or ("/",))}


def format_blobs(blobs: Mapping[str, str]) -> str:
    return "".join(f"{blob} {name}\n" for name, blob in sorted(blobs.items()))


def parse_blobs(text: str) -> Blobs:
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: blob for blob, _, name in pairs}
