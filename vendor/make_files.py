"""Writes sd-scripts-files.txt: git's hash of each file of the pinned commit, counted up to the commit's own id.

    python vendor/make_files.py SD-SCRIPTS

SD-SCRIPTS is any git repository that has the commit, an installed trainer's for one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lorabake import resources
from lorabake.process import own_environment
from lorabake.trainer import git_tree


def main() -> int:
    blobs = git_tree.of_commit(Path(sys.argv[1]), resources.pin().commit, own_environment())
    place = Path(__file__).with_name(resources.PIN_FILES)
    place.write_text(git_tree.as_text(blobs), encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
