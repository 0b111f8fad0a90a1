"""The files of a commit and their hashes, counted up to the commit's own: nothing of git's word is taken.

``git status`` believes the index (``--assume-unchanged``), .git/info/exclude, replacement refs and filters. Here the
listing that git gives is hashed as git hashes its trees and commits, which has to lead to the commit's id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from lorabake.errors import SetupError
from lorabake.process import capture
from lorabake.trainer import git
from lorabake_schemas.words import say

LINK, MODULE, FOLDER = "120000", "160000", "40000"
Blobs = dict[str, str]  # a file's name, and git's hash of its content


def of_commit(repo: Path, commit: str, env: Mapping[str, str]) -> Blobs:
    """The blob of each file of a commit. Raises SetupError when git does not have it, or its objects do not fit."""
    asked = {"GIT_NO_REPLACE_OBJECTS": "1", "GIT_NO_LAZY_FETCH": "1"}
    ask = ("git", "-c", "core.fsmonitor=false", "-C", str(repo))
    told = capture([*ask, "cat-file", "commit", commit], env=git.environment(env) | asked, timeout=10)
    listed = capture([*ask, "ls-tree", "-r", "-z", "--full-tree", commit], env=git.environment(env) | asked, timeout=10)
    entries = [_entry(line) for line in listed.stdout.split("\0") if line]
    content = told.stdout.encode()
    fits = _id("commit", content) == commit and content.startswith(f"tree {tree_id(entries)}\n".encode())
    if not (told.ok and listed.ok and fits):
        said = say("cannot read the files of sd-scripts {commit} from {folder}", commit=commit, folder=repo)
        raise SetupError(said, say("its git objects are missing, replaced or damaged; fetch it again"))
    return {name: blob for name, mode, blob in entries if mode != MODULE}


def _entry(line: str) -> tuple[str, str, str]:
    head, _, name = line.partition("\t")
    mode, _, blob = head.split(" ")
    return name, mode, blob


def tree_id(entries: Iterable[tuple[str, str, str]]) -> str:
    """Git's hash of a tree with these files: name, mode and hash of each."""
    here: list[tuple[str, str, str]] = []
    below: dict[str, list[tuple[str, str, str]]] = {}
    for name, mode, blob in entries:
        folder, slash, rest = name.partition("/")
        if slash:
            below.setdefault(folder, []).append((rest, mode, blob))
        else:
            here.append((name, mode, blob))
    here += [(name, FOLDER, tree_id(inside)) for name, inside in below.items()]
    here.sort(key=lambda entry: (entry[0] + ("/" if entry[1] == FOLDER else "")).encode())
    return _id("tree", b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(blob) for name, mode, blob in here))


def _id(kind: str, content: bytes) -> str:
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def blob_id(path: Path) -> str | None:
    """Git's hash of a file as it is, or of where a link leads; None when it cannot be read."""
    try:
        content = str(path.readlink()).encode("utf-8", "surrogateescape") if path.is_symlink() else path.read_bytes()
    except OSError:
        return None
    return _id("blob", content)


def changed(checkout: Path, blobs: Mapping[str, str]) -> tuple[str, ...]:
    """The files of a checkout that are not as in the commit."""
    return tuple(name for name, blob in blobs.items() if blob_id(checkout / name) != blob)


def checked_out(blobs: Mapping[str, str], sparse: Iterable[str]) -> Blobs:
    """Without the folders that a sparse checkout leaves out ("!/folder/")."""
    left_out = tuple(pattern[2:] for pattern in sparse if pattern.startswith("!/"))
    return {name: blob for name, blob in blobs.items() if not name.startswith(left_out or ("/",))}


def as_text(blobs: Mapping[str, str]) -> str:
    return "".join(f"{blob} {name}\n" for name, blob in sorted(blobs.items()))


def from_text(text: str) -> Blobs:
    pairs = (line.partition(" ") for line in text.splitlines())
    return {name: blob for blob, _, name in pairs}
