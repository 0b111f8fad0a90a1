"""This process' environment variables, and those of a child.

`lorabake --help` needs the reader's language from them, so nothing slow is imported here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

# The XDG Base Directory Specification calls them invalid, and unset, where they are empty or relative.
_XDG_VARIABLES = (
    "XDG_CACHE_HOME",
    "XDG_CONFIG_DIRS",
    "XDG_CONFIG_HOME",
    "XDG_DATA_DIRS",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
)
# A relative one means the folder below the current one, also for a child that works elsewhere.
_FOLDER_VARIABLES = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "LORABAKE_HOME",
    "TEMP",
    "TMP",
    "TMPDIR",
    "TORCH_HOME",
)
_FOLDER_VARIABLE_PATTERN = re.compile(r"HOME|PATH|TEMP|TMP|TMPDIR|.+_(?:HOME|DIRS?|CACHE)")


def filter_absolute_folders(path: str) -> str:
    """PATH without empty entries, ``.`` and other relative ones: they mean the current folder, which may be a
    stranger's."""
    return os.pathsep.join(folder for folder in path.split(os.pathsep) if Path(folder).is_absolute())


def make_child_env(base: Mapping[str, str], *, drop: Sequence[str] = (), **changes: str) -> dict[str, str]:
    """The environment for a child: ``base`` without every name that starts with one of ``drop``, plus changes.

    A folder's variable that is set but empty is left out: many programs would put the folder into the current one.
    """
    kept = {name: _resolve_variable(name, value) for name, value in base.items() if not name.startswith(tuple(drop))}
    return {
        name: value for name, value in kept.items() if value or not _FOLDER_VARIABLE_PATTERN.fullmatch(name)
    } | changes


def _resolve_variable(name: str, value: str) -> str:
    """What a variable means to a child whose current folder is another one; "" for nothing."""
    if name in _XDG_VARIABLES or name == "PATH":
        return filter_absolute_folders(value)
    return str(Path(value).absolute()) if name in _FOLDER_VARIABLES and value and value[0] != "~" else value


def read_environment() -> Mapping[str, str]:
    """This process' environment, read in one place so that everything else takes it as an argument."""
    return make_child_env(os.environ)
