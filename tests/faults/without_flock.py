"""A file system without flock, as far as a process can see: every lock fails with the error that CHAIN_ERRNO names.

``patched`` does that to this process and to the guards that it starts; as a script this is such a guard. The standard
library alone, since a guard has no other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import runpy
from pathlib import Path

ERRNO = "CHAIN_ERRNO"
GUARD = Path(__file__).parents[2] / "wrapper" / "lorabake" / "util" / "process_guard.py"


def refuse(*_: object) -> None:
    number = getattr(errno, os.environ[ERRNO])
    raise OSError(number, os.strerror(number))


def patched() -> None:
    """Nothing where the environment does not ask for it."""
    if os.environ.get(ERRNO):
        from lorabake.util import process_guard

        fcntl.flock = refuse
        process_guard.__file__ = __file__


if __name__ == "__main__":
    fcntl.flock = refuse
    runpy.run_path(str(GUARD), run_name="__main__")
