"""Whether only this user, or root, can have written a file or folder: a trainer that others can write to is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from stat import S_ISLNK, S_IWGRP, S_IWOTH

from lorabake.errors import SetupError
from lorabake_schemas.messages import msg

OTHERS_WRITE_BITS = S_IWGRP | S_IWOTH


def refuse_unsafe(path: Path) -> None:
    """Raises SetupError, with the command that fixes it, unless ``path`` is missing or only this user or root can
    write it.
    """
    try:
        state = path.lstat()
    except OSError:
        return
    if S_ISLNK(state.st_mode):
        said = msg("{path} is a symbolic link, so lorabake does not use trainers from there", path=path)
        raise SetupError(said, msg("remove it, or set LORABAKE_HOME to another folder"))
    if not is_ours(state):
        said = msg("{path} belongs to another user, so lorabake does not use trainers from there", path=path)
        raise SetupError(said, msg("set LORABAKE_HOME to a folder of your own, or run lorabake as that user"))
    if is_writable_by_others(state):
        said = msg("other users can write to {path}, so lorabake does not use trainers from there", path=path)
        command = msg("chmod go-w {path}", path=path)
        raise SetupError(said, msg("{command}, or set LORABAKE_HOME to another folder", command=command))


def is_ours(state: os.stat_result) -> bool:
    """Whether this user or root owns it."""
    return sys.platform == "win32" or state.st_uid in {0, os.geteuid()}


def is_writable_by_others(state: os.stat_result) -> bool:
    """Whether somebody else than the owner and root can write to it.

    A group that has its owner's name and no other member is the owner's alone: where each user has one, folders are
    made writable for it (umask 002).
    """
    if sys.platform == "win32" or S_ISLNK(state.st_mode) or not state.st_mode & OTHERS_WRITE_BITS:
        return False
    return bool(state.st_mode & S_IWOTH) or not _is_private_group(state.st_gid, state.st_uid)


def _is_private_group(group: int, user: int) -> bool:
    if sys.platform == "win32":
        return False
    import grp
    import pwd

    try:
        person, named = pwd.getpwuid(user), grp.getgrgid(group)
    except KeyError:
        return False
    alone = not set(named.gr_mem) - {person.pw_name}
    return person.pw_gid == group and named.gr_name == person.pw_name and alone
